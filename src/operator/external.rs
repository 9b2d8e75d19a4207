//! Redises that the operator does not run: it follows the Secret with the URL
//! and asks Redis once whether it answers. One small task for each.

use std::{collections::HashMap, fmt, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, reflector::ObjectRef, watcher},
};
use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo};
use tokio::{sync::watch, task::JoinHandle, time};

use super::{digest::digest, interruptions::cause, triggers::Triggers};
use crate::api::{CachedService, SecretKeyRef};

/// How long Redis may take to accept a connection and to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest pause between two tries.
const SLOWEST_RETRY: Duration = Duration::from_secs(30);

/// What is known of an external Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalState {
    /// The Secret has not been read yet.
    Unknown,
    /// The URL cannot be had.
    NoUrl {
        /// A stable reason for a condition.
        reason: &'static str,
        /// What to do about it.
        message: String,
    },
    /// The first answer is awaited.
    Connecting {
        /// Identifies the URL.
        revision: String,
    },
    /// Redis did not answer; it is tried again.
    Unreachable {
        /// Identifies the URL.
        revision: String,
        /// Host and port.
        endpoint: String,
        /// The error.
        message: String,
    },
    /// Redis has answered.
    Answered {
        /// Identifies the URL.
        revision: String,
        /// Host and port.
        endpoint: String,
    },
}

/// The external Redises of all CachedServices.
pub struct Externals {
    client: Client,
    triggers: Triggers,
    followed: Mutex<HashMap<ObjectRef<CachedService>, Followed>>,
}

struct Followed {
    url: SecretKeyRef,
    state: watch::Receiver<ExternalState>,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Externals {
    /// Follows nothing yet.
    #[must_use]
    pub fn new(client: Client, triggers: Triggers) -> Self {
        Self { client, triggers, followed: Mutex::default() }
    }

    /// What is known of the Redis whose URL stands at `url`; from now on it is followed.
    pub async fn state(&self, service: &ObjectRef<CachedService>, url: &SecretKeyRef) -> ExternalState {
        let mut state = {
            let mut followed = self.followed.lock();
            if let Some(known) = followed.get(service).filter(|known| known.url == *url) {
                return known.state.borrow().clone();
            }
            let known = self.follow(service.clone(), url.clone());
            let state = known.state.clone();
            followed.insert(service.clone(), known);
            state
        };
        // The first read takes milliseconds; without it pods would be rolled for nothing.
        let known = time::timeout(PATIENCE, state.wait_for(|state| *state != ExternalState::Unknown)).await;
        match known {
            Ok(Ok(state)) => state.clone(),
            _ => ExternalState::Unknown,
        }
    }

    /// Stops following the Redis of a CachedService.
    pub fn forget(&self, service: &ObjectRef<CachedService>) {
        self.followed.lock().remove(service);
    }

    fn follow(&self, service: ObjectRef<CachedService>, url: SecretKeyRef) -> Followed {
        let (sender, state) = watch::channel(ExternalState::Unknown);
        let namespace = service.namespace.clone().unwrap_or_default();
        let secrets = Api::namespaced(self.client.clone(), &namespace);
        let triggers = self.triggers.clone();
        let tell = move |state: ExternalState| {
            let changed = sender.send_if_modified(|known| {
                let changed = *known != state;
                *known = state;
                changed
            });
            if changed {
                triggers.send(service.clone());
            }
        };
        let task = tokio::spawn(follow_secret(secrets, url.clone(), namespace, Box::new(tell)));
        Followed { url, state, task }
    }
}

type Tell = Box<dyn Fn(ExternalState) + Send + Sync>;

async fn follow_secret(secrets: Api<Secret>, url: SecretKeyRef, namespace: String, tell: Tell) {
    let mut changes = std::pin::pin!(watcher::watch_object(secrets, &url.name).default_backoff());
    // Of one task: what asks for an earlier URL, or for nobody any more, must not go on.
    let mut asking: BoxFuture<'_, ()> = future::pending().boxed();
    let mut revision = None;
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = &mut asking => {
                asking = future::pending().boxed();
                continue;
            }
        };
        let Some(change) = change else { return };
        let secret = match change {
            Ok(secret) => secret,
            Err(error) => {
                tracing::warn!(secret = url.name, %error, "cannot read the Secret of an external Redis; trying again");
                // A URL that is known stays good while the API server is out of reach.
                if revision.is_none() {
                    tell(ExternalState::NoUrl {
                        reason: "SecretUnreadable",
                        message: format!("secret {:?} cannot be read: {}", url.name, cause(&error)),
                    });
                }
                continue;
            }
        };
        let target = target(secret.as_ref(), &url, &namespace);
        let present = target.as_ref().ok().map(|target| target.revision.clone());
        if present.is_some() && present == revision {
            continue;
        }
        revision = present;
        asking = match target {
            Err((reason, message)) => {
                tell(ExternalState::NoUrl { reason, message });
                future::pending().boxed()
            }
            Ok(target) => {
                tell(ExternalState::Connecting { revision: target.revision.clone() });
                ask_until_answered(target, &tell).boxed()
            }
        };
    }
}

struct Target {
    client: redis::Client,
    endpoint: String,
    revision: String,
}

