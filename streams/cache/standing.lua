-- Returns a partition's mark and the time since when it can be trusted, each empty where there is none.
-- KEYS[1] is the ranking. ARGV: prefix, partition, the time now, the oldest time of use.
-- The time 'clean' is when this Redis was found without customers: whoever is in it since then was in
-- the log then, so that a partition without a mark may be read from there on like one with a mark.

local call, tonumber = redis.call, tonumber
local marks, times = ARGV[1] .. ':marks', ARGV[1] .. ':times'
local mark = call('HGET', marks, ARGV[2]) or ''
if mark ~= '' then
  return { mark, call('HGET', times, ARGV[2]) or '' }
end
if call('EXISTS', KEYS[1], marks) == 0 then
  call('HSET', times, 'clean', ARGV[3])
end
-- What readings that were killed have left.
local held = call('HGETALL', marks)
for i = 1, #held, 2 do
  local began = held[i]:match('^%d+/(%d+)%.')
  if began and tonumber(began) < tonumber(ARGV[4]) then
    call('HDEL', marks, held[i])
  end
end
return { mark, call('HGET', times, 'clean') or '' }
