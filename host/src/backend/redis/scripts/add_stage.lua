-- KEYS[4]: the stages of which any node has had rows. ARGV: the number and the epoch of the caller, a stage. A node that
-- was taken over records none: the one that has taken over has read them already.
if is_lost(ARGV[2], ARGV[3]) then
  return redis.error_reply('TAKENOVER another node has taken over the connections of this one')
end
redis.call('SADD', KEYS[4], ARGV[4])
return 1
