-- KEYS[6]: the ids of a node that is gone. ARGV: how many rows to take, for how many seconds it is known that the node was
-- taken over, then the ids that the caller has got. Rows leave the index and become orphans of this node. Returns their
-- ids and rows by turns, and again by the next call if the caller has not got them.
local gone, found = KEYS[6], {}
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', taken_over, now, gone)
redis.call('ZREMRANGEBYSCORE', taken_over, '-inf', now - tonumber(ARGV[4]))
for position = 5, #ARGV do
  redis.call('SREM', gone, ARGV[position])
end
for _, id in ipairs(redis.call('SRANDMEMBER', gone, ARGV[3])) do
  local row = redis.call('HGET', rows, id) or redis.call('HGET', orphans, id)
  if row then
    set_attributes(id, {})
    redis.call('ZREM', ids, id)
    redis.call('HDEL', rows, id)
    redis.call('HSET', orphans, id, row)
    redis.call('SADD', own, id)
    found[#found + 1] = id
    found[#found + 1] = row
  else
    redis.call('SREM', gone, id)
  end
end
return found
