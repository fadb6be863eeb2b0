-- ARGV: a number, an epoch, the milliseconds of the lease. Returns 1 if no node had this number, and the name of the
-- data.
local number, epoch = ARGV[2], ARGV[3]
if redis.call('HSETNX', epochs, number, epoch) == 0 then
  return { 0, '' }
end
redis.call('SET', lease .. number, epoch, 'PX', ARGV[4])
has_data_since()
return { 1, data_name() }
