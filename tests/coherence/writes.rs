//! The writes of a load. Each gives the key a version that is one more, in the order in which Redis executes them.

use redis::{RedisResult, cmd};

use super::{
    history::{By, Span, Time, What},
    reads::{self, FIELD},
    session::{Session, text},
    slots::{Held, Key, Kind},
};

/// By so much Redis may let a value live longer.
const LATE: Time = 5_000_000;

/// One write of any kind.
pub async fn any(session: &mut Session) -> RedisResult<()> {
    match rand::random_range(0..100) {
        0..15 => count(session, Kind::Counter).await,
        15..25 => count(session, Kind::HashCounter).await,
        25..35 => exchange(session).await,
        35..75 => value(session).await,
        _ => record(session).await,
    }
}

/// Counts up, in one of many ways; any number of clients at a time.
async fn count(session: &mut Session, kind: Kind) -> RedisResult<()> {
    let key = session.shared.slots.key(session.shared.slots.any(kind));
    let (command, asked) = match (kind, rand::random_range(0..3)) {
        (Kind::Counter, 0) => ("INCR", cmd("INCR").arg(&key.name).clone()),
        (Kind::Counter, 1) => (
            "EVAL of INCR",
            cmd("EVAL").arg("return redis.call('INCR', KEYS[1])").arg(1).arg(&key.name).clone(),
        ),
        (Kind::Counter, _) => return count_in_transaction(session, &key).await,
        // What keys it changes, nobody can know.
        (_, 0) => (
            "EVAL of HINCRBY, key undeclared",
            cmd("EVAL")
                .arg("return redis.call('HINCRBY', ARGV[1] .. '', 'v', 1)")
                .arg(0)
                .arg(&key.name)
                .clone(),
        ),
        _ => ("HINCRBY", cmd("HINCRBY").arg(&key.name).arg(FIELD).arg(1).clone()),
    };
    let (span, reply) = session.ask::<u64>(&asked).await;
    counted(session, command, &key, span, reply)
}

async fn count_in_transaction(session: &mut Session, key: &Key) -> RedisResult<()> {
    let mut transaction = redis::pipe();
    transaction.atomic().cmd("INCR").arg(&key.name);
    let (span, reply) = session.transact::<(u64,)>(&transaction).await;
    counted(session, "INCR in EXEC", key, span, reply.map(|(version,)| version))
}

fn counted(
    session: &mut Session,
    command: &'static str,
    key: &Key,
    span: Span,
    reply: RedisResult<u64>,
) -> RedisResult<()> {
    let what = match reply {
        Ok(version) => What::Wrote { version, is_deletion: false },
        Err(_) => What::Unresolved { version: None, is_deletion: false },
    };
    session.note(command, key, span, what);
    reply.map(drop)
}

/// Reads under WATCH and sets one more: where it is not lost, nobody else did the same.
async fn exchange(session: &mut Session) -> RedisResult<()> {
    let key = session.shared.slots.key(session.shared.slots.any(Kind::Counter));
    session.ask::<()>(cmd("WATCH").arg(&key.name)).await.1?;
    let (span, reply) = session.ask::<Option<Vec<u8>>>(cmd("GET").arg(&key.name)).await;
    let found = reply?;
    session.note_read("GET under WATCH", &key, span, found.as_deref(), true);
    let version = found.and_then(|text| String::from_utf8(text).ok()?.parse::<u64>().ok()).unwrap_or(0) + 1;
    let mut transaction = redis::pipe();
    transaction.atomic().cmd("SET").arg(&key.name).arg(version);
    let (span, reply) = session.transact::<Option<(String,)>>(&transaction).await;
    let what = match reply {
        Ok(None) => return Ok(()),
        Ok(Some(_)) => What::Wrote { version, is_deletion: false },
        // It may have come to nothing, and others then to this version.
        Err(_) => What::Unresolved { version: None, is_deletion: false },
    };
    session.note("SET under WATCH", &key, span, what);
    reply.map(drop)
}

