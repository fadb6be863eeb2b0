-- ARGV: for each command its name, how many parts it has, and the parts. Returns the names of those that the user may not run.
local refused, position = {}, 1
while position <= #ARGV do
  local count = tonumber(ARGV[position + 1])
  if not redis.acl_check_cmd(unpack(ARGV, position + 2, position + 1 + count)) then
    refused[#refused + 1] = ARGV[position]
  end
  position = position + 2 + count
end
return refused
