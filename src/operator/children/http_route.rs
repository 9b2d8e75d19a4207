//! The way in by the Gateway API.

use crate::{
    api::{self, names::APP},
    operator::{
        custom_kinds::{BackendRef, HTTPRoute, HttpPathMatch, HttpRouteMatch, HttpRouteRule, HttpRouteSpec},
        plan::Plan,
    },
};

pub(super) fn http_route(plan: &Plan, wanted: &api::HttpRoute) -> HTTPRoute {
    let identity = &plan.identity;
    HTTPRoute {
        metadata: identity.annotated_child(&identity.name, APP, &wanted.annotations),
        spec: HttpRouteSpec {
            parent_refs: wanted.parent_refs.clone(),
            hostnames: wanted.hostnames.clone(),
            rules: vec![HttpRouteRule {
                matches: vec![HttpRouteMatch {
                    path: HttpPathMatch { type_: "PathPrefix".to_owned(), value: wanted.path.clone() },
                }],
                backend_refs: vec![BackendRef { name: identity.name.clone(), port: plan.spec.service.port }],
            }],
        },
    }
}
