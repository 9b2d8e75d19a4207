//! The limits that the documents name are those of the code.

use cachedservice::sidecar::http::edge::{limits, streams};

#[test]
fn the_documents_name_the_limits_of_the_code() {
    let documents = include_str!("../../docs/http-cache.md");
    for line in [
        format!("| connections to a pod | {} |", limits::CONNECTIONS),
        format!(
            "| head of a request | {} bytes, {} fields, {} s (431, 408) |",
            limits::HEAD,
            limits::FIELDS,
            limits::HEAD_TIME.as_secs()
        ),
        format!("| target | {} bytes (414) |", limits::TARGET),
        format!("| body of a request | {} bytes (413) |", limits::BODY),
        format!("or an answer that is not taken | {} s |", limits::STALL_TIME.as_secs()),
        format!(
            "| a connection between two requests | {} s in HTTP/1, {} s in HTTP/2 |",
            limits::IDLE_TIME.as_secs(),
            streams::IDLE.as_secs()
        ),
        format!("| requests at once on a connection of HTTP/2 | {} |", limits::STREAMS),
    ] {
        assert!(documents.contains(&line), "{line}");
    }
}
