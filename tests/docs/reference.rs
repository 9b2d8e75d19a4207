//! The API reference, made from the definition of the resource, the names in
//! `src/api/names.rs` and the tables of README.md.

use std::{collections::BTreeSet, fmt::Write, path::Path};

use cachedservice::api::{crd, purge_crd};
use serde_json::Value;

use crate::{flow, read, table, text};

const FILE: &str = "docs/api-reference.md";

/// Fields that hold a type of Kubernetes' own, which its documentation has in
/// full; `[]` stands for each entry of a list.
const OF_KUBERNETES: [(&str, &str); 8] = [
    ("spec.autoscaling.behavior", "HorizontalPodAutoscalerBehavior (autoscaling/v2)"),
    ("spec.autoscaling.metrics[]", "MetricSpec (autoscaling/v2)"),
    ("spec.env[]", "EnvVar"),
    ("spec.envFrom[]", "EnvFromSource"),
    ("spec.imagePullSecrets[]", "LocalObjectReference"),
    ("spec.networkPolicy.*.from[]", "NetworkPolicyPeer (networking.k8s.io/v1)"),
    ("spec.probes.*.custom", "Probe"),
    ("status.conditions[]", "Condition (meta/v1)"),
];

const INTRODUCTION: &str = "\
# API reference

Every field of `CachedService` and of [`CachePurge`](#cachepurge), made from their definitions by
`make generate`. The same stands in the cluster: `kubectl explain cachedservice.spec.redis`. What a field is good for,
with examples, is in the [README](../README.md); how to run the operator in the [operations guide](operations.md).

A value outside its limits is refused by `kubectl apply`, with the words that stand here. What is a type of
Kubernetes is named and not repeated. *required* fields have to be written, once the part that they belong to is.
";

#[test]
fn the_api_reference_is_what_the_definition_says() {
    let reference = reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(FILE, &reference).unwrap();
    }
    let written = read(Path::new(FILE));
    let differs = written.lines().zip(reference.lines()).find(|(written, current)| written != current);
    assert!(written == reference, "{FILE} is out of date: run make generate; first: {differs:#?}");
}

#[test]
fn every_type_that_the_reference_leaves_to_kubernetes_is_used() {
    let mut used = BTreeSet::new();
    for part in ["spec", "status"] {
        kubernetes_types(&schema_of(part), part, &mut used);
    }
    let listed: BTreeSet<_> = OF_KUBERNETES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(used, listed);
}

fn kubernetes_types(schema: &Value, path: &str, used: &mut BTreeSet<String>) {
    if let Some((listed, _)) = OF_KUBERNETES.iter().find(|(listed, _)| is_at(listed, path)) {
        used.insert((*listed).to_owned());
    } else if !schema["items"].is_null() {
        kubernetes_types(&schema["items"], &format!("{path}[]"), used);
    } else {
        for (name, field) in properties(schema) {
            let path = format!("{path}.{name}");
            // Those of Kubernetes begin with the name of the field, ours with a capital letter.
            assert!(
                !text(&field["description"]).starts_with(|c: char| c.is_ascii_lowercase()),
                "{path} is a field of a type of Kubernetes: name that type in OF_KUBERNETES"
            );
            kubernetes_types(field, &path, used);
        }
    }
}

fn reference() -> String {
    let mut out = INTRODUCTION.to_owned();
    heading(&mut out, "##", "The kind");
    kind_of(&mut out, &serde_json::to_value(crd()).unwrap());

    heading(&mut out, "##", "What you write");
    level(&mut out, &schema_of("spec"), "spec", None);

    heading(&mut out, "##", "What the operator reports");
    level(&mut out, &schema_of("status"), "status", None);
    heading(&mut out, "###", "Conditions");
    out.push_str("\nThe [README](../README.md#troubleshooting-by-reason) has what each reason means and what to do.\n\n");
    repeated(&mut out, "conditions", ["condition", "True when"]);
    heading(&mut out, "###", "Columns of kubectl get");
    out.push('\n');
    repeated(&mut out, "columns", ["column", "meaning"]);
    heading(&mut out, "###", "Events");
    out.push('\n');
    repeated(&mut out, "events", ["event", "meaning"]);

    purges(&mut out);
    heading(&mut out, "##", "Labels and annotations");
    out.push('\n');
    row(&mut out, &["name", "meaning"]);
    row(&mut out, &["---", "---"]);
    for (name, meaning) in labels_and_annotations() {
        row(&mut out, &[&code(&name), &meaning]);
    }
    out
}

