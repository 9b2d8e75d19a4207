//! Alerts, dashboard and runbooks: what they ask for exists, and no alert is
//! without a runbook.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use crate::{assert_same, code_spans, exposition, name_of_series, read, slug, table_in};

const ALERTS: &str = "charts/cachedservice-operator/files/alerts.yaml";
const DASHBOARD: &str = "charts/cachedservice-operator/files/dashboard.json";

/// Every text of this name in a document.
fn texts<'a>(value: &'a Value, name: &str) -> Vec<&'a str> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(key, value)| match value.as_str() {
                Some(text) if key == name => vec![text],
                _ => texts(value, name),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(|item| texts(item, name)).collect(),
        _ => Vec::new(),
    }
}

fn alerts() -> Value {
    serde_saphyr::from_str(&read(Path::new(ALERTS))).unwrap()
}

/// What kube-state-metrics and cAdvisor tell, as their documentation has it.
const OF_OTHERS: [&str; 9] = [
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "kube_deployment_spec_replicas",
    "kube_deployment_status_replicas_ready",
    "kube_horizontalpodautoscaler_spec_max_replicas",
    "kube_horizontalpodautoscaler_spec_min_replicas",
    "kube_pod_container_resource_limits",
    "kube_pod_container_resource_requests",
    "kube_pod_container_status_restarts_total",
];

/// Prometheus gives them to whatever it reads.
const LABELS_OF_TARGETS: [&str; 3] = ["namespace", "pod", "le"];

#[test]
fn alerts_and_dashboard_ask_for_metrics_and_labels_that_exist() {
    let (metrics, of_sidecars) = (metrics(), metrics_of_sidecars());
    let (alerts, dashboard) = (alerts(), serde_json::from_str(&read(Path::new(DASHBOARD))).unwrap());
    let mut asked: Vec<&str> = texts(&alerts, "expr");
    asked.extend(texts(&dashboard, "expr"));
    asked.extend(texts(&dashboard, "definition"));
    let mut used = BTreeSet::new();
    for expression in asked {
        let selected: Vec<_> = selectors(expression).collect();
        assert!(!selected.is_empty() || expression.starts_with("label_values("), "{expression}");
        for (name, labels) in selected {
            if OF_OTHERS.contains(&name) {
                continue;
            }
            let parts = ["_bucket", "_count", "_sum"];
            let family = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            let known = metrics.get(family).or_else(|| of_sidecars.get(family));
            let known = known.unwrap_or_else(|| panic!("there is no {name}: {expression}"));
            for label in labels.iter().filter(|label| !LABELS_OF_TARGETS.contains(&label.as_str())) {
                assert!(known.contains(label), "{name} has no label {label}: {expression}");
            }
            if metrics.contains_key(family) {
                used.insert(family.to_owned());
            }
        }
    }
    assert_same("the metrics in the dashboard and the alerts", &used, &metrics.into_keys().collect());
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts = alerts();
    let names: BTreeSet<_> = texts(&alerts, "alert").into_iter().map(str::to_owned).collect();
    let links: BTreeSet<_> = texts(&alerts, "runbook_url").into_iter().map(str::to_owned).collect();
    assert_same(
        "the links of the alerts",
        &links,
        &names.iter().map(|name| format!("$runbooks#{}", slug(name))).collect(),
    );
    let runbooks = read(Path::new("docs/runbooks.md"));
    let entries: Vec<_> = runbooks.split("\n### ").skip(1).collect();
    for entry in &entries {
        for part in ["Meaning", "Impact", "Diagnosis", "Remedy"] {
            assert!(entry.contains(&format!("\n- **{part}:**")), "no {part}: {entry}");
        }
    }
    let documented = entries.iter().map(|entry| entry.lines().next().unwrap().to_owned()).collect();
    assert_same("the runbooks", &documented, &names);
}

/// The metrics by their names, each with the names of its labels.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let exposition = exposition();
    let families = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let labels = |family: &str| {
        let series = exposition.lines().filter(|line| line.starts_with(family));
        series.flat_map(|line| selectors(line).flat_map(|(_, labels)| labels)).collect()
    };
    families.map(|line| (name_of_series(line), labels(line.split(' ').next().unwrap()))).collect()
}

/// Those of the sidecars, which their own tests hold to the table.
pub fn metrics_of_sidecars() -> BTreeMap<String, BTreeSet<String>> {
    let spans = |cell: &str| code_spans(cell).map(str::to_owned).collect::<Vec<_>>();
    let rows = table_in("docs/operations.md", "sidecar metrics");
    let metrics: BTreeMap<_, BTreeSet<_>> = rows
        .iter()
        .flat_map(|row| spans(&row[0]).into_iter().map(|name| (name, spans(&row[1]).into_iter().collect())))
        .collect();
    assert!(metrics.len() > 20, "{metrics:?}");
    metrics
}

/// What a text selects in the way of Prometheus: the name of each metric, with the names of the
/// labels in the braces behind it.
fn selectors(text: &str) -> impl Iterator<Item = (&str, Vec<String>)> {
    text.split_inclusive('{')
        .scan(0, |at, part| Some((std::mem::replace(at, *at + part.len()), part)))
        .filter_map(|(at, part)| {
            let name = part.strip_suffix('{')?;
            let name =
                &name[name.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |end| end + 1)..];
            let (labels, _) = text[at + part.len()..].split_once('}')?;
            // A value may hold a comma, but no label's name is followed by anything but a comparison.
            let names = labels
                .split(',')
                .filter_map(|label| label.split_once(['=', '!']))
                .map(|(name, _)| name.to_owned());
            (!name.is_empty()).then(|| (name, names.collect()))
        })
}
