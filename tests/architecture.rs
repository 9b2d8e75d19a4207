//! What the layout of the code promises: pure parts stay pure, dependencies point
//! one way, names stand once, and files stay small.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the pure parts of the operator stand: no client, no clock, no tokio.
const PURE: [&str; 40] = [
    "operator/plan",
    "operator/children",
    "operator/ownership",
    "operator/digest",
    "operator/sidecars/pods",
    "operator/sidecars/reading",
    "operator/status",
    "operator/tally",
    "operator/trouble",
    "operator/readable",
    "operator/apply/desired",
    "operator/apply/ports",
    "operator/purges/answer",
    "operator/purges/record",
    "operator/purges/pods",
    "operator/purges/progress",
    "api/",
    "settings",
    "sidecar/breaker",
    "sidecar/cache",
    "sidecar/near_cache/coherence",
    "sidecar/near_cache/commands",
    "sidecar/near_cache/lasting",
    "sidecar/near_cache/nothing",
    "sidecar/near_cache/rules",
    "sidecar/near_cache/store",
    "sidecar/near_cache/tracking/awaited",
    "sidecar/purge_order",
    "sidecar/redis/codec",
    "sidecar/redis/names",
    "sidecar/redis/record",
    "sidecar/readings",
    "sidecar/resp",
    "sidecar/rules",
    "sidecar/upstream/budget",
    "sidecar/upstream/choice",
    "sidecar/upstream/health",
    "sidecar/upstream/identity",
    "sidecar/upstream/pulse",
    "sidecar/upstream/retries",
];
/// The one file among them that writes.
const EFFECTS: &str = "operator/status/publish.rs";

/// What only effects need.
const IMPURE: [&str; 14] = [
    ".await",
    "async fn",
    "kube::Client",
    "kube::Api",
    " Client",
    "Api<",
    "Api::",
    "tokio",
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "std::env",
    "std::fs",
    "std::net",
];

/// A file of `src`, without its comments and its tests.
struct Source {
    path: String,
    code: String,
}

fn sources() -> Vec<Source> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let sources: Vec<Source> = files
        .into_iter()
        .map(|file| Source {
            path: file.strip_prefix(&root).unwrap().to_string_lossy().into_owned(),
            code: code(&fs::read_to_string(&file).unwrap()),
        })
        .filter(|source| !is_test(&source.path))
        .collect();
    assert!(sources.len() > 50, "{} sources", sources.len());
    sources
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path == "operator/sample.rs"
}

fn code(text: &str) -> String {
    let without_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    without_tests.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn is_pure(path: &str) -> bool {
    path != EFFECTS && PURE.iter().any(|start| path.starts_with(start))
}

#[test]
fn pure_parts_use_no_client_no_clock_and_no_tokio() {
    let pure: Vec<Source> = sources().into_iter().filter(|source| is_pure(&source.path)).collect();
    for start in PURE {
        assert!(pure.iter().any(|source| source.path.starts_with(start)), "{start} is gone");
    }
    for Source { path, code } in pure {
        for word in IMPURE {
            assert!(!code.contains(word), "src/{path} is pure, and mentions {word:?}");
        }
    }
}

#[test]
fn chance_enters_a_plan_only_by_what_was_observed() {
    for Source { path, code } in sources() {
        let makes_secrets =
            ["operator/plan/credentials.rs", "operator/plan/digest_key.rs", "operator/plan/token.rs"];
        if is_pure(&path) && !makes_secrets.contains(&path.as_str()) {
            assert!(!code.contains("rand::"), "src/{path}");
        }
        if path != "operator/observe.rs" {
            for random in ["Credentials::random", "DigestKey::random", "SidecarToken::random"] {
                assert!(!code.contains(random), "src/{path}");
            }
        }
    }
}

#[test]
fn the_resource_knows_nothing_of_the_operator() {
    for Source { path, code } in sources() {
        if path.starts_with("api/") {
            assert!(!code.contains("operator::") && !code.contains("telemetry"), "src/{path}");
        }
        if path.starts_with("telemetry") {
            assert!(!code.contains("crate::operator") && !code.contains("crate::api"), "src/{path}");
        }
    }
}

#[test]
fn names_that_others_see_stand_once() {
    for Source { path, code } in sources() {
        if path != "api/names.rs" {
            for name in [
                "\"cachedservice.dev/",
                "\"app.kubernetes.io/component",
                "6379",
                "9800",
                "9801",
                "\"REDIS_URL\"",
                "CACHEDSERVICE_ADMIN_URL",
            ] {
                assert!(!code.contains(name), "src/{path} has a {name} of its own");
            }
        }
    }
}

#[test]
fn children_are_taken_apart_without_a_rest() {
    let mut taken_apart = 0;
    for Source { path, code } in sources() {
        for pattern in code.split("let Children {").skip(1) {
            taken_apart += 1;
            let fields = pattern.split('}').next().unwrap();
            assert!(!fields.contains(".."), "src/{path} leaves children out");
        }
    }
    assert!(taken_apart > 0);
}

#[test]
fn files_are_small_enough_to_read() {
    for Source { path, code } in sources() {
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= 400, "src/{path} has {lines} lines of code: it is two files");
    }
}
