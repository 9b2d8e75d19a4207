//! Traces, as a collector receives them, and what is so without one.

use std::{fs, net::Ipv4Addr, time::Duration};

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::api::PostParams;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    sandbox,
    support::{
        Operator,
        collector::{Collector, attribute},
    },
};

const LIMIT: Duration = Duration::from_secs(20);
/// No batch is sent before the end of the process, which sends all.
const AT_THE_END: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "3600000");

/// The name of the thread that sends spans, as far as Linux keeps it.
const EXPORTER: &str = "OpenTelemetry.T";

#[tokio::test]
async fn a_reconcile_is_a_trace_with_a_span_for_each_request() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let collector = Collector::start().await;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20open-sesame"),
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=only"),
        AT_THE_END,
    ];
    let mut operator = installation.start_in(&environment, "only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    let nonsense = json!({ "image": "example.com/shop:1", "template": { "nonsense": true } });
    sandbox.apply("broken", nonsense).await;
    sandbox.until_ready("shop").await;
    sandbox.until_condition(LIMIT, "broken", "Ready", "False", "InvalidSpec").await;
    assert!(has_exporter(&operator));
    assert_eq!(collector.received(|received| received.spans.len()), 0, "a batch is sent at the end only");
    assert!(operator.terminate().await.success());

    collector.received(|received| {
        assert_eq!(received.headers["authorization"], "Bearer open-sesame");
        assert_eq!(attribute(&received.resource, "service.name"), "cachedservice-operator");
        assert_eq!(attribute(&received.resource, "service.version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(attribute(&received.resource, "k8s.pod.name"), "only");

        let (reconciles, requests): (Vec<&Span>, Vec<&Span>) =
            received.spans.iter().partition(|span| span.parent_span_id.is_empty());
        for reconcile in &reconciles {
            assert_eq!(reconcile.name, "reconcile");
            assert_eq!(attribute(&reconcile.attributes, "namespace"), sandbox.namespace);
        }
        let of = |name: &str| -> Vec<&Span> {
            let named = |span: &&&Span| attribute(&span.attributes, "name") == name;
            reconciles.iter().filter(named).copied().collect()
        };
        for reconcile in of("shop") {
            assert_eq!(attribute(&reconcile.attributes, "result"), "ok");
            assert_eq!(attribute(&reconcile.attributes, "attempt"), "1");
            assert_eq!(reconcile.status.clone().unwrap_or_default().code(), StatusCode::Unset);
        }
        let broken = of("broken");
        let status = broken[0].status.clone().unwrap_or_default();
        assert_eq!(attribute(&broken[0].attributes, "result"), "Invalid");
        assert_eq!(status.code(), StatusCode::Error);
        assert!(status.message.contains("nonsense"), "{}", status.message);
        assert!(
            broken[0].events.iter().any(|event| event.name == "reconcile failed"),
            "{:?}",
            broken[0].events
        );

        let first = of("shop")[0];
        let created: Vec<&&Span> =
            requests.iter().filter(|request| request.parent_span_id == first.span_id).collect();
        for resource in ["deployments", "services", "secrets", "statefulsets", "configmaps"] {
            let name = format!("apply {resource}");
            let request = created.iter().find(|request| request.name == name);
            let request = request.unwrap_or_else(|| panic!("no {name} in {created:?}"));
            assert_eq!(request.trace_id, first.trace_id);
            assert_eq!(request.kind(), SpanKind::Client);
            assert_eq!(attribute(&request.attributes, "verb"), "apply");
            assert_eq!(attribute(&request.attributes, "resource"), resource);
            assert_eq!(attribute(&request.attributes, "code"), "201");
            assert!(request.start_time_unix_nano >= first.start_time_unix_nano);
            assert!(request.end_time_unix_nano <= first.end_time_unix_nano);
        }
        for request in &requests {
            let parent = reconciles.iter().find(|reconcile| reconcile.span_id == request.parent_span_id);
            assert!(parent.is_some(), "the parent of {request:?} is no reconcile");
        }
    });
}

#[tokio::test]
async fn a_refused_request_is_marked_in_its_span() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let collector = Collector::start().await;
    let endpoint = format!("{}/v1/traces", collector.endpoint);
    let environment = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str()),
        ("OTEL_SERVICE_NAME", "by-another-name"),
        AT_THE_END,
    ];
    // What stands at the name already answers 409 to the creation.
    let metadata = ObjectMeta { name: Some("shop-redis".to_owned()), ..ObjectMeta::default() };
    let taken = ConfigMap { metadata, ..ConfigMap::default() };
    sandbox.api::<ConfigMap>().create(&PostParams::default(), &taken).await.unwrap();
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    let mut operator = installation.start_in(&environment, "only");
    sandbox.until_condition(LIMIT, "shop", "Degraded", "True", "NameTaken").await;
    assert!(operator.terminate().await.success());
    collector.received(|received| {
        let conflict = received.spans.iter().find(|span| attribute(&span.attributes, "code") == "409");
        let conflict = conflict.unwrap_or_else(|| panic!("no conflict in {:?}", received.spans));
        assert_eq!(attribute(&received.resource, "service.name"), "by-another-name");
        assert_eq!(conflict.name, "apply configmaps");
        assert_eq!(conflict.status.clone().unwrap_or_default().code(), StatusCode::Error);
    });
}

