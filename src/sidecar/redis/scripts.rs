//! What Redis does in one step, in its own language: between a look and what follows from it nobody
//! else comes in.
//!
//! Each script is sent by its digest, and in full where Redis does not know it (any more).

use std::sync::LazyLock;

use ::redis::Script;

use super::record::MOST;

/// Replies of [`LOOK`] about the lock, beside `none`: it was not asked for, or could not be had.
pub mod turn {
    /// It is the caller's.
    pub const GOT: &str = "got";
    /// Another has it.
    pub const BUSY: &str = "busy";
    /// Nothing comes of the key for others.
    pub const UNCACHEABLE: &str = "uncacheable";
    /// It was not asked for, as there is something.
    pub const FOUND: &str = "found";
    /// The caller looked in the wrong fields.
    pub const SETS: &str = "sets";
    /// The caller knows another state of the record of purges.
    pub const RECORD: &str = "record";
}

/// Looks for responses, and takes the lock if there are none, in one step: who has taken it knows that
/// nobody has brought anything in between.
///
/// KEYS: responses, lock, record. ARGV: generation and sequence that the caller knows, token or `""`, `always` to
/// take the lock though there is something, the lock's time, the sets, fields.
/// Returns: turn, sets, the responses.
pub static LOOK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
-- It may be of another type, and then has no first and second field either.
local record = redis.pcall('HMGET', KEYS[3], 'generation', 'sequence')
if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] then return {'record', false} end
local sets = redis.call('HGET', KEYS[1], 'sets')
if sets and sets ~= ARGV[6] then return {'sets', sets} end
local reply = {'none', sets}
local found = false
if sets then
  for _, response in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, 7))) do
    if response then found = true; reply[#reply + 1] = response end
  end
end
if ARGV[3] == '' then return reply end
if found and ARGV[4] ~= 'always' then reply[1] = 'found'; return reply end
-- Where nothing may be written any more, what is there can still be read.
local set = redis.pcall('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[5])
if set and set.ok then reply[1] = 'got'
elseif not set then reply[1] = redis.call('GET', KEYS[2]) == '!' and 'uncacheable' or 'busy' end
return reply
",
    )
});

/// Stores a response and gives the lock back, if the caller has it still. Of many responses, or of too many
/// bytes, the oldest go.
///
/// KEYS: responses, lock. ARGV: token, field, response, set, time to live, most responses, most bytes, most sets.
/// Returns: whether it is stored.
pub static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
local known = redis.call('HMGET', KEYS[1], 'sets', 'order')
local sets, count = ARGV[4], 1
for set in string.gmatch(known[1] or '', '[^\n]+') do
  if set ~= ARGV[4] and count < tonumber(ARGV[8]) then sets = sets .. '\n' .. set; count = count + 1 end
end
local order, bytes = {}, #ARGV[3]
for field in string.gmatch(known[2] or '', '%S+') do
  if field ~= ARGV[2] then
    order[#order + 1] = field
    bytes = bytes + redis.call('HSTRLEN', KEYS[1], field)
  end
end
while #order > 0 and (#order >= tonumber(ARGV[6]) or bytes > tonumber(ARGV[7])) do
  local oldest = table.remove(order, 1)
  bytes = bytes - redis.call('HSTRLEN', KEYS[1], oldest)
  redis.call('HDEL', KEYS[1], oldest)
end
order[#order + 1] = ARGV[2]
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3], 'sets', sets, 'order', table.concat(order, ' '))
local left = redis.call('PTTL', KEYS[1])
if left < tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[1], ARGV[5]) end
redis.call('DEL', KEYS[2])
return 1
",
    )
});

/// Gives the lock back, or tells all that nothing comes of the key for a time.
///
/// KEYS: lock. ARGV: token, time or `""`.
pub static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], '!', 'PX', ARGV[2]) end
return 1
",
    )
});

/// Keeps the lock for longer.
///
/// KEYS: lock. ARGV: token, time. Returns: whether it is the caller's still.
pub static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
",
    )
});

/// The record, another if there is none, if what is there is none, if it is of a server before this one (which may
/// have had purges that this one has not), or if the caller knows that purges are missing.
///
/// `fresh` is the generation of another record, `lost` the one that is not to go on. Numbers are written in one way,
/// as they are compared as texts, and counts have no more digits than Redis counts exactly.
const RECORD: &str = r#"
local function counted(text)
  if text and #text <= 15 and (text == '0' or string.match(text, '^[1-9]%d*$')) then return tonumber(text) end
end
local function is_record(key)
  if redis.call('TYPE', key).ok ~= 'hash' or redis.call('HLEN', key) > MOST + 16 then return false end
  local known = redis.call('HMGET', key, 'generation', 'sequence', 'forgotten', 'changes')
  local generation = known[1] and string.match(known[1], '^[1-9]%d*$')
  if not generation or #generation > 20 then return false end
  if #generation == 20 and generation > '18446744073709551615' then return false end
  local sequence, forgotten = counted(known[2]), counted(known[3])
  if not sequence or not forgotten or not counted(known[4]) then return false end
  return forgotten <= sequence and sequence - forgotten <= MOST
