-- What all scripts of nodes begin with: the epochs of all nodes by number, which a node that is gone keeps until another
-- one takes over; the nodes whose rows another one removes, with the name of that one; and the name of a node's lease,
-- which the number completes. The last key has the time since which the store has data, in milliseconds.
local epochs, gone, lease = KEYS[1], KEYS[2], ARGV[1]
-- Names the nodes that were taken over as a whole.
local taken_over = lease .. 'taken over:'

-- Names what the store has. After it was started again or has lost its data, it has another name.
local function data_name()
  local info = redis.pcall('INFO', 'server')
  local run = type(info) == 'string' and info:match('run_id:(%x+)') or ''
  return run .. ':' .. (redis.call('GET', KEYS[3]) or '')
end

-- Names the record of a node, which exists as long as its lease.
local function record_of(number)
  return lease .. number .. ':record'
end

local function has_data_since()
  local now = redis.call('TIME')
  redis.call('SET', KEYS[3], string.format('%.3f', now[1] * 1000 + now[2] / 1000), 'NX')
end

local function hold(number, epoch, milliseconds, record)
  redis.call('SET', lease .. number, epoch, 'PX', milliseconds)
  redis.call('SET', record_of(number), record, 'PX', milliseconds)
  has_data_since()
end
