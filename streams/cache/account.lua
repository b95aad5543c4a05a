-- The first of four files that make one script: account, remove, put, mark.
-- KEYS[1] is the ranking. ARGV: prefix; partition, from, to and time of a mark to move (mark.lua);
-- removals (remove.lua); what to put (put.lua). A customer occurs once in a call.
-- The last of ARGV: the service that writes; '' to skip the check of the cache's owner.
-- The effects on segments are collected, and applied by apply_effects().

local call, floor, format = redis.call, math.floor, string.format
local tonumber, unpack = tonumber, unpack
local ranking, prefix = KEYS[1], ARGV[1]

if call('EXISTS', prefix .. ':clearing', prefix .. ':repairing') > 0 then
  if call('EXISTS', prefix .. ':clearing') == 1 then
    return redis.error_reply('CLEARING the cache under ' .. prefix .. ' is being cleared; if a clear '
      .. 'was interrupted, run it again')
  end
  return redis.error_reply('REPAIRING ranking, segments and totals under ' .. prefix
    .. ' are being counted anew; this ends by itself')
end

local writer = ARGV[#ARGV]
if writer ~= '' then
  local owner = call('GET', prefix .. ':owner')
  if not owner then
    call('SET', prefix .. ':owner', writer)
  elseif owner ~= writer then
    return redis.error_reply('OWNED the keys ' .. prefix .. ':... are written by the service with '
      .. 'CLV_APP_ID ' .. owner .. ', not ' .. writer .. ': set another CLV_REDIS_PREFIX, or, if it was '
      .. 'given up on purpose, run clv claims release ' .. owner)
  end
end

-- Sums are sent to Redis at 2^52, so that with one more customer they are still exact in a double.
local SUM_LIMIT = 2 ^ 52
local customer_prefix = prefix .. ':customer:'
local segments = {}

local function cents(clv)
  return floor(tonumber(clv) * 100 + 0.5)
end

local function segment(dimension, name)
  local label = dimension .. ':' .. name
  local found = segments[label]
  if not found then
    found = {
      dimension = dimension, name = name, key = prefix .. ':segment:' .. label,
      totals = prefix .. ':totals:' .. dimension, customers = 0, cents = 0, joined = {}, left = {},
    }
    segments[label] = found
  end
  return found
end

local function add_value(seg, value)
  local sum = seg.cents + value
  if sum > SUM_LIMIT or sum < -SUM_LIMIT then
    call('HINCRBY', seg.totals, seg.name .. ':value_cents', format('%.0f', sum))
    sum = 0
  end
  seg.cents = sum
end

local function enter(seg, id, value)
  seg.joined[#seg.joined + 1] = id
  seg.customers = seg.customers + 1
  add_value(seg, value)
end

local function leave(seg, id, value)
  seg.left[#seg.left + 1] = id
  seg.customers = seg.customers - 1
  add_value(seg, -value)
end

local function apply_effects()
  for _, seg in pairs(segments) do
    if #seg.left > 0 then
      call('SREM', seg.key, unpack(seg.left))
    end
    if #seg.joined > 0 then
      call('SADD', seg.key, unpack(seg.joined))
    end
    if seg.cents ~= 0 then
      call('HINCRBY', seg.totals, seg.name .. ':value_cents', format('%.0f', seg.cents))
    end
    if seg.customers ~= 0
      and call('HINCRBY', seg.totals, seg.name .. ':customers', seg.customers) == 0 then
      call('HDEL', seg.totals, seg.name .. ':customers', seg.name .. ':value_cents')
    end
  end
end
