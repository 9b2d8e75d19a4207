//! Conditions, as the Kubernetes API conventions describe them. PURE.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{self, Time};

/// Longest message that a condition carries, in bytes; the API allows 32768.
const LONGEST_MESSAGE: usize = 1024;

/// What is so of one part, why, and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) is_true: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Not true yet, and nothing is wrong.
    pub(super) on_its_way: bool,
    /// Nobody knows whether it is true.
    pub(super) is_unknown: bool,
}

impl Verdict {
    pub(super) fn yes(reason: &'static str, message: String) -> Self {
        Self { is_true: true, reason, message, on_its_way: false, is_unknown: false }
    }

    pub(super) fn no(reason: &'static str, message: String) -> Self {
        Self { is_true: false, reason, message, on_its_way: false, is_unknown: false }
    }

    pub(super) fn not_yet(reason: &'static str, message: String) -> Self {
        Self { is_true: false, reason, message, on_its_way: true, is_unknown: false }
    }

    pub(super) fn unknown(reason: &'static str, message: String) -> Self {
        Self { is_unknown: true, ..Self::no(reason, message) }
    }
}

/// A verdict under the name that users see.
pub(super) struct Condition {
    pub(super) type_: &'static str,
    pub(super) verdict: Verdict,
}

impl Condition {
    /// The condition at `now`; its transition time changes only with its status.
    pub(super) fn at(
        self,
        generation: Option<i64>,
        before: &[v1::Condition],
        now: Timestamp,
    ) -> v1::Condition {
        let status = match &self.verdict {
            Verdict { is_unknown: true, .. } => "Unknown",
            Verdict { is_true: true, .. } => "True",
            Verdict { .. } => "False",
        };
        let since = before
            .iter()
            .find(|condition| condition.type_ == self.type_ && condition.status == status)
            .map_or_else(
                // To the second, as it is stored: it would differ from what is read back otherwise.
                || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
                |condition| condition.last_transition_time.clone(),
            );
        v1::Condition {
            type_: self.type_.to_owned(),
            status: status.to_owned(),
            reason: self.verdict.reason.to_owned(),
            message: shortened(self.verdict.message),
            observed_generation: generation,
            last_transition_time: since,
        }
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        let end = (0..=LONGEST_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or_default();
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Reasons that other programs report, as literals: a condition's reason is never made at run time.
/// None for one that is not known.
pub(super) fn known_reason(reason: &str) -> Option<&'static str> {
    const KNOWN: [&str; 26] = [
        "AmbiguousSelector",
        "ContainerCannotRun",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "CreatePodSandboxError",
        "Evicted",
        "FailedAttachVolume",
        "FailedComputeMetricsReplicas",
        "FailedCreate",
        "FailedGetContainerResourceMetric",
        "FailedGetExternalMetric",
        "FailedGetObjectMetric",
        "FailedGetPodsMetric",
        "FailedGetResourceMetric",
        "FailedGetScale",
        "FailedMount",
        "FailedUpdateScale",
        "ImagePullFailed",
        "InvalidMetricSourceType",
        "InvalidSelector",
        "PodFailed",
        "PreStartHookError",
        "RunContainerError",
        "ScalingDisabled",
        "Unschedulable",
    ];
    KNOWN.iter().find(|known| **known == reason).copied()
}
