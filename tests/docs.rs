//! Holds what the documents say against what is so: the fields and their
//! defaults, the columns, the reasons, the events, the metrics, the manifests,
//! and what they point to.
#![cfg(feature = "operator")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "docs/guarantees.rs"]
mod guarantees;
#[path = "docs/monitoring.rs"]
mod monitoring;
#[path = "docs/names.rs"]
mod names;
mod pure;
#[path = "docs/purges.rs"]
mod purges;
#[path = "docs/reference.rs"]
mod reference;
#[path = "docs/rights.rs"]
mod rights;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use cachedservice::{
    api::{CachedService, CachedServiceSpec, SWITCHES, condition_type, crd},
    operator::plan::plan,
    telemetry::{ChildAct, Metrics},
};
use serde_json::{Value, json};

#[test]
fn the_table_of_fields_holds_every_field_and_its_default() {
    let documented: BTreeSet<_> = table("fields").into_iter().map(|row| field_row(&row)).collect();
    let actual: BTreeSet<_> =
        fields().iter().map(|field| (field.path.clone(), field.default_cell())).collect();
    assert_same("the fields in README.md", &documented, &actual);
}

#[test]
fn kubectl_explain_tells_the_default_of_every_field() {
    let silent: Vec<_> = fields()
        .into_iter()
        .filter(|field| {
            !field.required && !["Default", "Unset"].iter().any(|word| field.description.contains(word))
        })
        .map(|field| field.path)
        .collect();
    assert!(silent.is_empty(), "say in src/api what these are when they are not written: {silent:?}");
}

#[test]
fn the_table_of_columns_holds_the_columns_of_kubectl_get() {
    let columns = crd_value("/spec/versions/0/additionalPrinterColumns");
    let actual: BTreeSet<_> =
        columns.as_array().unwrap().iter().map(|column| text(&column["name"]).to_uppercase()).collect();
    assert_same("the columns in README.md", &first_column("columns"), &actual);
}

#[test]
fn the_table_of_annotations_holds_every_switch() {
    assert_same(
        "the annotations in README.md",
        &first_column("annotations"),
        &SWITCHES.map(str::to_owned).into(),
    );
}

#[test]
fn the_table_of_conditions_holds_every_type() {
    assert_same(
        "the conditions in README.md",
        &first_column("conditions"),
        &condition_type::ALL.map(str::to_owned).into(),
    );
}

/// Words in the sources of the reasons that look like one and are none: what
/// others report and the operator reads, the classes of errors, the name of a type.
const NO_REASONS: [&str; 20] = [
    "AbleToScale",
    "Bug",
    "Denied",
    "Deployment",
    "DeploymentPaused",
    "False",
    "Foreign",
    "HorizontalPodAutoscaler",
    "Invalid",
    "NewReplicaSetAvailable",
    "Progressing",
    "ReplicaFailure",
    "ScalingActive",
    "ScalingLimited",
    "StatefulSet",
    "Target",
    "TooManyReplicas",
    "Transient",
    "True",
    "Unknown",
];

#[test]
fn the_tables_of_reasons_hold_every_reason_that_a_condition_can_have() {
    let mut sources: Vec<_> = ["status.rs", "error.rs", "external.rs"].map(operator_source).into();
    sources.extend(
        files("src/operator/status", "rs")
            .into_iter()
            .filter(|path| !["publish.rs", "tests.rs"].iter().any(|file| path.ends_with(file)))
            .map(|path| read(&path)),
    );
    let actual = words(&sources).into_iter().filter(|word| !NO_REASONS.contains(&word.as_str())).collect();
    let tables = ["reasons", "pod reasons", "autoscaler reasons"];
    let documented = tables.into_iter().flat_map(first_column).collect();
    assert_same("the reasons in README.md", &documented, &actual);
}

/// Words in the source of the events that are no reason of one: the actions,
/// which kubectl does not show, and the status of a condition.
const NO_EVENTS: [&str; 7] = ["Apply", "CachedService", "Create", "Delete", "Observe", "Read", "True"];

#[test]
fn the_table_of_events_holds_every_event() {
    let actual = words(&[operator_source("status/publish.rs"), operator_source("services.rs")])
        .into_iter()
        .filter(|word| !NO_EVENTS.contains(&word.as_str()))
        .collect();
    assert_same("the events in README.md", &first_column("events"), &actual);
}

#[test]
fn the_table_of_metrics_holds_every_metric() {
    let exposition = exposition();
    let actual =
        exposition.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(name_of_series).collect();
    assert_same("the metrics in README.md", &first_column("metrics"), &actual);
}