/// Sets or deletes a value, as the only one who does at that time.
async fn value(session: &mut Session) -> RedisResult<()> {
    let shared = session.shared.clone();
    let Some(mut held) = shared.slots.hold(shared.slots.any(Kind::Value)) else {
        return reads::any(session).await;
    };
    let version = held.next();
    let name = held.key.name.clone();
    // Now and then one that is too large to be kept.
    let text = text(version, if rand::random_bool(0.02) { 100_000 } else { rand::random_range(0..300) });
    let mut transaction = redis::pipe();
    let (command, is_deletion, asked) = match rand::random_range(0..10) {
        0..3 => ("SET", false, cmd("SET").arg(&name).arg(text).clone()),
        3 if shared.is_expiring => return expiring(session, held, version, text).await,
        3 | 4 => ("MSET", false, cmd("MSET").arg(&name).arg(text).clone()),
        5 => ("DEL", true, cmd("DEL").arg(&name).clone()),
        6 => ("UNLINK", true, cmd("UNLINK").arg(&name).clone()),
        7 => {
            let script = "return redis.call('SET', ARGV[1] .. '', ARGV[2])";
            (
                "EVAL of SET, key undeclared",
                false,
                cmd("EVAL").arg(script).arg(0).arg(&name).arg(text).clone(),
            )
        }
        8 => {
            transaction.atomic().cmd("SET").arg(&name).arg(text);
            let (span, reply) = session.transact::<redis::Value>(&transaction).await;
            return written(session, held, "SET in EXEC", span, version, false, reply);
        }
        _ => {
            let other = format!("{name}:new");
            transaction.cmd("SET").arg(&other).arg(text).cmd("RENAME").arg(&other).arg(&name);
            let (span, reply) = session.transact::<redis::Value>(&transaction).await;
            return written(session, held, "RENAME", span, version, false, reply);
        }
    };
    let (span, reply) = session.ask::<redis::Value>(&asked).await;
    written(session, held, command, span, version, is_deletion, reply)
}

/// Notes what became of a write; without a reply the key is not written again.
fn written(
    session: &mut Session,
    held: Held<'_>,
    command: &'static str,
    span: Span,
    version: u64,
    is_deletion: bool,
    reply: RedisResult<redis::Value>,
) -> RedisResult<()> {
    let what = match reply {
        Ok(_) => What::Wrote { version, is_deletion },
        Err(_) => What::Unresolved { version: Some(version), is_deletion },
    };
    session.note(command, &held.key, span, what);
    if reply.is_err() {
        held.retire();
    }
    reply.map(drop)
}

/// A value that lives for milliseconds. Its end is a version, too, unless it is written again before.
async fn expiring(session: &mut Session, mut held: Held<'_>, version: u64, text: String) -> RedisResult<()> {
    let life: u64 = rand::random_range(5..80);
    let (span, reply) =
        session.ask::<redis::Value>(cmd("SET").arg(&held.key.name).arg(text).arg("PX").arg(life)).await;
    let end = Span { start: span.start + life * 1_000_000, end: span.end + life * 1_000_000 + LATE };
    let version_of_end = held.next();
    let what = match reply {
        Ok(_) => What::Wrote { version: version_of_end, is_deletion: true },
        Err(_) => What::Unresolved { version: Some(version_of_end), is_deletion: true },
    };
    session.note_by(By::Expiry, "the end of its life", &held.key, end, what);
    written(session, held, "SET with PX", span, version, false, reply)
}

/// Sets or deletes a hash, as the only one who does at that time.
async fn record(session: &mut Session) -> RedisResult<()> {
    let shared = session.shared.clone();
    let Some(mut held) = shared.slots.hold(shared.slots.any(Kind::Record)) else {
        return reads::any(session).await;
    };
    let version = held.next();
    let name = held.key.name.clone();
    let text = text(version, rand::random_range(0..300));
    let (command, is_deletion, asked) = match rand::random_range(0..6) {
        0..3 => ("HSET", false, cmd("HSET").arg(&name).arg(FIELD).arg(text).clone()),
        3 => ("HDEL", true, cmd("HDEL").arg(&name).arg(FIELD).clone()),
        4 => ("DEL", true, cmd("DEL").arg(&name).clone()),
        _ => {
            let mut transaction = redis::pipe();
            transaction.atomic().cmd("HSET").arg(&name).arg("other").arg("x");
            transaction.cmd("HSET").arg(&name).arg(FIELD).arg(text);
            let (span, reply) = session.transact::<redis::Value>(&transaction).await;
            return written(session, held, "HSET in EXEC", span, version, false, reply);
        }
    };
    let (span, reply) = session.ask::<redis::Value>(&asked).await;
    written(session, held, command, span, version, is_deletion, reply)
}
