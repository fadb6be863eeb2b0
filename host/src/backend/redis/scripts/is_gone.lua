-- ARGV: a number, twice the milliseconds of a lease. Returns 1 if no node holds the number. One whose lease has ended may
-- still renew it until it is taken over. Of a store that has just lost its data nothing is known: its nodes have not renewed
-- their leases yet.
if redis.call('EXISTS', lease .. ARGV[4]) == 1 or redis.call('HEXISTS', epochs, ARGV[4]) == 1 then
  return 0
end
local since = redis.call('GET', KEYS[3])
if since and now() - since > tonumber(ARGV[5]) then
  return 1
end
return 0
