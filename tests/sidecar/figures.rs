//! What the sidecar counts and writes down of requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cachedservice::sidecar::{health::Health, metrics};
use http::{Method, Response};
use serde_json::{Value, json};

use crate::{
    application::{Got, HANG_UP, Pod, run_application, settings},
    process::Process,
};

/// Answers as the target says.
fn page(got: &Got) -> Response<Bytes> {
    let response = Response::builder();
    let response = match got.target.as_str() {
        "/short" if got.headers.contains_key("if-none-match") => response.status(304),
        "/short" => response.header("cache-control", "max-age=0").header("etag", "\"1\""),
        "/private" => response.header("cache-control", "private"),
        "/large" => response.header("cache-control", "max-age=60"),
        "/gone" => response.header(HANG_UP, "now"),
        // It claims what it is not.
        "/claims" => response
            .header("cache-control", "no-store")
            .header("cache-status", "CachedService; hit; ttl=9; detail=L1"),
        _ => response.header("cache-control", "max-age=60"),
    };
    let length = if got.target == "/large" { 1 << 17 } else { 10 };
    let length = if got.headers.contains_key("if-none-match") { 0 } else { length };
    response.body(Bytes::from(vec![b'x'; length])).unwrap()
}

/// The series of an exposition by their names and labels.
pub fn series(exposition: &str) -> BTreeMap<String, f64> {
    assert!(exposition.ends_with("# EOF\n"), "{exposition}");
    let mut series = BTreeMap::new();
    let mut family = "";
    for line in exposition.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some(told) = comment.strip_prefix("TYPE ") {
                family = told.split(' ').next().unwrap();
            }
            continue;
        }
        assert!(line.starts_with(family), "{line} is not of {family}");
        assert!(!line.contains("{}"), "{line}");
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(series.insert(name.to_owned(), value), None, "{name} is there twice");
    }
    series
}

fn counted(pod: &Pod) -> BTreeMap<String, f64> {
    series(&metrics::encode(&pod.front, None, &Health::new()).unwrap())
}

fn is_process(name: &str) -> bool {
    name.starts_with("process_")
}

/// What differs from before, without the times.
fn changes(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let is_time = |name: &str| is_process(name) || name.contains("first_byte");
    let changed = after.iter().filter(|(name, value)| before.get(*name) != Some(*value) && !is_time(name));
    changed.map(|(name, value)| (name.replace("cachedservice_sidecar_", ""), *value)).collect()
}

/// Of the requests alone.
async fn requests_after(asked: &[(Method, &str)]) -> Vec<(String, f64)> {
    let pod = Pod::start(settings(), page).await;
    let before = counted(&pod);
    for (method, target) in asked {
        pod.ask(method.clone(), target, &[], "").await;
    }
    let changed = changes(&before, &counted(&pod));
    changed.into_iter().filter(|(name, _)| name.starts_with("requests_total")).collect()
}

fn expected(of: &[(&str, &str, u32)]) -> Vec<(String, f64)> {
    let line = |(result, detail, count): &(&str, &str, u32)| {
        (format!("requests_total{{result=\"{result}\",detail=\"{detail}\"}}"), f64::from(*count))
    };
    of.iter().map(line).collect()
}

#[tokio::test]
async fn requests_are_counted_by_what_came_of_them() {
    let asked = [
        (Method::GET, "/a"),
        (Method::GET, "/a"),
        (Method::HEAD, "/a"),
        (Method::GET, "/short"),
        (Method::GET, "/short"),
        (Method::POST, "/b"),
        (Method::GET, "/gone"),
        (Method::TRACE, "/a"),
        (Method::GET, "/claims"),
    ];
    let expected = expected(&[
        ("failed", "none", 1),
        ("hit", "L1", 2),
        ("miss", "uri-miss", 3),
        ("pass", "method", 1),
        ("refused", "none", 1),
        ("revalidated", "stale", 1),
    ]);
    assert_eq!(requests_after(&asked).await, expected);
}

