//! How the CachedServices are, counted for the metrics.

use std::borrow::Borrow;

use crate::api::{CachedService, condition_type};

const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

/// So many CachedServices have a condition of this status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The type of the condition.
    pub condition: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// How many.
    pub services: usize,
}

/// One count for each condition and status, also where it is zero. A CachedService that does not
/// tell a condition counts as `Unknown`.
pub fn tally(services: impl IntoIterator<Item = impl Borrow<CachedService>>) -> impl Iterator<Item = Count> {
    let zero = |condition| STATUSES.map(|status| Count { condition, status, services: 0 });
    let mut counts = condition_type::ALL.map(zero);
    for service in services {
        for count in counts.as_flattened_mut() {
            count.services += usize::from(status_of(service.borrow(), count.condition) == count.status);
        }
    }
    counts.into_iter().flatten()
}

fn status_of<'a>(service: &'a CachedService, condition: &str) -> &'a str {
    let mut conditions = service.status.iter().flat_map(|status| &status.conditions);
    conditions.find(|told| told.type_ == condition).map_or("Unknown", |told| told.status.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::sample;

    fn service(conditions: &[(&str, &str)]) -> CachedService {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(condition, status)| {
                json!({
                    "type": condition, "status": status, "reason": "Sample", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                })
            })
            .collect();
        let mut service = sample::service(json!({}));
        service.status = serde_json::from_value(json!({ "conditions": conditions })).unwrap();
        service
    }

    #[test]
    fn each_service_counts_once_for_each_condition() {
        let mut untold = service(&[]);
        untold.status = None;
        let services = [
            service(&[("Ready", "True"), ("Degraded", "False")]),
            service(&[("Ready", "True"), ("Degraded", "True")]),
            service(&[("Ready", "False")]),
            untold,
        ];
        let count = |condition, status| {
            tally(&services).find(|count| (count.condition, count.status) == (condition, status))
        };
        let services = |condition, status| count(condition, status).map(|count| count.services);
        assert_eq!(
            ["True", "False", "Unknown"].map(|status| services("Ready", status)),
            [Some(2), Some(1), Some(1)]
        );
        assert_eq!(
            ["True", "False", "Unknown"].map(|status| services("Degraded", status)),
            [Some(1), Some(1), Some(2)]
        );
    }

    #[test]
    fn a_status_that_nobody_has_is_counted_as_zero() {
        let counts: Vec<_> = tally(&[] as &[CachedService]).collect();
        assert_eq!(counts.len(), condition_type::ALL.len() * STATUSES.len());
        assert!(counts.iter().all(|count| count.services == 0));
    }
}
