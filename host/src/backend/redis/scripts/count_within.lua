-- ARGV: the quota in bytes and in keys, the key, the period, the limit. The value is the number of the period and its
-- count, such as '20784 17'. Returns 1, 0 if the limit is reached, or the usage if the bucket is full.
local current = redis.call('HGET', values, ARGV[3])
local period, count = (current or ''):match('^(%d+) (%d+)$')
count = period == ARGV[4] and tonumber(count) or 0
if count >= tonumber(ARGV[5]) then
  return 0
end
local value = ARGV[4] .. ' ' .. string.format('%.0f', count + 1)
return write(ARGV[3], value, tonumber(ARGV[1]), tonumber(ARGV[2])) or 1
