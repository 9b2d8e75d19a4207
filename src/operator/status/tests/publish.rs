//! When a change of the status is written.

use std::time::Duration;

use super::*;
use crate::api::{NearCacheStatus, SidecarsStatus};
use crate::operator::{
    context::{FIGURES_PERIOD, PROGRESS_PERIOD},
    status::publish::pause_before,
};

fn pause(change: impl FnOnce(&mut CachedServiceStatus)) -> Duration {
    let before = Situation::all_well().status();
    let mut status = before.clone();
    change(&mut status);
    pause_before(&status, &before)
}

#[test]
fn what_turns_is_told_at_once() {
    assert_eq!(pause(|status| status.conditions[0].status = "False".to_owned()), Duration::ZERO);
    assert_eq!(pause(|status| status.conditions[0].reason = "Other".to_owned()), Duration::ZERO);
    assert_eq!(pause(|status| status.observed_generation = Some(9)), Duration::ZERO);
    assert_eq!(pause(|status| status.desired_replicas = 9), Duration::ZERO);
}

#[test]
fn what_counts_pods_and_cpu_waits() {
    let count = |status: &mut CachedServiceStatus| {
        status.ready_replicas = 9;
        status.replicas_ready = Some("9/9".to_owned());
        status.conditions[0].message = "9 pods".to_owned();
    };
    assert_eq!(pause(count), PROGRESS_PERIOD);
    let cpu = |status: &mut CachedServiceStatus| status.cpu = Some("99%/70%".to_owned());
    assert_eq!(pause(cpu), FIGURES_PERIOD);
    assert_eq!(
        pause(|status| {
            count(status);
            cpu(status);
        }),
        PROGRESS_PERIOD
    );
}

#[test]
fn what_sidecars_count_waits_and_their_first_figures_and_settings_do_not() {
    let told = |hits: &str, saved, loaded: &str| {
        let (hit_ratio, settings_loaded) = (Some(hits.to_owned()), Some(loaded.to_owned()));
        let near_cache = Some(NearCacheStatus { hit_ratio: hit_ratio.clone(), saved_reads: saved });
        let saved_requests = Some(saved);
        Some(SidecarsStatus { hit_ratio, saved_requests, near_cache, settings_loaded, settings: None })
    };
    let pause = |before: &Option<SidecarsStatus>, now: Option<SidecarsStatus>| {
        let before = CachedServiceStatus { sidecars: before.clone(), ..CachedServiceStatus::default() };
        pause_before(&CachedServiceStatus { sidecars: now, ..before.clone() }, &before)
    };
    let before = told("70%", 10, "1/2");
    assert_eq!(pause(&before, told("71%", 20, "1/2")), FIGURES_PERIOD);
    assert_eq!(pause(&before, told("71%", 20, "2/2")), PROGRESS_PERIOD);
    assert_eq!(pause(&None, before.clone()), PROGRESS_PERIOD);
    assert_eq!(pause(&before, None), PROGRESS_PERIOD);
    let without = before.clone().map(|told| SidecarsStatus { near_cache: None, ..told });
    assert_eq!(pause(&without, before), PROGRESS_PERIOD);
}
