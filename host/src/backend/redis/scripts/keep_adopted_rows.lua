-- KEYS[5]: the ids of a node that is gone. ARGV: the ids of orphans that this node has now.
for position = 3, #ARGV do
  local id = ARGV[position]
  redis.call('SREM', KEYS[5], id)
  if redis.call('HEXISTS', orphans, id) == 1 then
    redis.call('SADD', own, id)
  end
end
return 1
