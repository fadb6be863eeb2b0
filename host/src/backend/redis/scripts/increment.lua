-- ARGV: the quota in bytes and in keys, the key, the number to add. Returns { 'sum', sum }, { 'full', usage },
-- { 'no number' } or { 'overflow', number }.
--
-- Numbers of Lua have 53 bits. HINCRBY has 64, so it adds, in the place of the value, which is restored before the sum is
-- written as every other value.
local key, delta = ARGV[3], ARGV[4]
local current = redis.call('HGET', values, key)
local sign, digits = (current or '0'):match('^([+-]?)(%d+)$')
if not digits then
  return { 'no number' }
end
local number = digits:gsub('^0+(%d)', '%1')
if sign == '-' and number ~= '0' then
  number = '-' .. number
end
redis.call('HSET', values, key, number)
local added = redis.pcall('HINCRBY', values, key, delta)
local sum = redis.call('HGET', values, key)
if current then
  redis.call('HSET', values, key, current)
else
  redis.call('HDEL', values, key)
end
if type(added) == 'table' and added.err then
  if added.err:find('overflow', 1, true) then
    return { 'overflow', number }
  end
  return { 'no number' }
end
local full = write(key, sum, tonumber(ARGV[1]), tonumber(ARGV[2]))
if full then
  return { 'full', full }
end
return { 'sum', sum }
