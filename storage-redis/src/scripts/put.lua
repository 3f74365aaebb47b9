-- Puts records that have neither a precondition nor an expiry: the common case, made short.
-- KEYS: the records of one shard, then the index of their keys.
-- ARGV: now; the number of bytes before a record's own key; then for each record its string, made now.
-- Replies OK, or for each record what stands in its place that is no record; such a one is not written.
--
-- Lua takes a hash of each byte of each string that it makes. So the old strings are not read but for their heads, and
-- the new ones are not changed: the time of making is put right in their place.
local sub, ask = string.sub, redis.pcall
local n = #KEYS - 1
local index = KEYS[n + 1]
local now, skip = ARGV[1], tonumber(ARGV[2])

local heads, foreign = {}, nil
local writes, new = {}, {}
for i = 1, n do
  local key = KEYS[i]
  local head = ask('GETRANGE', key, 1, 49)
  if type(head) == 'table' then
    foreign = foreign or {}
    foreign[i] = head.err
  else
    writes[#writes + 1] = key
    writes[#writes + 1] = ARGV[2 + i]
    if head == '' then
      new[#new + 1] = 0
      new[#new + 1] = sub(key, skip + 1)
    else
      heads[i] = head
    end
  end
end

if #new > 0 then
  redis.call('ZADD', index, unpack(new))
end
if #writes > 0 then
  redis.call('MSET', unpack(writes))
end
for i, head in pairs(heads) do
  local key, kind = KEYS[i], sub(head, 1, 1)
  if kind == 'c' or kind == 'l' then
    redis.call('UNLINK', sub(key, 1, skip - 2) .. kind .. ':' .. sub(key, skip + 1))
  end
  if sub(head, 34, 49) > now then
    redis.call('SETRANGE', key, 2, sub(head, 2, 17))
  end
end

if not foreign then
  return redis.status_reply('OK')
end
for i = 1, n do
  foreign[i] = foreign[i] or ''
end
return foreign
