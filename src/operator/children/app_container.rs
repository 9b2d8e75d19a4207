//! The parts of the application's container that cannot be merged field by
//! field: a probe of two kinds is invalid, and so is a variable with both a value
//! and a source; and a port is one by its number and its protocol together.

use k8s_openapi::{
    DeepMerge,
    api::core::v1::{
        Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Lifecycle, LifecycleHandler,
        PodTemplateSpec, Probe, SecretKeySelector, SleepAction,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    api::{
        ProbeSwitch,
        names::{
            ADMIN_TOKEN_ENV, ADMIN_URL_ENV, APP_CONTAINER, APP_OWN_PORT_NAME, APP_PORT_NAME, PORT_ENV,
            REDIS_URL_ENV, SECRET_TOKEN, SECRET_URL, SIDECAR_ADMIN_PORT, SIDECAR_HTTP_PORT,
            SIDECAR_REDIS_PORT,
        },
    },
    operator::plan::{Plan, RedisPlan},
};

/// These parts of the user's `app` container.
pub(super) struct Handmade(Container);

impl Handmade {
    /// Takes them out of the user's template.
    pub(super) fn take_out_of(template: &mut PodTemplateSpec) -> Self {
        let mut containers = template.spec.iter_mut().flat_map(|spec| &mut spec.containers);
        let app = containers.find(|container| container.name == APP_CONTAINER);
        Self(app.map_or_else(Container::default, |app| Container {
            env: app.env.take(),
            ports: app.ports.take(),
            startup_probe: app.startup_probe.take(),
            readiness_probe: app.readiness_probe.take(),
            liveness_probe: app.liveness_probe.take(),
            lifecycle: app.lifecycle.take(),
            ..Container::default()
        }))
    }

    /// These parts of the container that runs.
    pub(super) fn merged(self, plan: &Plan) -> Container {
        let Self(users) = self;
        let probes = &plan.spec.probes;
        let http_get = |period_seconds, failure_threshold| Probe {
            http_get: Some(HTTPGetAction {
                path: Some(probes.path.clone()),
                port: IntOrString::String(APP_PORT_NAME.to_owned()),
                ..HTTPGetAction::default()
            }),
            period_seconds: Some(period_seconds),
            timeout_seconds: Some(3),
            failure_threshold: Some(failure_threshold),
            ..Probe::default()
        };
        let mut app = Container {
            name: APP_CONTAINER.to_owned(),
            env: Some(env(plan, users.env)),
            ports: Some(ports(plan, users.ports)),
            startup_probe: probe(&probes.startup, http_get(1, 120), users.startup_probe),
            readiness_probe: probe(&probes.readiness, http_get(5, 2), users.readiness_probe),
            liveness_probe: probe(&probes.liveness, http_get(10, 3), users.liveness_probe),
            lifecycle: lifecycle(plan.shutdown.drain_seconds, users.lifecycle),
            ..Container::default()
        };
        if plan.sidecar.is_some() {
            mean_application(&mut app);
        }
        app
    }
}

/// Has every handler that names the port `http` ask the application itself, whose port has another
/// name beside a sidecar.
fn mean_application(app: &mut Container) {
    let Container { startup_probe, readiness_probe, liveness_probe, lifecycle, .. } = app;
    let probes = [startup_probe, readiness_probe, liveness_probe].into_iter().flatten();
    let of_probes = probes.flat_map(|probe| {
        let http = probe.http_get.as_mut().map(|http| &mut http.port);
        http.into_iter().chain(probe.tcp_socket.as_mut().map(|tcp| &mut tcp.port))
    });
    let handlers =
        lifecycle.iter_mut().flat_map(|lifecycle| [&mut lifecycle.post_start, &mut lifecycle.pre_stop]);
    let of_handlers = handlers.flatten().flat_map(|handler| {
        let http = handler.http_get.as_mut().map(|http| &mut http.port);
        http.into_iter().chain(handler.tcp_socket.as_mut().map(|tcp| &mut tcp.port))
    });
    for port in of_probes.chain(of_handlers) {
        if matches!(port, IntOrString::String(name) if name == APP_PORT_NAME) {
            *port = IntOrString::String(APP_OWN_PORT_NAME.to_owned());
        }
    }
}

/// The probe of the spec, or the operator's with the user's changes. A handler of another kind
/// replaces the operator's.
fn probe(switch: &ProbeSwitch, default: Probe, users: Option<Probe>) -> Option<Probe> {
    if !switch.enabled || switch.custom.is_some() {
        return switch.custom.clone().filter(|_| switch.enabled);
    }
    let mut probe = default;
    if let Some(users) = users {
        if users.exec.is_some() || users.grpc.is_some() || users.tcp_socket.is_some() {
            probe.http_get = None;
        }
        probe.merge_from(users);
    }
    Some(probe)
}

fn lifecycle(drain_seconds: i64, users: Option<Lifecycle>) -> Option<Lifecycle> {
    // The kubelet's own sleep needs no shell in the image.
    let drain = (drain_seconds > 0).then(|| LifecycleHandler {
        sleep: Some(SleepAction { seconds: drain_seconds }),
        ..LifecycleHandler::default()
    });
    let users = users.unwrap_or_default();
    let lifecycle = Lifecycle { pre_stop: users.pre_stop.or(drain), ..users };
    (lifecycle != Lifecycle::default()).then_some(lifecycle)
}

/// The application's port first, then the user's others. Before them that of a sidecar, which takes
/// the requests: EndpointSlices find the name of a port in init containers only from Kubernetes 1.33
/// on, and all containers of a pod share its ports.
fn ports(plan: &Plan, users: Option<Vec<ContainerPort>>) -> Vec<ContainerPort> {
    let port = plan.spec.port;
    let named = |number: i32, name: &str| ContainerPort {
        container_port: number,
        name: Some(name.to_owned()),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let sidecar = plan.sidecar.as_ref().map(|_| named(SIDECAR_HTTP_PORT, APP_PORT_NAME));
    let own_name = if sidecar.is_some() { APP_OWN_PORT_NAME } else { APP_PORT_NAME };
    let is_ours = |users: &ContainerPort| {
        users.container_port == port && users.protocol.as_deref().unwrap_or("TCP") == "TCP"
    };
    let (same, others): (Vec<_>, Vec<_>) = users.into_iter().flatten().partition(is_ours);
    let mut ours = ContainerPort::default();
    for port in same {
        ours.merge_from(port);
    }
    ours.merge_from(named(port, own_name));
    sidecar.into_iter().chain([ours]).chain(others).collect()
}

/// The operator's variables first, so that others can refer to them; a later
/// one of the same name takes the place of an earlier.
fn env(plan: &Plan, users: Option<Vec<EnvVar>>) -> Vec<EnvVar> {
    let mut env: Vec<EnvVar> = Vec::new();
    let layers = [default_env(plan), users.unwrap_or_default(), plan.spec.env.clone()];
    for variable in layers.into_iter().flatten() {
        match env.iter_mut().find(|earlier| earlier.name == variable.name) {
            Some(earlier) => *earlier = variable,
            None => env.push(variable),
        }
    }
    env
}

fn default_env(plan: &Plan) -> Vec<EnvVar> {
    let literal =
        |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
    let from_secret = |variable: &str, name: String, key: String| EnvVar {
        name: variable.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector { name, key, optional: None }),
            ..EnvVarSource::default()
        }),
    };
    let redis_url = match &plan.redis {
        // The sidecar has the password.
        _ if plan.spec.near_cache().is_some() => {
            literal(REDIS_URL_ENV, format!("redis://127.0.0.1:{SIDECAR_REDIS_PORT}"))
        }
        RedisPlan::External { url, .. } => from_secret(REDIS_URL_ENV, url.name.clone(), url.key.clone()),
        RedisPlan::Standalone(redis) if redis.credentials.is_some() => {
            from_secret(REDIS_URL_ENV, plan.identity.redis_name(), SECRET_URL.to_owned())
        }
        RedisPlan::Standalone(_) => literal(REDIS_URL_ENV, plan.identity.open_redis_url()),
    };
    let mut env = vec![literal(PORT_ENV, plan.spec.port.to_string()), redis_url];
    if plan.sidecar.is_some() {
        // With these the application can purge.
        env.push(literal(ADMIN_URL_ENV, format!("http://127.0.0.1:{SIDECAR_ADMIN_PORT}")));
        env.push(from_secret(ADMIN_TOKEN_ENV, plan.identity.sidecar_name(), SECRET_TOKEN.to_owned()));
    }
    env
}
