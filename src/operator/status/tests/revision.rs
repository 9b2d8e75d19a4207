//! The revision of the defaults, and the one that could be taken over.

use super::*;
use crate::{
    api::{TemplateRevisions, names::TEMPLATE_REVISION_ANNOTATION},
    operator::seen::Sighting,
};

fn running(revision: &str) -> Situation {
    let mut situation = Situation::all_well();
    let mut deployment = deployment(2, &pods(2));
    let annotations = &mut deployment.spec.template.metadata.annotations;
    annotations.insert(TEMPLATE_REVISION_ANNOTATION.to_owned(), revision.to_owned());
    situation.seen.deployment = ours(deployment);
    situation
}

fn revisions(situation: &Situation) -> TemplateRevisions {
    situation.status().template_revision.unwrap()
}

#[test]
fn the_newest_is_up_to_date() {
    running("2").shows("UpToDate", "True NewestTemplate");
    assert_eq!(revisions(&running("2")), TemplateRevisions { current: Some(2), newest: 2 });
    Situation::new().shows("UpToDate", "True NewestTemplate");
    assert_eq!(revisions(&Situation::new()), TemplateRevisions { current: None, newest: 2 });
}

#[test]
fn a_newer_one_is_told_with_what_it_brings_and_how_to_take_it_over() {
    let older = running("1");
    let message = older.shows("UpToDate", "False NewTemplateRevision");
    assert!(message.starts_with("the pods have template revision 1"), "{message}");
    assert!(message.contains("revision 2 brings a request for ephemeral storage"), "{message}");
    let command = r#"kubectl patch cachedservice shop --namespace prod --type merge --patch '{"spec":{"templateRevision":2}}'"#;
    assert!(message.ends_with(command), "{message}");
    assert_eq!(revisions(&older), TemplateRevisions { current: Some(1), newest: 2 });
}

#[test]
fn a_newer_one_is_nothing_that_is_wrong() {
    let older = running("1");
    older.shows("Ready", "True Serving");
    older.shows("Progressing", "False Stable");
    older.shows("Degraded", "False AllWell");
}

#[test]
fn what_a_deleted_deployment_had_is_remembered() {
    let mut gone = running("1");
    gone.seen.status = gone.status();
    gone.seen.deployment = Sighting::Absent;
    assert_eq!(revisions(&gone), TemplateRevisions { current: Some(1), newest: 2 });
    gone.shows("UpToDate", "False NewTemplateRevision");
}

#[test]
fn a_revision_that_is_not_known_is_told_and_is_no_older_one() {
    let newer = running("3");
    newer.shows("UpToDate", "True NewestTemplate");
    let message = newer.shows("Ready", "False InvalidSpec");
    assert!(message.contains("the pods have revision 3"), "{message}");
}
