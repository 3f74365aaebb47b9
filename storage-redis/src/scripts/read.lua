-- Reads records that are counters or lists with what belongs to them.
-- KEYS: each record, and after it the key of what belongs to it, so that a cluster that moves them knows of both.
-- ARGV: for each the number of bytes before the record's own key.
-- Replies for each: nil, or the record and, for counters, fields and values, for a list, its length.
local results = {}
for i = 1, #ARGV do
  local record = KEYS[2 * i - 1]
  local raw = redis.call('GET', record)
  if raw then
    local kind, skip = string.sub(raw, 2, 2), tonumber(ARGV[i])
    local companion = string.sub(record, 1, skip - 2) .. kind .. ':' .. string.sub(record, skip + 1)
    if kind == 'c' then
      results[i] = { raw, redis.call('HGETALL', companion) }
    elseif kind == 'l' then
      results[i] = { raw, redis.call('LLEN', companion) }
    else
      results[i] = { raw }
    end
  else
    results[i] = false
  end
end
return results
