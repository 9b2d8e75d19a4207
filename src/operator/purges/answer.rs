//! What a sidecar acknowledges. PURE.
//!
//! Nothing of an answer is told to people: what stands at an address need not be a sidecar.

use serde::Deserialize;

use super::{pods::Replica, record::GREATEST_NUMBER};
use crate::{
    operator::sidecars::reading::check_is_of,
    settings::deletions::{Progress, State},
};

/// An answer, as it is written. Sidecars of earlier releases do not say in which pod they are.
#[derive(Deserialize)]
struct Answer {
    epoch: u64,
    unknown: Option<u64>,
    pod: Option<String>,
    uid: Option<String>,
}

/// What a sidecar has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Up to which number it has purged.
    pub epoch: u64,
    /// A number that it knows, and that the record does not.
    pub unknown: Option<u64>,
}

/// What the sidecar of `replica` has done by the record up to `last`, by its answer.
///
/// # Errors
/// Why it is no acknowledgement, in words.
pub fn acknowledged(body: &[u8], replica: &Replica, last: u64) -> Result<Acknowledged, String> {
    let Ok(Answer { epoch, unknown, pod, uid }) = serde_json::from_slice(body) else {
        return Err("what it answers is no acknowledgement".to_owned());
    };
    check_is_of((pod.as_deref(), uid.as_deref()), &replica.name, &replica.uid)?;
    let unknown = unknown.max(Some(epoch).filter(|epoch| *epoch > last));
    if unknown.is_some_and(|number| number > GREATEST_NUMBER) {
        return Err("what it answers is no number of a purge".to_owned());
    }
    Ok(Acknowledged { epoch, unknown })
}

/// How far a sidecar is to delete keys in Redis, as it is written.
#[derive(Deserialize)]
struct Told {
    #[serde(flatten)]
    progress: Progress,
    pod: Option<String>,
    uid: Option<String>,
}

/// How far the sidecar of `replica` is to delete keys in Redis, by its answer.
///
/// # Errors
/// Why it does not tell that, in words.
pub fn deleted(body: &[u8], replica: &Replica) -> Result<Progress, String> {
    let Ok(Told { progress, pod, uid }) = serde_json::from_slice(body) else {
        return Err("what it answers is no account of a deletion".to_owned());
    };
    check_is_of((pod.as_deref(), uid.as_deref()), &replica.name, &replica.uid)?;
    match progress.state {
        State::Running | State::Done => Ok(progress),
        State::Unreachable => Err("it does not reach Redis, or has lost it; its log says more".to_owned()),
        State::Refused => {
            Err("Redis refuses SCAN or UNLINK to the user of its URL; its log says more".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Result<Acknowledged, String> {
        let replica = Replica { name: "shop-a".to_owned(), uid: "uid-a".to_owned(), address: None };
        acknowledged(body.as_bytes(), &replica, 7)
    }

    #[test]
    fn only_the_pod_itself_acknowledges_if_it_says_who_it_is() {
        let done = Ok(Acknowledged { epoch: 7, unknown: None });
        for own in [
            r#"{"epoch":7}"#,
            r#"{"epoch":7,"pod":"shop-a","uid":"uid-a"}"#,
            r#"{"epoch":7,"pod":"shop-a","later":[]}"#,
        ] {
            assert_eq!(of(own), done, "{own}");
        }
        // Also one of the same name that came since.
        for another in [r#"{"epoch":7,"pod":"shop-b"}"#, r#"{"epoch":7,"pod":"shop-a","uid":"uid-b"}"#] {
            assert_eq!(of(another), Err("another pod answers at its address".to_owned()), "{another}");
        }
    }

    #[test]
    fn a_number_that_the_record_does_not_know_is_told() {
        let unknown = |body| of(body).unwrap().unknown;
        assert_eq!(unknown(r#"{"epoch":6}"#), None);
        assert_eq!(unknown(r#"{"epoch":8}"#), Some(8));
        assert_eq!(unknown(r#"{"epoch":7,"unknown":5}"#), Some(5));
        assert!(of(r#"{"epoch":18446744073709551615}"#).is_err(), "nobody counts on from there");
    }

    #[test]
    fn a_deletion_is_over_when_the_pod_itself_says_so() {
        let replica = Replica { name: "shop-a".to_owned(), uid: "uid-a".to_owned(), address: None };
        let of = |body: &str| deleted(body.as_bytes(), &replica);
        let done = r#"{"state":"done","searched":2000,"deleted":5,"pod":"shop-a","uid":"uid-a"}"#;
        assert_eq!(of(done), Ok(Progress { state: State::Done, searched: 2000, deleted: 5 }));
        assert!(of(&done.replace("uid-a", "uid-b")).unwrap_err().starts_with("another pod"));
        assert!(of(&done.replace("done", "refused")).unwrap_err().contains("refuses SCAN or UNLINK"));
        assert!(of(&done.replace("done", "unreachable")).unwrap_err().contains("does not reach Redis"));
        assert!(of(r#"{"epoch":7}"#).unwrap_err().contains("no account"));
        assert!(!of(r#"{"state":"SECRET"}"#).unwrap_err().contains("SECRET"));
    }

    #[test]
    fn nothing_of_what_is_answered_is_told() {
        for odd in ["SECRET", r#"{"epoch":"SECRET"}"#, r#"{"epoch":7,"pod":"SECRET"}"#] {
            assert!(!of(odd).unwrap_err().contains("SECRET"), "{odd}");
        }
    }
}
