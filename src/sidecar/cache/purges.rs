//! What was purged, and when: no response that was asked for before a purge is kept or given after it. PURE.
//!
//! Every purge has a number, the epoch, which counts up. A fill notes the epoch before it asks the
//! application; what it brings is refused if a purge of a later epoch matches it. So no order of
//! events, no slow application and no slow Redis brings back what was purged.

use std::collections::VecDeque;

/// What a purge is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All that is stored.
    Everything,
    /// One key, with all its variants.
    Key(String),
    /// All keys that begin so.
    Prefix(String),
    /// All responses with the tag.
    Tag(String),
}

impl Target {
    /// Whether a stored response is of it.
    #[must_use]
    pub fn matches(&self, key: &str, tags: &[String]) -> bool {
        match self {
            Self::Everything => true,
            Self::Key(purged) => purged == key,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
            Self::Tag(tag) => tags.contains(tag),
        }
    }
}

/// What becomes of what is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Force {
    /// It is validated before it is used again.
    Soft,
    /// It is gone.
    Hard,
}

/// The number of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// The purges that matter to fills that are under way, and to what is stored elsewhere.
#[derive(Clone, Debug)]
pub struct Purges {
    /// Of the last purge.
    now: Epoch,
    /// Of the last purge that was forgotten.
    forgotten: Epoch,
    kept: VecDeque<(Epoch, Target, Force)>,
    most: usize,
}

impl Purges {
    /// None yet; so many are kept.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { now: Epoch(0), forgotten: Epoch(0), kept: VecDeque::new(), most }
    }

    /// The present, for a fill that begins.
    #[must_use]
    pub fn now(&self) -> Epoch {
        self.now
    }

    /// Notes a purge; from then on nothing that began before and matches is taken.
    pub fn add(&mut self, target: Target, force: Force) -> Epoch {
        self.now = Epoch(self.now.0 + 1);
        self.kept.push_back((self.now, target, force));
        while self.kept.len() > self.most
            && let Some((epoch, ..)) = self.kept.pop_front()
        {
            self.forgotten = epoch;
        }
        self.now
    }

    /// What the purges since `began` mean for a response that was asked for then. Of what is too
    /// long ago to know, it is gone.
    #[must_use]
    pub fn since(&self, began: Epoch, key: &str, tags: &[String]) -> Option<Force> {
        if began < self.forgotten {
            return Some(Force::Hard);
        }
        let later = self.kept.iter().filter(|(epoch, ..)| *epoch > began);
        later.filter(|(_, target, _)| target.matches(key, tags)).map(|(.., force)| *force).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(tag: &str) -> Target {
        Target::Tag(tag.to_owned())
    }

    #[test]
    fn a_target_is_all_or_a_key_or_a_beginning_or_a_tag() {
        let tags = ["a".to_owned()];
        let key = "http://shop/x/y";
        for target in [
            Target::Everything,
            Target::Key(key.to_owned()),
            Target::Prefix("http://shop/x".to_owned()),
            tag("a"),
        ] {
            assert!(target.matches(key, &tags), "{target:?}");
        }
        for target in [Target::Key("http://shop/x".to_owned()), Target::Prefix("/x".to_owned()), tag("b")] {
            assert!(!target.matches(key, &tags), "{target:?}");
        }
    }

    #[test]
    fn what_began_before_a_purge_is_not_taken_after_it() {
        let mut purges = Purges::new(10);
        let began = purges.now();
        assert_eq!(purges.since(began, "k", &[]), None);
        purges.add(Target::Key("k".to_owned()), Force::Hard);
        assert_eq!(purges.since(began, "k", &[]), Some(Force::Hard));
        assert_eq!(purges.since(began, "other", &[]), None);
        assert_eq!(purges.since(purges.now(), "k", &[]), None, "it began after it");
    }

    #[test]
    fn of_two_purges_the_stronger_counts() {
        let mut purges = Purges::new(10);
        let began = purges.now();
        purges.add(Target::Everything, Force::Soft);
        assert_eq!(purges.since(began, "k", &[]), Some(Force::Soft));
        purges.add(tag("t"), Force::Hard);
        purges.add(Target::Everything, Force::Soft);
        assert_eq!(purges.since(began, "k", &["t".to_owned()]), Some(Force::Hard));
    }

    #[test]
    fn what_began_before_all_that_is_known_is_not_taken() {
        let mut purges = Purges::new(2);
        let began = purges.now();
        for _ in 0..2 {
            purges.add(Target::Key("other".to_owned()), Force::Soft);
        }
        assert_eq!(purges.since(began, "k", &[]), None);
        purges.add(Target::Key("other".to_owned()), Force::Soft);
        assert_eq!(purges.since(began, "k", &[]), Some(Force::Hard));
        let later = Epoch(1);
        assert_eq!(purges.since(later, "k", &[]), None);
    }
}
