//! Why a URL is answered from the cache or not, in the words of a sidecar.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use http::Uri;
use kube::Client;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    CommandError,
    children::children,
    sidecars::{ask_all, has_sidecar, token},
};

/// A request to be explained.
#[derive(Clone, Debug)]
pub struct Question {
    url: Uri,
    method: String,
    headers: Vec<String>,
}

/// What the sidecars tell of a request.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The URL.
    pub url: String,
    /// What each replica tells, or why it does not.
    pub replicas: BTreeMap<String, Value>,
}

impl Question {
    /// Of a URL with scheme and host, and fields as `NAME: VALUE`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(url: &str, method: &str, headers: &[String]) -> Result<Self, CommandError> {
        let wrong = || {
            CommandError::Wrong(format!(
                "{url} is no URL of the service; write it as clients send it, such as http://shop.example.com/a?b=c"
            ))
        };
        let parsed: Uri = url.parse().map_err(|_| wrong())?;
        if parsed.host().is_none() || !matches!(parsed.scheme_str(), Some("http" | "https")) {
            return Err(wrong());
        }
        if let Some(field) = headers.iter().find(|field| !field.contains(':')) {
            return Err(CommandError::Wrong(format!(
                "{field} is no field of a request; write 'NAME: VALUE'"
            )));
        }
        Ok(Self { url: parsed, method: method.to_owned(), headers: headers.to_vec() })
    }

    /// As the sidecar's admin port is asked.
    fn path(&self) -> String {
        let mut path =
            format!("/explain?url={}&method={}", escaped(&self.url.to_string()), escaped(&self.method));
        for header in &self.headers {
            path.push_str("&header=");
            path.push_str(&escaped(header));
        }
        path
    }
}

/// A text in a query (RFC 3986 §2.1).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// Asks every sidecar of a CachedService.
///
/// # Errors
/// When there is none, or none that may be asked.
pub async fn explanation(
    client: &Client,
    namespace: &str,
    name: &str,
    question: &Question,
) -> Result<Explanation, CommandError> {
    let children = children(client, namespace, name).await?;
    if !children.pods.iter().any(has_sidecar) {
        return Err(CommandError::Wrong(format!(
            "no pod of {name} has a sidecar that runs: nothing is cached; write spec.cache.http to have it cached"
        )));
    }
    let token = token(client, namespace, name).await?;
    let told = ask_all(client, namespace, &children.pods, &question.path(), &token).await;
    let replicas =
        told.into_iter().map(|(pod, told)| (pod, told.unwrap_or_else(|why| unanswered(&why)))).collect();
    Ok(Explanation { url: question.url.to_string(), replicas })
}

impl Explanation {
    /// Whether any sidecar has answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.replicas.values().any(|told| trouble(told).is_none())
    }
}

/// What stands for a sidecar that does not answer.
fn unanswered(why: &str) -> Value {
    json!({ "error": why })
}

fn trouble(told: &Value) -> Option<&str> {
    told["error"].as_str()
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.url)?;
        for (pod, told) in &self.replicas {
            writeln!(f, "{pod}")?;
            match trouble(told) {
                Some(trouble) => writeln!(f, "  {trouble}")?,
                None => write!(f, "{}", of_replica(told))?,
            }
        }
        if !self.is_answered() {
            writeln!(
                f,
                "no sidecar has answered; it takes the rights to get secrets, and to get and create pods/portforward, in the namespace"
            )?;
        }
        Ok(())
    }
}

