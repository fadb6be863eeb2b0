-- What all scripts of nodes begin with: the epochs of all nodes by number, which a node that is gone keeps until another
-- one takes over; the nodes whose rows another one removes, with the name of that one; and the name of a node's lease,
-- which the number completes. KEYS[3] has the time since which the store has data, in milliseconds; the last key when any
-- node has renewed its lease, and until when no node is taken over.
local epochs, gone, renewals, lease = KEYS[1], KEYS[2], KEYS[5], ARGV[1]
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

-- Whether another node takes or has taken the rows of a node.
local function is_lost(number, epoch)
  local known, name = redis.call('HGET', epochs, number), number .. '.' .. epoch
  return (known and known ~= epoch) or redis.call('HEXISTS', gone, name) == 1
    or redis.call('EXISTS', taken_over .. name) == 1
end

local function now()
  local time = redis.call('TIME')
  return math.floor(time[1] * 1000 + time[2] / 1000)
end

local function milliseconds(number)
  return string.format('%.0f', number)
end

local function has_data_since()
  local time = redis.call('TIME')
  -- With microseconds, so that data is not mistaken for that which was lost a moment ago.
  redis.call('SET', KEYS[3], string.format('%.3f', time[1] * 1000 + time[2] / 1000), 'NX')
end

-- If no node has renewed its lease for half a lease, the store was away from all of them, or they were all paused. Then an
-- ended lease says nothing about its node, and each node gets the time of a lease to renew its own.
local function notice_pause(lease_milliseconds)
  local last = tonumber(redis.call('HGET', renewals, 'last') or '')
  if last and now() - last > lease_milliseconds / 2 then
    redis.call('HSET', renewals, 'no take-over until', milliseconds(now() + lease_milliseconds))
  end
end

local function has_renewed(lease_milliseconds)
  notice_pause(lease_milliseconds)
  redis.call('HSET', renewals, 'last', milliseconds(now()))
end

local function hold(number, epoch, lease_milliseconds, record)
  redis.call('SET', lease .. number, epoch, 'PX', lease_milliseconds)
  redis.call('SET', record_of(number), record, 'PX', lease_milliseconds)
  has_data_since()
  has_renewed(tonumber(lease_milliseconds))
end
