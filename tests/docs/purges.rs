//! Holds what README.md says of purges against what is so.

use std::{collections::BTreeSet, path::Path};

use cachedservice::api::{CachePurgeSpec, purge_crd};
use serde_json::Value;

use crate::{assert_same, blocks, code_spans, documents, first_column, flow, read, table, text, words};

fn version() -> Value {
    serde_json::to_value(purge_crd()).unwrap()["spec"]["versions"][0].clone()
}

#[test]
fn the_table_of_fields_holds_every_field_and_its_default() {
    let spec = &version()["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let required: Vec<_> = spec["required"].as_array().unwrap().iter().map(text).collect();
    let actual: BTreeSet<_> = spec["properties"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, field)| {
            let default = match &field["default"] {
                Value::Null if required.contains(&name.as_str()) => "required".to_owned(),
                Value::Null => "none".to_owned(),
                default => format!("`{}`", flow(default)),
            };
            (name.clone(), default)
        })
        .collect();
    let documented: BTreeSet<_> = table("purge fields")
        .iter()
        .map(|row| (code_spans(&row[0]).next().unwrap().to_owned(), row[1].clone()))
        .collect();
    assert_same("the fields of purges in README.md", &documented, &actual);
}

#[test]
fn the_table_of_columns_holds_the_columns_of_kubectl_get() {
    let columns = &version()["additionalPrinterColumns"];
    let actual: BTreeSet<_> =
        columns.as_array().unwrap().iter().map(|column| text(&column["name"]).to_uppercase()).collect();
    assert_same("the columns of purges in README.md", &first_column("purge columns"), &actual);
}

/// Words in the sources that are no reason: the status of a condition, and an action.
const NEITHER: [&str; 4] = ["True", "False", "Purge", "CachePurge"];
/// The reasons of Events.
const EVENTS: [&str; 2] = ["Purged", "NotAcknowledged"];
/// Reasons that stand in the code that all share.
const SHARED: [&str; 3] = ["Forbidden", "Refused", "Retrying"];

#[test]
fn the_tables_of_reasons_and_events_hold_every_one() {
    let files = ["work.rs", "telling.rs", "keeping.rs", "progress.rs"];
    let sources = files.map(|file| read(&Path::new("src/operator/purges").join(file)));
    let mut actual = words(&sources);
    actual.retain(|word| !NEITHER.contains(&word.as_str()));
    let events: BTreeSet<_> = EVENTS.map(str::to_owned).into();
    assert_same("the events of purges in README.md", &first_column("purge events"), &events);
    assert!(events.is_subset(&actual), "{actual:?}");
    let mut reasons: BTreeSet<_> = actual.difference(&events).cloned().collect();
    reasons.extend(SHARED.map(str::to_owned));
    assert_same("the reasons of purges in README.md", &first_column("purge reasons"), &reasons);
}

#[test]
fn every_purge_in_the_documents_can_be_read() {
    let mut purges = 0;
    for document in documents() {
        for block in blocks(&read(&document), "yaml") {
            for manifest in serde_saphyr::from_multiple::<Value>(&block).unwrap() {
                if manifest["kind"] != "CachePurge" {
                    continue;
                }
                purges += 1;
                let mut unknown = Vec::new();
                let read: Result<CachePurgeSpec, _> =
                    serde_ignored::deserialize(&manifest["spec"], |path| unknown.push(path.to_string()));
                assert!(read.is_ok() && unknown.is_empty(), "{}: {read:?} {unknown:?}", document.display());
            }
        }
    }
    assert!(purges > 0);
}
