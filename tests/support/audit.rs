//! Who asked the API server for what, from its audit log.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use rand::RngExt;
use serde::Deserialize;

use super::{Cluster, Sandbox, until};

const VIOLATIONS: &str = "pod-security.kubernetes.io/audit-violations";

/// A point in time, as a place in the audit log.
#[derive(Clone, Copy, Debug)]
pub struct AuditMark(pub(super) u64);

impl AuditMark {
    /// The present end of a log.
    pub(super) fn end_of(log: &Path) -> Self {
        Self(std::fs::metadata(log).expect("the audit log").len())
    }
}

/// One request that is over.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    pub verb: String,
    #[serde(rename = "requestURI")]
    pub uri: String,
    request_received_timestamp: Timestamp,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Clone, Debug)]
struct User {
    username: String,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    api_group: Option<String>,
    resource: Option<String>,
    subresource: Option<String>,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct ResponseStatus {
    code: Option<u16>,
}

impl AuditEntry {
    /// When the API server began with it.
    pub fn at(&self) -> Timestamp {
        self.request_received_timestamp
    }

    /// The plural of the kind.
    pub fn resource(&self) -> &str {
        self.object_ref.as_ref().and_then(|object| object.resource.as_deref()).unwrap_or_default()
    }

    /// The API group, and the plural of the kind with the subresource.
    pub(super) fn group_and_resource(&self) -> (String, String) {
        let object = self.object_ref.clone().unwrap_or_default();
        let resource = [object.resource, object.subresource].into_iter().flatten();
        (object.api_group.unwrap_or_default(), resource.collect::<Vec<_>>().join("/"))
    }

    /// Whether an operator asked, whichever its account.
    pub(super) fn is_of_the_operator(&self) -> bool {
        self.user_agent.starts_with("cachedservice-operator/")
    }

    /// Whether its user has no right to it. Quotas and admission refuse otherwise.
    pub fn is_forbidden(&self) -> bool {
        self.annotations.get("authorization.k8s.io/decision").is_some_and(|decision| decision == "forbid")
    }

    /// The HTTP status of the answer.
    pub fn code(&self) -> u16 {
        self.response_status.as_ref().and_then(|status| status.code).unwrap_or_default()
    }

    /// Whether it asked to change something.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// Whether it asked for objects to be gone.
    pub fn is_deletion(&self) -> bool {
        self.verb.starts_with("delete")
    }

    /// Whether it asked to change something beside the Lease.
    pub fn is_work(&self) -> bool {
        self.is_write() && !self.is_election()
    }

    fn is_of(&self, user: &str) -> bool {
        self.user.username == user
    }

    /// How it breaks the Pod Security Standard of its namespace, of which who asked was warned
    /// (Kubernetes documentation, "Pod Security Admission").
    pub fn violation(&self) -> Option<&str> {
        self.annotations.get(VIOLATIONS).map(String::as_str)
    }

    /// Whether it is part of the leader election.
    pub fn is_election(&self) -> bool {
        self.resource() == "leases"
    }
}

impl Sandbox {
    /// The present, for [`Self::audit_since`].
    pub async fn audit_mark(&self) -> AuditMark {
        AuditMark(self.barrier(AuditMark::end_of(&self.cluster.audit_log)).await.1)
    }

    /// The requests of a user that ended since `mark`, the election's apart.
    /// Watches are left out: they appear at their end. So are the lists that they begin with where
    /// the API server cannot stream them.
    pub async fn audit_since(&self, mark: AuditMark, user: &str) -> Vec<AuditEntry> {
        let mut asked = self.all_since(mark, user).await;
        let streams = streams_lists(&self.client).await;
        asked.retain(|entry| entry.verb != "watch" && !entry.is_election());
        asked.retain(|entry| streams || entry.verb != "list");
        asked
    }

    /// Waits until a user has renewed its Lease so often since `mark`: for that long it was alive
    /// and could have done more.
    pub async fn until_renewed(&self, mark: AuditMark, user: &str, times: usize) {
        until(Duration::from_secs(60), async || {
            let (text, _) = self.cluster.audit_text(mark);
            let renewals =
                entries(&text).filter(|entry| entry.is_of(user) && entry.is_election() && entry.is_write());
            let renewals = renewals.count();
            if renewals >= times { Ok(()) } else { Err(format!("{renewals} renewals")) }
        })
        .await;
    }

