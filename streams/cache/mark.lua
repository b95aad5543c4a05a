-- Moves the mark of a partition from the value that the writer knows to the next, after all else.
-- ARGV[2..5]: partition, from, to, and the time to store with it, empty to leave what is stored; no
-- partition: no mark is moved. An empty mark is none.
-- Returns how many scores were written, how many customers removed, and the mark now held.

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
  -- Asked for nothing, it finds out whether Redis takes writes.
  call('SET', prefix .. ':probe', '', 'PX', 1000)
end
return { #ranked / 2, #gone, mark }
