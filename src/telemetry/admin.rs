//! The admin port: `/metrics` for Prometheus, `/livez` and `/readyz` for the
//! kubelet.

use std::{io, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::oneshot};

use super::{Health, Metrics, OPEN_METRICS};

/// How long open connections may hold up the end of the process.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// The routes `/metrics`, `/livez` and `/readyz`. Each answers in plain text
/// that says what is wrong.
pub fn admin_router(metrics: Metrics, health: Health) -> Router {
    Router::new()
        .route("/metrics", get(async |State(metrics): State<Metrics>| exposition(&metrics)))
        .with_state(metrics)
        .route("/livez", get(async |State(health): State<Health>| verdict(health.live())))
        .route("/readyz", get(async |State(health): State<Health>| verdict(health.ready())))
        .with_state(health)
        .fallback(async || (StatusCode::NOT_FOUND, "this port serves /metrics, /livez and /readyz\n"))
}

/// Serves the router until `shutdown` completes; requests under way then have
/// five seconds to end.
///
/// # Errors
///
/// When the listener cannot serve any more.
pub async fn serve_admin(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (draining, drained) = oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        // Nobody listens if the server has failed before: nothing to drain.
        let _ = draining.send(());
    };
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(shutdown) => served,
        () = async {
            if drained.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(DRAIN_LIMIT).await;
        } => Ok(()),
    }
}

fn verdict(verdict: Result<&'static str, String>) -> Response {
    match verdict {
        Ok(fine) => format!("{fine}\n").into_response(),
        Err(wrong) => (StatusCode::SERVICE_UNAVAILABLE, format!("{wrong}\n")).into_response(),
    }
}

fn exposition(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            let wrong = format!("the metrics cannot be written: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, wrong).into_response()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{future::pending, sync::Arc};

    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use tokio::{net::TcpStream, sync::Notify, time::timeout};
    use tower::ServiceExt;

    use super::*;
    use crate::telemetry::Readiness;

    async fn get(path: &str, health: &Health) -> (StatusCode, String, String) {
        let router = admin_router(Metrics::default(), health.clone());
        let answer = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let kind = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        let (head, body) = answer.into_parts();
        let text = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        (head.status, kind, text)
    }

    #[tokio::test]
    async fn metrics_are_served_as_open_metrics() {
        let (status, kind, text) = get("/metrics", &Health::new()).await;
        assert_eq!((status, kind.as_str()), (StatusCode::OK, OPEN_METRICS));
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn livez_fails_and_says_why_when_the_control_loop_is_stuck() {
        let health = Health::new();
        health.beat();
        assert_eq!(get("/livez", &health).await.0, StatusCode::OK);

        tokio::time::advance(Duration::from_secs(61)).await;
        let (status, _, text) = get("/livez", &health).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.starts_with("not live: the control loop has not turned for 61 s"), "{text}");
    }

    #[tokio::test]
    async fn readyz_says_what_the_operator_waits_for() {
        let health = Health::new();
        health.set_readiness(Readiness::Syncing);
        let (status, kind, text) = get("/readyz", &health).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(kind.starts_with("text/plain"), "{kind}");
        assert!(text.contains("not complete"), "{text}");

        health.set_readiness(Readiness::StandingBy);
        let (status, _, text) = get("/readyz", &health).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "ready: standing by, another replica leads\n"));
    }

    #[tokio::test]
    async fn an_unknown_path_is_told_what_there_is() {
        let (status, _, text) = get("/", &Health::new()).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(text.contains("/readyz"), "{text}");
    }

    #[tokio::test]
    async fn a_request_that_never_ends_does_not_hold_up_the_shutdown() {
        let reached = Arc::new(Notify::new());
        let handler = Arc::clone(&reached);
        let endless = Router::new().fallback(async move || {
            handler.notify_one();
            pending::<()>().await;
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve_admin(listener, endless, async {
            let _ = stopped.await;
        }));
        let connection = TcpStream::connect(address).await.unwrap();
        connection.writable().await.unwrap();
        connection.try_write(b"GET / HTTP/1.1\r\nHost: admin\r\n\r\n").unwrap();
        timeout(DRAIN_LIMIT, reached.notified()).await.unwrap();

        tokio::time::pause();
        stop.send(()).unwrap();
        timeout(DRAIN_LIMIT * 2, server).await.unwrap().unwrap().unwrap();
    }
}
