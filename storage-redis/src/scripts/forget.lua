-- Removes members of the index whose records Redis has expired.
-- KEYS: the index. ARGV: the members.
local base = string.sub(KEYS[1], 1, -2)
for _, key in ipairs(ARGV) do
  if redis.call('EXISTS', base .. 'r:' .. key) == 0 then
    redis.call('ZREM', KEYS[1], key)
  end
end
return redis.status_reply('OK')
