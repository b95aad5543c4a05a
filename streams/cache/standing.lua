-- Returns a partition's mark and since when it can be trusted, each empty if there is none.
-- KEYS[1] is the ranking. ARGV: prefix, partition, the present time, the oldest usable time.
-- The time 'clean' is when this Redis was found without customers. All customers in it are from the
-- log since then, so a partition without a mark can be trusted like one with a mark of that time.

local call, tonumber = redis.call, tonumber
local marks, times = ARGV[1] .. ':marks', ARGV[1] .. ':times'
local mark = call('HGET', marks, ARGV[2]) or ''
if mark ~= '' then
  return { mark, call('HGET', times, ARGV[2]) or '' }
end
if call('EXISTS', KEYS[1], marks) == 0 then
  call('HSET', times, 'clean', ARGV[3])
end
-- Left by refills that were killed.
local held = call('HGETALL', marks)
for i = 1, #held, 2 do
  local began = held[i]:match('^%d+/(%d+)%.')
  if began and tonumber(began) < tonumber(ARGV[4]) then
    call('HDEL', marks, held[i])
  end
end
return { mark, call('HGET', times, 'clean') or '' }
