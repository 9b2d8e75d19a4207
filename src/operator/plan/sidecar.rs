//! The sidecar in the application's pods, and what it is told.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{PodSpec, PodTemplateSpec},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    Defaults, Identity, Invalid, RedisPlan, Seen, ShutdownPlan, SidecarToken, balancing, near_cache, quantity,
};
use crate::{
    api::{
        CachedServiceSpec, HttpCache, HttpPreset, HttpRule, RequestMethod, Resources, SecretKeyRef,
        names::{
            APP_CONTAINER, APP_OWN_PORT_NAME, SECRET_URL, SIDECAR_ADMIN_PORT, SIDECAR_CONTAINER,
            SIDECAR_HTTP_PORT, SIDECAR_REDIS_PORT, purge_channel,
        },
        parse_duration,
    },
    settings::{self, Settings, memory},
};

/// Folder of the settings in the container.
pub const SETTINGS_DIR: &str = "/etc/cachedservice/settings";
/// The file in it, and the key of the ConfigMap.
pub const SETTINGS_FILE: &str = "settings.json";
/// Folder of the record of purges.
pub const PURGES_DIR: &str = "/etc/cachedservice/purges";
/// The file in it, and the key of its ConfigMap.
pub const PURGES_FILE: &str = "purges.json";
/// Folder in which the sidecar keeps the record that it was handed.
pub const STATE_DIR: &str = "/var/run/cachedservice";
/// Folder of the token.
pub const TOKEN_DIR: &str = "/etc/cachedservice/token";
/// The file in it.
pub const TOKEN_FILE: &str = "token";
/// Folder of Redis's URL.
pub const REDIS_DIR: &str = "/etc/cachedservice/redis";
/// The file in it.
pub const REDIS_FILE: &str = "url";

/// CPU requested where the user names neither a request nor a limit.
const CPU_REQUEST: &str = "50m";
/// Memory of the sidecar beside what it stores: its program, connections and what passes through.
const MEMORY_BESIDE: u64 = 64 << 20;

/// The sidecar in the application's pods, while a tier is on.
#[derive(Clone, Debug)]
pub struct SidecarPlan {
    /// Its image.
    pub image: String,
    /// That of the pods that run, which stays while their template would otherwise not change.
    pub running: Option<RunningSidecar>,
    /// When the kubelet pulls it, if not by Kubernetes' own default.
    pub image_pull_policy: Option<String>,
    /// CPU and memory.
    pub resources: Resources,
    /// The text of the settings file.
    pub settings: String,
    /// What purges ask for.
    pub token: SidecarToken,
    /// Where the URL of Redis stands, which the caches need and nothing else.
    pub redis_url: Option<SecretKeyRef>,
}

/// The sidecar of the pods that run, of another image than that of this installation.
#[derive(Clone, Debug)]
pub struct RunningSidecar {
    /// Its image.
    pub image: String,
    /// The digest of the template of these pods.
    pub template: String,
}

/// The image of the installation changes with each version of the operator, and an upgrade of that is
/// to restart no pod.
fn running(spec: &CachedServiceSpec, seen: &Seen, defaults: &Defaults) -> Option<RunningSidecar> {
    let deployment = seen.deployment.ours().filter(|_| spec.sidecar.image.is_none())?;
    let image = deployment.sidecar_image().filter(|image| *image != defaults.sidecar_image)?;
    Some(RunningSidecar { image: image.to_owned(), template: deployment.template()?.to_owned() })
}

/// What a sidecar does.
struct Tiers {
    http: Option<settings::HttpCache>,
    application: Option<settings::NearCache>,
    balancing: Option<settings::Balancing>,
}

/// The sidecar, if the spec wants one.
pub(super) fn sidecar(
    spec: &CachedServiceSpec,
    template: &PodTemplateSpec,
    identity: &Identity,
    redis: &RedisPlan,
    shutdown: ShutdownPlan,
    seen: &Seen,
    defaults: &Defaults,
) -> Result<Option<SidecarPlan>, Invalid> {
    if !spec.has_sidecar() {
        return Ok(None);
    }
    check_ports(spec.port, template)?;
    check_names(template)?;
    if spec.near_cache().is_some() {
        check_redis_port(spec.port, template)?;
    }
    let tiers = Tiers {
        http: spec.http_cache().map(cache).transpose()?,
        application: spec.near_cache().map(near_cache::near_cache).transpose()?,
        balancing: balancing::balancing(spec, template, identity)?,
    };
    let resources = resources(&spec.sidecar.resources, &tiers)?;
    let redis_url = spec.has_cache().then(|| redis_url(redis, identity));
    let settings = settings(spec, shutdown, identity, tiers)?;
    Ok(Some(SidecarPlan {
        image: spec.sidecar.image.clone().unwrap_or_else(|| defaults.sidecar_image.clone()),
        running: running(spec, seen, defaults),
        image_pull_policy: spec.sidecar.image_pull_policy.clone(),
        resources,
        settings,
        token: seen.token.clone(),
        redis_url,
    }))
}

