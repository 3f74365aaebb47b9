-- Counts the records of a page of the index that have not expired.
-- KEYS: the index. ARGV: now, the member after which to begin ("" for the first), the most members.
-- Replies with the number of members seen, of records that have not expired, the last member seen, and those that show
-- no record here: they have expired, or their slot is moving and they are on the other side.
local base = string.sub(KEYS[1], 1, -2)
local from = ARGV[2] == '' and '-' or '(' .. ARGV[2]
local members = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, tonumber(ARGV[3]))
local live, missing = 0, {}
for _, key in ipairs(members) do
  local head = redis.pcall('GETRANGE', base .. 'r:' .. key, 0, 49)
  if type(head) == 'table' or head == '' then
    missing[#missing + 1] = key
  elseif string.sub(head, 35, 50) > ARGV[1] then
    live = live + 1
  end
end
return { #members, live, members[#members] or '', missing }
