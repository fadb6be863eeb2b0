-- ARGV: a number, an epoch. The node has no rows any more.
if redis.call('HGET', epochs, ARGV[2]) == ARGV[3] then
  redis.call('HDEL', epochs, ARGV[2])
  redis.call('DEL', lease .. ARGV[2], record_of(ARGV[2]))
end
return 1
