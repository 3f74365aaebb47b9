-- Puts JSON or bytes, without condition or expiry: the fast path.
-- KEYS: the records, then the index of their collection (all of one tag).
-- ARGV: now; the number of bytes before a record's own key; then for each record its kind and all that follows its
-- created time.
-- Replies OK, or for each record what stands in its place that is no record; such a one is not written.
local sub = string.sub
local n = #KEYS - 1
local index = KEYS[n + 1]
KEYS[n + 1] = nil
local now, skip = ARGV[1], tonumber(ARGV[2])
local stored = redis.call('MGET', unpack(KEYS))

-- MGET shows nothing for a key that holds something else than a string, and MSET would overwrite it.
local missing = {}
for i = 1, n do
  if not stored[i] then
    missing[#missing + 1] = KEYS[i]
  end
end
local foreign
if #missing > 0 and redis.call('EXISTS', unpack(missing)) > 0 then
  foreign = {}
  for i = 1, n do
    local found = not stored[i] and redis.pcall('GET', KEYS[i])
    foreign[i] = type(found) == 'table' and found.err or ''
  end
end

local writes, last = {}, 0
for i = 1, n do
  if not foreign or foreign[i] == '' then
    local key, old, created = KEYS[i], stored[i], now
    if old then
      local kind = sub(old, 2, 2)
      if kind == 'c' or kind == 'l' then
        redis.call('UNLINK', sub(key, 1, skip - 2) .. kind .. ':' .. sub(key, skip + 1))
      end
      if sub(old, 35, 50) > now then
        created = sub(old, 3, 18)
      end
    else
      redis.call('ZADD', index, 0, sub(key, skip + 1))
    end
    local value = ARGV[2 + i]
    writes[last + 1] = key
    writes[last + 2] = '1' .. sub(value, 1, 1) .. created .. sub(value, 2)
    last = last + 2
  end
end
if last > 0 then
  redis.call('MSET', unpack(writes))
end
return foreign or redis.status_reply('OK')
