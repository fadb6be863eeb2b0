-- ARGV: a number, an epoch, the milliseconds of the lease, a record. Returns 1, the name of the data and how many nodes have a
-- number, or 0 if another node has taken over.
local number, epoch = ARGV[2], ARGV[3]
local known = redis.call('HGET', epochs, number)
local name = number .. '.' .. epoch
local is_taken = redis.call('HEXISTS', gone, name) == 1 or redis.call('EXISTS', taken_over .. name) == 1
if (known and known ~= epoch) or is_taken then
  return { 0, '', 0 }
end
hold(number, epoch, ARGV[4], ARGV[5])
if not known then
  redis.call('HSET', epochs, number, epoch)
end
return { 1, data_name(), redis.call('HLEN', epochs) }
