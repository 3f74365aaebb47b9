-- Puts JSON or bytes, without condition or expiry: the fast path.
-- KEYS: the records, then the index of their collection (all of one tag).
-- ARGV: now; the number of bytes before a record's own key; then for each record its kind and all that follows its
-- created time.
local n = #KEYS - 1
local index = KEYS[n + 1]
KEYS[n + 1] = nil
local now, skip = ARGV[1], tonumber(ARGV[2])
local stored = redis.call('MGET', unpack(KEYS))
local writes = {}
for i = 1, n do
  local key, old, created = KEYS[i], stored[i], now
  if old then
    local kind = string.sub(old, 2, 2)
    if kind == 'c' or kind == 'l' then
      redis.call('UNLINK', string.sub(key, 1, skip - 2) .. kind .. ':' .. string.sub(key, skip + 1))
    end
    if string.sub(old, 35, 50) > now then
      created = string.sub(old, 3, 18)
    end
  else
    redis.call('ZADD', index, 0, string.sub(key, skip + 1))
  end
  local value = ARGV[2 + i]
  writes[2 * i - 1] = key
  writes[2 * i] = '1' .. string.sub(value, 1, 1) .. created .. string.sub(value, 2)
end
redis.call('MSET', unpack(writes))
return redis.status_reply('OK')
