-- Applies mutations of any kind.
-- KEYS: the record of each mutation, in order, then all other keys that are known to be used: a cluster that moves their
-- slot lets the script run only where all of them are.
-- ARGV: now; "i" for independent or "a" for atomic; then for each mutation a MessagePack array: the number of bytes before
-- the record's own key, the precondition, the operation, the new version, and what the operation takes.
-- Replies with one array for each mutation: what was done, or the error; an atomic batch that fails, with its position
-- and error alone, and with nothing changed.
local call, sub = redis.call, string.sub
local now, atomic = ARGV[1], ARGV[2] == 'a'
local NEVER = string.rep('~', 16)
local CHUNK = 1000
local saved, order, indexes = {}, {}, {}

-- Whether a key is of the type that a command wants, and on this node; notes the error if not.
local function fits(at, command, key)
  local reply = redis.pcall(command, key)
  if type(reply) == 'table' then
    at.foreign = reply.err
    return false
  end
  return true, reply
end

local function companion(at, kind)
  return at.base .. kind .. ':' .. at.key
end

-- A record as it is stored; nil if there is none, or it has expired. Looks at all keys of the record, so that nothing has
-- been written when one of them is refused.
local function read(at)
  if not indexes[at.base] then
    if not fits(at, 'ZCARD', at.base .. 'i') then
      return nil
    end
    indexes[at.base] = true
  end
  local _, raw = fits(at, 'GET', at.record)
  if at.foreign then
    return nil
  end
  at.raw = raw
  at.kind = raw and sub(raw, 2, 2)
  if at.kind == 'c' or at.kind == 'l' then
    if not fits(at, at.kind == 'c' and 'HLEN' or 'LLEN', companion(at, at.kind)) then
      return nil
    end
  end
  if not raw or sub(raw, 35, 50) <= now then
    return nil
  end
  return { kind = at.kind, created = sub(raw, 3, 18), expires = sub(raw, 35, 50), version = sub(raw, 51, 66),
    payload = sub(raw, 67) }
end

local function expire(key, expires)
  if expires ~= NEVER then
    -- A second later than the record says: the exact rule is the host's. Milliseconds fit a double until the year 287396.
    local at = tonumber(expires, 16) + 1000
    if at < 9007199254740992 then
      call('PEXPIREAT', key, string.format('%.0f', at))
    end
  else
    call('PERSIST', key)
  end
end

