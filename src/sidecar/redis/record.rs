//! The record of the purges that applications ask for, and the news of it. PURE.
//!
//! It is one hash: a generation, which tells it from another that was there before, the number of the
//! last purge, up to which number purges are not in it any more, how often keys were changed, what was
//! there before it, and the last purges, each by its number.

use serde::{Deserialize, Serialize};

use crate::settings::purges::{Force, Target};

/// So many purges are in the record.
pub const MOST: u64 = 1024;

/// A purge without its number, which it gets in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// What becomes of what it matches.
    pub force: Force,
    /// What it matches.
    pub targets: Vec<Target>,
    /// Whether keys are deleted in Redis, by the replica that has recorded it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
}

/// The record as it is in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which record it is.
    pub generation: u64,
    /// The number of the last purge.
    pub sequence: u64,
    /// Up to this number purges are not in it any more.
    pub forgotten: u64,
    /// How often keys were changed.
    pub changes: u64,
    /// What stood in its place before was no record.
    pub replaces_garbage: bool,
    /// All after `forgotten`, by rising numbers without a gap.
    purges: Vec<Purge>,
}

/// What is told on the record's channel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "news", rename_all = "camelCase")]
pub enum News {
    /// Another record has begun.
    Begun {
        /// Which.
        generation: u64,
    },
    /// A purge was recorded.
    Purged {
        /// In which record.
        generation: u64,
        /// Its number.
        sequence: u64,
        /// The purge itself.
        purge: Purge,
    },
    /// Requests have changed what these keys are about; that is not recorded.
    Changed {
        /// In which record it is counted; 0 where there was none.
        generation: u64,
        /// How often keys were changed, with this time.
        changes: u64,
        /// The replica that tells it.
        from: u64,
        /// The keys.
        keys: Vec<String>,
    },
}

impl Purge {
    /// What stands for a purge that cannot be read, as one of a later release: more than any.
    #[must_use]
    pub fn unknown() -> Self {
        Self { force: Force::Hard, targets: vec![Target::Everything], delete: false }
    }
}

impl Record {
    /// Of the fields of the hash.
    ///
    /// # Errors
    /// What is missing.
    pub fn of(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, String> {
        let find = |name: &str| {
            let found = fields.iter().find(|(field, _)| field == name.as_bytes());
            found.map(|(_, value)| String::from_utf8_lossy(value))
        };
        let number = |name: &str| {
            let text = find(name).ok_or_else(|| format!("it has no {name}"))?;
            text.parse::<u64>().map_err(|_| format!("its {name} is {text:?}"))
        };
        let (generation, sequence, forgotten) =
            (number("generation")?, number("sequence")?, number("forgotten")?);
        if generation == 0 || forgotten > sequence || sequence - forgotten > MOST {
            return Err(format!("its numbers do not fit: {generation}, {forgotten}, {sequence}"));
        }
        let mut purges = vec![Purge::unknown(); usize::try_from(sequence - forgotten).unwrap_or_default()];
        for (name, text) in fields {
            let name = std::str::from_utf8(name).unwrap_or_default();
            let number = name.strip_prefix('p').and_then(|number| number.parse::<u64>().ok());
            let place = number.and_then(|number| number.checked_sub(forgotten + 1));
            let place = place.and_then(|place| usize::try_from(place).ok());
            if let Some(purge) = place.and_then(|place| purges.get_mut(place))
                && let Ok(read) = serde_json::from_slice(text)
            {
                *purge = read;
            }
        }
        let replaces_garbage = find("before").is_some_and(|before| before == "garbage");
        Ok(Self { generation, sequence, forgotten, changes: number("changes")?, replaces_garbage, purges })
    }

    /// The purges after a number, with their numbers.
    pub fn after(&self, number: u64) -> impl Iterator<Item = (u64, &Purge)> {
        let numbered = (self.forgotten + 1..).zip(&self.purges);
        numbered.filter(move |(found, _)| *found > number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    const TAG: &str = r#"{"force":"soft","targets":[{"tag":"t"}]}"#;

    fn tag() -> Purge {
        Purge { force: Force::Soft, targets: vec![Target::Tag("t".to_owned())], delete: false }
    }

    #[test]
    fn what_is_missing_or_not_understood_in_a_record_may_have_been_anything() {
        let mut found = fields(&[
            ("generation", "18446744073709551615"),
            ("sequence", "5"),
            ("forgotten", "2"),
            ("changes", "9"),
            ("p4", TAG),
            ("p5", r#"{"force":"hard","targets":[{"colour":"red"}]}"#),
            ("p2", TAG),
            ("p6", TAG),
            ("server", "x"),
        ]);
        found.push((b"p3".to_vec(), vec![0xff]));
        found.push((vec![0xff], Vec::new()));
        let record = Record::of(&found).unwrap();
        assert_eq!((record.generation, record.changes), (u64::MAX, 9));
        let after: Vec<_> = record.after(0).map(|(number, purge)| (number, purge.clone())).collect();
        assert_eq!(after, [(3, Purge::unknown()), (4, tag()), (5, Purge::unknown())]);
        assert_eq!(record.after(4).count(), 1);
        assert_eq!(serde_json::to_string(&tag()).unwrap(), TAG);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let numbers = |generation, forgotten, sequence| {
            let found = [("generation", generation), ("forgotten", forgotten), ("sequence", sequence)];
            Record::of(&fields(&[&found[..], &[("changes", "0")]].concat())).is_ok()
        };
        assert!(numbers("1", "0", "1024") && numbers("1", "7", "7"));
        for (generation, forgotten, sequence) in
            [("0", "0", "0"), ("1", "2", "1"), ("1", "0", "1025"), ("-1", "0", "0"), ("1", "x", "0")]
        {
            assert!(!numbers(generation, forgotten, sequence), "{generation} {forgotten} {sequence}");
        }
        assert!(Record::of(&[]).is_err());
    }

    #[test]
    fn news_are_read_as_the_scripts_write_them() {
        let read = |text: &str| serde_json::from_str::<News>(text).unwrap();
        let purged =
            format!(r#"{{"news":"purged","generation":18446744073709551615,"sequence":7,"purge":{TAG}}}"#);
        assert_eq!(read(&purged), News::Purged { generation: u64::MAX, sequence: 7, purge: tag() });
        assert_eq!(read(r#"{"news":"begun","generation":1}"#), News::Begun { generation: 1 });
        let changed = r#"{"news":"changed","generation":1,"changes":2,"from":3,"keys":["http://a/"]}"#;
        let keys = vec!["http://a/".to_owned()];
        assert_eq!(read(changed), News::Changed { generation: 1, changes: 2, from: 3, keys });
    }
}
