-- ARGV: the id, the version, the row. Orphans have no place in the index.
if redis.call('HEXISTS', orphans, ARGV[3]) == 1 then
  redis.call('HSET', orphans, ARGV[3], ARGV[4] .. ':' .. ARGV[5])
end
return 1
