-- Counts customers into a ranking, segments and totals beside those in use; follows account.lua.
-- KEYS[1] and ARGV[1] are the new ones' ranking and prefix. ARGV from 2: prefix of the customers;
-- the repair's token, and for how many milliseconds it holds; MessagePack array of customers' ids;
-- and '' for account.lua.
-- Hashes that are no scores are deleted. Returns their number, and dimension and name of each segment.

local lease = ARGV[2] .. ':repairing'
if call('GET', lease) ~= ARGV[3] then
  return redis.error_reply('REPAIRING was taken over by somebody else')
end
call('SET', lease, ARGV[3], 'PX', ARGV[4])

local function held_of(key)
  local held = redis.pcall('HMGET', key, 'position', 'clv', 'segments', 'update')
  if held.err or not (tonumber(held[1]) and tonumber(held[2]) and held[3] and held[4]) then
    return nil
  end
  local readable, of = pcall(cjson.decode, held[3])
  if not readable or type(of) ~= 'table' then
    return nil
  end
  return held[2], of
end

local broken = 0
for _, id in ipairs(cmsgpack.unpack(ARGV[5])) do
  local key = ARGV[2] .. ':customer:' .. id
  local clv, of = held_of(key)
  if clv then
    -- A scan may show a customer twice.
    if call('ZADD', ranking, 'NX', clv, id) == 1 then
      for dimension, name in pairs(of) do
        enter(segment(dimension, name), id, cents(clv))
      end
    end
  else
    broken = broken + call('DEL', key)
  end
end
apply_effects()
local reply = { broken }
for _, seg in pairs(segments) do
  reply[#reply + 1] = seg.dimension
  reply[#reply + 1] = seg.name
end
return reply
