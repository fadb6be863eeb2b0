-- What all scripts of a bucket begin with. Its keys have one hash tag: the values by key, the keys in the order of their
-- bytes, and the usage (bytes, keys).
local values, order, usage = KEYS[1], KEYS[2], KEYS[3]

-- The bytes of a key and its value, or nil if there is no such key.
local function size(key)
  local bytes = redis.call('HSTRLEN', values, key)
  if bytes == 0 and redis.call('HEXISTS', values, key) == 0 then
    return nil
  end
  return #key + bytes
end

local function used()
  local found = redis.call('HMGET', usage, 'bytes', 'keys')
  return tonumber(found[1] or 0), tonumber(found[2] or 0)
end

local function set_used(bytes, keys)
  redis.call('HSET', usage, 'bytes', string.format('%.0f', bytes), 'keys', string.format('%.0f', keys))
end

-- Writes a value. Returns nil, or the usage before and after if the quota does not allow the write.
local function write(key, value, bytes_max, keys_max)
  local before = size(key)
  local bytes, keys = used()
  local bytes_after = bytes - (before or 0) + #key + #value
  local keys_after = keys + (before and 0 or 1)
  if (keys_after > keys_max and keys_after > keys) or (bytes_after > bytes_max and bytes_after > bytes) then
    return { bytes, keys, bytes_after, keys_after }
  end
  redis.call('HSET', values, key, value)
  if not before then
    redis.call('ZADD', order, 0, key)
  end
  set_used(bytes_after, keys_after)
  return nil
end

local function remove(key)
  local before = size(key)
  if before then
    local bytes, keys = used()
    redis.call('HDEL', values, key)
    redis.call('ZREM', order, key)
    set_used(bytes - before, keys - 1)
  end
end
