//! One leads, others stand by, and never do two write.

use std::{collections::BTreeSet, time::Duration};

use cachedservice::api::parse_duration;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        AuditEntry, AuditMark, Installation, Sandbox,
        child::{DEPLOYMENT, SERVICE},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(20);
/// Quicker than the defaults, in the same proportions.
const QUICK: [&str; 6] = ["--lease-duration", LEASE, "--renew-deadline", "2500ms", "--retry-period", RETRY];
const LEASE: &str = "4s";
const RETRY: &str = "500ms";

fn spec(port: u16) -> Value {
    json!({ "image": "example.com/shop:1", "service": { "port": port }, "autoscaling": { "minReplicas": 3 } })
}

#[tokio::test]
async fn a_standby_takes_over_within_the_lease_after_a_kill_and_at_once_after_a_goodbye() {
    let (sandbox, _turn) = sandbox().await;
    let installation = sandbox.install().await;
    let sibling = installation.sibling(&sandbox).await;
    let _kubelet = sandbox.kubelet();
    let began = sandbox.audit_mark().await;
    let mut first = installation.start("first");
    first.until_leading(LIMIT).await;
    let mut second = sibling.start("second");
    second.until_standing_by(LIMIT).await;
    sandbox.apply("shop", spec(81)).await;
    sandbox.until_ready("shop").await;

    let settled = sandbox.child(DEPLOYMENT, "shop").await.metadata.generation;

    let mark = sandbox.audit_mark().await;
    let killed = Timestamp::now();
    first.kill();
    sandbox.apply("shop", spec(82)).await;
    second.until_leading(Duration::from_secs(60)).await;
    assert_taken_over(&sandbox, mark, &sibling, killed, ["15s", "2s"]).await;
    until_port(&sandbox, 82).await;
    assert_one_after_the_other(&sandbox, began, &installation, &sibling).await;

    let third = installation.start("third");
    third.until_standing_by(LIMIT).await;
    let ended = second.terminate().await;
    assert!(ended.success(), "{ended}: {}", second.log());
    third.until_leading(LIMIT).await;
    assert_eq!(holder(&sandbox).await.as_deref(), Some("third"));
    sandbox.apply("shop", spec(83)).await;
    until_port(&sandbox, 83).await;
    sandbox.until_ready("shop").await;
    let deployment = sandbox.child(DEPLOYMENT, "shop").await;
    assert_eq!(deployment.data["spec"]["replicas"], 3);
    assert_eq!(deployment.metadata.generation, settled, "the spec was changed in between");
}

/// Asserts that the Lease was taken as soon after a kill as its two durations allow.
async fn assert_taken_over(
    sandbox: &Sandbox,
    mark: AuditMark,
    by: &Installation,
    killed: Timestamp,
    [lease, retry]: [&str; 2],
) {
    /// The rest is the machine's.
    const SLACK: Duration = Duration::from_secs(3);
    let taken = sandbox.lease_writes_since(mark, &by.user).await;
    let taken = taken.iter().map(AuditEntry::at).min().expect("it took the Lease");
    let within: Duration = taken.duration_since(killed).try_into().expect("after the kill");
    println!("took over {within:?} after the kill");
    // It has seen the last renewal up to a retry period after it was written.
    let [lease, retry] = [lease, retry].map(|duration| parse_duration(duration).unwrap());
    assert!(within <= lease + retry + SLACK, "took over {within:?} after the kill");
}

#[tokio::test]
async fn leaders_killed_in_the_middle_of_their_work_are_followed_within_the_lease_and_two_never_write() {
    let (sandbox, _turn) = sandbox().await;
    let first = sandbox.install().await;
    let second = first.sibling(&sandbox).await;
    let _kubelet = sandbox.kubelet();
    let began = sandbox.audit_mark().await;
    let names: Vec<String> = (0..8).map(|number| format!("shop-{number}")).collect();
    // Of two accounts in turn, so that the audit log tells them apart.
    let accounts = [&first, &second];
    let start = |turn: usize| accounts[turn % 2].start_with(&format!("turn-{turn}"), &QUICK);
    let mut leader = start(0);
    leader.until_leading(LIMIT).await;
    for turn in 0..2 {
        let standby = start(turn + 1);
        standby.until_standing_by(LIMIT).await;
        let mark = sandbox.audit_mark().await;
        for name in &names {
            sandbox.apply(name, spec(81 + u16::try_from(turn).unwrap())).await;
        }
        // With most of its work before it.
        sandbox.until_written(mark, &accounts[turn % 2].user, 5).await;
        let killed = Timestamp::now();
        leader.kill();
        standby.until_leading(LIMIT).await;
        assert_taken_over(&sandbox, mark, accounts[(turn + 1) % 2], killed, [LEASE, RETRY]).await;
        leader = standby;
    }
    for name in &names {
        sandbox.until_ready(name).await;
    }

    let (mut writers, mut touched) = (Vec::new(), BTreeSet::new());
    for (number, account) in accounts.iter().enumerate() {
        let writes = sandbox.writes_since(began, &account.user).await;
        touched.extend(writes.iter().map(|write| write.resource().to_owned()));
        writers.extend(writes.iter().map(|write| (write.at(), number)));
    }
    assert!(touched.is_superset(&["deployments", "cachedservices", "events"].map(str::to_owned).into()));
    writers.sort_unstable();
    let mut turns: Vec<usize> = writers.iter().map(|(_, number)| *number).collect();
    turns.dedup();
    assert_eq!(turns, [0, 1, 0], "who wrote, one after the other");
}

