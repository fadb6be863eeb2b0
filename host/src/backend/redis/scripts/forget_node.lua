-- ARGV: the number and the epoch of the caller, the name of a node, the seconds for which it is known that it was taken over.
redis.call('HDEL', gone, ARGV[4])
redis.call('SET', taken_over .. ARGV[4], 1, 'EX', ARGV[5])
return 1
