//! How soon a changed spec is a changed child, beside what the API server takes for
//! one write by itself.

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use cachedservice::api::CachedService;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    figures::percentile,
    fleet::{IN_A_NAMESPACE, create_namespace, name, namespace},
};

const LIMIT: Duration = Duration::from_secs(30);
/// Between two edits, for what follows from the first: status and Events.
const PAUSE: Duration = Duration::from_millis(100);
/// The namespace of the Deployment that the bare client writes.
const BARE: &str = "bare-edits";

/// An image that a watch has shown, and when.
type Shown = (String, Instant);

/// Edits one CachedService after the other, and between them a Deployment without one.
pub async fn run(
    client: &Client,
    bare_kubeconfig: &Path,
    edits: usize,
    services: usize,
) -> Result<(), Box<dyn Error>> {
    let bare = bare_client(bare_kubeconfig).await?;
    create_namespace(client, BARE).await?;
    let mut twin = twin(client).await?;
    let twins: Api<Deployment> = Api::namespaced(bare, BARE);
    let cached: Api<CachedService> = Api::namespaced(client.clone(), &namespace(0));
    let (mut children, mut bares) = (images(client, &namespace(0)), images(client, BARE));

    let (mut whole, mut reaction, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for edit in 0..edits {
        let image = format!("registry.example.com/edited:{}-{edit}", std::process::id());
        let patch = Patch::Merge(json!({ "spec": { "image": image } }));
        let sent = Instant::now();
        cached.patch(&name(edit % services.min(IN_A_NAMESPACE)), &PatchParams::default(), &patch).await?;
        let answered = Instant::now();
        let shown = shown(&mut children, &image).await?;
        whole.push(shown.duration_since(sent));
        reaction.push(shown.saturating_duration_since(answered));
        tokio::time::sleep(PAUSE).await;

        twin["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        let sent = Instant::now();
        twins.patch("twin", &PatchParams::apply("bare").force(), &Patch::Apply(&twin)).await?;
        own.push(self::shown(&mut bares, &image).await?.duration_since(sent));
        tokio::time::sleep(PAUSE).await;
    }
    let tell = |what: &str, durations: &[Duration]| {
        let milliseconds = |hundredths| percentile(durations, hundredths).as_secs_f64() * 1000.0;
        println!(
            "edit N={services} {what:44} p50 {:6.1} ms  p90 {:6.1} ms  p99 {:6.1} ms",
            milliseconds(50),
            milliseconds(90),
            milliseconds(99)
        );
    };
    tell("spec sent, to the Deployment's change", &whole);
    tell("spec taken, to the Deployment's change", &reaction);
    tell("bare client: Deployment sent, to its change", &own);
    let surplus = percentile(&reaction, 99).as_secs_f64() - percentile(&own, 99).as_secs_f64();
    println!("edit N={services} p99 over the API server's own: {:.1} ms", surplus * 1000.0);
    Ok(())
}

async fn bare_client(kubeconfig: &Path) -> Result<Client, Box<dyn Error>> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?.try_into()?)
}

/// What a child of the fleet is, as nobody's.
async fn twin(client: &Client) -> Result<Value, Box<dyn Error>> {
    let children: Api<Deployment> = Api::namespaced(client.clone(), &namespace(0));
    let child = serde_json::to_value(children.get(&name(0)).await?.spec)?;
    let labels = json!({ "app": "twin" });
    let mut spec = child;
    spec["selector"] = json!({ "matchLabels": labels });
    spec["template"]["metadata"]["labels"] = labels.clone();
    for constraint in
        spec["template"]["spec"]["topologySpreadConstraints"].as_array_mut().into_iter().flatten()
    {
        constraint["labelSelector"] = json!({ "matchLabels": labels });
    }
    Ok(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "twin", "namespace": BARE },
        "spec": spec,
    }))
}

/// The images of the Deployments of a namespace, as an administrator's watch shows them.
fn images(client: &Client, namespace: &str) -> mpsc::UnboundedReceiver<Shown> {
    let (sender, images) = mpsc::unbounded_channel();
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    tokio::spawn(async move {
        let events = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
        let mut objects = std::pin::pin!(events);
        while let Some(object) = objects.next().await {
            let shown = Instant::now();
            let spec = object.ok().and_then(|object| object.spec.template.spec);
            let image = spec.and_then(|spec| spec.containers.into_iter().next()?.image);
            if let Some(image) = image
                && sender.send((image, shown)).is_err()
            {
                return;
            }
        }
    });
    images
}

async fn shown(images: &mut mpsc::UnboundedReceiver<Shown>, wanted: &str) -> Result<Instant, Box<dyn Error>> {
    let find = async {
        while let Some((image, shown)) = images.recv().await {
            if image == wanted {
                return Ok(shown);
            }
        }
        Err("a watch ended".into())
    };
    tokio::time::timeout(LIMIT, find).await.map_err(|_| format!("{wanted} does not come"))?
}
