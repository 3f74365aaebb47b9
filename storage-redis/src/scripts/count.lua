-- Counts the records of a page of the index that have not expired.
-- KEYS: the index. ARGV: now, the member after which to begin ("" for the first), the most members.
-- Replies with the number of members seen, of records that have not expired, and the last member seen.
local base = string.sub(KEYS[1], 1, -2)
local from = ARGV[2] == '' and '-' or '(' .. ARGV[2]
local members = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, tonumber(ARGV[3]))
local live = 0
for _, key in ipairs(members) do
  if string.sub(redis.call('GETRANGE', base .. 'r:' .. key, 0, 49), 35, 50) > ARGV[1] then
    live = live + 1
  end
end
return { #members, live, members[#members] or '' }
