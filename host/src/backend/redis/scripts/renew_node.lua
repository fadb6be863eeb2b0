-- ARGV: a number, an epoch, the milliseconds of the lease, a record. Returns 1, the name of the data and how many nodes have a
-- number, or 0 if another node has taken over.
local number, epoch = ARGV[2], ARGV[3]
if is_lost(number, epoch) then
  return { 0, '', 0 }
end
hold(number, epoch, ARGV[4], ARGV[5])
redis.call('HSETNX', epochs, number, epoch)
return { 1, data_name(), redis.call('HLEN', epochs) }