fn redis_url(redis: &RedisPlan, identity: &Identity) -> SecretKeyRef {
    let is_open = matches!(redis, RedisPlan::Standalone(redis) if redis.credentials.is_none());
    match redis {
        RedisPlan::External { url, .. } => url.clone(),
        RedisPlan::Standalone(_) => SecretKeyRef {
            name: if is_open { identity.sidecar_name() } else { identity.redis_name() },
            key: SECRET_URL.to_owned(),
        },
    }
}

/// All containers of a pod share its ports.
fn check_ports(port: i32, template: &PodTemplateSpec) -> Result<(), Invalid> {
    let taken = |number: i32| [SIDECAR_HTTP_PORT, SIDECAR_ADMIN_PORT].contains(&number);
    let refuse = |field: String| {
        let problem = format!(
            "{SIDECAR_HTTP_PORT} and {SIDECAR_ADMIN_PORT} are the sidecar's while a tier of spec.cache or spec.balancing is on; have it listen on another port and write that, or switch these off"
        );
        Err(Invalid::new(field, problem))
    };
    if taken(port) {
        return refuse("spec.port".to_owned());
    }
    for (path, container) in containers(template.spec.as_ref()) {
        for (at, declared) in container.ports.iter().flatten().enumerate() {
            let path = format!("{path}.ports[{at}]");
            if taken(declared.container_port) {
                return refuse(format!("{path}.containerPort"));
            }
            let is_of_app = container.name == APP_CONTAINER && declared.container_port != port;
            if is_of_app && declared.name.as_deref() == Some(APP_OWN_PORT_NAME) {
                let problem = format!(
                    "{APP_OWN_PORT_NAME} is the name of spec.port while a tier of spec.cache or spec.balancing is on; choose another"
                );
                return Err(Invalid::new(format!("{path}.name"), problem));
            }
        }
    }
    Ok(())
}

/// The application finds Redis on 127.0.0.1, where all containers of a pod are, and nobody else is to be: whoever
/// connects there needs no password.
fn check_redis_port(port: i32, template: &PodTemplateSpec) -> Result<(), Invalid> {
    let refuse = |field: String| {
        let problem = format!(
            "{SIDECAR_REDIS_PORT} is where the application finds its Redis while spec.cache.application is on; have it listen on another port and write that, or switch this off"
        );
        Err(Invalid::new(field, problem))
    };
    if port == SIDECAR_REDIS_PORT {
        return refuse("spec.port".to_owned());
    }
    for (path, container) in containers(template.spec.as_ref()) {
        let mut ports = container.ports.iter().flatten();
        if let Some(at) = ports.position(|declared| declared.container_port == SIDECAR_REDIS_PORT) {
            return refuse(format!("{path}.ports[{at}].containerPort"));
        }
    }
    if template.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
        let problem = format!(
            "on the network of a node all that runs there could use Redis without a password, at 127.0.0.1:{SIDECAR_REDIS_PORT}; remove it, or switch {} off",
            near_cache::FIELD
        );
        return Err(Invalid::new("spec.template.spec.hostNetwork", problem));
    }
    Ok(())
}

/// The user's template may change the sidecar's container, but not be about another by this name.
fn check_names(template: &PodTemplateSpec) -> Result<(), Invalid> {
    let is_another = |path: &str, container: &k8s_openapi::api::core::v1::Container| {
        container.name == SIDECAR_CONTAINER && (path.contains(".containers[") || container.image.is_some())
    };
    match containers(template.spec.as_ref()).find(|(path, container)| is_another(path, container)) {
        None => Ok(()),
        Some((path, _)) => Err(Invalid::new(
            format!("{path}.name"),
            format!(
                "{SIDECAR_CONTAINER} is the container of spec.cache and spec.balancing; choose another name for yours, or write its image to spec.sidecar.image"
            ),
        )),
    }
}

fn containers(
    spec: Option<&PodSpec>,
) -> impl Iterator<Item = (String, &k8s_openapi::api::core::v1::Container)> {
    let at =
        |list: &'static str| move |(at, container)| (format!("spec.template.spec.{list}[{at}]"), container);
    let init = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let main = spec.into_iter().flat_map(|spec| &spec.containers);
    init.enumerate().map(at("initContainers")).chain(main.enumerate().map(at("containers")))
}

fn resources(wanted: &Resources, tiers: &Tiers) -> Result<Resources, Invalid> {
    let http = tiers.http.as_ref();
    let stored = memory::caches(http, tiers.application.as_ref());
    let max_object = http.map_or(0, |http| http.max_object);
    let least = memory::least_beside(max_object);
    let mut resources = wanted.clone();
    let names = |quantities: &BTreeMap<String, Quantity>, name: &str| quantities.contains_key(name);
    if !names(&wanted.requests, "cpu") && !names(&wanted.limits, "cpu") {
        resources.requests.insert("cpu".to_owned(), Quantity(CPU_REQUEST.to_owned()));
    }
    if !names(&wanted.requests, "memory") && !names(&wanted.limits, "memory") {
        for quantities in [&mut resources.requests, &mut resources.limits] {
            let memory = quantity::written(stored.saturating_add(least.max(MEMORY_BESIDE)));
            quantities.insert("memory".to_owned(), memory);
        }
    }
    let limit = wanted.limits.get("memory").and_then(|limit| quantity::bytes(&limit.0));
    let least = stored.saturating_add(least);
    if limit.is_some_and(|limit| limit < least) {
        let least = quantity::written(least).0;
        let problem = format!(
            "is less than the sidecar needs, for memory of the tiers of spec.cache and beside it; write at least {least}, or leave memory out"
        );
        return Err(Invalid::new("spec.sidecar.resources.limits.memory", problem));
    }
    Ok(resources)
}

