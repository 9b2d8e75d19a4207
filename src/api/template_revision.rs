//! The revisions of the operator's defaults in pod templates.

/// A revision of the operator's defaults in pod templates.
///
/// A revision is final from the version of the operator on that brought it: what it renders for a
/// spec stays the same to the byte, so that no upgrade restarts a pod. What is to become better
/// comes with a new one. `docs/design.md` has the reasons for what each contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TemplateRevision {
    /// That of version 0.1.0.
    First,
    /// Disk space set aside and bounded, pods of one rollout spread among themselves, last words kept.
    Second,
}

impl TemplateRevision {
    /// What new CachedServices get.
    pub const NEWEST: Self = Self::Second;

    /// As users write it.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::First => 1,
            Self::Second => 2,
        }
    }

    /// The revision of this number. None for one that this version does not know.
    #[must_use]
    pub fn of(number: i32) -> Option<Self> {
        [Self::First, Self::Second].into_iter().find(|revision| revision.number() == number)
    }

    /// What it brings to those that have the one before, in words.
    #[must_use]
    pub fn brings(self) -> &'static str {
        match self {
            Self::First => "the defaults of version 0.1.0",
            Self::Second => {
                "a request for ephemeral storage for the application and Redis, a limit of it for Redis, pods of one rollout spread over nodes and zones among themselves, the last lines of its log as the message of a container that failed, and that a service account goes which is taken out of the template"
            }
        }
    }
}
