-- Returns for each node whose lease has not ended its number, the milliseconds until it ends, and its record.
local nodes = {}
for _, number in ipairs(redis.call('HKEYS', epochs)) do
  local left = redis.call('PTTL', lease .. number)
  if left > 0 then
    nodes[#nodes + 1] = number
    nodes[#nodes + 1] = tostring(left)
    nodes[#nodes + 1] = redis.call('GET', record_of(number)) or ''
  end
end
return nodes
