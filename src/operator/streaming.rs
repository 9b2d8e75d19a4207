//! Watches that begin with a streamed list: the API server sends one object after
//! the other, and neither side ever holds a whole list.
//!
//! Source: Kubernetes documentation, "Streaming lists". On by default in 1.32
//! and from 1.34 on; the API servers of 1.31 and 1.33 refuse it.

use futures::{Stream, StreamExt, stream};
use kube::{
    Api, Resource,
    runtime::watcher::{self, Config, Event, watcher},
};
use serde::de::DeserializeOwned;

/// Objects in a page, where the list cannot be streamed. Pages of all kinds come at a time, with
/// all fields of the objects.
const PAGE: u32 = 100;

/// As [`watcher()`], with a streamed list; in small pages where the API server refuses that.
pub(super) fn watch_streamed<K>(
    api: Api<K>,
    config: Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let streamed = watcher(api.clone(), config.clone().streaming_lists()).boxed();
    let in_pages = Some((api, config.page_size(PAGE)));
    stream::unfold((streamed, in_pages), async |(mut events, in_pages)| {
        let event = events.next().await?;
        match in_pages {
            Some((api, config)) if matches!(&event, Err(error) if refuses_streaming(error)) => {
                let mut events = watcher(api, config).boxed();
                let event = events.next().await?;
                Some((event, (events, None)))
            }
            in_pages => Some((event, (events, in_pages))),
        }
    })
}

/// `sendInitialEvents` is an invalid option (422) where the feature gate `WatchList` is off. Who may
/// list and not watch (403) sees what there is, and is told that the watch fails.
fn refuses_streaming(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if [403, 422].contains(&status.code))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::TryStreamExt;
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Client, client::Body};
    use serde_json::json;

    use super::*;

    /// Answers as an API server that streams, or refuses it with this code, and takes down what it was asked.
    fn api(refusal: Option<u16>) -> (Api<ConfigMap>, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = asked.clone();
        let server = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let object = json!({ "metadata": { "name": "a", "namespace": "n", "resourceVersion": "7" } });
            let (code, body) = match refusal.filter(|_| query.contains("sendInitialEvents")) {
                Some(code) => (code, json!({ "kind": "Status", "status": "Failure", "code": code })),
                None if query.contains("sendInitialEvents") => {
                    (200, json!({ "type": "ADDED", "object": object }))
                }
                None => (200, json!({ "metadata": { "resourceVersion": "7" }, "items": [object] })),
            };
            log.lock().unwrap().push(query);
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            async move { Ok::<_, tower::BoxError>(response?) }
        });
        (Api::namespaced(Client::new(server, "n"), "n"), asked)
    }

    async fn first(refusal: Option<u16>) -> (Vec<Event<ConfigMap>>, Vec<String>) {
        let (api, asked) = api(refusal);
        let events = watch_streamed(api, Config::default().labels("x")).take(2).try_collect().await.unwrap();
        let asked = asked.lock().unwrap().clone();
        (events, asked)
    }

    #[tokio::test]
    async fn the_first_list_is_streamed() {
        let (events, asked) = first(None).await;
        assert!(matches!(events.as_slice(), [Event::Init, Event::InitApply(_)]), "{events:?}");
        assert!(matches!(asked.as_slice(), [query] if query.contains("watch=true")), "{asked:?}");
    }

    #[tokio::test]
    async fn where_the_api_server_refuses_that_it_comes_in_pages_and_nobody_hears_of_it() {
        for refusal in [403, 422] {
            let (events, asked) = first(Some(refusal)).await;
            assert!(matches!(events.as_slice(), [Event::Init, Event::InitApply(_)]), "{events:?}");
            let [refused, page] = asked.as_slice() else { panic!("{asked:?}") };
            assert!(refused.contains("sendInitialEvents=true"), "{refused}");
            assert!(!page.contains("watch=true") && page.contains("limit=100"), "{page}");
            assert!(page.contains("labelSelector=x"), "{page}");
        }
    }
}
