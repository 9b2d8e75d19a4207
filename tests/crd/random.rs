//! What the plan accepts, the API server accepts, or the status carries its
//! refusal unchanged.

use std::time::{Duration, Instant};

use cachedservice::{
    api::{
        CachedService, CachedServiceSpec, condition_type,
        names::{APPLIED_ANNOTATION, FIELD_MANAGER},
    },
    operator::{
        children::children,
        ownership::is_intact,
        plan::{Plan, plan},
    },
};
use futures::{StreamExt, future, stream};
use kube::{
    Api,
    api::{Patch, PatchParams, ValidationDirective},
    core::{DynamicObject, GroupVersionKind},
    discovery::ApiResource,
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::{
    Writer,
    pure::{self, generate},
    sandbox,
    support::{Sandbox, condition, until},
};

/// How many specs are tried, for how long at most, and how many at least.
const SPECS: usize = 150;
const LIMIT: Duration = Duration::from_secs(40);
const LEAST: usize = 50;

/// How many are with the API server at a time.
const AT_A_TIME: usize = 6;

/// How many of the refused are given to the operator.
const SHOWN: usize = 8;

/// What became of a spec.
enum Verdict {
    RefusedBySchema,
    RefusedByPlan,
    RefusedByServer(Refused),
    Accepted,
}

struct Refused {
    spec: Value,
    words: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_accepts_the_server_accepts_or_the_status_says_why_not() {
    let sandbox = sandbox().await;
    let writer = Writer::new(&sandbox);
    let started = Instant::now();
    let verdicts: Vec<Verdict> = stream::iter(specs())
        .take_while(|_| future::ready(started.elapsed() < LIMIT))
        .map(|spec| judge(&sandbox, &writer, spec))
        .buffered(AT_A_TIME)
        .collect()
        .await;
    let count = |wanted: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| wanted(verdict)).count();
    let tried = verdicts.len();
    let accepted = count(|verdict| matches!(verdict, Verdict::Accepted));
    let by_schema = count(|verdict| matches!(verdict, Verdict::RefusedBySchema));
    let by_plan = count(|verdict| matches!(verdict, Verdict::RefusedByPlan));
    let by_server = count(|verdict| matches!(verdict, Verdict::RefusedByServer(_)));
    let tally = format!(
        "of {tried}, {by_schema} were refused by the schema, {by_plan} by the plan, {by_server} by the server"
    );
    println!("{tally}");
    // Else the specs are too wild, or too tame, to show anything.
    assert!(tried >= LEAST && accepted > tried / 4 && by_plan > 0 && by_server >= SHOWN, "{tally}");
    let refused = verdicts.into_iter().filter_map(|verdict| match verdict {
        Verdict::RefusedByServer(refused) => Some(refused),
        _ => None,
    });
    the_operator_tells(&sandbox, refused.take(SHOWN).collect()).await;
}

/// The same specs in every run.
fn specs() -> Vec<Value> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = generate::spec();
    (0..SPECS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

async fn judge(sandbox: &Sandbox, writer: &Writer, spec: Value) -> Verdict {
    let Ok(taken) = writer.ask("shop", &spec).await else { return Verdict::RefusedBySchema };
    // What the schema lets through, the operator can read.
    let read = serde_json::from_value::<CachedServiceSpec>(taken);
    let read = read.unwrap_or_else(|error| panic!("{error}: {spec}"));
    let mut service = CachedService::new("shop", read);
    service.metadata.namespace = Some(sandbox.namespace.clone());
    service.metadata.uid = Some("00000000-0000-4000-8000-000000000001".to_owned());
    let plan = match plan(&service, &pure::nothing(), &pure::defaults()) {
        Ok(plan) => plan,
        Err(invalid) => {
            assert!(invalid.field.starts_with("spec."), "{invalid}");
            return Verdict::RefusedByPlan;
        }
    };
    let words = refusals(sandbox, &plan).await;
    if words.is_empty() { Verdict::Accepted } else { Verdict::RefusedByServer(Refused { spec, words }) }
}

/// What the API server says against the children of a plan.
async fn refusals(sandbox: &Sandbox, plan: &Plan) -> Vec<String> {
    let mut words = Vec::new();
    for mut child in pure::manifests(&children(plan)) {
        child["metadata"]["annotations"][APPLIED_ANNOTATION] = json!("digest");
        match dry_run(sandbox, &child).await {
            // Else the operator would apply it again and again.
            Ok(applied) => assert!(is_intact(&applied.metadata, "digest", &child), "{child}\n{applied:?}"),
            Err(kube::Error::Api(answer)) => {
                assert!(
                    (400..500).contains(&answer.code) && !answer.message.is_empty(),
                    "{answer:?}\n{child}"
                );
                words.push(answer.message.clone());
            }
            Err(error) => panic!("{error}: {child}"),
        }
    }
    words
}

async fn dry_run(sandbox: &Sandbox, child: &Value) -> kube::Result<DynamicObject> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let api_version = text(&child["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text(&child["kind"])));
    let objects: Api<DynamicObject> =
        Api::namespaced_with(sandbox.client.clone(), &sandbox.namespace, &resource);
    let parameters = PatchParams {
        dry_run: true,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    objects.patch(&text(&child["metadata"]["name"]), &parameters, &Patch::Apply(child)).await
}

/// The running operator meets the same refusals, and its status carries them.
async fn the_operator_tells(sandbox: &Sandbox, refused: Vec<Refused>) {
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    for Refused { spec, words } in refused {
        let services = sandbox.api::<CachedService>();
        sandbox.apply("shop", spec.clone()).await;
        until(Duration::from_secs(10), async || {
            let service = sandbox.service("shop").await;
            let degraded = condition(&service, condition_type::DEGRADED).ok_or("no status")?;
            let told = |words: &String| is_in(words, &degraded.message);
            // Of a message that had to be cut, the end is not there.
            let is_whole = !degraded.message.ends_with('…');
            let all_told = if is_whole { words.iter().all(told) } else { words.iter().any(told) };
            let is_told = degraded.status == "True" && all_told;
            if is_told { Ok(()) } else { Err(format!("{words:?} is not in {degraded:?}\nof {spec}")) }
        })
        .await;
        services.delete("shop", &kube::api::DeleteParams::foreground()).await.unwrap();
        // On a new cluster the garbage collector learns of a new kind within half a minute.
        until(Duration::from_secs(60), async || {
            let gone = services.get_opt("shop").await.unwrap().is_none();
            gone.then_some(()).ok_or_else(|| "shop is still there".to_owned())
        })
        .await;
    }
}

/// Whether a message carries the server's words. The server lists several complaints in an
/// order of chance, and a condition has room for about a thousand characters.
fn is_in(words: &str, message: &str) -> bool {
    let mut complaints = words.split(", ").map(|complaint| complaint.trim_end_matches(']'));
    if message.ends_with('…') {
        let beginning = words.split('[').next().unwrap_or_default();
        return message.contains(beginning) && complaints.any(|complaint| message.contains(complaint));
    }
    complaints.all(|complaint| message.contains(complaint.rsplit(": [").next().unwrap_or(complaint)))
}
