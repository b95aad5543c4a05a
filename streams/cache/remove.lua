-- Takes customers out of the cache, and returns how many were there.
-- ARGV: prefix, then ids.

local gone = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local key = customer_prefix .. id
  local held = call('HMGET', key, 'clv', 'segments')
  if held[1] then
    for dimension, name in pairs(cjson.decode(held[2])) do
      leave(segment(dimension, name), id, cents(held[1]))
    end
    call('DEL', key)
    gone[#gone + 1] = id
  end
end

if #gone > 0 then
  call('ZREM', ranking, unpack(gone))
  settle()
end
return #gone
