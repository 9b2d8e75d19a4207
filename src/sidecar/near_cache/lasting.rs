//! A `SET` that leaves its key without a TTL, with one: as the rule of the key asks for it. PURE.
//!
//! `SET` alone, as with `PX` it does the same, with the same reply, in one command. No command of Redis does what
//! `SETNX`, `GETSET`, `MSET`, `APPEND`, `INCR` or `HSET` do with a TTL, in all versions and with the same reply; they are
//! left as they are.

use crate::sidecar::resp::request::Command;

/// The command with a TTL in milliseconds; None where it is no `SET`, has one already, or is not understood.
#[must_use]
pub fn lasting(command: &Command, ttl_ms: u64) -> Option<Command> {
    if !command.name().eq_ignore_ascii_case(b"SET") || !lacks_ttl(command) {
        return None;
    }
    let ttl = ttl_ms.to_string();
    let args: Vec<&[u8]> = command.args().chain([&b"PX"[..], ttl.as_bytes()]).collect();
    Some(Command::of(&args))
}

/// Whether all options are known, and none says how long the key lasts, as `KEEPTTL` does too.
fn lacks_ttl(command: &Command) -> bool {
    const ALONE: [&[u8]; 3] = [b"NX", b"XX", b"GET"];
    // With what the key is to hold: Redis 8.4, and the first also Valkey 8.1.
    const WITH_VALUE: [&[u8]; 4] = [b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"];
    let mut at = 3;
    while let Some(option) = command.arg(at) {
        let is_one_of = |options: &[&[u8]]| options.iter().any(|known| option.eq_ignore_ascii_case(known));
        if is_one_of(&ALONE) {
            at += 1;
        } else if is_one_of(&WITH_VALUE) {
            at += 2;
        } else {
            return false;
        }
    }
    at == command.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(words: &str) -> Option<String> {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let lasting = lasting(&Command::of(&words), 1500)?;
        let words = lasting.args().map(String::from_utf8_lossy).collect::<Vec<_>>();
        assert_eq!(lasting, Command::of(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()));
        Some(words.join(" "))
    }

    #[test]
    fn a_set_without_a_ttl_is_given_one() {
        for words in
            ["SET k v", "set k v NX", "SET k v xx get", "SET k v IFEQ px", "SET k v IFNE a GET", "SET k "]
        {
            assert_eq!(sent(words), Some(format!("{words} PX 1500")));
        }
    }

    #[test]
    fn what_says_how_long_it_lasts_or_is_no_set_of_a_value_is_left_as_it_is() {
        for words in [
            "SET k v EX 10",
            "SET k v px 10",
            "SET k v NX EXAT 10",
            "SET k v PXAT 10 GET",
            "SET k v KEEPTTL",
            // Refused by Redis, or of a later one.
            "SET k",
            "SET",
            "SET k v WHAT",
            "SET k v IFEQ",
            "SETEX k 10 v",
            "SETNX k v",
            "GETSET k v",
            "MSET k v",
            "HSET k f v",
        ] {
            assert_eq!(sent(words), None, "{words}");
        }
    }
}
