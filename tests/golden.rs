//! Golden cases: `tests/cases/NAME/in.yaml` is a CachedService, `out.yaml` what it
//! becomes: its children, or what is wrong with it.
//!
//! `seen.yaml` beside them, if it is there, holds what else was observed.
//! `UPDATE_GOLDEN=1 cargo test --test golden` writes the outputs anew; review them
//! with `git diff`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod pure;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use cachedservice::{
    api::{CachedService, CachedServiceSpec, names::REFERENCES_ANNOTATION},
    operator::{
        children::children,
        external::ExternalState,
        observe::Seen,
        plan::{Content, Invalid, plan, references},
        seen::Sighting,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

/// What else was observed.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Observed {
    /// Identifies the URL of the external Redis.
    external_revision: Option<String>,
    /// The revision of the defaults in the Deployment that runs.
    template_revision: Option<i32>,
    /// Digests of the data of what the application refers to; of what is not there, nothing.
    #[serde(default)]
    references: BTreeMap<String, String>,
    /// What stands of that in the pod template of the Deployment that runs.
    live_references: Option<String>,
}

#[test]
fn every_case_becomes_its_output() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let (input, observed) = read_case(&case);
        let actual = output(input, &observed);
        let file = case.join("out.yaml");
        if update {
            fs::write(&file, &actual).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if let Some(difference) = first_difference(&expected, &actual) {
            wrong.push(format!("tests/cases/{name}/out.yaml, {difference}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n\nif this is meant, run UPDATE_GOLDEN=1 cargo test --test golden and review the difference",
        wrong.join("\n\n")
    );
}

#[test]
fn a_case_has_nothing_but_input_observation_and_output() {
    for case in cases() {
        for file in fs::read_dir(&case).unwrap() {
            let name = file.unwrap().file_name();
            let known = ["in.yaml", "seen.yaml", "out.yaml"].iter().any(|known| name == *known);
            assert!(known, "{}: {name:?} is read by nobody", case.display());
        }
    }
}

#[test]
fn every_field_shows_in_what_is_made_of_some_case() {
    let crd = fs::read_to_string("crds/cachedservices.cachedservice.dev.yaml").unwrap();
    let crd: Value = serde_saphyr::from_str(&crd).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = Vec::new();
    leaves(schema, "", &mut fields);
    assert!(fields.len() >= 80, "{fields:?}");
    for case in cases() {
        let (input, observed) = read_case(&case);
        let whole = output(input.clone(), &observed);
        fields.retain(|field| {
            let mut without = input.clone();
            let (object, name) = field.rsplit_once('/').unwrap();
            let object = without["spec"].pointer_mut(object).and_then(Value::as_object_mut);
            let is_written = object.is_some_and(|object| object.remove(name).is_some());
            !is_written || output(without, &observed) == whole
        });
    }
    assert!(fields.is_empty(), "of these fields no case shows what they do: {fields:#?}");
}

/// Fields of a type of Kubernetes', which is handed on whole.
const HANDED_ON: [&str; 2] = ["/behavior", "/custom"];

/// The paths of the fields that have no fields of their own.
fn leaves(schema: &Value, path: &str, found: &mut Vec<String>) {
    match schema["properties"].as_object() {
        Some(fields) if !HANDED_ON.iter().any(|whole| path.ends_with(whole)) => {
            for (name, field) in fields {
                leaves(field, &format!("{path}/{name}"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn read_case(case: &Path) -> (Value, Observed) {
    let read = |file: &str| fs::read_to_string(case.join(file));
    let input: Value = serde_saphyr::from_str(&read("in.yaml").unwrap()).unwrap();
    // The API server would refuse an unknown field; here it would go unseen.
    let unknown = |path: serde_ignored::Path<'_>| panic!("{}: there is no field {path}", case.display());
    let _: CachedServiceSpec = serde_ignored::deserialize(&input["spec"], unknown).unwrap();
    let observed = read("seen.yaml").map_or_else(
        |_| Observed::default(),
        |text| serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", case.display())),
    );
    (input, observed)
}

/// What becomes of a CachedService; without a field that is required, nothing.
fn output(input: Value, observed: &Observed) -> String {
    let Ok(service) = serde_json::from_value::<CachedService>(input) else { return String::new() };
    let references = references(&service).into_iter().map(|reference| {
        let digest = observed.references.get(&reference.to_string());
        (reference, digest.map_or(Content::Absent, |digest| Content::Digest(digest.clone())))
    });
    let running = observed.template_revision.map_or(Sighting::Absent, pure::running);
    let deployment = observed.live_references.as_ref().map_or(running, |live| {
        let template = json!({ "metadata": { "annotations": { REFERENCES_ANNOTATION: live } } });
        let object = json!({ "metadata": {}, "spec": { "template": template } });
        Sighting::Ours(Arc::new(serde_json::from_value(object).unwrap()))
    });
    let seen = Seen {
        references: references.collect(),
        deployment,
        external: observed.external_revision.clone().map(|revision| ExternalState::Connecting { revision }),
        ..pure::nothing()
    };
    match plan(&service, &seen, &pure::defaults()) {
        Ok(plan) => pure::manifests(&children(&plan)).iter().map(document).collect(),
        Err(Invalid { field, problem }) => {
            document(&json!({ "invalid": { "field": field, "problem": problem } }))
        }
    }
}

fn document(value: &Value) -> String {
    let yaml = serde_saphyr::to_string(value).unwrap();
    format!("---\n{}\n", yaml.trim_end())
}

/// The first line in which two texts differ, with what leads to it.
fn first_difference(expected: &str, actual: &str) -> Option<String> {
    let (expected, actual): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let at = (0..expected.len().max(actual.len())).find(|&at| expected.get(at) != actual.get(at))?;
    let before = actual[at.saturating_sub(5).min(actual.len())..at.min(actual.len())].join("\n  ");
    let line = |lines: &[&str]| lines.get(at).map_or("(nothing)".to_owned(), |line| (*line).to_owned());
    Some(format!("line {}:\n  {before}\n- {}\n+ {}", at + 1, line(&expected), line(&actual)))
}