/// What a replica tells Prometheus.
fn exposition() -> String {
    // A family shows itself with its first series.
    let metrics = Metrics::default();
    metrics.set_conditions("Ready", "True", 1);
    metrics.child_written("Service", ChildAct::Create);
    metrics.api_request("get", "services", "200");
    metrics.api_request_took("get", Duration::ZERO);
    metrics.encode().unwrap()
}

/// OpenMetrics leaves the suffixes of some types to the series.
fn name_of_series(line: &str) -> String {
    match line.split_once(' ').unwrap() {
        (name, "counter") => format!("{name}_total"),
        (name, "info") => format!("{name}_info"),
        (name, _) => name.to_owned(),
    }
}

#[test]
fn every_manifest_in_the_documents_has_a_plan() {
    let mut manifests = 0;
    for document in documents() {
        for block in blocks(&read(&document), "yaml") {
            for manifest in serde_saphyr::from_multiple::<Value>(&block).unwrap() {
                let Some(manifest) = cached_service(manifest) else { continue };
                manifests += 1;
                let mut unknown = Vec::new();
                let spec: CachedServiceSpec =
                    serde_ignored::deserialize(&manifest["spec"], |path| unknown.push(path.to_string()))
                        .unwrap_or_else(|error| panic!("{}: {error} in\n{block}", document.display()));
                assert!(unknown.is_empty(), "{}: {unknown:?} in\n{block}", document.display());
                let mut service = CachedService::new(text(&manifest["metadata"]["name"]), spec);
                service.metadata.namespace = Some("default".to_owned());
                service.metadata.uid = Some("1".to_owned());
                if let Err(invalid) = plan(&service, &pure::nothing(), &pure::defaults()) {
                    panic!("{}: {invalid} in\n{block}", document.display());
                }
            }
        }
    }
    assert!(manifests >= 6, "the documents have {manifests} manifests");
}

