//! What the sidecars tell.

use super::*;
use crate::{
    api::{NearCacheStatus, SidecarsStatus, names::PAUSED_ANNOTATION},
    operator::apply::Act,
    settings::digest,
};

fn cached() -> Situation {
    Situation::all_well().spec(json!({ "cache": { "http": {} } }))
}

/// The digest of the settings of [`cached`].
fn present() -> String {
    let situation = cached();
    digest(&planned(situation.spec, &situation.seen).unwrap().sidecar.unwrap().settings)
}

fn reading(hits: u64, misses: u64, saved: u64) -> Reading {
    Reading { settings: present(), hits, misses, saved_requests: saved, ..Reading::default() }
}

fn figures(situation: &Situation) -> SidecarsStatus {
    situation.status().sidecars.unwrap()
}

#[test]
fn figures_are_of_all_that_run_and_rounded() {
    let asked = vec![told("a", reading(700, 100, 698)), told("b", reading(0, 200, 0)), silent_sidecar("c")];
    let expected = SidecarsStatus {
        hit_ratio: Some("70%".to_owned()),
        saved_requests: Some(690),
        near_cache: None,
        settings_loaded: Some("2/3".to_owned()),
        settings: Some(present()),
    };
    assert_eq!(figures(&cached().asked(Some(asked))), expected);
}

#[test]
fn other_settings_are_not_the_present_ones() {
    let other = Reading { settings: "0123456789abcdef".to_owned(), ..reading(0, 0, 0) };
    let told = figures(&cached().asked(Some(vec![told("a", other), told("b", reading(0, 0, 0))])));
    assert_eq!(told.settings_loaded.as_deref(), Some("1/2"));
    assert_eq!(told.hit_ratio, None, "nothing was asked for yet");
}

#[test]
fn what_caches_nothing_tells_nothing_of_a_cache() {
    let situation = Situation::all_well()
        .spec(json!({ "balancing": {} }))
        .asked(Some(vec![told("a", Reading { misses: 1, ..Reading::default() })]));
    let told = figures(&situation);
    assert_eq!((told.hit_ratio, told.saved_requests), (None, None));
    assert_eq!(told.settings_loaded.as_deref(), Some("0/1"));
}

#[test]
fn a_near_cache_alone_has_saved_reads_and_no_requests_also_while_its_spec_is_invalid() {
    let near_cache = Some(Answered { hits: 129, misses: 43 });
    let asked = || Some(vec![told("a", Reading { misses: 1, near_cache, ..Reading::default() })]);
    let near = |changes: Value| {
        let mut spec = json!({ "cache": { "application": {} } });
        spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Situation::all_well().spec(spec).asked(asked())
    };
    let before = near(json!({})).status();
    let invalid = near(json!({ "progressDeadline": "soon" })).after(before.clone());
    for told in [before.sidecars.unwrap(), figures(&invalid)] {
        assert_eq!((told.hit_ratio, told.saved_requests), (None, None));
        assert_eq!(told.settings_loaded.as_deref(), Some("0/1"));
        let expected = NearCacheStatus { hit_ratio: Some("75%".to_owned()), saved_reads: 120 };
        assert_eq!(told.near_cache, Some(expected));
    }
    // The pods of before have it still.
    let off = figures(&cached().asked(asked()).after(near(json!({})).status()));
    assert_eq!(off.near_cache, None);
}

#[test]
fn the_ratio_of_a_near_cache_that_trembles_stays_as_it_was_told() {
    let near = |hits| {
        let near_cache = Some(Answered { hits, misses: 1000 - hits });
        let spec = json!({ "cache": { "application": {} } });
        Situation::all_well()
            .spec(spec)
            .asked(Some(vec![told("a", Reading { near_cache, ..Reading::default() })]))
    };
    let ratio = |situation: &Situation| figures(situation).near_cache.unwrap().hit_ratio;
    assert_eq!(ratio(&near(0)).as_deref(), Some("0%"));
    let before = near(700).status();
    assert_eq!(ratio(&near(709).after(before.clone())).as_deref(), Some("70%"));
    assert_eq!(ratio(&near(710).after(before)).as_deref(), Some("71%"));
}

#[test]
fn a_ratio_that_trembles_stays_as_it_was_told() {
    let ratio = |hits, before: &str| {
        let mut told_before = figures(&cached().asked(Some(vec![told("a", reading(1, 1, 0))])));
        told_before.hit_ratio = Some(before.to_owned());
        let before = CachedServiceStatus { sidecars: Some(told_before), ..CachedServiceStatus::default() };
        figures(&cached().after(before).asked(Some(vec![told("a", reading(hits, 1000 - hits, 0))]))).hit_ratio
    };
    assert_eq!(ratio(709, "70%").as_deref(), Some("70%"));
    assert_eq!(ratio(691, "70%").as_deref(), Some("70%"));
    assert_eq!(ratio(710, "70%").as_deref(), Some("71%"));
    assert_eq!(ratio(1000, "99%").as_deref(), Some("100%"));
}

