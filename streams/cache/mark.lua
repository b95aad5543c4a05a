-- Moves the mark of a partition, last of all, if it has the value that the writer expects.
-- ARGV[2..5]: partition, from, to, and the time to store with it, empty to keep the stored one; an
-- empty partition: no mark is moved. An empty mark is none.
-- Returns how many scores were written, how many customers were removed, and the present mark.

local mark = ''
if ARGV[2] ~= '' then
  local marks = prefix .. ':marks'
  mark = call('HGET', marks, ARGV[2]) or ''
  if mark == ARGV[3] then
    if mark ~= ARGV[4] then
      mark = ARGV[4]
      call('HSET', marks, ARGV[2], mark)
    end
    if ARGV[5] ~= '' then
      call('HSET', prefix .. ':times', ARGV[2], ARGV[5])
    end
  end
elseif ARGV[6] == '' and #customers == 0 then
  -- An empty call finds out whether Redis takes writes.
  call('SET', prefix .. ':probe', '', 'PX', 1000)
end
return { #ranked / 2, #gone, mark }
