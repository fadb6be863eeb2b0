-- What all scripts of rows begin with. Its keys have the stage as hash tag: the rows by id, each with its version; their
-- ids in order; the ids of the calling node; the rows of nodes that are gone, whose $disconnect has not run yet; and the
-- nodes whose rows another one takes or has taken, which change nothing any more, with the time in seconds. The index has
-- a sorted set of ids for each attribute, and a set of attributes for each id: their names begin with the first two
-- arguments.
local rows, ids, own, orphans, taken_over = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local index, attributes_of = ARGV[1], ARGV[2]

-- A node that does not know yet that it was taken over, or a command that was long on its way, must not write rows that
-- no node would remove.
if redis.call('ZSCORE', taken_over, own) then
  return redis.error_reply('TAKENOVER another node has taken over the connections of this one')
end

local function set_attributes(id, after)
  local missing = {}
  for _, attribute in ipairs(after) do
    missing[attribute] = true
  end
  for _, attribute in ipairs(redis.call('SMEMBERS', attributes_of .. id)) do
    if missing[attribute] then
      missing[attribute] = nil
    else
      redis.call('ZREM', index .. attribute, id)
      redis.call('SREM', attributes_of .. id, attribute)
    end
  end
  for attribute in pairs(missing) do
    redis.call('ZADD', index .. attribute, 0, id)
    redis.call('SADD', attributes_of .. id, attribute)
  end
end

-- Returns the version of a stored row.
local function version_of(row)
  return tonumber(row:match('^(%d+):'))
end