#[test]
fn it_is_there_only_while_sidecars_run() {
    let before = cached().asked(Some(vec![told("a", reading(1, 0, 1))])).status();
    assert!(before.sidecars.is_some());
    assert_eq!(cached().after(before.clone()).asked(Some(Vec::new())).status().sidecars, None);
    assert_eq!(Situation::all_well().after(before).status().sidecars, None);
    assert_eq!(cached().status().sidecars, None);
}

#[test]
fn before_they_are_asked_again_what_was_told_stays_but_for_other_settings() {
    let before = cached().asked(Some(vec![told("a", reading(1, 1, 1))])).status();
    assert_eq!(cached().after(before.clone()).status().sidecars, before.sidecars);
    let changed = Situation::all_well()
        .spec(json!({ "cache": { "http": { "memory": "32Mi" } } }))
        .after(before.clone())
        .status();
    let told = changed.sidecars.unwrap();
    assert_eq!((told.settings_loaded, told.hit_ratio.as_deref()), (None, Some("50%")));
    assert_ne!(told.settings.as_ref(), before.sidecars.as_ref().unwrap().settings.as_ref());
    let invalid = Situation::all_well().spec(json!({ "progressDeadline": "soon" })).after(before.clone());
    assert_eq!(invalid.status().sidecars, before.sidecars);
}

#[test]
fn where_none_answers_the_figures_of_before_stay() {
    let before = cached().asked(Some(vec![told("a", reading(1, 1, 12))])).status();
    let silent = cached().after(before.clone()).asked(Some(vec![silent_sidecar("a")])).status();
    assert_eq!(silent.sidecars, before.sidecars);
}

#[test]
fn figures_go_on_while_a_spec_is_invalid_or_a_pause_is_ordered() {
    let before = cached().asked(Some(vec![told("a", reading(1, 1, 12))])).status();
    let now = Some(vec![told("a", reading(300, 100, 250))]);
    let expected = SidecarsStatus {
        hit_ratio: Some("75%".to_owned()),
        saved_requests: Some(250),
        ..before.sidecars.clone().unwrap()
    };
    let invalid = Situation::all_well().spec(json!({ "progressDeadline": "soon", "cache": { "http": {} } }));
    assert_eq!(figures(&invalid.after(before.clone()).asked(now.clone())), expected);
    let held: fn(&mut Applied) = |applied| {
        let (act, kind, name) = (Act::Created, "Service", "shop".to_owned());
        applied.service = Err(ChildError::Paused { act, kind, name });
    };
    let paused = cached().annotated(PAUSED_ANNOTATION, "true").applying(held).after(before).asked(now);
    assert_eq!(figures(&paused), expected);
}

fn troubled(change: fn(&mut Reading)) -> Option<Vec<Asked>> {
    let mut of_b = reading(0, 0, 0);
    change(&mut of_b);
    Some(vec![told("a", reading(0, 0, 0)), told("b", of_b)])
}

#[test]
fn settings_that_a_sidecar_refuses_leaves_out_or_has_no_room_for_are_told_once_the_pods_are_of_the_present_template()
 {
    let refusing = troubled(|told| told.settings_refused = true);
    let message = cached().asked(refusing.clone()).shows(condition_type::DEGRADED, "True SettingsRefused");
    assert!(message.contains("pod b does not take its settings"), "{message}");
    let leaving_out = troubled(|told| told.settings_unknown = true);
    let message = cached().asked(leaving_out.clone()).shows(condition_type::DEGRADED, "True SettingsUnknown");
    assert!(message.contains("pod b is of an older version") && message.contains("restart"), "{message}");
    let short = troubled(|told| told.settings_reduced = true);
    let message = cached().asked(short.clone()).shows(condition_type::DEGRADED, "True SettingsReduced");
    assert!(message.contains("pod b was made with less room") && message.contains("restart"), "{message}");
    let rolling = json!({ "replicas": 3, "updatedReplicas": 2, "readyReplicas": 3, "availableReplicas": 3 });
    for asked in [refusing, leaving_out, short] {
        cached().asked(asked).deployment(2, &rolling).shows(condition_type::DEGRADED, "False AllWell");
    }
}

#[test]
fn a_record_of_purges_that_a_sidecar_refuses_is_told_also_while_pods_do_not_become_ready() {
    let refusing = troubled(|told| told.purges_refused = true);
    let rolling = json!({ "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2 });
    let situation = cached().asked(refusing).deployment(2, &rolling);
    let message = situation.shows(condition_type::DEGRADED, "True PurgesRefused");
    assert!(message.contains("pod b does not take the record of purges"), "{message}");
}

#[test]
fn after_a_restart_of_the_operator_what_was_told_holds_until_they_are_asked() {
    let changes: [fn(&mut Reading); 4] = [
        |told| told.settings_refused = true,
        |told| told.settings_unknown = true,
        |told| told.settings_reduced = true,
        |told| told.purges_refused = true,
    ];
    for change in changes {
        let before = cached().asked(troubled(change)).status();
        assert_eq!(condition(&before, condition_type::DEGRADED).status, "True");
        assert_eq!(cached().after(before.clone()).status(), before);
        let asked = cached().after(before).asked(troubled(|_| {}));
        asked.shows(condition_type::DEGRADED, "False AllWell");
    }
}
