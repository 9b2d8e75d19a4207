//! PURE: an HTTP request in the words of Kubernetes.

use http::{Method, Request, header::CONTENT_TYPE};

/// What a request does, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// As RBAC and the audit log name it; `apply` apart, which they count as
    /// `patch`.
    pub(super) verb: &'static str,
    /// The plural, with the subresource: `cachedservices/status`. Names of
    /// objects are left out, so that the set of values is bounded by the kinds
    /// that the code asks for.
    pub(super) resource: String,
    pub(super) group: String,
    pub(super) mutating: bool,
}

impl Call {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let (group, segments) = split(request.uri().path());
        let (resource, named) = match segments.as_slice() {
            [] => ("other".to_owned(), true),
            [resource] => ((*resource).to_owned(), false),
            [resource, _name] => ((*resource).to_owned(), true),
            [resource, _name, subresource, ..] => (format!("{resource}/{}", known(subresource)), true),
        };
        Self {
            verb: verb(request, named),
            resource,
            group: group.to_owned(),
            mutating: !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS),
        }
    }

    pub(super) fn is_watch(&self) -> bool {
        self.verb == "watch"
    }

    pub(super) fn is_for_leases(&self) -> bool {
        self.group == "coordination.k8s.io" && self.resource == "leases"
    }
}

fn verb<B>(request: &Request<B>, named: bool) -> &'static str {
    match *request.method() {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH if is_apply(request) => "apply",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ if watches(request) => "watch",
        _ if named => "get",
        _ => "list",
    }
}

fn is_apply<B>(request: &Request<B>) -> bool {
    request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/apply-patch+yaml")
}

fn watches<B>(request: &Request<B>) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

/// The API group, and the path after group, version and namespace:
/// `/apis/apps/v1/namespaces/shop/deployments/web` is `apps`,
/// `[deployments, web]`. No segments for what is no resource (`/version`).
fn split(path: &str) -> (&str, Vec<&str>) {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let group = match segments.next() {
        Some("api") => "",
        Some("apis") => segments.next().unwrap_or_default(),
        _ => return ("", Vec::new()),
    };
    let _version = segments.next();
    let segments: Vec<&str> = segments.collect();
    match segments.as_slice() {
        ["namespaces", _namespace, resource @ ..] if !resource.is_empty() => (group, resource.to_vec()),
        _ => (group, segments),
    }
}

/// A name with a slash in it would otherwise make up subresources.
fn known(subresource: &str) -> &str {
    match subresource {
        "scale" | "status" => subresource,
        _ => "other",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Pod};
    use kube::{
        Resource,
        api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams},
        core::Request as Build,
    };

    use super::*;

    fn requests_for<K: Resource<DynamicType = ()>>() -> Build {
        Build::new(K::url_path(&(), Some("shop")))
    }

    fn says(request: Request<Vec<u8>>, verb: &str, resource: &str) {
        let (head, _) = request.into_parts();
        let call = Call::of(&Request::from_parts(head, ()));
        assert_eq!((call.verb, call.resource.as_str()), (verb, resource));
    }

    #[test]
    fn requests_of_kube_bear_the_verbs_of_kubernetes() {
        let build = requests_for::<Deployment>();
        let patch = serde_json::json!({});
        let manager = PatchParams::apply("test");
        says(build.get("web", &GetParams::default()).unwrap(), "get", "deployments");
        says(build.list(&ListParams::default()).unwrap(), "list", "deployments");
        says(build.watch(&WatchParams::default(), "0").unwrap(), "watch", "deployments");
        says(build.create(&PostParams::default(), vec![]).unwrap(), "create", "deployments");
        says(build.replace("web", &PostParams::default(), vec![]).unwrap(), "update", "deployments");
        says(build.patch("web", &manager, &Patch::Apply(&patch)).unwrap(), "apply", "deployments");
        says(build.patch("web", &manager, &Patch::Merge(&patch)).unwrap(), "patch", "deployments");
        says(build.delete("web", &DeleteParams::default()).unwrap(), "delete", "deployments");
        let (delete, list) = (DeleteParams::default(), ListParams::default());
        says(build.delete_collection(&delete, &list).unwrap(), "deletecollection", "deployments");
        says(
            build.patch_subresource("status", "web", &manager, &Patch::Apply(&patch)).unwrap(),
            "apply",
            "deployments/status",
        );
    }

    #[test]
    fn cluster_wide_and_namespaced_paths_name_the_same_resource() {
        for path in ["/api/v1/pods", "/api/v1/namespaces/shop/pods", "/api/v1/namespaces/shop/pods?limit=5"] {
            says(Request::get(path).body(vec![]).unwrap(), "list", "pods");
        }
        says(Request::get("/api/v1/namespaces/shop").body(vec![]).unwrap(), "get", "namespaces");
        says(Request::get("/api/v1/namespaces").body(vec![]).unwrap(), "list", "namespaces");
    }

    #[test]
    fn no_path_makes_up_a_new_label() {
        for path in ["/version", "/apis", "/apis/apps", "/", "/apis/apps/v1"] {
            says(Request::get(path).body(vec![]).unwrap(), "get", "other");
        }
        says(Request::get("/api/v1/namespaces/n/secrets/a/b").body(vec![]).unwrap(), "get", "secrets/other");
    }

    #[test]
    fn only_leases_of_the_coordination_group_are_the_election() {
        let lease = requests_for::<Lease>().get("x", &GetParams::default()).unwrap();
        assert!(Call::of(&lease).is_for_leases());
        let pod = requests_for::<Pod>().get("leases", &GetParams::default()).unwrap();
        assert!(!Call::of(&pod).is_for_leases());
        let other = Request::get("/apis/example.com/v1/namespaces/n/leases/x").body(()).unwrap();
        assert!(!Call::of(&other).is_for_leases());
    }
}
