-- ARGV: the bytes that all values may have together, the keys. Returns the values, or the number of bytes that is more.
local bytes, found = 0, {}
for index = 2, #ARGV do
  bytes = bytes + redis.call('HSTRLEN', values, ARGV[index])
  if bytes > tonumber(ARGV[1]) then
    return bytes
  end
  found[index - 1] = redis.call('HGET', values, ARGV[index])
end
return found
