//! Pieces that the schemas of several fields share.

use std::time::Duration;

use kube::core::cel::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::{
    TemplateRevision,
    names::{OWN_LABELS, OWN_PREFIX},
};

/// A CEL rule with the message that a user reads when it fails.
pub(super) fn rule(expression: &str, message: &str) -> Rule {
    Rule::new(expression).message(message)
}

/// The rule of every field that holds a duration. The numbers of digits are those
/// of a day, so that CEL can add up whatever is of this form.
pub(super) fn duration_rule(field: &str) -> Rule {
    rule(
        "self.matches('^([0-9]{1,2}h|[0-9]{1,4}m|[0-9]{1,5}s|[0-9]{1,8}ms)+$') && duration(self) <= duration('24h')",
        &format!("{field}: write a duration such as 500ms, 30s, 10m or 1h30m, at most 24h"),
    )
}

/// The same of a field that may hold up to a year.
pub(super) fn long_duration_rule(field: &str) -> Rule {
    rule(
        "self.matches('^([0-9]{1,4}h|[0-9]{1,6}m|[0-9]{1,8}s|[0-9]{1,8}ms)+$') && duration(self) <= duration('8760h')",
        &format!("{field}: write a duration such as 30s, 10m or 168h, at most 8760h"),
    )
}

/// The rule of a field that holds a number.
pub(super) fn between(field: &str, (least, most): (i32, i32)) -> Rule {
    rule(
        &format!("self >= {least} && self <= {most}"),
        &format!("{field}: write a number from {least} to {most}"),
    )
}

/// The rule of a field that holds a duration between two others.
pub(super) fn lasts(field: &str, (least, most): (&str, &str)) -> Rule {
    let form = "^([0-9]{1,2}h|[0-9]{1,4}m|[0-9]{1,5}s|[0-9]{1,8}ms)+$";
    rule(
        &format!(
            "self.matches('{form}') && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
        ),
        &format!("{field}: write a duration such as 500ms or 5s, from {least} to {most}"),
    )
}

/// The same, up to a year.
pub(super) fn lasts_long(field: &str, least: &str) -> Rule {
    let form = "^([0-9]{1,4}h|[0-9]{1,6}m|[0-9]{1,8}s|[0-9]{1,8}ms)+$";
    rule(
        &format!(
            "self.matches('{form}') && duration(self) >= duration('{least}') && duration(self) <= duration('8760h')"
        ),
        &format!("{field}: write a duration such as 30m or 24h, from {least} to 8760h"),
    )
}

/// The rule of the field that holds a template revision.
pub(super) fn revision_rule(field: &str) -> Rule {
    let newest = TemplateRevision::NEWEST.number();
    rule(
        &format!("self >= 1 && self <= {newest}"),
        &format!("{field}: write a number from 1 to {newest}, the newest template revision"),
    )
}

/// An object whose fields the API server keeps but does not know.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// Spread constraints of a pod, which the API server keeps but does not know.
pub(super) fn constraints(_: &mut SchemaGenerator) -> Schema {
    objects(16)
}

/// Tolerations of a pod, which the API server keeps but does not know.
pub(super) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    objects(64)
}

fn objects(at_most: usize) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": at_most,
        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        "x-kubernetes-list-type": "atomic",
    })
}

/// Labels of the user's.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
    })
}

/// Annotations of the user's.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string" },
    })
}

/// The rule of labels and annotations of the user's: the operator's are its own.
pub(super) fn own_keys_rule(field: &str) -> Rule {
    let own = OWN_LABELS.map(|label| format!("'{label}'")).join(", ");
    rule(
        &format!("self.all(key, !key.startsWith('{OWN_PREFIX}') && !(key in [{own}]))"),
        &format!(
            "{field}: keys that begin with {OWN_PREFIX}, and {}, are the operator's own; choose another",
            OWN_LABELS.join(", ")
        ),
    )
}

/// A number of pods, or a part of them in percent.
pub(super) fn count_or_percentage(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-int-or-string": true, "maxLength": 4 })
}

/// A map of resource names (`cpu`, `memory`, …) to quantities.
pub(super) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
        },
        "x-kubernetes-validations": [rule(
            "self.all(name, isQuantity(string(self[name])))",
            "resources: write quantities such as 250m or 1 for cpu and 256Mi or 1Gi for memory",
        )],
    })
}

/// A string is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a duration; write one such as 500ms, 30s, 10m or 1h30m")]
pub struct DurationError(String);

/// The length of a duration written as in the resource: one or more of a whole
/// number and a unit (`h`, `m`, `s`, `ms`), added up.
///
/// # Errors
/// When the text is of another form, or too long to count in milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let refuse = || DurationError(text.to_owned());
    let mut rest = text;
    let mut total = 0_u64;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let milliseconds: u64 = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(refuse()),
        };
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(milliseconds))
            .and_then(|n| n.checked_add(total))
            .ok_or_else(refuse)?;
        rest = tail;
    }
    Ok(Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_their_parts() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn a_text_that_is_no_duration_is_refused_with_examples() {
        for text in ["", "5", "s", "-1s", "1d", "1.5s", "99999999999999999999h", "1 s"] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains("30s"), "{text}: {error}");
        }
    }
}
