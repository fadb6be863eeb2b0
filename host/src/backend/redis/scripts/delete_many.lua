-- ARGV: the keys.
for _, key in ipairs(ARGV) do
  remove(key)
end
return {}
