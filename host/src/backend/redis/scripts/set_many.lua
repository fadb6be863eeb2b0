-- ARGV: the quota in bytes and in keys, then keys and values by turns. Stops at the first value that does not fit.
for index = 3, #ARGV, 2 do
  local full = write(ARGV[index], ARGV[index + 1], tonumber(ARGV[1]), tonumber(ARGV[2]))
  if full then
    return full
  end
end
return {}
