-- Removes customers whose score is older than the removal.
-- ARGV[6]: MessagePack array of id, position and name of the note of each, or empty.
-- The note expires after some days; until then it refuses scores from before the removal. Its name
-- is a keyed fingerprint of the id. It is written after the deletion, which a full Redis allows.

local NOTE_MILLISECONDS = 7 * 24 * 3600 * 1000
local note_prefix = prefix .. ':forgotten:'
local gone = {}

if ARGV[6] ~= '' then
  local removals = cmsgpack.unpack(ARGV[6])
  for i = 1, #removals, 3 do
    local id, position = removals[i], removals[i + 1]
    local key = customer_prefix .. id
    local held = call('HMGET', key, 'position', 'clv', 'segments')
    if not held[1] or tonumber(held[1]) < tonumber(position) then
      if held[1] then
        for dimension, name in pairs(cjson.decode(held[3])) do
          leave(segment(dimension, name), id, cents(held[2]))
        end
        call('DEL', key)
        gone[#gone + 1] = id
      end
      local note = note_prefix .. removals[i + 2]
      local noted = call('GET', note)
      if not noted or tonumber(noted) < tonumber(position) then
        call('SET', note, position, 'PX', NOTE_MILLISECONDS)
      end
      -- It outlives every note: if it is missing, there are no notes to look for.
      call('SET', prefix .. ':forgotten', '', 'PX', NOTE_MILLISECONDS)
    end
  end
  if #gone > 0 then
    call('ZREM', ranking, unpack(gone))
  end
end
