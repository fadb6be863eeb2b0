-- ARGV: the number and the epoch of the caller, the name of a node, the seconds for which it is known that it was taken over.
-- Another node may have taken over from the caller meanwhile; then that one decides.
if redis.call('HGET', gone, ARGV[4]) == ARGV[2] .. '.' .. ARGV[3] then
  redis.call('HDEL', gone, ARGV[4])
  redis.call('SET', taken_over .. ARGV[4], 1, 'EX', ARGV[5])
end
return 1
