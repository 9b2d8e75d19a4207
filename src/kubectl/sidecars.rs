//! What the sidecars tell, asked through the API server: it forwards a port of the pod, so that no
//! network policy stands in between, and nobody needs a way into the cluster's network.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::time::timeout;

use super::CommandError;
use crate::api::names::{SECRET_TOKEN, SIDECAR_ADMIN_PORT, SIDECAR_CONTAINER, sidecar_name};

/// A sidecar that does not answer within this is told as one that does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a pod has a sidecar that may be asked.
#[must_use]
pub fn has_sidecar(pod: &Pod) -> bool {
    let started = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    started
        .filter(|container| container.name == SIDECAR_CONTAINER)
        .any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
}

/// The token that the sidecars of a CachedService ask for.
///
/// # Errors
/// When its Secret cannot be read.
pub async fn token(client: &Client, namespace: &str, name: &str) -> Result<String, CommandError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = sidecar_name(name);
    let held =
        secrets.get(&secret).await.map_err(CommandError::api(format!("cannot read the Secret {secret}")))?;
    let token = held.data.and_then(|mut data| data.remove(SECRET_TOKEN));
    token
        .and_then(|token| String::from_utf8(token.0).ok())
        .ok_or_else(|| CommandError::Wrong(format!("the Secret {secret} has no key {SECRET_TOKEN}")))
}

/// What each sidecar answers to a GET of `path`, by the name of its pod; or why it does not.
pub async fn ask_all(
    client: &Client,
    namespace: &str,
    pods: &[Pod],
    path: &str,
    token: &str,
) -> BTreeMap<String, Result<Value, String>> {
    ask_all_for(Duration::ZERO, client, namespace, pods, path, token).await
}

/// The same where the answer takes so long.
pub async fn ask_all_for(
    time: Duration,
    client: &Client,
    namespace: &str,
    pods: &[Pod],
    path: &str,
    token: &str,
) -> BTreeMap<String, Result<Value, String>> {
    let patience = time + PATIENCE;
    let pods_api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let asked = pods.iter().filter(|pod| has_sidecar(pod)).map(ResourceExt::name_any).map(|pod| {
        let api = pods_api.clone();
        async move {
            let answer = timeout(patience, ask(&api, &pod, path, token)).await;
            let limit = patience.as_secs();
            (pod, answer.unwrap_or_else(|_| Err(format!("no answer within {limit} s"))))
        }
    });
    join_all(asked).await.into_iter().collect()
}

async fn ask(pods: &Api<Pod>, pod: &str, path: &str, token: &str) -> Result<Value, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let port = u16::try_from(SIDECAR_ADMIN_PORT).map_err(|error| told(&error))?;
    let mut forwarded = pods.portforward(pod, &[port]).await.map_err(|error| told(&error))?;
    let stream = forwarded.take_stream(port).ok_or("the port is not forwarded")?;
    let (mut requests, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| told(&error))?;
    let request = http::Request::get(path)
        .header(http::header::HOST, "localhost")
        .header(http::header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::<hyper::body::Bytes>::new())
        .map_err(|error| told(&error))?;
    let exchange = async {
        let response = requests.send_request(request).await.map_err(|error| told(&error))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| told(&error))?.to_bytes();
        if !status.is_success() {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body).trim()));
        }
        serde_json::from_slice(&body).map_err(|error| told(&error))
    };
    tokio::select! {
        answer = exchange => answer,
        // Ends after the answer, unless there is none.
        ended = connection => Err(ended.err().map_or("the connection was closed".to_owned(), |error| told(&error))),
    }
}