    async fn all_since(&self, mark: AuditMark, user: &str) -> Vec<AuditEntry> {
        let (text, _) = self.barrier(mark).await;
        entries(&text).filter(|entry| entry.is_of(user)).collect()
    }

    /// The writes among [`Self::audit_since`].
    pub async fn writes_since(&self, mark: AuditMark, user: &str) -> Vec<AuditEntry> {
        self.audit_since(mark, user).await.into_iter().filter(AuditEntry::is_write).collect()
    }

    /// Waits until none of these users has written anything while the leader, one of them, renewed its
    /// Lease three times.
    pub async fn until_quiet(&self, leader: &str, users: &[&str]) {
        let mut written = Vec::new();
        for _ in 0..20 {
            let mark = self.audit_mark().await;
            self.until_renewed(mark, leader, 3).await;
            written.clear();
            for user in users {
                written.extend(self.writes_since(mark, user).await);
            }
            if written.is_empty() {
                return;
            }
        }
        panic!("the writes do not cease: {written:#?}");
    }

    /// The requests of everybody that ended since `mark`.
    pub async fn everyone_since(&self, mark: AuditMark) -> Vec<AuditEntry> {
        let (text, _) = self.barrier(mark).await;
        entries(&text).collect()
    }

    /// The successful writes of a user to its Lease since `mark`.
    pub async fn lease_writes_since(&self, mark: AuditMark, user: &str) -> Vec<AuditEntry> {
        let mut asked = self.all_since(mark, user).await;
        asked.retain(|entry| entry.is_election() && entry.is_write() && entry.code() < 300);
        asked
    }

    /// Waits until a user has written at least this often since `mark`.
    pub async fn until_written(&self, mark: AuditMark, user: &str, writes: usize) {
        // A new leader may have to wait for the end of a lease first.
        until(Duration::from_secs(90), async || {
            let (text, _) = self.cluster.audit_text(mark);
            let written = entries(&text).filter(|entry| entry.is_of(user) && entry.is_work()).count();
            if written >= writes { Ok(()) } else { Err(format!("{written} writes")) }
        })
        .await;
    }

    /// Everything in the log from `mark` to a request of our own that is made
    /// now: a request is logged after its answer has been sent.
    async fn barrier(&self, mark: AuditMark) -> (String, u64) {
        let name = format!("barrier-{:016x}", rand::rng().random::<u64>());
        self.api::<ConfigMap>().get_opt(&name).await.expect("ask for what is not there");
        until(Duration::from_secs(30), async || {
            let (text, end) = self.cluster.audit_text(mark);
            if text.contains(&name) { Ok((text, end)) } else { Err("the audit log lags".to_owned()) }
        })
        .await
    }
}

pub(super) fn entries(text: &str) -> impl Iterator<Item = AuditEntry> + '_ {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

impl Cluster {
    /// Fails if somebody was warned of a Pod Security Standard since this process began.
    pub(super) fn assert_nobody_was_warned(&self) {
        let mut checked = self.checked.lock().expect("no test panics with it");
        let (text, end) = self.audit_text(AuditMark(*checked));
        // The log is long, and to parse all of it takes seconds.
        let suspects: Vec<&str> = text.lines().filter(|line| line.contains(VIOLATIONS)).collect();
        let warned: Vec<AuditEntry> =
            entries(&suspects.join("\n")).filter(|entry| entry.violation().is_some()).collect();
        *checked = end;
        drop(checked);
        assert!(warned.is_empty(), "the API server warned of this: {warned:#?}");
    }

    /// What was logged since `mark`, up to the last whole line, and where that ends.
    fn audit_text(&self, mark: AuditMark) -> (String, u64) {
        let mut file = File::open(&self.audit_log).expect("the audit log");
        file.seek(SeekFrom::Start(mark.0)).expect("a place in the audit log");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("read the audit log");
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        bytes.truncate(end);
        (String::from_utf8(bytes).expect("text"), mark.0 + end as u64)
    }
}

/// Whether the API server begins watches with a streamed list when it is asked to
/// (Kubernetes documentation, "Feature Gates", `WatchList`).
async fn streams_lists(client: &Client) -> bool {
    let version = client.apiserver_version().await.expect("the version of the API server");
    version.minor.trim_end_matches('+').parse::<u32>().expect("a number") >= 34
}