/// What one replica tells, for people. Of a later release it may tell more, which is left to `-o json`.
fn of_replica(told: &Value) -> String {
    let mut lines = String::new();
    let mut line = |text: &str| {
        lines.push_str("  ");
        lines.push_str(text);
        lines.push('\n');
    };
    line(text(&told["cacheStatus"]));
    for because in told["because"].as_array().into_iter().flatten() {
        line(text(because));
    }
    match &told["rule"] {
        Value::Object(rule) => {
            line(&format!("rule {}: {}", shown(rule.get("number")), shown(rule.get("says"))));
        }
        _ => line("no rule holds for it"),
    }
    if let Some(key) = told["key"].as_str() {
        line(&format!("key: {key}"));
    }
    for (name, level) in [("memory", &told["memory"]), ("Redis", &told["redis"])] {
        if let Some(state) = level["state"].as_str() {
            line(&format!("{name}: {state}"));
        }
        if let Value::Object(response) = &level["response"] {
            let parts = response.iter().filter(|(_, value)| !is_empty(value));
            let parts: Vec<String> =
                parts.map(|(name, value)| format!("{name} {}", shown(Some(value)))).collect();
            line(&format!("  {}", parts.join(", ")));
        }
    }
    lines
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(|part| shown(Some(part))).collect::<Vec<_>>().join(" "),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn is_empty(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false)) || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_question_is_asked_with_its_parts_escaped() {
        let fields = ["Accept: text/html".to_owned()];
        let question = Question::parse("http://shop/a?b=c&d", "GET", &fields).unwrap();
        assert_eq!(
            question.path(),
            "/explain?url=http%3A%2F%2Fshop%2Fa%3Fb%3Dc%26d&method=GET&header=Accept%3A%20text%2Fhtml"
        );
    }

    #[test]
    fn what_is_no_url_or_no_field_is_refused_with_what_to_write() {
        let refused = |url: &str, headers: &[&str]| {
            let headers: Vec<String> = headers.iter().map(|&header| header.to_owned()).collect();
            Question::parse(url, "GET", &headers).unwrap_err().to_string()
        };
        for url in ["/a", "ftp://shop/", "shop", ""] {
            assert!(refused(url, &[]).contains("such as http://"), "{url}");
        }
        assert!(refused("http://shop/", &["Accept"]).contains("write 'NAME: VALUE'"));
    }

    #[test]
    fn what_the_replicas_tell_is_shown_one_below_the_other() {
        let told = json!({
            "cacheStatus": "CachedService; hit; ttl=50; detail=L1",
            "because": ["it is fresh for 50 s more, by max-age=60 in Cache-Control"],
            "rule": { "number": 2, "says": { "paths": ["/a*"], "ttl": 60 } },
            "key": "http://shop/a",
            "memory": {
                "state": "stored",
                "response": { "status": 200, "tags": ["t", "u"], "variesBy": [], "purgedSoftly": false },
            },
            "redis": { "state": "nothing", "response": null },
        });
        let replicas = BTreeMap::from([
            ("shop-1".to_owned(), told),
            ("shop-2".to_owned(), unanswered("no answer within 5 s")),
        ]);
        let shown = Explanation { url: "http://shop/a".to_owned(), replicas }.to_string();
        let expected = "\
http://shop/a
shop-1
  CachedService; hit; ttl=50; detail=L1
  it is fresh for 50 s more, by max-age=60 in Cache-Control
  rule 2: {\"paths\":[\"/a*\"],\"ttl\":60}
  key: http://shop/a
  memory: stored
    status 200, tags t u
  Redis: nothing
shop-2
  no answer within 5 s
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_replica_that_does_not_answer_is_told_from_one_that_does() {
        let explained = |replicas: &[(&str, Value)]| Explanation {
            url: "http://shop/a".to_owned(),
            replicas: replicas.iter().map(|(pod, told)| ((*pod).to_owned(), told.clone())).collect(),
        };
        let silent = ("shop-1", unanswered("403 Forbidden"));
        let none = explained(&[silent.clone()]);
        assert!(!none.is_answered());
        assert!(none.to_string().contains("get and create pods/portforward"), "{none}");
        assert_eq!(json!(none)["replicas"]["shop-1"], json!({ "error": "403 Forbidden" }));
        let one = explained(&[silent, ("shop-2", json!({ "cacheStatus": "CachedService; fwd=miss" }))]);
        assert!(one.is_answered());
        assert!(!one.to_string().contains("portforward"), "{one}");
    }
}
