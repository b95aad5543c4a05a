-- Writes scores that are newer than the held one, and than the removal of their customer. If asked
-- to correct, it also overwrites a held score of the same position that differs.
-- ARGV from 7: '1' to correct; number of kinds; for each kind (a combination of segments) its
-- segments as JSON, the number of dimensions, and each dimension with its segment; then, as one
-- MessagePack array, for each customer: id, position, clv, kind, update, and the name of its note.

local correcting = ARGV[7] == '1'
local kinds, at = {}, 9
for number = 1, tonumber(ARGV[8]) do
  local kind = { json = ARGV[at], segments = {} }
  local last = at + 1 + 2 * tonumber(ARGV[at + 1])
  for i = at + 2, last, 2 do
    kind.segments[#kind.segments + 1] = segment(ARGV[i], ARGV[i + 1])
  end
  kinds[number] = kind
  at = last + 1
end

local function move(id, kind, value, held, before)
  local previous = cjson.decode(held)
  for _, seg in ipairs(kind.segments) do
    local name = previous[seg.dimension]
    previous[seg.dimension] = nil
    if name == seg.name then
      add_value(seg, value - before)
    else
      enter(seg, id, value)
      if name then
        leave(segment(seg.dimension, name), id, before)
      end
    end
  end
  for dimension, name in pairs(previous) do
    leave(segment(dimension, name), id, before)
  end
end

local notes = call('EXISTS', prefix .. ':forgotten') == 1

local function forgotten(note, position)
  local noted = notes and call('GET', note_prefix .. note)
  return noted and tonumber(noted) >= tonumber(position)
end

local function differs(key, held, kind, clv, update)
  return held[2] ~= clv or held[3] ~= kind.json or call('HGET', key, 'update') ~= update
end

local ranked = {}
local customers = cmsgpack.unpack(ARGV[at])
for i = 1, #customers, 6 do
  local id, position, clv, update = customers[i], customers[i + 1], customers[i + 2], customers[i + 4]
  local key = customer_prefix .. id
  local held = call('HMGET', key, 'position', 'clv', 'segments')
  local held_position = held[1]
  local kind = kinds[customers[i + 3]]
  local newer
  if held_position then
    newer = tonumber(held_position) < tonumber(position)
      or correcting and held_position == position and differs(key, held, kind, clv, update)
  else
    newer = not forgotten(customers[i + 5], position)
  end
  if newer then
    local value = cents(clv)
    if held[3] == kind.json then
      local growth = value - cents(held[2])
      for _, seg in ipairs(kind.segments) do
        add_value(seg, growth)
      end
      call('HSET', key, 'position', position, 'clv', clv, 'update', update)
    else
      move(id, kind, value, held[3] or '{}', held[2] and cents(held[2]))
      call('HSET', key, 'position', position, 'clv', clv, 'segments', kind.json, 'update', update)
    end
    ranked[#ranked + 1] = clv
    ranked[#ranked + 1] = id
  end
end

if #ranked > 0 then
  call('ZADD', ranking, unpack(ranked))
end
apply_effects()