/// What a definition says of its kind as a whole.
fn kind_of(out: &mut String, crd: &Value) {
    let names = &crd["spec"]["names"];
    let version = &crd["spec"]["versions"][0];
    out.push('\n');
    row(out, &["", ""]);
    row(out, &["---", "---"]);
    row(out, &["API version", &code(&format!("{}/{}", text(&crd["spec"]["group"]), text(&version["name"])))]);
    row(out, &["kind", &code(text(&names["kind"]))]);
    row(
        out,
        &["names for kubectl", &format!("{}, {}", code(text(&names["plural"])), list(&names["shortNames"]))],
    );
    row(out, &["subresources", &subresources(version)]);
    row(out, &["scope", text(&crd["spec"]["scope"])]);
    rules(out, &version["schema"]["openAPIV3Schema"]);
}

fn purges(out: &mut String) {
    heading(out, "##", "CachePurge");
    out.push_str("\nAn order to forget what is cached. The [README](../README.md#purging-the-cache) has examples, reasons and events.\n");
    let crd = serde_json::to_value(purge_crd()).unwrap();
    kind_of(out, &crd);
    let fields = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    for part in ["spec", "status"] {
        level(out, &fields[part], part, None);
    }
}

/// One object: what it is, its fields, the rules that its fields obey together,
/// and then the objects in it.
fn level(out: &mut String, schema: &Value, path: &str, default: Option<&Value>) {
    heading(out, "###", path);
    let description = in_one_line(schema);
    // What the kind is stands above; a list's entry is described at the list.
    if !description.is_empty() {
        write!(out, "\n{description}\n").unwrap();
    }
    out.push('\n');
    row(out, &["field", "type", "default", "limits", "meaning"]);
    row(out, &["---", "---", "---", "---", "---"]);
    let mut inner = Vec::new();
    for (name, field) in properties(schema) {
        let path = format!("{path}.{name}");
        let default = field.get("default").or_else(|| default?.get(name));
        let required = schema["required"].as_array().into_iter().flatten().any(|required| required == name);
        let default_cell = match default {
            _ if is_expanded(field, &path) && !required => String::new(),
            Some(default) => code(&flow(default)),
            None if required => "*required*".to_owned(),
            None => String::new(),
        };
        let (kind, expanded) = kind(field, &path);
        row(out, &[&code(name), &kind, &default_cell, &limits(field, &path), &in_one_line(field)]);
        inner.extend(expanded.map(|(schema, path)| (schema, path, default)));
    }
    rules(out, schema);
    for (schema, path, default) in inner {
        level(out, schema, &path, default);
    }
}

fn is_expanded(schema: &Value, path: &str) -> bool {
    kind(schema, path).1.is_some()
}

/// What a field holds, in words, and the object behind it that has a table of its own.
fn kind<'a>(schema: &'a Value, path: &str) -> (String, Option<(&'a Value, String)>) {
    if let Some((_, kind)) = OF_KUBERNETES.iter().find(|(listed, _)| is_at(listed, path)) {
        return ((*kind).to_owned(), None);
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return ("integer or string".to_owned(), None);
    }
    match text(&schema["type"]) {
        "array" => {
            let (kind, expanded) = kind_of_entry(schema, path);
            (format!("list of {kind}"), expanded)
        }
        "object" if !properties(schema).is_empty() => {
            (format!("[object](#{})", crate::slug(path)), Some((schema, path.to_owned())))
        }
        "object" if schema["additionalProperties"].is_object() => {
            let (kind, _) = kind(&schema["additionalProperties"], &format!("{path}.*"));
            (format!("map of {kind}"), None)
        }
        "object" => ("object of any form".to_owned(), None),
        plain => (plain.to_owned(), None),
    }
}

fn kind_of_entry<'a>(schema: &'a Value, path: &str) -> (String, Option<(&'a Value, String)>) {
    kind(&schema["items"], &format!("{path}[]"))
}

/// What a value has to keep to: the bounds of the schema, and its own rules in words.
fn limits(schema: &Value, path: &str) -> String {
    let mut limits = Vec::new();
    let number = |key: &str| schema[key].as_u64();
    match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) => limits.push(format!("{least} to {most}")),
        (Some(least), None) => limits.push(format!("at least {least}")),
        (None, Some(most)) => limits.push(format!("at most {most}")),
        (None, None) => {}
    }
    for (key, unit) in [("maxLength", "characters"), ("maxItems", "entries"), ("maxProperties", "entries")] {
        limits.extend(number(key).map(|most| format!("at most {most} {unit}")));
    }
    for (key, unit) in [("minLength", "characters"), ("minItems", "entries")] {
        limits.extend(number(key).filter(|least| *least > 1).map(|least| format!("at least {least} {unit}")));
        limits.extend(number(key).filter(|least| *least == 1).map(|_| "not empty".to_owned()));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        limits.push(format!("of the form {}", code(pattern)));
    }
    if !schema["enum"].is_null() {
        limits.push(format!("one of {}", list(&schema["enum"])));
    }
    // Those of an object stand below its own table.
    if !is_expanded(schema, path) {
        for message in messages(schema) {
            // Where the field stands, the reader sees.
            let short = match message.split_once(": ") {
                Some((field, rest)) if path == field || path.split('.').any(|part| part == field) => rest,
                _ => message,
            };
            if !limits.iter().any(|limit| limit == short) {
                limits.push(short.to_owned());
            }
        }
    }
    limits.join("; ")
}

