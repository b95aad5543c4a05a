-- Walks the ranking downwards from a position and picks the members of a segment.
-- KEYS: ranking, the segment's set; ARGV: position, how many places to read.
-- Returns the number of places read, then id and clv of each member.

local from = tonumber(ARGV[1])
local places = redis.call('ZREVRANGE', KEYS[1], from, from + tonumber(ARGV[2]) - 1, 'WITHSCORES')
if #places == 0 then
  return { 0 }
end
local ids = {}
for i = 1, #places, 2 do
  ids[#ids + 1] = places[i]
end
local found = { #ids }
for i, is_member in ipairs(redis.call('SMISMEMBER', KEYS[2], unpack(ids))) do
  if is_member == 1 then
    found[#found + 1] = ids[i]
    found[#found + 1] = places[2 * i]
  end
end
return found
