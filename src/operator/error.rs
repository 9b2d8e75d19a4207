//! What went wrong, and what the operator does about it.

use std::time::Duration;

use kube::core::Status;
use rand::RngExt;

use super::{apply::Act, plan::Invalid};

/// How often within a minute the same is applied to an object that somebody else changes or deletes.
pub const APPLIED_AT_MOST: usize = 10;

/// Kinds of failure; each has its own way to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Not a failure: something outside has to happen first.
    Waiting,
    /// A conflict, an overload or a lost connection: it passes.
    Transient,
    /// The user's spec.
    Invalid,
    /// The name of a child belongs to somebody else.
    Foreign,
    /// The API server refuses: permissions, quota, admission, validation.
    Denied,
    /// The operator's own fault.
    Bug,
}

impl Class {
    /// The label of the class in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Transient => "Transient",
            Self::Invalid => "Invalid",
            Self::Foreign => "Foreign",
            Self::Denied => "Denied",
            Self::Bug => "Bug",
        }
    }
}

/// Why a reconcile did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading from the API server failed.
    #[error("read {what}: {}", in_words(source))]
    Read {
        /// Kind and name.
        what: String,
        /// The client's error.
        source: kube::Error,
    },
    /// One child, or several, could not be brought into the wanted state.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Children(Vec<ChildError>),
    /// The status could not be written.
    #[error("write the status: {}", in_words(.0))]
    Publish(#[source] kube::Error),
    /// The spec cannot be turned into children.
    #[error(transparent)]
    Spec(#[from] Invalid),
    /// The reconcile panicked; the log has the place.
    #[error("the reconcile panicked; please report it with the lines before this one in the log")]
    Panic,
}

impl Error {
    /// How to go on.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Read { source, .. } | Self::Publish(source) => class_of(source),
            Self::Children(failures) => failures.iter().map(ChildError::class).max().unwrap_or(Class::Bug),
            Self::Spec(_) => Class::Invalid,
            Self::Panic => Class::Bug,
        }
    }
}

/// Why one child is not in the wanted state.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The name is taken.
    #[error(
        "{kind} {name} exists and is controlled by {owner}, not by this CachedService; rename the CachedService or delete that {kind}"
    )]
    Foreign {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Who controls it, in words.
        owner: String,
    },
    /// The name is taken by something that no watch of ours shows.
    #[error("{kind} {name} exists already")]
    Taken {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Somebody undoes it as often as it is done.
    #[error(
        "{kind} {name} was applied {APPLIED_AT_MOST} times within a minute and is changed or deleted again; find out who does it (kubectl get {kind} {name} -o yaml --show-managed-fields) and end that"
    )]
    Contested {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The API server did not take it.
    #[error("{act} {kind} {name}: {}", in_words(source))]
    Refused {
        /// The verb: `apply`, `delete`, `get`, `patch` or `write`.
        act: &'static str,
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The client's error.
        source: kube::Error,
    },
    /// It is left as it is, because the CachedService is paused.
    #[error("{kind} {name} would be {}", act.in_words())]
    Paused {
        /// What is held back.
        act: Act,
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It cannot be written as JSON.
    #[error("serialise {kind} {name}: {source}")]
    Serialise {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The serialiser's error.
        source: serde_json::Error,
    },
    /// The cluster does not have its kind, or does not let the operator see it.
    #[error(
        "{kind} {name} cannot be made: the cluster has no such kind, or does not let the operator see it; install {from} and the operator's present role, and it is made within a minute"
    )]
    KindMissing {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What brings the kind.
        from: &'static str,
    },
    /// Something that it refers to is not in place.
    #[error("{kind} {name} waits for {what}")]
    Waiting {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What it waits for.
        what: String,
    },
}

