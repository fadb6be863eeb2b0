-- KEYS[5]: the epochs of all nodes by number. KEYS[6]: the nodes whose rows another one removes. KEYS[7]: exists if this node
-- was taken over as a whole. ARGV: the id, the version, '1' if the row may be new, the number of this node, its epoch, the
-- row, then its attributes. Calls of one node may arrive in another order: an older version than the stored one changes
-- nothing, nor does a change of a row that is not there. Returns 1, 0 in the last case, or 2 if another node has taken over:
-- what this one wrote now would belong to no node.
local id, version, number, epoch = ARGV[3], ARGV[4], ARGV[6], ARGV[7]
local known = redis.call('HGET', KEYS[5], number)
if known ~= epoch then
  local is_taken = redis.call('HEXISTS', KEYS[6], number .. '.' .. epoch) == 1 or redis.call('EXISTS', KEYS[7]) == 1
  -- A store that has lost its data knows neither.
  if known or is_taken then
    return 2
  end
end
local stored = redis.call('HGET', rows, id)
if not stored and ARGV[5] == '0' then
  return 0
end
if stored and version_of(stored) > tonumber(version) then
  return 1
end
local after = {}
for position = 9, #ARGV do
  after[position - 8] = ARGV[position]
end
redis.call('HSET', rows, id, version .. ':' .. ARGV[8])
redis.call('ZADD', ids, 0, id)
redis.call('SADD', own, id)
set_attributes(id, after)
return 1