fn cache(http: &HttpCache) -> Result<settings::HttpCache, Invalid> {
    let bytes = |field: &str, text: &str| {
        quantity::bytes(text).ok_or_else(|| {
            let problem = format!("{text:?} is not an amount of memory; write one such as 1Mi or 64Mi");
            Invalid::new(format!("spec.cache.http.{field}"), problem)
        })
    };
    Ok(settings::HttpCache {
        memory: bytes("memory", &http.memory)?,
        max_object: bytes("maxObjectSize", &http.max_object_size)?,
        rules: http
            .rules
            .iter()
            .enumerate()
            .map(|(at, written)| rule(at, written))
            .collect::<Result<_, _>>()?,
    })
}

fn rule(at: usize, written: &HttpRule) -> Result<settings::Rule, Invalid> {
    let seconds = |field: &str, text: &Option<String>| {
        text.as_ref().map(|text| seconds(&format!("spec.cache.http.rules[{at}].{field}"), text)).transpose()
    };
    let method = |method: &RequestMethod| match method {
        RequestMethod::Get => settings::RuleMethod::Get,
        RequestMethod::Head => settings::RuleMethod::Head,
    };
    let header = |header: &crate::api::HeaderMatch| settings::HeaderMatch {
        name: header.name.clone(),
        value: header.value.clone(),
    };
    Ok(settings::Rule {
        paths: written.paths.clone(),
        methods: written.methods.iter().map(method).collect(),
        headers: written.headers.iter().map(header).collect(),
        bypass: written.bypass,
        ttl: seconds("ttl", &written.ttl)?.or(written.preset.map(HttpPreset::ttl_seconds)),
        overrides: written.overrides,
        stale_while_revalidate: seconds("staleWhileRevalidate", &written.stale_while_revalidate)?,
        stale_if_error: seconds("staleIfError", &written.stale_if_error)?,
        cookies: written.cookies.clone(),
        ignored_query: written.ignored_query_parameters.clone(),
        tags: written.tags.clone(),
    })
}

/// A part of a second is rounded up.
fn seconds(field: &str, text: &str) -> Result<u64, Invalid> {
    const YEAR: Duration = Duration::from_hours(8760);
    let duration = parse_duration(text).map_err(|error| Invalid::new(field, error.to_string()))?;
    if duration > YEAR {
        return Err(Invalid::new(field, format!("{text} is too long; write at most 8760h")));
    }
    Ok(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

fn settings(
    spec: &CachedServiceSpec,
    shutdown: ShutdownPlan,
    identity: &Identity,
    tiers: Tiers,
) -> Result<String, Invalid> {
    let Tiers { http, application, balancing } = tiers;
    // What there is to purge is what a tier has stored.
    let of_cache = |text: String| spec.has_cache().then_some(text);
    let number = |port: i32| {
        u16::try_from(port).map_err(|_| Invalid::new("spec.port", "write a port from 1 to 65535"))
    };
    let settings = Settings {
        version: settings::VERSION,
        http_port: number(SIDECAR_HTTP_PORT)?,
        admin_port: number(SIDECAR_ADMIN_PORT)?,
        app_port: number(spec.port)?,
        // As long as the application is kept from ending.
        drain_seconds: u64::try_from(shutdown.drain_seconds).unwrap_or_default(),
        token_file: Some(format!("{TOKEN_DIR}/{TOKEN_FILE}")),
        purges_file: of_cache(format!("{PURGES_DIR}/{PURGES_FILE}")),
        purges_copy: of_cache(format!("{STATE_DIR}/{PURGES_FILE}")),
        redis: spec.has_cache().then(|| settings::Redis {
            url_file: format!("{REDIS_DIR}/{REDIS_FILE}"),
            // In one Redis there may be several services, and of one name one after the other.
            key_prefix: format!("cachedservice:{}:", identity.uid),
            channel: purge_channel(&identity.namespace, &identity.name),
        }),
        http,
        application,
        balancing,
        first_byte_ms: None,
        access_log: spec.sidecar.access_log,
    };
    let field = if settings.http.is_some() { "spec.cache.http" } else { "spec.balancing" };
    let refuse = |error: String| Invalid::new(field, error);
    let text = settings.to_json().map_err(|error| refuse(error.to_string()))?;
    // What a sidecar would not take is not given to any.
    Settings::parse(&text).map_err(|error| refuse(error.to_string()))?;
    Ok(text)
}
