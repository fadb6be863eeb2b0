-- ARGV: the number and the epoch of the caller, the milliseconds of the lease. Returns the names of the nodes whose rows the
-- caller removes: those whose lease has ended, and those of callers whose lease has ended.
local function is_alive(number, epoch)
  return redis.call('GET', lease .. number) == epoch
end
local caller, mine = ARGV[2] .. '.' .. ARGV[3], {}
if not is_alive(ARGV[2], ARGV[3]) then
  return mine
end
notice_pause(tonumber(ARGV[4]))
local is_allowed = now() >= tonumber(redis.call('HGET', renewals, 'no take-over until') or 0)
local nodes = redis.call('HGETALL', epochs)
for position = 1, #nodes, 2 do
  local number, epoch = nodes[position], nodes[position + 1]
  if is_allowed and not is_alive(number, epoch) then
    redis.call('HDEL', epochs, number)
    redis.call('HSET', gone, number .. '.' .. epoch, caller)
  end
end
local leaving = redis.call('HGETALL', gone)
for position = 1, #leaving, 2 do
  local number, epoch = leaving[position + 1]:match('^(%d+)%.(%x+)$')
  if leaving[position + 1] == caller then
    mine[#mine + 1] = leaving[position]
  elseif is_allowed and not is_alive(number, epoch) then
    redis.call('HSET', gone, leaving[position], caller)
    mine[#mine + 1] = leaving[position]
  end
end
return mine
