//! The sidecar in the application's pods: an init container that goes on running (Kubernetes
//! documentation, "Sidecar Containers"), so that it is there before the application and goes after it.

use k8s_openapi::{
    api::core::v1::{
        ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
        ExecAction, HTTPGetAction, KeyToPath, Lifecycle, LifecycleHandler, ObjectFieldSelector, PodSpec,
        Probe, ResourceRequirements, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::pod::{self, EPHEMERAL_STORAGE, STORAGE_REQUEST};
use crate::{
    api::{
        TemplateRevision,
        names::{SECRET_TOKEN, SIDECAR_ADMIN_PORT, SIDECAR_ADMIN_PORT_NAME, SIDECAR_CONTAINER, purges_name},
    },
    operator::plan::{
        PURGES_DIR, Plan, REDIS_DIR, REDIS_FILE, SETTINGS_DIR, SETTINGS_FILE, STATE_DIR, SidecarPlan,
        TOKEN_DIR, TOKEN_FILE,
    },
    settings::{POD_NAME, POD_UID, balancing::POD_ADDRESSES},
};

/// Whoever the container runs as can read its files.
const READABLE: i32 = 0o444;
/// Who it runs as where the user's template has the pod run as root, which it refuses to.
const NOBODY: i64 = 65532;

/// How long an answer of a sidecar may take that is only looked at, in seconds.
const PATIENCE: i32 = 3;

/// Room for the record of purges, twice while it is written.
const STATE_BYTES: u64 = 2 << 20;

/// Where each container finds the token for the Kubernetes API, unless something else is mounted there
/// (Kubernetes documentation, "Configure Service Accounts for Pods").
const API_TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const NO_API_TOKEN: &str = "sidecar-no-api-token";
/// The least of a volume: a limit of 0 is none.
const NOTHING: u64 = 4 << 10;

/// A file or folder of the container, and where it comes from.
struct Mount {
    volume: Volume,
    folder: &'static str,
    read_only: bool,
}

/// What a user's template may change.
pub(super) fn defaults(plan: &Plan, sidecar: &SidecarPlan) -> PodSpec {
    let (volumes, mounts): (Vec<_>, Vec<_>) = mounts(plan, sidecar)
        .into_iter()
        .map(|Mount { volume, folder, read_only }| {
            let mount = VolumeMount {
                name: volume.name.clone(),
                mount_path: folder.to_owned(),
                read_only: read_only.then_some(true),
                ..VolumeMount::default()
            };
            (volume, mount)
        })
        .unzip();
    let container = Container {
        name: SIDECAR_CONTAINER.to_owned(),
        security_context: Some(security_context(plan)),
        // Whatever the revision: the first knows no sidecar.
        termination_message_policy: pod::termination_message_policy(TemplateRevision::Second),
        startup_probe: Some(probe("/livez", 1, 60, PATIENCE)),
        // A pod that answers nothing at all gets no new connections after three seconds. What is asked here is a
        // few words out of memory, told by a thread that does nothing else: however many requests there are, it
        // answers.
        readiness_probe: Some(probe("/readyz", 1, 2, 1)),
        liveness_probe: Some(probe("/livez", 10, 3, PATIENCE)),
        ports: Some(vec![ContainerPort {
            container_port: SIDECAR_ADMIN_PORT,
            name: Some(SIDECAR_ADMIN_PORT_NAME.to_owned()),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        volume_mounts: Some(mounts),
        lifecycle: Some(Lifecycle { pre_stop: Some(drain()), ..Lifecycle::default() }),
        ..Container::default()
    };
    PodSpec { init_containers: Some(vec![container]), volumes: Some(volumes), ..PodSpec::default() }
}

/// What it may not.
pub(super) fn from_spec(plan: &Plan, sidecar: &SidecarPlan) -> PodSpec {
    let container = Container {
        name: SIDECAR_CONTAINER.to_owned(),
        image: Some(sidecar.image.clone()),
        image_pull_policy: sidecar.image_pull_policy.clone(),
        // The application's port is that of this pod: the settings may be those of the next ones already.
        args: Some(vec![
            format!("--settings={SETTINGS_DIR}/{SETTINGS_FILE}"),
            format!("--app-port={}", plan.spec.port),
        ]),
        restart_policy: Some("Always".to_owned()),
        resources: Some(resources(sidecar)),
        ..Container::default()
    };
    PodSpec { init_containers: Some(vec![container]), ..PodSpec::default() }
}

/// Puts it behind the user's own init containers, which need nothing of it: so it is the first to be
/// told to end when the application has, before a service mesh that the user may have there.
pub(super) fn put_last(spec: &mut PodSpec) {
    if let Some(containers) = &mut spec.init_containers {
        containers.sort_by_key(|container| container.name == SIDECAR_CONTAINER);
    }
}

/// Tells it which pod it is in: it says so when it acknowledges a purge, and by the addresses it knows itself
/// among the others. It is written over whatever the user's template has there: a variable with a value and
/// a source would be none.
pub(super) fn tell_pod(plan: &Plan, spec: &mut PodSpec) {
    let addresses = plan.spec.balancing().map(|_| (POD_ADDRESSES, "status.podIPs"));
    let told: Vec<EnvVar> = [Some((POD_NAME, "metadata.name")), Some((POD_UID, "metadata.uid")), addresses]
        .into_iter()
        .flatten()
        .map(|(name, field)| of_pod(name, field))
        .collect();
    for container in spec.init_containers.iter_mut().flatten().filter(|all| all.name == SIDECAR_CONTAINER) {
        let env = container.env.get_or_insert_default();
        env.retain(|variable| told.iter().all(|told| told.name != variable.name));
        env.splice(..0, told.iter().cloned());
    }
}

fn of_pod(name: &str, field: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: field.to_owned(), ..ObjectFieldSelector::default() };
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    }
}

/// Keeps the token for the Kubernetes API from it, where the application is to have one.
pub(super) fn hide_api_token(spec: &mut PodSpec) {
    if spec.automount_service_account_token != Some(true) {
        return;
    }
    let is_free = |mounts: &[VolumeMount]| mounts.iter().all(|mount| mount.mount_path != API_TOKEN_DIR);
    for container in spec.init_containers.iter_mut().flatten().filter(|all| all.name == SIDECAR_CONTAINER) {
        let mounts = container.volume_mounts.get_or_insert_default();
        if is_free(mounts) {
            mounts.push(VolumeMount {
                name: NO_API_TOKEN.to_owned(),
                mount_path: API_TOKEN_DIR.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            });
        }
    }
    spec.volumes.get_or_insert_default().push(Volume {
        name: NO_API_TOKEN.to_owned(),
        empty_dir: Some(in_memory(NOTHING)),
        ..Volume::default()
    });
}

/// Has the names of the cluster be known on the network of a node, too, where the user has not said how
/// names are resolved: by them the sidecars find each other.
pub(super) fn know_names(plan: &Plan, spec: &mut PodSpec) {
    if plan.spec.balancing().is_some() && spec.host_network == Some(true) {
        spec.dns_policy.get_or_insert_with(|| "ClusterFirstWithHostNet".to_owned());
    }
}

/// Gives it another image.
pub(super) fn set_image(spec: &mut PodSpec, image: &str) {
    for container in spec.init_containers.iter_mut().flatten() {
        if container.name == SIDECAR_CONTAINER {
            container.image = Some(image.to_owned());
        }
    }
}

fn mounts(plan: &Plan, sidecar: &SidecarPlan) -> Vec<Mount> {
    let name = plan.identity.sidecar_name();
    let config_map = |name: String, optional: Option<bool>| ConfigMapVolumeSource {
        name,
        optional,
        default_mode: Some(READABLE),
        ..ConfigMapVolumeSource::default()
    };
    let secret = |name: String, key: &str, path: &str| SecretVolumeSource {
        secret_name: Some(name),
        default_mode: Some(READABLE),
        items: Some(vec![KeyToPath { key: key.to_owned(), path: path.to_owned(), ..KeyToPath::default() }]),
        ..SecretVolumeSource::default()
    };
    let of_config_map = |volume: &str, source, folder| Mount {
        volume: Volume { name: volume.to_owned(), config_map: Some(source), ..Volume::default() },
        folder,
        read_only: true,
    };
    let of_secret = |volume: &str, source, folder| Mount {
        volume: Volume { name: volume.to_owned(), secret: Some(source), ..Volume::default() },
        folder,
        read_only: true,
    };
    let purges = purges_name(&plan.identity.name);
    let settings = of_config_map("sidecar-settings", config_map(name.clone(), None), SETTINGS_DIR);
    let token = of_secret("sidecar-token", secret(name, SECRET_TOKEN, TOKEN_FILE), TOKEN_DIR);
    let Some(url) = &sidecar.redis_url else { return vec![settings, token] };
    let redis = of_secret("sidecar-redis", secret(url.name.clone(), &url.key, REDIS_FILE), REDIS_DIR);
    vec![
        settings,
        // Nothing keeps a pod from starting, not even its loss.
        of_config_map("sidecar-purges", config_map(purges, Some(true)), PURGES_DIR),
        token,
        state(),
        redis,
    ]
}

/// On a node's disk it would keep cluster autoscalers from taking the node away.
fn in_memory(bytes: u64) -> EmptyDirVolumeSource {
    EmptyDirVolumeSource {
        medium: Some("Memory".to_owned()),
        size_limit: Some(pod::bytes(bytes)),
        ..EmptyDirVolumeSource::default()
    }
}

fn state() -> Mount {
    let source = in_memory(STATE_BYTES);
    Mount {
        volume: Volume { name: "sidecar-state".to_owned(), empty_dir: Some(source), ..Volume::default() },
        folder: STATE_DIR,
        read_only: false,
    }
}

fn security_context(plan: &Plan) -> SecurityContext {
    let of_pod = plan.template.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let is_root = of_pod.is_some_and(|context| context.run_as_user == Some(0));
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: is_root.then_some(NOBODY),
        read_only_root_filesystem: Some(true),
        ..pod::container_security_context()
    }
}

/// Its log needs as much disk as any other. There is no limit: the kubelet would hold the whole pod to it.
fn resources(sidecar: &SidecarPlan) -> ResourceRequirements {
    let (mut requests, limits) = (sidecar.resources.requests.clone(), sidecar.resources.limits.clone());
    if ![&requests, &limits].iter().any(|given| given.contains_key(EPHEMERAL_STORAGE)) {
        requests.insert(EPHEMERAL_STORAGE.to_owned(), pod::bytes(STORAGE_REQUEST));
    }
    ResourceRequirements {
        requests: Some(requests),
        limits: Some(limits).filter(|limits| !limits.is_empty()),
        claims: None,
    }
}

/// Has clients go elsewhere while the application is kept from ending, which it is for as long: the
/// kubelet runs the hooks of all containers at once, and ends a sidecar when the others have ended.
fn drain() -> LifecycleHandler {
    let command = ["/cachedservice-sidecar", "drain"].map(str::to_owned).into();
    LifecycleHandler { exec: Some(ExecAction { command: Some(command) }), ..LifecycleHandler::default() }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32, timeout_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(SIDECAR_ADMIN_PORT),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(timeout_seconds),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}
