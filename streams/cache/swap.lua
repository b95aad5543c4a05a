-- Replaces ranking, segments and totals by recounted ones, atomically.
-- KEYS: ranking. ARGV: prefix, the new ones' prefix, the repair's token, the stamp of evictions to
-- store ('' for none); number of old keys and these; the new keys, without their prefix.
-- Marks are deleted, so that evicted customers are read again.

local call = redis.call
local prefix, fresh, lease = ARGV[1], ARGV[2], ARGV[1] .. ':repairing'
if call('GET', lease) ~= ARGV[3] then
  return redis.error_reply('REPAIRING was taken over by somebody else')
end
local last = 5 + tonumber(ARGV[5])
for i = 6, last do
  call('UNLINK', ARGV[i])
end
call('UNLINK', KEYS[1], prefix .. ':marks', prefix .. ':times')
for i = last + 1, #ARGV do
  if call('EXISTS', fresh .. ARGV[i]) == 1 then
    call('RENAME', fresh .. ARGV[i], prefix .. ARGV[i])
  end
end
if ARGV[4] ~= '' then
  call('SET', prefix .. ':whole', ARGV[4])
end
call('DEL', lease)
return 1
