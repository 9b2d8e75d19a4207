//! What the chart lets the operator do, and what the audit logs say that it did.

use std::{collections::BTreeSet, fs, path::PathBuf};

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use serde_json::Value;

use super::{AuditEntry, audit::entries, cluster::state_folder, installation::rendered};

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    group: String,
    /// The plural, with the subresource.
    resource: String,
    verb: String,
}

impl Right {
    pub fn new(group: &str, resource: &str, verb: &str) -> Self {
        Self { group: group.to_owned(), resource: resource.to_owned(), verb: verb.to_owned() }
    }

    /// Whether it is the right to list, where there is that to watch as well.
    pub fn begins_a_watch(&self, granted: &BTreeSet<Self>) -> bool {
        self.verb == "list" && granted.contains(&Self::new(&self.group, &self.resource, "watch"))
    }
}

/// All rights in the roles that the chart makes for the operator.
pub fn granted_by_the_chart() -> BTreeSet<Right> {
    let yaml = rendered("default");
    let documents = serde_saphyr::from_multiple::<Value>(&yaml).expect("YAML");
    let roles = documents.into_iter().filter(|document| document["kind"] == "Role");
    let rules = roles.flat_map(|role| serde_json::from_value::<Role>(role).expect("a Role").rules);
    rules.flatten().flat_map(|rule| rights(&rule)).collect()
}

fn rights(rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            rights.extend(rule.verbs.iter().map(|verb| Right::new(group, resource, verb)));
        }
    }
    rights
}

/// The audit log of a cluster.
pub struct AuditLog {
    pub cluster: String,
    path: PathBuf,
}

/// Those of all clusters that are there.
pub fn audit_logs() -> Vec<AuditLog> {
    let Ok(clusters) = fs::read_dir(state_folder()) else { return Vec::new() };
    let clusters = clusters.map(|cluster| cluster.expect("a folder"));
    let logs = clusters.map(|cluster| AuditLog {
        cluster: cluster.file_name().to_string_lossy().into_owned(),
        path: cluster.path().join("audit.log"),
    });
    logs.filter(|log| log.path.exists()).collect()
}

impl AuditLog {
    /// The requests of operators to resources, by their user agent.
    pub fn of_the_operator(&self) -> Vec<AuditEntry> {
        let text = fs::read_to_string(&self.path).expect("an audit log");
        entries(&text).filter(|entry| entry.is_of_the_operator() && !entry.resource().is_empty()).collect()
    }
}

impl AuditEntry {
    /// The rights that it needed. An apply that made the object is a creation too.
    pub fn rights(&self) -> Vec<Right> {
        let (group, resource) = self.group_and_resource();
        let right = |verb: &str| Right::new(&group, &resource, verb);
        let made = self.verb == "patch" && self.code() == 201;
        let mut rights = vec![right(&self.verb)];
        rights.extend(made.then(|| right("create")));
        rights
    }
}