/// A CachedService; of one that is shown from `spec` on, the whole.
fn cached_service(manifest: Value) -> Option<Value> {
    let is_whole = manifest["kind"] == "CachedService";
    let is_part = manifest["kind"].is_null() && manifest["spec"].is_object();
    let mut service = json!({ "metadata": { "name": "shop" }, "spec": { "image": "example.com/shop:1" } });
    merge(&mut service, manifest);
    (is_whole || is_part).then_some(service)
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

#[test]
fn what_the_documents_point_to_exists() {
    let makefile = read(Path::new("Makefile"));
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document);
        let folder = document.parent().unwrap();
        for link in links(&text).filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { folder.join(path) };
            let anchored =
                || anchor.is_empty() || headings(&read(&target)).any(|heading| slug(heading) == anchor);
            if !(target.exists() && anchored()) {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
        for path in code_spans(&text).filter(|span| is_path(span)) {
            if !Path::new(path).exists() && !folder.join(path).exists() {
                broken.push(format!("{}: {path}", document.display()));
            }
        }
        for target in make_targets(&text) {
            if !makefile.lines().any(|line| line.starts_with(&format!("{target}: "))) {
                broken.push(format!("{}: make {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these lead nowhere:\n{}", broken.join("\n"));
}

/// A field that users write.
struct Field {
    path: String,
    default: Option<Value>,
    required: bool,
    description: String,
}

impl Field {
    /// What stands in the table: the default in the form of YAML, or that there is none.
    fn default_cell(&self) -> String {
        match &self.default {
            Some(default) => format!("`{}`", flow(default)),
            None if self.required => "required".to_owned(),
            None => String::new(),
        }
    }
}

/// The path of a row, and its default; words stand where there is none.
fn field_row(row: &[String]) -> (String, String) {
    let path = code_spans(&row[0]).next().unwrap().to_owned();
    let has_default = row[1].starts_with('`') || row[1] == "required";
    assert!(!row[1].is_empty(), "{path}: say what it is when it is not written");
    (path, if has_default { row[1].clone() } else { String::new() })
}

fn fields() -> Vec<Field> {
    let spec = crd_value("/spec/versions/0/schema/openAPIV3Schema/properties/spec");
    let mut fields = Vec::new();
    collect(&spec, "", None, &mut fields);
    fields
}

/// The leaves of a schema. Types of Kubernetes' own count as leaves.
fn collect(schema: &Value, path: &str, default: Option<&Value>, fields: &mut Vec<Field>) {
    const OF_KUBERNETES: [&str; 2] = ["custom", "behavior"];
    for (name, schema_of_field) in schema["properties"].as_object().unwrap() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = schema_of_field.get("default").or_else(|| default?.get(name));
        if schema_of_field.get("properties").is_some() && !OF_KUBERNETES.contains(&name.as_str()) {
            collect(schema_of_field, &path, default, fields);
        } else {
            fields.push(Field {
                path,
                default: default.cloned(),
                required: schema["required"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|required| required == name),
                description: text(&schema_of_field["description"]).to_owned(),
            });
        }
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(members) => {
            let members: Vec<_> =
                members.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}

fn crd_value(pointer: &str) -> Value {
    serde_json::to_value(crd()).unwrap().pointer(pointer).unwrap().clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn assert_same<T: Ord + std::fmt::Debug>(what: &str, documented: &BTreeSet<T>, actual: &BTreeSet<T>) {
    let missing: Vec<_> = actual.difference(documented).collect();
    let stale: Vec<_> = documented.difference(actual).collect();
    assert!(missing.is_empty() && stale.is_empty(), "{what}: missing {missing:?}, no longer so {stale:?}");
}

fn operator_source(path: &str) -> String {
    read(&Path::new("src/operator").join(path))
}

/// The string literals that are one capitalised word, outside comments and unit tests.
fn words(sources: &[String]) -> BTreeSet<String> {
    let is_word = |literal: &&str| {
        literal.len() > 2
            && literal.starts_with(|c: char| c.is_ascii_uppercase())
            && literal.chars().any(|c| c.is_ascii_lowercase())
            && literal.chars().all(|c| c.is_ascii_alphanumeric())
    };
    sources
        .iter()
        .filter_map(|source| source.split("\nmod tests {").next())
        .flat_map(str::lines)
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| {
            // What stands between any two quotation marks: code is no single word.
            let parts: Vec<_> = line.split('"').collect();
            parts.get(1..parts.len().saturating_sub(1)).unwrap_or_default().to_vec()
        })
        .filter(is_word)
        .map(str::to_owned)
        .collect()
}

/// The rows of the table in README.md that stands between two comments of this name.
fn table(name: &str) -> Vec<Vec<String>> {
    table_in("README.md", name)
}

fn table_in(document: &str, name: &str) -> Vec<Vec<String>> {
    let text = read(Path::new(document));
    let start = format!("<!-- {name} -->");
    let (_, rest) = text.split_once(&start).unwrap_or_else(|| panic!("{document} has no {start}"));
    let (table, _) = rest.split_once(&format!("<!-- end of {name} -->")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands as code in the first column of a table.
fn first_column(name: &str) -> BTreeSet<String> {
    table(name).iter().flat_map(|row| code_spans(&row[0]).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn chart_and_examples_and_readme_are_of_the_present_version() {
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value =
        serde_saphyr::from_str(&read(Path::new("charts/cachedservice-operator/Chart.yaml"))).unwrap();
    assert_eq!((text(&chart["version"]), text(&chart["appVersion"])), (version, version));
    assert!(read(Path::new("README.md")).contains(&format!("This is version {version} ")));
    assert!(read(Path::new("CHANGELOG.md")).contains(&format!("\n## {version}\n")));
    let examples = files("examples", "yaml");
    assert!(examples.len() >= 8, "{examples:?}");
    for example in examples {
        for image in read(&example).split("localhost/cachedservice-demo:").skip(1) {
            let tag = image.split_whitespace().next().unwrap();
            assert_eq!(tag, version, "{}", example.display());
        }
    }
}

fn documents() -> Vec<PathBuf> {
    let folders = [".", "docs", "charts/cachedservice-operator", "images", "tests/cluster"];
    let documents: Vec<_> = folders.iter().flat_map(|folder| files(folder, "md")).collect();
    assert!(documents.len() >= 8, "{documents:?}");
    documents
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    text.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The code spans outside fenced blocks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
}

/// A heading as the anchor that it is reached by.
fn slug(heading: &str) -> String {
    let heading = heading.to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Whether a code span names a file or a folder of the repository.
fn is_path(span: &str) -> bool {
    let folders = ["charts/", "crds/", "docs/", "examples/", "images/", "src/", "tests/", ".ci/"];
    let is_template = span.contains(['*', '{', ' ', '$', '…']) || span.chars().any(char::is_uppercase);
    folders.iter().any(|folder| span.starts_with(folder)) && !is_template
}

/// The targets of make that a text names.
fn make_targets(text: &str) -> BTreeSet<&str> {
    let spans = code_spans(text).filter(|span| span.starts_with("make "));
    let lines = text.lines().filter(|line| line.starts_with("make "));
    spans.chain(lines).filter_map(|command| command.split_whitespace().nth(1)).collect()
}
