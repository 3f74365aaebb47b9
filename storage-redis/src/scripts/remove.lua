-- Removes records.
-- KEYS: the index of their collection, then the records. ARGV: now, "all" or "expired", the number of bytes before a
-- record's own key.
-- Replies with the number of records removed that had not expired, and of records and stale members removed that had.
local index, now, all, skip = KEYS[1], ARGV[1], ARGV[2] == 'all', tonumber(ARGV[3])
local live, expired = 0, 0
for i = 2, #KEYS do
  local record = KEYS[i]
  local head, key = redis.call('GETRANGE', record, 0, 49), string.sub(record, skip + 1)
  local gone = head == '' or string.sub(head, 35, 50) <= now
  if gone or all then
    local kind = string.sub(head, 2, 2)
    if kind == 'c' or kind == 'l' then
      redis.call('UNLINK', string.sub(record, 1, skip - 2) .. kind .. ':' .. key)
    end
    redis.call('UNLINK', record)
    redis.call('ZREM', index, key)
    if gone then
      expired = expired + 1
    else
      live = live + 1
    end
  end
end
return { live, expired }
