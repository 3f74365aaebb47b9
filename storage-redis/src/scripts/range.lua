-- Reads items of a list.
-- KEYS: the record, and its list. ARGV: the number of bytes before its own key, the first position, the most items, the most bytes.
-- Replies nil, or the record, the list's length and the items: at least one if there is any.
local raw = redis.call('GET', KEYS[1])
if not raw then
  return false
end
if string.sub(raw, 2, 2) ~= 'l' then
  return { raw }
end
local skip = tonumber(ARGV[1])
local list = string.sub(KEYS[1], 1, skip - 2) .. 'l:' .. string.sub(KEYS[1], skip + 1)
local length = redis.call('LLEN', list)
local first, most, room = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local items = {}
while first < length and #items < most and room > 0 do
  local page = redis.call('LRANGE', list, first, first + math.min(100, most - #items) - 1)
  for _, item in ipairs(page) do
    if room <= 0 then
      break
    end
    items[#items + 1] = item
    room = room - #item
  end
  first = first + #page
end
return { raw, length, items }
