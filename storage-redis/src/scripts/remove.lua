-- Removes records in the order of the index, a page at a time.
-- KEYS: the index. ARGV: now, "all" or "expired", the member after which to begin ("" for the first), the most members.
-- Replies with the number of members seen, of records removed that had not expired, of records and stale members removed
-- that had, and the last member seen.
local now, all, most = ARGV[1], ARGV[2] == 'all', tonumber(ARGV[4])
local base = string.sub(KEYS[1], 1, -2)
local from = ARGV[3] == '' and '-' or '(' .. ARGV[3]
local members = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, most)
local live, expired = 0, 0
for _, key in ipairs(members) do
  local record = base .. 'r:' .. key
  local head = redis.call('GETRANGE', record, 0, 49)
  local gone = head == '' or string.sub(head, 35, 50) <= now
  if gone or all then
    redis.call('UNLINK', record, base .. 'c:' .. key, base .. 'l:' .. key)
    redis.call('ZREM', KEYS[1], key)
    if gone then
      expired = expired + 1
    else
      live = live + 1
    end
  end
end
return { #members, live, expired, members[#members] or '' }