fn target(
    secret: Option<&Secret>,
    url: &SecretKeyRef,
    namespace: &str,
) -> Result<Target, (&'static str, String)> {
    let SecretKeyRef { name, key } = url;
    let secret = secret.ok_or_else(|| {
        (
            "SecretMissing",
            format!("secret {name:?} not found; create it with the key {key:?} that holds the Redis URL"),
        )
    })?;
    let value = secret.data.as_ref().and_then(|data| data.get(key)).ok_or_else(|| {
        ("SecretKeyMissing", format!("secret {name:?} has no key {key:?}; add it with a value such as redis://user:password@host:6379/0"))
    })?;
    // The URL itself holds a password: no part of it but host and port may be told.
    let refuse = || {
        (
            "InvalidUrl",
            format!(
                "the key {key:?} of secret {name:?} is no Redis URL; write one such as redis://user:password@host:6379/0, its parts percent-encoded"
            ),
        )
    };
    let text = std::str::from_utf8(&value.0).map_err(|_| refuse())?;
    let info = text.trim_end().into_connection_info().map_err(|_| refuse())?;
    if matches!(info.addr(), ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } if host == "localhost")
    {
        return Err((
            "InvalidUrl",
            format!(
                "the key {key:?} of secret {name:?} names localhost, which is another machine for each pod; write a host that the application and the operator both reach"
            ),
        ));
    }
    let address = reachable_from_here(info.addr().clone(), namespace).ok_or_else(refuse)?;
    let info = info.set_addr(address);
    Ok(Target {
        endpoint: info.addr().to_string(),
        // Keyed with an identity that only readers of the Secret know.
        revision: digest([secret.uid().unwrap_or_default().as_str(), text]),
        client: redis::Client::open(info).map_err(|_| refuse())?,
    })
}

/// The application's pods look a bare name up in their own namespace first; the
/// operator lives in another. With TLS the name has to stay: the certificate is for it.
fn reachable_from_here(address: ConnectionAddr, namespace: &str) -> Option<ConnectionAddr> {
    match address {
        ConnectionAddr::Tcp(host, port) if !host.contains(['.', ':']) => {
            Some(ConnectionAddr::Tcp(format!("{host}.{namespace}.svc"), port))
        }
        ConnectionAddr::Tcp(..) | ConnectionAddr::TcpTls { .. } => Some(address),
        // A socket of the operator's own file system is nobody's Redis.
        _ => None,
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

async fn ask_until_answered(target: Target, tell: &Tell) {
    let mut pause = Duration::from_millis(500);
    let Target { client, endpoint, revision } = target;
    while let Err(error) = ask(&client).await {
        tell(ExternalState::Unreachable {
            revision: revision.clone(),
            endpoint: endpoint.clone(),
            message: error.to_string(),
        });
        time::sleep(pause).await;
        pause = (pause * 2).min(SLOWEST_RETRY);
    }
    tell(ExternalState::Answered { revision, endpoint });
}

async fn ask(client: &redis::Client) -> redis::RedisResult<()> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("PING").query_async::<()>(&mut connection).await
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn url() -> SecretKeyRef {
        SecretKeyRef { name: "cache".to_owned(), key: "url".to_owned() }
    }

    fn secret(value: &str) -> Secret {
        Secret {
            data: Some([("url".to_owned(), ByteString(value.as_bytes().to_vec()))].into()),
            ..Secret::default()
        }
    }

    #[test]
    fn a_missing_secret_and_a_missing_key_are_told_apart() {
        assert_eq!(target(None, &url(), "n").unwrap_err().0, "SecretMissing");
        assert_eq!(target(Some(&Secret::default()), &url(), "n").unwrap_err().0, "SecretKeyMissing");
    }

    #[test]
    fn a_broken_url_is_refused_without_telling_it() {
        let (reason, message) = target(Some(&secret("http://user:hunter2@host")), &url(), "n").unwrap_err();
        assert_eq!(reason, "InvalidUrl");
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn a_socket_of_the_operators_own_file_system_is_refused() {
        let (reason, _) = target(Some(&secret("unix:///run/redis.sock")), &url(), "n").unwrap_err();
        assert_eq!(reason, "InvalidUrl");
    }

    #[test]
    fn localhost_is_refused_as_it_is_never_the_same_for_two_pods() {
        for text in ["redis://localhost:6379", "rediss://localhost"] {
            let (reason, message) = target(Some(&secret(text)), &url(), "n").unwrap_err();
            assert_eq!(reason, "InvalidUrl");
            assert!(message.contains("names localhost"), "{message}");
        }
    }

    #[test]
    fn a_bare_name_is_looked_up_where_the_pods_look_it_up() {
        let endpoint = |url_text: &str| target(Some(&secret(url_text)), &url(), "prod").unwrap().endpoint;
        assert_eq!(endpoint("redis://cache:6379"), "cache.prod.svc:6379");
        assert_eq!(endpoint("redis://cache.other:6379"), "cache.other:6379");
        assert_eq!(endpoint("redis://10.0.0.1:6379"), "10.0.0.1:6379");
    }

    #[test]
    fn the_endpoint_holds_no_password() {
        let target = target(Some(&secret("redis://user:hunter2@host.example:7000/1")), &url(), "n").unwrap();
        assert_eq!(target.endpoint, "host.example:7000");
        assert!(!format!("{target:?}").contains("hunter2"));
    }
}