#[tokio::test]
async fn nothing_is_sent_unless_it_is_asked_for() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let collector = Collector::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str());
    let _kubelet = sandbox.kubelet();
    for (name, environment) in [
        ("no-endpoint", vec![("OTEL_SERVICE_NAME", "shop"), AT_THE_END]),
        ("empty", vec![("OTEL_EXPORTER_OTLP_ENDPOINT", ""), AT_THE_END]),
        ("switched-off", vec![endpoint, ("OTEL_SDK_DISABLED", "true"), AT_THE_END]),
    ] {
        let mut operator = installation.start_in(&environment, name);
        sandbox.apply(name, json!({ "image": "example.com/shop:1" })).await;
        sandbox.until_ready(name).await;
        assert!(!has_exporter(&operator), "{name}");
        assert!(operator.terminate().await.success());
    }
    let none_kept = [endpoint, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")];
    let mut operator = installation.start_in(&none_kept, "none-kept");
    sandbox.apply("none-kept", json!({ "image": "example.com/shop:1" })).await;
    sandbox.until_ready("none-kept").await;
    assert!(operator.terminate().await.success());
    assert_eq!(collector.received(|received| received.spans.len()), 0);
}

#[tokio::test]
async fn a_collector_that_is_gone_holds_up_nothing_and_is_told_once() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    // A port that was free a moment ago: connections to it are refused.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let mut operator = installation.start_in(&environment, "only");
    let _kubelet = sandbox.kubelet();
    let complaints = |operator: &Operator| operator.log().matches("does not take spans").count();
    sandbox.apply("first", json!({ "image": "example.com/shop:1" })).await;
    sandbox.until_ready("first").await;
    crate::support::until(LIMIT, async || match complaints(&operator) {
        0 => Err(operator.log()),
        _ => Ok(()),
    })
    .await;
    assert!(operator.log().contains("Connection refused"), "{}", operator.log());
    sandbox.apply("second", json!({ "image": "example.com/shop:1" })).await;
    sandbox.until_ready("second").await;
    // Tries once more to send the spans of the second.
    assert!(operator.terminate().await.success());
    assert_eq!(complaints(&operator), 1, "{}", operator.log());
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_end_of_the_process() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    // Takes connections, as its backlog does, and says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), AT_THE_END];
    let mut operator = installation.start_in(&environment, "only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    sandbox.until_ready("shop").await;
    operator.signal(rustix::process::Signal::TERM);
    // Three seconds for the spans; without a limit it would be ten for each batch and try.
    assert!(operator.ended(Duration::from_secs(8)).await.success());
}

fn has_exporter(operator: &Operator) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", operator.pid())).unwrap();
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok())
        .any(|name| name.trim() == EXPORTER)
}
