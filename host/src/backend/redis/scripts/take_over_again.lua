-- ARGV: the number and the epoch of the caller, then names of nodes from which it has taken over. The store has lost that.
for position = 4, #ARGV do
  local name = ARGV[position]
  local number, epoch = name:match('^(%d+)%.(%x+)$')
  if redis.call('EXISTS', taken_over .. name) == 0 and redis.call('HEXISTS', gone, name) == 0 then
    redis.call('HSET', gone, name, ARGV[2] .. '.' .. ARGV[3])
    if redis.call('HGET', epochs, number) == epoch then
      redis.call('HDEL', epochs, number)
      redis.call('DEL', lease .. number)
    end
  end
end
return 1
