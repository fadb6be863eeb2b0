-- ARGV: a number, an epoch, the milliseconds of the lease, a record. Returns 1 if no node had this number, and the name of
-- the data.
local number, epoch = ARGV[2], ARGV[3]
if redis.call('HSETNX', epochs, number, epoch) == 0 then
  return { 0, '' }
end
hold(number, epoch, ARGV[4], ARGV[5])
return { 1, data_name() }
