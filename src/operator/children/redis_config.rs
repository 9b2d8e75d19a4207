//! Redis's configuration file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::{
    api::names::{REDIS, REDIS_PORT},
    operator::plan::{Identity, StandaloneRedis},
};

/// Key of the configuration file.
pub(super) const CONFIG_FILE: &str = "redis.conf";
/// Where the Secret with the ACL file and the password is mounted.
pub(super) const AUTH_DIR: &str = "/etc/redis/auth";

pub(super) fn config_map(identity: &Identity, redis: &StandaloneRedis) -> ConfigMap {
    ConfigMap {
        metadata: identity.child(&identity.redis_name(), REDIS),
        data: Some(BTreeMap::from([(CONFIG_FILE.to_owned(), config(redis))])),
        ..ConfigMap::default()
    }
}

fn config(redis: &StandaloneRedis) -> String {
    let mut lines = vec![
        "# Written by the CachedService operator.".to_owned(),
        "bind * -::*".to_owned(),
        format!("port {REDIS_PORT}"),
        // Who may connect is a matter of the password and of network policies.
        "protected-mode no".to_owned(),
        "dir /data".to_owned(),
        format!("maxmemory {}", redis.max_memory_bytes),
        format!("maxmemory-policy {}", redis.eviction_policy.as_str()),
        // No snapshots: what is kept is kept by appending.
        "save \"\"".to_owned(),
    ];
    if redis.persistence.is_some() {
        lines.extend([
            "appendonly yes".to_owned(),
            "appendfsync everysec".to_owned(),
            // The file is written anew at twice its size after the last time, but not before this size,
            // of which the default is more than a small volume has.
            format!("auto-aof-rewrite-min-size {}", redis.max_memory_bytes),
        ]);
    } else {
        lines.push("appendonly no".to_owned());
    }
    if redis.credentials.is_some() {
        lines.push(format!("aclfile {AUTH_DIR}/users.acl"));
    }
    lines.push(String::new());
    lines.join("\n")
}
