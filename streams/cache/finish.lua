-- Ends a refill: sets the partition's mark, and since when it can be trusted.
-- ARGV: prefix, partition, name and expected value of the refill's own mark, the partition's mark to
-- set, its time, and the oldest usable time. Returns whether the refill's own mark was as expected.
-- A mark that another writer has moved further meanwhile stays.

local call, tonumber = redis.call, tonumber
local marks, times = ARGV[1] .. ':marks', ARGV[1] .. ':times'
if call('HGET', marks, ARGV[3]) ~= ARGV[4] then
  return 0
end
call('HDEL', marks, ARGV[3])
local held, time = call('HGET', marks, ARGV[2]), call('HGET', times, ARGV[2])
local trusted = held and time and tonumber(time) >= tonumber(ARGV[7])
if not (trusted and tonumber(held:match('^%d+')) >= tonumber(ARGV[5])) then
  call('HSET', marks, ARGV[2], ARGV[5])
  call('HSET', times, ARGV[2], ARGV[6])
end
return 1
