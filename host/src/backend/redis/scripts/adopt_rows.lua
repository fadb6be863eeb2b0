-- KEYS[5]: the ids of a node that is gone. ARGV: how many rows to take. They leave the index and become orphans of this
-- node. Returns their ids and rows by turns.
local gone, found = KEYS[5], {}
for _, id in ipairs(redis.call('SRANDMEMBER', gone, ARGV[3])) do
  redis.call('SREM', gone, id)
  local row = redis.call('HGET', rows, id) or redis.call('HGET', orphans, id)
  if row then
    set_attributes(id, {})
    redis.call('ZREM', ids, id)
    redis.call('HDEL', rows, id)
    redis.call('HSET', orphans, id, row)
    redis.call('SADD', own, id)
    found[#found + 1] = id
    found[#found + 1] = row
  end
end
return found