impl ChildError {
    /// How to go on.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Foreign { .. } => Class::Foreign,
            Self::Taken { .. } => Class::Transient,
            Self::Contested { .. } | Self::KindMissing { .. } => Class::Denied,
            Self::Refused { source, .. } => class_of(source),
            Self::Serialise { .. } => Class::Bug,
            Self::Waiting { .. } | Self::Paused { .. } => Class::Waiting,
        }
    }

    /// The client's error, if it was one.
    #[must_use]
    pub fn source_error(&self) -> Option<&kube::Error> {
        match self {
            Self::Refused { source, .. } => Some(source),
            Self::Foreign { .. }
            | Self::Taken { .. }
            | Self::Contested { .. }
            | Self::KindMissing { .. }
            | Self::Serialise { .. }
            | Self::Paused { .. }
            | Self::Waiting { .. } => None,
        }
    }

    /// Whether the API server answered that the object is not as the request supposes.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.source_error(), Some(kube::Error::Api(status)) if status.code == 409)
    }

    /// Whether the user wants it so.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        matches!(self, Self::Paused { .. })
    }

    /// A stable reason for a condition.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "NameTaken",
            Self::Taken { .. } => "Retrying",
            Self::Contested { .. } => "Contested",
            Self::KindMissing { .. } => "KindMissing",
            Self::Refused { source, .. } => reason_of(source),
            Self::Serialise { .. } => "OperatorBug",
            Self::Waiting { .. } => "Waiting",
            Self::Paused { .. } => "PausedByAnnotation",
        }
    }
}

/// A stable reason for what the API server answered, or did not.
#[must_use]
pub fn reason_of(error: &kube::Error) -> &'static str {
    match class_of(error) {
        Class::Denied if is_forbidden(error) => "Forbidden",
        Class::Denied => "Refused",
        _ => "Retrying",
    }
}

/// The kind of failure that an answer of the API server is.
#[must_use]
pub fn class_of(error: &kube::Error) -> Class {
    match error {
        kube::Error::Api(status) => match status.code {
            400 | 401 | 403 | 405 | 413 | 415 | 422 => Class::Denied,
            _ => Class::Transient,
        },
        kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => Class::Bug,
        _ => Class::Transient,
    }
}

/// Whether the operator may not do it.
#[must_use]
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// The server's own words, or the client's where there was no answer.
#[must_use]
pub fn in_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => server_words(status),
        other => other.to_string(),
    }
}

fn server_words(status: &Status) -> String {
    if status.message.is_empty() {
        format!("{} ({})", status.reason, status.code)
    } else {
        status.message.clone()
    }
}

/// How long to wait before the next try, by class and the number of transient failures
/// in a row. `Waiting` is ended by a watch, and looked after in case the watches do not
/// show what it waits for; `Invalid` by a change of the spec.
#[must_use]
pub fn retry_after(class: Class, failures: u32) -> Option<Duration> {
    const SLOW: Duration = Duration::from_secs(15);
    let base = match class {
        Class::Invalid => return None,
        Class::Waiting => Duration::from_mins(1),
        Class::Transient => {
            let doubled = Duration::from_millis(200).saturating_mul(1 << failures.saturating_sub(1).min(10));
            doubled.min(Duration::from_mins(1))
        }
        Class::Foreign | Class::Denied | Class::Bug => SLOW,
    };
    // Up to a quarter more, so that many objects that failed together do not come back together.
    Some(base.mul_f64(1.0 + rand::rng().random_range(0.0..0.25)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, message: "words".to_owned(), ..Status::default() }))
    }

    #[test]
    fn refusals_are_denied_and_conflicts_and_overload_are_transient() {
        for code in [400, 403, 422] {
            assert_eq!(class_of(&answer(code)), Class::Denied, "{code}");
        }
        for code in [404, 409, 429, 500, 503, 504] {
            assert_eq!(class_of(&answer(code)), Class::Transient, "{code}");
        }
    }

    #[test]
    fn transient_failures_back_off_up_to_a_bound() {
        let first = retry_after(Class::Transient, 1).unwrap();
        let later = retry_after(Class::Transient, 8).unwrap();
        assert!(first < Duration::from_millis(300) && later > Duration::from_secs(20), "{first:?} {later:?}");
        assert!(retry_after(Class::Transient, u32::MAX).unwrap() <= Duration::from_secs(75));
    }

    #[test]
    fn a_users_mistake_is_not_retried_by_time() {
        assert_eq!(retry_after(Class::Invalid, 3), None);
    }

    #[test]
    fn the_servers_words_are_kept() {
        assert_eq!(in_words(&answer(403)), "words");
    }
}
