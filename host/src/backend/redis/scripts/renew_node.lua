-- ARGV: a number, an epoch, the milliseconds of the lease. Returns 1 and the name of the data, or 0 if another node
-- has taken over.
local number, epoch = ARGV[2], ARGV[3]
local known = redis.call('HGET', epochs, number)
local name = number .. '.' .. epoch
local is_taken = redis.call('HEXISTS', gone, name) == 1 or redis.call('EXISTS', taken_over .. name) == 1
if (known and known ~= epoch) or is_taken then
  return { 0, '' }
end
redis.call('SET', lease .. number, epoch, 'PX', ARGV[4])
has_data_since()
if not known then
  redis.call('HSET', epochs, number, epoch)
end
return { 1, data_name() }
