//! Every name that the documents give a reader to type exists: fields, values of
//! the chart, flags, environment variables, labels, annotations and metrics.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cachedservice::api::{names::NAME_LABEL, purge_crd};
use serde_json::Value;

use crate::{
    code_spans, crd_value, documents, exposition, monitoring::metrics_of_sidecars, name_of_series, read,
};

/// Flags of other programs that the documents speak of by themselves.
const FLAGS_OF_OTHERS: [&str; 6] = [
    "--cascade",
    "--force-conflicts",
    "--reset-then-reuse-values",
    "--set",
    "--show-managed-fields",
    "--take-ownership",
];

#[test]
fn every_field_that_the_documents_name_is_in_the_definition() {
    let definition = crd_value("/spec/versions/0/schema/openAPIV3Schema");
    let purge = serde_json::to_value(purge_crd()).unwrap();
    let purge = purge.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
    let values = values_of_the_chart();
    let spec: BTreeSet<_> = names(&definition["properties"]["spec"]["properties"]);
    let chart: BTreeSet<_> = names(&values);
    no_stranger("fields", |span| {
        let span = span.split_once(": ").map_or(span, |(field, _)| field);
        if !is_path_of_fields(span) {
            return None;
        }
        let first = span.split('.').next().unwrap_or_default();
        let known = match first {
            "spec" | "status" => is_field(&definition, span) || is_field(purge, span),
            "metadata" => true,
            _ if spec.contains(first) || chart.contains(first) => {
                is_field(&definition["properties"]["spec"], span) || is_value(&values, span)
            }
            // A file, an API group, a field of Kubernetes' own.
            _ => true,
        };
        (!known).then(|| span.to_owned())
    });
}

#[test]
fn every_flag_that_the_documents_name_is_one_of_the_operator_or_the_plugin() {
    let help = Command::new(env!("CARGO_BIN_EXE_cachedservice-operator")).args(["run", "--help"]).output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    let flags: BTreeSet<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    assert!(flags.len() > 10, "{flags:?}");
    let of_plugin = flags_of_the_plugin();
    assert!(of_plugin.len() > 5, "{of_plugin:?}");
    // Those for developers speak of the local cluster's program.
    let is_for_users =
        |document: &PathBuf| !document.starts_with("tests") && !document.ends_with("CONTRIBUTING.md");
    let documents = documents().into_iter().filter(is_for_users);
    no_stranger_in(documents, "flags", |span| {
        let flag = span
            .split(|c: char| c == '=' || c.is_whitespace())
            .next()
            .filter(|flag| flag.starts_with("--"))?;
        let is_known = flags.contains(flag) || of_plugin.contains(flag) || FLAGS_OF_OTHERS.contains(&flag);
        (!is_known).then(|| flag.to_owned())
    });
}

/// From its source: it is built with another feature.
fn flags_of_the_plugin() -> BTreeSet<String> {
    let source = read(Path::new("src/bin/kubectl.rs"));
    let mut lines = source.lines().map(str::trim);
    let mut flags = BTreeSet::new();
    while lines.by_ref().any(|line| line.starts_with("#[arg(long")) {
        let name = lines.next().and_then(|field| field.split(':').next()).unwrap_or_default();
        flags.insert(format!("--{}", name.replace('_', "-")));
    }
    flags
}

#[test]
fn every_environment_variable_that_the_documents_name_is_read_somewhere() {
    let mut sources = String::new();
    for folder in ["src", "charts", "images", "examples", "tests/bench", "tests/cluster", "tests/operator"] {
        add_files(Path::new(folder), &mut sources);
    }
    for file in ["Makefile", "tests/run", "tests/deny", "tests/chart/test", "tests/golden.rs"] {
        sources.push_str(&read(Path::new(file)));
    }
    no_stranger("environment variables", |span| {
        let name = span.split('=').next().unwrap_or_default();
        let is_variable = name.contains('_')
            && name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        (is_variable && !sources.contains(name)).then(|| name.to_owned())
    });
}

