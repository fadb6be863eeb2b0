-- ARGV: the id. The row of another node stays: this one may have had it before.
local id = ARGV[3]
if redis.call('SREM', own, id) == 1 then
  set_attributes(id, {})
  redis.call('HDEL', rows, id)
  redis.call('ZREM', ids, id)
  redis.call('HDEL', orphans, id)
end
return 1