#[tokio::test]
async fn what_is_not_stored_is_counted_by_its_reason() {
    let pod = Pod::start(settings(), page).await;
    let before = counted(&pod);
    for target in ["/private", "/private", "/claims", "/large"] {
        pod.get(target, &[]).await;
    }
    let changed = changes(&before, &counted(&pod));
    let reason = |reason: &str| changed.get(&format!("not_stored_total{{reason=\"{reason}\"}}")).copied();
    let reasons = ["private", "no-store", "too-large", "status"].map(reason);
    assert_eq!(reasons, [Some(2.0), Some(1.0), Some(1.0), None]);
}

#[tokio::test]
async fn bytes_are_counted_by_where_they_come_from() {
    let pod = Pod::start(settings(), page).await;
    for _ in 0..3 {
        pod.get("/a", &[]).await;
    }
    let refused = pod.ask(Method::TRACE, "/a", &[], "").await.body.len();
    // The last piece is with the client before it is counted.
    let began = Instant::now();
    loop {
        let series = counted(&pod);
        let sent = ["cache", "application", "sidecar"]
            .map(|source| series[&format!("cachedservice_sidecar_sent_bytes_total{{source=\"{source}\"}}")]);
        #[allow(clippy::cast_precision_loss)]
        if sent == [20.0, 10.0, refused as f64] {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{sent:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn times_are_apart_for_hits_and_misses() {
    let pod = Pod::start(settings(), page).await;
    for _ in 0..3 {
        pod.get("/a", &[]).await;
    }
    pod.ask(Method::POST, "/a", &[], "").await;
    let series = counted(&pod);
    let of = |part: &str, result: &str| {
        series[&format!("cachedservice_sidecar_first_byte_seconds_{part}{{result=\"{result}\"}}")]
    };
    assert_eq!(["hit", "miss", "pass"].map(|result| of("count", result)), [2.0, 1.0, 1.0]);
    assert!(of("sum", "hit") > 0.0 && of("sum", "miss") > 0.0);
    for result in ["hit", "miss", "pass"] {
        let last =
            format!("cachedservice_sidecar_first_byte_seconds_bucket{{le=\"+Inf\",result=\"{result}\"}}");
        assert_eq!(series[&last], of("count", result));
    }
}

#[tokio::test]
async fn memory_purges_connections_and_replicas_are_told() {
    let pod = Pod::start(settings(), page).await;
    pod.get("/a", &[]).await;
    pod.ask(Method::POST, "/b", &[], "").await;
    let series = counted(&pod);
    let of = |name: &str| {
        *series.get(&format!("cachedservice_sidecar_{name}")).unwrap_or_else(|| panic!("{name}: {series:?}"))
    };
    assert_eq!(of("memory_entries"), 1.0);
    assert!(of("memory_bytes{kind=\"used\"}") > 0.0);
    assert!(of("memory_bytes{kind=\"limit\"}") >= f64::from(1 << 20));
    // What is of http and of https.
    assert_eq!(of("purges_total{target=\"key\"}"), 2.0);
    assert!(of("connections") >= 1.0, "the client keeps its connection");
    let replica = pod.front.origin().figures()[0].address;
    let of_replica = |name: &str| of(&format!("{name}{{replica=\"{replica}\"}}"));
    assert_eq!(of_replica("upstream_requests_total"), 2.0);
    assert_eq!((of_replica("upstream_healthy"), of_replica("upstream_breaker")), (1.0, 0.0));
    for number in 0..3000 {
        pod.get(&format!("/{number}"), &[]).await;
    }
    assert!(counted(&pod)["cachedservice_sidecar_memory_evictions_total"] > 0.0);
}

#[tokio::test]
async fn no_request_makes_a_series() {
    let pod = Pod::start(settings(), page).await;
    let names = |series: BTreeMap<String, f64>| series.into_keys().collect::<BTreeSet<_>>();
    let before = names(counted(&pod));
    for target in ["/a", "/a", "/private", "/gone", "/short", "/short"] {
        pod.get(target, &[("host", "another"), ("user-agent", target)]).await;
        pod.ask(Method::from_bytes(b"ODD").unwrap(), target, &[], "x").await;
    }
    assert_eq!(before, names(counted(&pod)));
    assert!(before.len() < 200, "{}", before.len());
}

/// Name and labels of each metric, as docs/operations.md has them in a table.
#[test]
fn the_table_of_metrics_holds_every_metric_and_its_labels() {
    let front = cachedservice::sidecar::http::Front::new(settings(), 1);
    let exposition = metrics::encode(&front, None, &Health::new()).unwrap();
    let mut actual: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in series(&exposition).into_keys() {
        let (name, labels) = name.split_once('{').unwrap_or((&name, ""));
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        let labels = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
        actual.entry(family.unwrap_or(name).to_owned()).or_default().extend(labels);
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let (_, table) = text.split_once("<!-- sidecar metrics -->").unwrap();
    let (table, _) = table.split_once("<!-- end of sidecar metrics -->").unwrap();
    let spans = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut documented = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with('|')).skip(2) {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        for name in spans(cells[0]) {
            documented.insert(name, spans(cells[1]).into_iter().collect::<BTreeSet<_>>());
        }
    }
    assert_eq!(documented, actual);
}

#[tokio::test]
async fn metrics_are_for_anybody_and_the_status_has_the_ratio() {
    let (port, _) = run_application(page).await;
    let process = Process::start(port, |_| {});
    process.until_readyz(200).await;
    assert_eq!(process.status().await["hitRatio"], Value::Null);
    for _ in 0..4 {
        process.get("/a").await;
    }
    let answer = process.admin(Method::GET, "/metrics", None, "").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.field("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    let series = series(&answer.body);
    assert_eq!(series["cachedservice_sidecar_requests_total{result=\"hit\",detail=\"L1\"}"], 3.0);
    assert!(series["process_resident_memory_bytes"] > 1e6);

    let status = process.status().await;
    let told = ["hits", "misses", "hitRatio", "savedRequests"].map(|field| &status[field]);
    assert_eq!(told, [&json!(3), &json!(1), &json!(0.75), &json!(3)]);
    let own = json!({
        "replica": format!("127.0.0.1:{port}"), "own": true, "breaker": "closed", "healthy": true,
    });
    let upstream = json!({
        "replicas": 1, "healthy": 1, "open": [], "breakers": [own], "localOnly": false, "peers": null,
    });
    assert_eq!(status["upstream"], upstream);
}

#[tokio::test]
async fn a_breaker_that_is_open_is_in_the_status() {
    let (port, _) = run_application(page).await;
    let process = Process::start(port, |_| {});
    process.until_readyz(200).await;
    for _ in 0..20 {
        process.get("/gone").await;
    }
    let open = json!([format!("127.0.0.1:{port}")]);
    let status = process.status().await;
    assert_eq!(status["upstream"]["open"], open, "{status}");
    assert_eq!(status["upstream"]["breakers"][0]["breaker"], "open", "{status}");
}

#[tokio::test]
async fn requests_are_written_down_when_the_settings_say_so() {
    let (port, _) = run_application(page).await;
    let mut process = Process::start(port, |_| {});
    process.until_readyz(200).await;
    process.get("/before").await;
    let switch = async |on: bool| {
        let mut settings = process.settings.clone();
        settings.access_log = on;
        let text = settings.to_json().unwrap();
        let digest = cachedservice::settings::digest(&text);
        process.put("settings.json", &text);
        process.until_status(|status| status["settings"] == digest).await;
    };
    switch(true).await;
    process.get("/a?token=secret").await;
    process.get("/a?token=secret").await;
    let lines: Vec<Value> =
        process.until_lines(2).await.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| lines.iter().map(|line| line[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("path"), ["/a", "/a"]);
    assert_eq!(of("cache"), ["miss", "hit"]);
    assert_eq!(of("detail"), ["uri-miss", "L1"]);
    assert_eq!((of("status"), of("bytes")), (vec![json!(200); 2], vec![json!(10); 2]));
    assert_eq!(of("peer"), ["127.0.0.1"; 2]);
    assert!(lines.iter().all(|line| line["duration"].as_f64().unwrap() > 0.0), "{lines:?}");

    switch(false).await;
    process.get("/after").await;
    switch(true).await;
    process.get("/last").await;
    process.end().await;
    let all = process.until_lines(3).await;
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[2].contains("\"/last\""), "{all:?}");
    assert!(!all.concat().contains("secret"));
}