fn subresources(version: &Value) -> String {
    let names = version["subresources"].as_object().into_iter().flatten().map(|(name, _)| code(name));
    names.collect::<Vec<_>>().join(", ")
}

/// The rules of an object, in the words that a user reads when one is broken.
fn rules(out: &mut String, schema: &Value) {
    let messages: BTreeSet<&str> = messages(schema).collect();
    if !messages.is_empty() {
        out.push_str("\nRules:\n\n");
        for message in messages {
            writeln!(out, "- {message}").unwrap();
        }
    }
}

fn messages(schema: &Value) -> impl Iterator<Item = &str> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.map(|rule| rule["message"].as_str().expect("every rule has a message"))
}

/// A table of README.md, which other tests hold against the code.
fn repeated(out: &mut String, name: &str, head: [&str; 2]) {
    row(out, &head);
    row(out, &["---", "---"]);
    for cells in table(name) {
        row(out, &[&cells[0], &cells[1].replace("](docs/", "](").replace("](#", "](../README.md#")]);
    }
}

/// The labels and annotations of `src/api/names.rs`, with what their comments say.
fn labels_and_annotations() -> Vec<(String, String)> {
    let source = read(Path::new("src/api/names.rs"));
    let mut values = Vec::new();
    let mut comment = String::new();
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            comment = format!("{comment} {text}");
        } else if let Some(definition) = line.strip_prefix("pub const ") {
            let (name, _) = definition.split_once(':').unwrap();
            let value = definition.split('"').nth(1).unwrap_or_default();
            values.push((name.to_owned(), value.to_owned(), std::mem::take(&mut comment)));
        } else {
            comment.clear();
        }
    }
    let linked = |text: &str| {
        values.iter().fold(text.to_owned(), |text, (name, value, _)| {
            text.replace(&format!("[`{name}`]"), &code(value))
        })
    };
    let is_listed = |name: &str| name.ends_with("_LABEL") || name.ends_with("_ANNOTATION");
    let listed = values.iter().filter(|(name, ..)| is_listed(name));
    listed.map(|(_, value, comment)| (value.clone(), linked(comment.trim()))).collect()
}

fn schema_of(part: &str) -> Value {
    crate::crd_value(&format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}"))
}

/// Whether a path is one of those that a listed path stands for; `*` is any name.
fn is_at(listed: &str, path: &str) -> bool {
    let (listed, path) = (listed.split('.'), path.split('.'));
    listed.clone().count() == path.clone().count() && listed.zip(path).all(|(a, b)| a == "*" || a == b)
}

fn properties(schema: &Value) -> Vec<(&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten().collect()
}

fn in_one_line(schema: &Value) -> String {
    text(&schema["description"]).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn list(values: &Value) -> String {
    let values = values.as_array().into_iter().flatten();
    values.map(|value| code(&flow(value))).collect::<Vec<_>>().join(", ")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn heading(out: &mut String, level: &str, text: &str) {
    write!(out, "\n{level} {text}\n").unwrap();
}

fn row(out: &mut String, cells: &[&str]) {
    out.push('|');
    for cell in cells {
        let cell = cell.replace('|', "\\|");
        let gap = if cell.is_empty() { "" } else { " " };
        write!(out, "{gap}{cell} |").unwrap();
    }
    out.push('\n');
}
