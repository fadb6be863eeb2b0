-- KEYS[5]: the ids of a node that is gone. ARGV: how many rows to take. They leave the index and become orphans. Their ids
-- stay those of the node that is gone until the caller has the rows, so that no row is lost with an answer. Returns the ids
-- and rows by turns; nothing if none is left.
local gone, found = KEYS[5], {}
repeat
  local chosen = redis.call('SRANDMEMBER', gone, ARGV[3])
  for _, id in ipairs(chosen) do
    local row = redis.call('HGET', rows, id)
    if row then
      set_attributes(id, {})
      redis.call('ZREM', ids, id)
      redis.call('HDEL', rows, id)
      redis.call('HSET', orphans, id, row)
    end
    row = row or redis.call('HGET', orphans, id)
    if row then
      found[#found + 1] = id
      found[#found + 1] = row
    else
      redis.call('SREM', gone, id)
    end
  end
until #found > 0 or #chosen == 0
return found
