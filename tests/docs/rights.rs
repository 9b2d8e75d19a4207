//! Holds the security model against the roles of the chart.

use std::{collections::BTreeSet, path::Path};

use crate::{assert_same, read, table_in};

/// API group, resource and verb.
type Right = (String, String, String);

#[test]
fn every_right_of_the_operator_is_explained_and_no_other() {
    assert_same("the rights in docs/security.md", &explained(), &granted());
}

fn explained() -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for row in table_in("docs/security.md", "rights") {
        let (resource, group) = row[0].split_once(" (").unwrap_or_else(|| panic!("no API group in {row:?}"));
        let (resource, group) = (resource.trim_matches('`'), group.trim_end_matches(')'));
        assert!(row[2].len() > 5, "{row:?} explains nothing");
        for verb in row[1].split(", ") {
            let right = (group.to_owned(), resource.to_owned(), verb.to_owned());
            assert!(rights.insert(right.clone()), "{right:?} is explained twice");
        }
    }
    rights
}

/// The rules in the template of the roles, of whichever condition of Helm.
fn granted() -> BTreeSet<Right> {
    let template = read(Path::new("charts/cachedservice-operator/templates/rbac.yaml"));
    let mut rights = BTreeSet::new();
    let (mut groups, mut resources) = (Vec::new(), Vec::new());
    for line in template.lines() {
        let line = line.trim().trim_start_matches("- ");
        let Some((key, values)) = line.split_once(": [") else { continue };
        let (values, _) = values.split_once(']').unwrap_or_else(|| panic!("one line for each list: {line}"));
        let values = values.split(", ").map(|value| value.trim_matches('"').to_owned()).collect::<Vec<_>>();
        match key {
            "apiGroups" => groups = values,
            "resources" => resources = values,
            "verbs" => {
                for group in &groups {
                    let group = if group.is_empty() { "core" } else { group };
                    for resource in &resources {
                        rights.extend(
                            values.iter().map(|verb| (group.to_owned(), resource.clone(), verb.clone())),
                        );
                    }
                }
            }
            _ => {}
        }
    }
    assert!(rights.len() > 40, "the template of the roles has only {rights:?}");
    rights
}
