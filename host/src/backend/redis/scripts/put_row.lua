-- ARGV: the id, the version, '1' if the row may be new, the row, then its attributes. Calls of one node may arrive in another
-- order: an older version than the stored one changes nothing, nor does a change of a row that is not there. Returns 1, or
-- 0 in the last case.
local id, version = ARGV[3], ARGV[4]
local stored = redis.call('HGET', rows, id)
if not stored and ARGV[5] == '0' then
  return 0
end
if stored and version_of(stored) > tonumber(version) then
  return 1
end
local after = {}
for position = 7, #ARGV do
  after[position - 6] = ARGV[position]
end
redis.call('HSET', rows, id, version .. ':' .. ARGV[6])
redis.call('ZADD', ids, 0, id)
redis.call('SADD', own, id)
set_attributes(id, after)
return 1