end
local function record(key, fresh, lost)
  local server = ''
  local told = redis.pcall('INFO', 'server')
  if type(told) == 'string' then server = string.match(told, 'run_id:(%w+)') or '' end
  local before = 'nothing'
  if redis.call('EXISTS', key) == 1 then
    before = is_record(key) and 'record' or 'garbage'
  end
  if before == 'record' then
    local known = redis.call('HMGET', key, 'generation', 'server')
    if known[1] ~= lost and known[2] == server then return known[1] end
  end
  redis.call('DEL', key)
  redis.call('HSET', key, 'generation', fresh, 'sequence', 0, 'forgotten', 0, 'changes', 0, 'server', server,
    'before', before)
  redis.call('PUBLISH', key, '{"news":"begun","generation":' .. fresh .. '}')
  return fresh
end
"#;

/// A script that begins with the record.
fn with_record(script: &str) -> Script {
    Script::new(&format!("{}{script}", RECORD.replace("MOST", &MOST.to_string())))
}

/// The record as it is.
///
/// KEYS: record. ARGV: a generation for another, one that is not to go on or `""`, time to live.
/// Returns: its fields.
pub static LOAD: LazyLock<Script> = LazyLock::new(|| {
    with_record(
        r"
record(KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return redis.call('HGETALL', KEYS[1])
",
    )
});

/// Records a purge and tells all; or finds that another has recorded it after what the caller knew.
///
/// KEYS: record. ARGV: a generation for another record, time to live, purge, most purges, generation and sequence
/// that the caller knew, or `""`.
/// Returns: the generation, the number in it, and whether it was not there before; the number is 0 where what the purge
/// is about is of another generation.
pub static ADD: LazyLock<Script> = LazyLock::new(|| {
    with_record(
        r#"
local generation = record(KEYS[1], ARGV[1], '')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[5] ~= '' then
  if ARGV[5] ~= generation then return {generation, 0, 0} end
  for number = tonumber(ARGV[6]) + 1, tonumber(redis.call('HGET', KEYS[1], 'sequence')) do
    if redis.call('HGET', KEYS[1], string.format('p%.0f', number)) == ARGV[3] then return {generation, number, 0} end
  end
end
local number = redis.call('HINCRBY', KEYS[1], 'sequence', 1)
redis.call('HSET', KEYS[1], string.format('p%.0f', number), ARGV[3])
local forgotten = number - tonumber(ARGV[4])
if forgotten > 0 then
  redis.call('HDEL', KEYS[1], string.format('p%.0f', forgotten))
  redis.call('HSET', KEYS[1], 'forgotten', string.format('%.0f', forgotten))
end
redis.call('PUBLISH', KEYS[1], '{"news":"purged","generation":' .. generation .. ',"sequence":'
  .. string.format('%.0f', number) .. ',"purge":' .. ARGV[3] .. '}')
return {generation, number, 1}
"#,
    )
});

/// Takes out what is stored of keys, breaks the locks of those who ask for them, and tells all.
///
/// KEYS: record, then responses and locks. ARGV: from whom, the keys as JSON.
/// Returns: whether it is counted, or there is no record; else what is there is none.
pub static CHANGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r#"
redis.call('UNLINK', unpack(KEYS, 2))
local told = redis.pcall('HGET', KEYS[1], 'generation')
local generation = type(told) == 'string' and string.match(told, '^%d+$') or '0'
local changes = generation ~= '0' and redis.pcall('HINCRBY', KEYS[1], 'changes', 1)
if type(changes) ~= 'number' then generation, changes = '0', 0 end
redis.call('PUBLISH', KEYS[1], '{"news":"changed","generation":' .. generation .. ',"changes":'
  .. string.format('%.0f', changes) .. ',"from":' .. ARGV[1] .. ',"keys":' .. ARGV[2] .. '}')
return generation ~= '0' or not told
"#,
    )
});

/// Adds to how often responses are used; of earlier uses a part is left. Those that are used least go.
///
/// KEYS: list. ARGV: time to live, most, part, then a response and its uses, and so on.
pub static USED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', ARGV[3])
for place = 4, #ARGV, 2 do redis.call('ZINCRBY', KEYS[1], ARGV[place + 1], ARGV[place]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
",
    )
});

/// Reads responses of many keys, of so many bytes and one at least.
///
/// KEYS: record, then responses. ARGV: generation and sequence that the caller knows, most bytes, then the field of each.
/// Returns: `record`, or how many were looked at, and those that are there.
pub static WARM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local record = redis.pcall('HMGET', KEYS[1], 'generation', 'sequence')
if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] then return {'record'} end
local reply, bytes = {'0'}, 0
for place = 2, #KEYS do
  local length = redis.call('HSTRLEN', KEYS[place], ARGV[place + 2])
  if bytes > 0 and bytes + length > tonumber(ARGV[3]) then break end
  bytes = bytes + length
  reply[1] = tostring(place - 1)
  if length > 0 then reply[#reply + 1] = redis.call('HGET', KEYS[place], ARGV[place + 2]) end
end
return reply
",
    )
});

/// All of them.
pub fn all() -> [&'static Script; 9] {
    [&LOOK, &PUT, &RELEASE, &RENEW, &LOAD, &ADD, &CHANGE, &USED, &WARM]
}
