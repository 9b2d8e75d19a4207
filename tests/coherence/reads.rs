//! The reads of a load: those that a memory may answer, and those that pass it.

use std::collections::HashMap;

use redis::{RedisResult, cmd};

use super::{
    session::Session,
    slots::{Key, Kind},
};

/// The field that holds the version.
pub const FIELD: &str = "v";

type Text = Option<Vec<u8>>;

/// One read of any kind.
pub async fn any(session: &mut Session) -> RedisResult<()> {
    match rand::random_range(0..100) {
        0..40 => string(session, "GET").await,
        40..45 => string(session, "GETRANGE").await,
        45..60 => strings(session).await,
        60..75 => hash_field(session).await,
        75..90 => hash(session).await,
        90..95 => script(session).await,
        _ => transaction(session).await,
    }
}

/// One that is likely to be in memory: of one key, in one of few forms.
pub async fn remembered(session: &mut Session) -> RedisResult<()> {
    match rand::random_range(0..3) {
        0 => string(session, "GET").await,
        1 => hash_field(session).await,
        _ => hash(session).await,
    }
}

fn a_string(session: &Session) -> Key {
    let kind = if rand::random_bool(0.5) { Kind::Counter } else { Kind::Value };
    session.shared.slots.key(session.shared.slots.any(kind))
}

fn a_hash(session: &Session) -> Key {
    let kind = if rand::random_bool(0.5) { Kind::HashCounter } else { Kind::Record };
    session.shared.slots.key(session.shared.slots.any(kind))
}

/// GETRANGE is one that passes by, and what it saw binds GET all the same.
async fn string(session: &mut Session, command: &'static str) -> RedisResult<()> {
    let key = a_string(session);
    let mut asked = cmd(command);
    asked.arg(&key.name);
    if command == "GETRANGE" {
        asked.arg(0).arg(-1);
    }
    let (span, reply) = session.ask::<Text>(&asked).await;
    let found = reply?.filter(|text| !text.is_empty());
    session.note_read(command, &key, span, found.as_deref(), false);
    Ok(())
}

async fn strings(session: &mut Session) -> RedisResult<()> {
    let keys: Vec<Key> =
        std::iter::repeat_with(|| a_string(session)).take(rand::random_range(2..6)).collect();
    let mut command = cmd("MGET");
    for key in &keys {
        command.arg(&key.name);
    }
    let (span, reply) = session.ask::<Vec<Text>>(&command).await;
    for (key, found) in keys.iter().zip(reply?) {
        session.note_read("MGET", key, span, found.as_deref(), false);
    }
    Ok(())
}

async fn hash_field(session: &mut Session) -> RedisResult<()> {
    let key = a_hash(session);
    let (span, reply) = session.ask::<Text>(cmd("HGET").arg(&key.name).arg(FIELD)).await;
    session.note_read("HGET", &key, span, reply?.as_deref(), false);
    Ok(())
}

async fn hash(session: &mut Session) -> RedisResult<()> {
    let key = a_hash(session);
    let (span, reply) = session.ask::<HashMap<String, Vec<u8>>>(cmd("HGETALL").arg(&key.name)).await;
    session.note_read("HGETALL", &key, span, reply?.get(FIELD).map(Vec::as_slice), false);
    Ok(())
}

async fn script(session: &mut Session) -> RedisResult<()> {
    let key = a_string(session);
    let (span, reply) =
        session.ask::<Text>(cmd("EVAL").arg("return redis.call('GET', KEYS[1])").arg(1).arg(&key.name)).await;
    session.note_read("EVAL of GET", &key, span, reply?.as_deref(), true);
    Ok(())
}

async fn transaction(session: &mut Session) -> RedisResult<()> {
    let (string, hash) = (a_string(session), a_hash(session));
    let mut transaction = redis::pipe();
    transaction.atomic().cmd("GET").arg(&string.name).cmd("HGET").arg(&hash.name).arg(FIELD);
    let (span, reply) = session.transact::<(Text, Text)>(&transaction).await;
    let (one, other) = reply?;
    session.note_read("GET in EXEC", &string, span, one.as_deref(), true);
    session.note_read("HGET in EXEC", &hash, span, other.as_deref(), true);
    Ok(())
}
