-- ARGV: the id.
local id = ARGV[3]
set_attributes(id, {})
redis.call('HDEL', rows, id)
redis.call('ZREM', ids, id)
redis.call('SREM', own, id)
redis.call('HDEL', orphans, id)
return 1
