-- ARGV: the sorted set of ids, the start of the range, the most items, the bytes at which the page ends. Returns 1 if there
-- are more, then ids and rows by turns.
local found, bytes = { 0 }, 0
local limit = tonumber(ARGV[5])
local range = redis.call('ZRANGE', ARGV[3], ARGV[4], '+', 'BYLEX', 'LIMIT', 0, limit + 1)
for position, id in ipairs(range) do
  if position > limit or bytes >= tonumber(ARGV[6]) then
    found[1] = 1
    break
  end
  local row = redis.call('HGET', rows, id)
  if row then
    bytes = bytes + #row
    found[#found + 1] = id
    found[#found + 1] = row
  end
end
return found
