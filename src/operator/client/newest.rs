//! The first state of a watch is the newest, and not what some API server still
//! has in its cache: a new leader that begins with old specs would set them back.

use http::{Request, Uri};

/// kube asks for a streamed list of any version (`resourceVersion=0`). Without a version the API
/// server makes sure that it is the newest (Kubernetes documentation, "Streaming lists").
pub(super) fn newest<B>(mut request: Request<B>) -> Request<B> {
    let query = request.uri().query().filter(|query| query.contains("sendInitialEvents=true"));
    let uri = query.and_then(|query| {
        let kept: Vec<&str> = query.split('&').filter(|pair| *pair != "resourceVersion=0").collect();
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = format!("{}?{}", request.uri().path(), kept.join("&")).parse().ok();
        Uri::from_parts(parts).ok()
    });
    if let Some(uri) = uri {
        *request.uri_mut() = uri;
    }
    request
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use kube::{Resource, api::WatchParams, core::Request as Build};

    use super::*;

    fn query(params: &WatchParams) -> String {
        let build = Build::new(Deployment::url_path(&(), Some("shop")));
        let request = newest(build.watch(params, "0").unwrap());
        assert_eq!(request.uri().path(), "/apis/apps/v1/namespaces/shop/deployments");
        request.uri().query().unwrap().to_owned()
    }

    #[test]
    fn a_streamed_list_is_asked_for_in_its_newest_state() {
        let streamed = query(&WatchParams::default().labels("x").initial_events());
        assert!(!streamed.contains("resourceVersion=0"), "{streamed}");
        for kept in ["watch=true", "labelSelector=x", "resourceVersionMatch=NotOlderThan"] {
            assert!(streamed.contains(kept), "{streamed}");
        }
    }

    #[test]
    fn a_watch_that_goes_on_names_its_version() {
        assert!(query(&WatchParams::default()).contains("resourceVersion=0"));
    }
}
