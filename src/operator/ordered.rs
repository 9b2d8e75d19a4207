//! What the operator has told the Deployment controller last. PURE.
//!
//! A Deployment's generation counts whatever anybody changes in its spec, and the autoscaler changes the number
//! of pods at any time. What its status counts is about the pods that the operator wants as soon as the
//! controller has seen the generation that the operator made; it need not have seen those after it.

use super::{apply::Outcome, error::ChildError, seen::SeenDeployment};
use crate::api::names::APPLIED_ANNOTATION;

/// The first generation of a Deployment that is known to have what the operator applied last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    uid: Option<String>,
    /// Of what was applied.
    digest: Option<String>,
    generation: Option<i64>,
}

impl Ordered {
    /// After an apply, or without one: with what was `seen` of the Deployment just before it.
    #[must_use]
    pub fn after(
        before: Option<Self>,
        seen: Option<&SeenDeployment>,
        outcome: Option<&Outcome<SeenDeployment>>,
    ) -> Option<Self> {
        let present = match outcome {
            Some(Ok(Some(written))) => written,
            // The answer alone may have been lost.
            Some(Err(ChildError::Refused { .. })) => return None,
            _ => seen?,
        };
        let now = Self::at(present);
        let is_written = seen.map(|seen| seen.metadata.generation) != Some(now.generation);
        let is_same = |before: &Self| before.uid == now.uid && before.digest == now.digest;
        Some(before.filter(|before| !is_written && is_same(before)).unwrap_or(now))
    }

    /// Whether what a Deployment's status counts is about what was ordered. Where that is not known, all that
    /// is in its spec was.
    #[must_use]
    pub fn is_observed(ordered: Option<&Self>, deployment: &SeenDeployment) -> bool {
        let present = Self::at(deployment);
        let ordered = ordered.filter(|known| known.uid == present.uid && known.digest == present.digest);
        deployment.status.observed_generation >= ordered.unwrap_or(&present).generation
    }

    fn at(deployment: &SeenDeployment) -> Self {
        let metadata = &deployment.metadata;
        Self {
            uid: metadata.uid.clone(),
            digest: metadata.annotations.as_ref().and_then(|all| all.get(APPLIED_ANNOTATION)).cloned(),
            generation: metadata.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube::core::Status;
    use serde_json::json;

    use super::*;
    use crate::operator::sample::deployment;

    /// The Deployment of this uid and digest in this generation, of which its controller has seen another.
    fn at(uid: &str, digest: &str, generation: i64, observed: i64) -> SeenDeployment {
        let mut deployment = deployment(2, &json!({ "observedGeneration": observed }));
        deployment.metadata.uid = Some(uid.to_owned());
        deployment.metadata.generation = Some(generation);
        deployment.metadata.annotations = Some([(APPLIED_ANNOTATION.to_owned(), digest.to_owned())].into());
        deployment
    }

    fn untouched(before: Option<Ordered>, seen: &SeenDeployment) -> Option<Ordered> {
        Ordered::after(before, Some(seen), Some(&Ok(Some(Arc::new(seen.clone())))))
    }

    fn written(before: Option<Ordered>, seen: &SeenDeployment, answer: SeenDeployment) -> Option<Ordered> {
        Ordered::after(before, Some(seen), Some(&Ok(Some(Arc::new(answer)))))
    }

    fn is_observed(ordered: Option<&Ordered>, generation: i64, observed: i64) -> bool {
        Ordered::is_observed(ordered, &at("u", "d", generation, observed))
    }

    #[test]
    fn a_generation_that_somebody_else_made_need_not_be_observed() {
        let ordered = untouched(None, &at("u", "d", 2, 2));
        let ordered = untouched(ordered, &at("u", "d", 3, 2));
        assert!(is_observed(ordered.as_ref(), 3, 2));
        // Also where nothing is applied, as in a pause or of an invalid spec.
        let ordered = Ordered::after(ordered, Some(&at("u", "d", 4, 3)), None);
        assert!(is_observed(ordered.as_ref(), 4, 2));
    }

    #[test]
    fn one_that_the_operator_made_has_to_be() {
        let ordered = untouched(None, &at("u", "before", 2, 2));
        let ordered = written(ordered, &at("u", "before", 2, 2), at("u", "d", 3, 2));
        assert!(!is_observed(ordered.as_ref(), 3, 2) && !is_observed(ordered.as_ref(), 4, 2));
        assert!(is_observed(ordered.as_ref(), 4, 3));
        // What somebody changed was set back: the digest is the same.
        let ordered = written(ordered, &at("u", "d", 5, 5), at("u", "d", 6, 5));
        assert!(!is_observed(ordered.as_ref(), 6, 5) && is_observed(ordered.as_ref(), 6, 6));
    }

    #[test]
    fn a_write_that_changes_no_spec_leaves_nothing_to_be_observed() {
        let ordered = untouched(None, &at("u", "d", 2, 2));
        let scaled = at("u", "d", 3, 2);
        assert!(is_observed(written(ordered, &scaled, scaled.clone()).as_ref(), 3, 2));
    }

    #[test]
    fn where_nothing_is_known_the_newest_generation_has_to_be() {
        assert!(!is_observed(None, 3, 2) && is_observed(None, 3, 3));
        assert!(!is_observed(untouched(None, &at("u", "d", 3, 2)).as_ref(), 3, 2));
    }

    #[test]
    fn a_write_whose_answer_was_lost_counts_when_it_shows() {
        let lost = || {
            Err(ChildError::Refused {
                act: "apply",
                kind: "Deployment",
                name: "shop".to_owned(),
                source: kube::Error::Api(Box::new(Status { code: 504, ..Status::default() })),
            })
        };
        for digest in ["before", "d"] {
            let ordered = untouched(None, &at("u", digest, 2, 2));
            let ordered = Ordered::after(ordered, Some(&at("u", digest, 2, 2)), Some(&lost()));
            let ordered = untouched(ordered, &at("u", "d", 3, 2));
            assert!(!is_observed(ordered.as_ref(), 3, 2), "{digest}");
        }
    }

    #[test]
    fn another_object_of_the_name_is_another() {
        let ordered = untouched(None, &at("first", "d", 1, 1));
        assert!(!is_observed(ordered.as_ref(), 2, 1));
        assert!(!is_observed(untouched(ordered, &at("u", "d", 2, 1)).as_ref(), 2, 1));
    }
}