-- Keeps what is there now, for an atomic batch that fails later.
local function save(at)
  if not atomic or saved[at.record] then return end
  local kept = { at = at, raw = call('GET', at.record) }
  local kind = kept.raw and sub(kept.raw, 2, 2)
  if kind == 'c' or kind == 'l' then
    kept.kind = kind
    kept.dump = call('DUMP', companion(at, kind))
  end
  saved[at.record] = kept
  order[#order + 1] = kept
end

-- Removes what should not be there, and perhaps is: a key that came late when its slot moved. Looks first: a server without
-- memory refuses what needs some only as a script's first write, which this would be.
local function drop_stray(key)
  if call('EXISTS', key) == 1 then
    call('UNLINK', key)
  end
end

local function drop_companions(at)
  if at.kind == 'c' or at.kind == 'l' then
    call('UNLINK', companion(at, at.kind))
  end
end

local function remove(at)
  save(at)
  if at.raw then
    drop_companions(at)
    call('UNLINK', at.record)
  end
  call('ZREM', at.base .. 'i', at.key)
end

local function undo()
  for _, kept in ipairs(order) do
    local at = kept.at
    call('DEL', at.record, companion(at, 'c'), companion(at, 'l'))
    if kept.raw then
      call('SET', at.record, kept.raw)
      expire(at.record, sub(kept.raw, 35, 50))
      call('ZADD', at.base .. 'i', 0, at.key)
      if kept.dump then
        call('RESTORE', companion(at, kept.kind), 0, kept.dump)
        expire(companion(at, kept.kind), sub(kept.raw, 35, 50))
      end
    else
      call('ZREM', at.base .. 'i', at.key)
    end
  end
end

-- Stores the record's string, and the expiry of all its keys.
local function store(at, current, kind, expires, version, payload)
  local created = current and current.created or now
  call('SET', at.record, '1' .. kind .. created .. now .. expires .. version .. payload)
  if expires ~= NEVER then
    expire(at.record, expires)
  end
  if kind == 'c' or kind == 'l' then
    expire(companion(at, kind), expires)
  end
  if not at.raw then
    call('ZADD', at.base .. 'i', 0, at.key)
  end
end

local function in_chunks(command, key, list)
  for from = 1, #list, CHUNK do
    call(command, key, unpack(list, from, math.min(from + CHUNK - 1, #list)))
  end
end

local operations = {}

function operations.put(at, current, version, kind, expires, payload)
  if expires <= now then
    remove(at)
    return { 'done', '' }
  end
  save(at)
  drop_companions(at)
  if kind == 'c' then
    drop_stray(companion(at, 'c'))
    in_chunks('HSET', companion(at, 'c'), payload)
    payload = ''
  end
  store(at, current, kind, expires, version, payload)
  return { 'done', version }
end

function operations.delete(at, current)
  remove(at)
  return { 'deleted', current and 1 or 0 }
end

function operations.touch(at, current, version, expires)
  if not current then
    return nil, { 'not_found' }
  end
  if expires <= now then
    remove(at)
    return { 'done', '' }
  end
  save(at)
  store(at, current, current.kind, expires, version, current.payload)
  return { 'done', version }
end

function operations.increment(at, current, version, expires, deltas)
  if current and current.kind ~= 'c' then
    return nil, { 'kind', current.kind }
  end
  save(at)
  local hash = companion(at, 'c')
  if not current then
    drop_companions(at)
    drop_stray(hash)
  end
  local fields = {}
  for i = 1, #deltas, 2 do
    fields[#fields + 1] = deltas[i]
  end
  -- Sums are read back as text: a reply of HINCRBY would pass through a double.
  local before = call('HMGET', hash, unpack(fields))
  for i, field in ipairs(fields) do
    local sum = redis.pcall('HINCRBY', hash, field, deltas[2 * i])
    if type(sum) == 'table' then
      for j = 1, i - 1 do
        if before[j] then
          call('HSET', hash, fields[j], before[j])
        else
          call('HDEL', hash, fields[j])
        end
      end
      if not string.find(sum.err, 'overflow', 1, true) then
        return nil, { 'server', sum.err }
      end
      return nil, { 'range', field, before[i] or '0', deltas[2 * i] }
    end
  end
  local sums = call('HMGET', hash, unpack(fields))
  if current then
    expires = current.expires
  end
  if expires <= now then
    at.raw, at.kind = at.raw or '', 'c'
    remove(at)
    return { 'counters', '', sums }
  end
  store(at, current, 'c', expires, version, '')
  return { 'counters', version, sums }
end

function operations.append(at, current, version, expires, items)
  if current and current.kind ~= 'l' then
    return nil, { 'kind', current.kind }
  end
  save(at)
  local list = companion(at, 'l')
  if not current then
    drop_companions(at)
    drop_stray(list)
  end
  in_chunks('RPUSH', list, items)
  local length = call('LLEN', list)
  if current then
    expires = current.expires
  end
  if expires <= now then
    at.raw, at.kind = at.raw or '', 'l'
    remove(at)
    return { 'length', '', length }
  end
  store(at, current, 'l', expires, version, '')
  return { 'length', version, length }
end

function operations.check(_, current)
  return { 'done', current and current.version or '' }
end

local function holds(precondition, current)
  local kind = sub(precondition, 1, 1)
  if kind == 'a' then
    return not current
  elseif kind == 'p' then
    return current
  elseif kind == 'v' then
    return current and current.version == sub(precondition, 2)
  end
  return true
end

local results = {}
for i = 1, #ARGV - 2 do
  local record = KEYS[i]
  local mutation = cmsgpack.unpack(ARGV[2 + i])
  local skip, precondition, operation = tonumber(mutation[1]), mutation[2], mutation[3]
  -- The record is `base .. "r:" .. key`.
  local at = { record = record, base = sub(record, 1, skip - 2), key = sub(record, skip + 1) }
  local current = read(at)
  local done, failed
  if at.foreign then
    failed = { 'foreign', at.foreign }
  elseif holds(precondition, current) then
    done, failed = operations[operation](at, current, unpack(mutation, 4))
  else
    failed = { 'precondition', current and current.version or '' }
  end
  if failed and atomic then
    undo()
    return { 'failed', tostring(i - 1), failed }
  end
  results[i] = done or { 'failed', failed }
end
return results