#[tokio::test]
async fn told_to_stop_in_the_middle_of_its_work_it_ends_in_order_and_gives_the_lease_back() {
    let (sandbox, _turn) = sandbox().await;
    let installation = sandbox.install().await;
    let mut operator = installation.start("only");
    operator.until_leading(LIMIT).await;
    let mark = sandbox.audit_mark().await;
    for number in 0..6 {
        sandbox.apply(&format!("shop-{number}"), spec(81)).await;
    }
    sandbox.until_written(mark, &installation.user, 5).await;
    let ended = operator.terminate().await;
    assert!(ended.success(), "{ended}: {}", operator.log());
    assert_eq!(holder(&sandbox).await.unwrap_or_default(), "");
}

/// The step towards the wire in which a thread of the process is frozen has asked the clock before,
/// and is finished when it wakes: no program can put the question and the write into one. So a round
/// in which that happened, once for each thread at most, is played again.
#[tokio::test]
async fn a_frozen_leader_that_wakes_after_its_time_writes_nothing() {
    let threads = std::thread::available_parallelism().unwrap().get();
    for _ in 0..3 {
        let late = freeze_and_wake_a_leader().await;
        assert!(late.len() <= threads, "{late:#?}");
        if late.is_empty() {
            return;
        }
    }
    panic!("three times in turn it wrote after it woke");
}

/// What it wrote after it woke. The second began to write after the first had ended to, but for that.
async fn freeze_and_wake_a_leader() -> Vec<AuditEntry> {
    let (sandbox, _turn) = sandbox().await;
    let first_account = sandbox.install().await;
    let second_account = first_account.sibling(&sandbox).await;
    let _kubelet = sandbox.kubelet();
    let mut first = first_account.start_with("first", &QUICK);
    first.until_leading(LIMIT).await;
    let second = second_account.start_with("second", &QUICK);
    second.until_standing_by(LIMIT).await;

    let began = sandbox.audit_mark().await;
    let names: Vec<String> = (0..8).map(|number| format!("shop-{number}")).collect();
    for name in &names {
        sandbox.apply(name, spec(81)).await;
    }
    // Frozen with most of its work before it.
    sandbox.until_written(began, &first_account.user, 5).await;
    first.signal(Signal::STOP);
    second.until_leading(Duration::from_secs(10)).await;
    for name in &names {
        sandbox.until_ready(name).await;
    }

    let woken = sandbox.audit_mark().await;
    first.signal(Signal::CONT);
    let ended = first.ended(LIMIT).await;
    assert!(!ended.success(), "it did not notice that it lost the lead");
    assert!(first.log().contains("lost the lease"), "{}", first.log());
    let late = sandbox.writes_since(woken, &first_account.user).await;
    if late.is_empty() {
        assert_one_after_the_other(&sandbox, began, &first_account, &second_account).await;
    }
    late
}

/// The second began to write after the first had ended to.
async fn assert_one_after_the_other(
    sandbox: &Sandbox,
    since: AuditMark,
    first: &Installation,
    second: &Installation,
) {
    let times = async |installation: &Installation| -> Vec<Timestamp> {
        let writes = sandbox.writes_since(since, &installation.user).await;
        writes.iter().map(AuditEntry::at).collect()
    };
    let last = times(first).await.into_iter().max().expect("writes of the first");
    let next = times(second).await.into_iter().min().expect("writes of the second");
    assert!(last < next, "the first wrote at {last}, the second at {next}");
}

async fn holder(sandbox: &Sandbox) -> Option<String> {
    let lease = sandbox.api::<Lease>().get("cachedservice-operator").await.unwrap();
    lease.spec?.holder_identity
}

async fn until_port(sandbox: &Sandbox, port: u16) {
    until(LIMIT, async || {
        let service = sandbox.child(SERVICE, "shop").await;
        let present = &service.data["spec"]["ports"][0]["port"];
        if present == port { Ok(()) } else { Err(format!("the Service has port {present}")) }
    })
    .await;
}
