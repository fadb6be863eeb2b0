-- ARGV: a number, twice the milliseconds of a lease. Returns 1 if no node holds the number. Of a store that has just lost its
-- data that is not known: its nodes have not renewed their leases yet.
if redis.call('EXISTS', lease .. ARGV[4]) == 1 then
  return 0
end
local since, now = redis.call('GET', KEYS[3]), redis.call('TIME')
if since and now[1] * 1000 + now[2] / 1000 - since > tonumber(ARGV[5]) then
  return 1
end
return 0
