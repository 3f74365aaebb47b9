-- Reads plain strings, each with its expiry.
-- KEYS: the keys.
-- Replies for each: nil; the value, and when it expires in milliseconds since the Unix epoch (-1: never); or nil and the
-- error with which the server refused to read it.
local expiry_known = true

local function expires_at(key)
  if expiry_known then
    local at = redis.pcall('PEXPIRETIME', key)
    if type(at) == 'number' then
      return at
    end
    -- Servers before 7.0 only tell how long is left.
    expiry_known = false
  end
  local left = redis.call('PTTL', key)
  if left < 0 then
    return -1
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + left
end

local results = {}
for i, key in ipairs(KEYS) do
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then
    results[i] = { false, value.err }
  elseif value then
    results[i] = { value, expires_at(key) }
  else
    results[i] = false
  end
end
return results
