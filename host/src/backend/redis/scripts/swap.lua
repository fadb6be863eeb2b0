-- ARGV: the quota in bytes and in keys, the key, the new value, and the value that the key must have, if it must have
-- one. Returns 'changed' if it has another one.
local current = redis.call('HGET', values, ARGV[3])
if (current or nil) ~= ARGV[5] then
  return 'changed'
end
return write(ARGV[3], ARGV[4], tonumber(ARGV[1]), tonumber(ARGV[2])) or {}