#[test]
fn every_label_and_annotation_that_the_documents_name_is_used() {
    let names = read(Path::new("src/api/names.rs"));
    let definition = read(Path::new("crds/cachedservices.cachedservice.dev.yaml"));
    let group = "cachedservice.dev/";
    for document in documents() {
        let text = read(&document);
        for (at, _) in text.match_indices(group) {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            let name: String = text[at + group.len()..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
                .collect();
            // With a `-` behind it, kubectl takes an annotation away.
            let name = name.trim_end_matches(['.', '-']);
            let is_version = definition.contains(&format!("name: {name}\n"));
            // Not the name of a file or of a finalizer of somebody else, which goes on before it.
            let stands_alone = !before.is_ascii_alphanumeric() && !matches!(before, '.' | '/');
            let known = is_version || names.contains(&format!("\"{group}{name}\""));
            assert!(known || !stands_alone, "{}: {group}{name} is not used", document.display());
        }
    }
}

#[test]
fn every_metric_that_the_documents_name_is_told() {
    let exposition = exposition();
    let of_operator = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(name_of_series);
    let told: BTreeSet<String> = of_operator.chain(metrics_of_sidecars().into_keys()).collect();
    let is_told = |name: &str| {
        ["", "_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .any(|family| told.contains(family))
    };
    // As Prometheus writes the label that a PodMonitor gives to what it reads.
    let label = NAME_LABEL.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let is_told = |name: &str| name == label || is_told(name);
    for document in documents() {
        let text = read(&document);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for word in words.filter(|word| word.starts_with("cachedservice_") || word.starts_with("process_")) {
            assert!(is_told(word), "{}: there is no metric {word}", document.display());
        }
    }
}

/// Fails with the documents and what is unknown in them; `unknown` says what is,
/// of a code span.
fn no_stranger(what: &str, unknown: impl Fn(&str) -> Option<String>) {
    no_stranger_in(documents(), what, unknown);
}

fn no_stranger_in(
    documents: impl IntoIterator<Item = PathBuf>,
    what: &str,
    unknown: impl Fn(&str) -> Option<String>,
) {
    let mut strangers = Vec::new();
    for document in documents {
        let text = read(&document);
        let found = code_spans(&text).filter_map(&unknown);
        strangers.extend(found.map(|name| format!("{}: {name}", document.display())));
    }
    assert!(strangers.is_empty(), "the documents name {what} that do not exist:\n{}", strangers.join("\n"));
}

fn is_path_of_fields(span: &str) -> bool {
    span.contains('.')
        && span.split('.').all(|name| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '[' || c == ']')
        })
        && !["md", "yaml", "rs", "json", "lock", "tar", "toml"]
            .iter()
            .any(|end| span.ends_with(&format!(".{end}")))
}

/// Whether a path leads to a field; below a type that takes any field, every path does.
fn is_field(schema: &Value, path: &str) -> bool {
    let mut here = schema;
    for name in path.split('.') {
        let name = name.trim_end_matches("[]");
        if here["x-kubernetes-preserve-unknown-fields"] == true || here["additionalProperties"].is_object() {
            return true;
        }
        here = if here["items"].is_object() { &here["items"] } else { here };
        here = &here["properties"][name];
        if here.is_null() {
            return false;
        }
    }
    true
}

fn is_value(values: &Value, path: &str) -> bool {
    !path.split('.').fold(values, |here, name| &here[name]).is_null()
}

fn values_of_the_chart() -> Value {
    serde_saphyr::from_str(&read(Path::new("charts/cachedservice-operator/values.yaml"))).unwrap()
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

fn add_files(folder: &Path, text: &mut String) {
    let entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in entries {
        if path.is_dir() {
            add_files(&path, text);
        } else if let Ok(content) = fs::read_to_string(&path) {
            let is_document = path.extension().is_some_and(|extension| extension == "md");
            if !is_document {
                text.push_str(&content);
            }
        }
    }
}
