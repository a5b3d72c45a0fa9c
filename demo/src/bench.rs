//! The benchmark `push`: one commit that changes five objects in one cluster, told by webhook.
//!
//! Beside it, in the same run: the floor, which is the same five objects applied by nobody but a client with a kept
//! connection, and Git's part, which is a fetch of each commit by `git` itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::bare::{BareClient, FLOOR, Prepared, deployment, service};
use crate::figures::{ms_between, nearest_rank};
use crate::ground::{Ground, PATIENCE, Place};
use crate::sample::Sample;
use crate::show::Show;
use crate::steps::healthy_ms;
use bellwether_e2e::git_server::Push;

pub const WATCHED: [&str; 5] = [
    "configmap:five/one:value",
    "configmap:five/two:value",
    "configmap:five/three:value",
    "service:five/four:bench/value",
    "deployment:five/five:bench/value",
];
const PUSHES: usize = 50;
const WARM_UP: usize = 3;
const TARGET: &str = "five";
const TARGET_FILE: &str = "apiVersion: bellwether.dev/v1
kind: Target
metadata: {name: five}
spec: {repo: apps, path: five, namespace: five, rollout: {waves: [{name: all}]}}
";

/// All samples, in milliseconds.
#[derive(Debug, Default)]
struct Samples {
    applied: Vec<f64>,
    healthy: Vec<f64>,
    floor: Vec<f64>,
    git_fetch: Vec<f64>,
    push_returned: Vec<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Milliseconds {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Milliseconds {
    pub(crate) fn of(samples: &[f64]) -> Result<Self> {
        let rank = |percent| nearest_rank(samples, percent).map(|ms| (ms * 10.0).round() / 10.0);
        let (p50, p99) = rank(50).zip(rank(99)).context("nothing was measured")?;
        Ok(Self { p50, p99 })
    }
}

/// What came of it: a table for people, and the document.
#[derive(Debug)]
pub struct Outcome {
    pub table: String,
    pub document: Value,
}

/// Measures on a state folder of its own.
pub async fn push(state: &Path, evidence: Option<&Path>) -> Result<Outcome> {
    let mut show = Show::begin();
    let mut ground = Ground::start(state, &Place::Own(1), Sample::played(), &WATCHED, &mut show).await?;
    ground.join_all(&show).await?;
    let first = ground.push("Begin", &[("five/all.yaml", &manifest(TARGET, "0"))]).await?;
    ground.apply(TARGET, TARGET_FILE).await?;
    ground.wait_for_rollout(TARGET, &first.commit, &["done"]).await?;
    let mut samples = Samples::default();
    let pushes = measure(&mut ground, &mut show, &mut samples).await?;
    samples.healthy = healthy_ms(&ground, TARGET, &pushes).await?;
    samples.floor = floor(&ground).await?;
    if let Some(folder) = evidence {
        std::fs::create_dir_all(folder)?;
        std::fs::copy(crate::ground::stamps_file(state), folder.join("watch.stamps"))?;
        std::fs::copy(ground.repo.folder.join("stamps"), folder.join("refs.stamps"))?;
        std::fs::write(folder.join("audit.json"), serde_json::to_vec_pretty(&ground.audit("").await?)?)?;
    }
    outcome(&samples)
}

async fn measure(ground: &mut Ground, show: &mut Show, samples: &mut Samples) -> Result<Vec<(Push, String)>> {
    show.step("pushes of five objects", PUSHES + WARM_UP);
    let mirror = ground.state.join("mirror");
    ground.tree.git(["clone", "--quiet", "--bare", &ground.repo.url, &mirror.display().to_string()]).await?;
    let git_dir = format!("--git-dir={}", mirror.display());
    let mut pushes = Vec::new();
    for number in 1..=PUSHES + WARM_UP {
        let value = format!("{number}");
        let push = ground.push("Change five", &[("five/all.yaml", &manifest(TARGET, &value))]).await?;
        let mut last = 0;
        for object in ["one", "two", "three", "four", "five"] {
            let seen = ground.stamps.wait_for(&format!("{object}-{value}"), 1, 0, PATIENCE).await?;
            last = seen.into_values().max().unwrap_or(0).max(last);
        }
        let rollout = ground.wait_for_rollout(TARGET, &push.commit, &["done"]).await?;
        let begun = Instant::now();
        ground.tree.git([git_dir.as_str(), "fetch", "--quiet", "origin", "main"]).await?;
        let fetched = begun.elapsed().as_secs_f64() * 1e3;
        show.advance();
        if number <= WARM_UP {
            continue;
        }
        samples.git_fetch.push(fetched);
        samples.applied.push(ms_between(push.updated_unix_ns, last));
        samples.push_returned.push(ms_between(push.updated_unix_ns, push.returned_unix_ns));
        pushes.push((push, rollout["id"].as_str().unwrap_or_default().to_owned()));
    }
    show.done(format_args!("{PUSHES} pushes"));
    Ok(pushes)
}

/// The same objects in a namespace of its own, at once.
async fn floor(ground: &Ground) -> Result<Vec<f64>> {
    let cluster = ground.clusters.first().context("there is one cluster")?;
    let client = BareClient::of(&cluster.kubeconfig).await?;
    ground.kubectl(1)?.run(&["create", "namespace", FLOOR]).await?;
    let mut samples = Vec::new();
    for number in 0..PUSHES + WARM_UP {
        let objects = objects(FLOOR, &number.to_string()).into_iter().map(Prepared::of).collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        client.apply_all(&objects).await?;
        if number >= WARM_UP {
            samples.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(samples)
}

fn objects(namespace: &str, value: &str) -> Vec<Value> {
    let metadata = |name: &str| json!({"name": name, "namespace": namespace, "annotations": {"bench/value": format!("{name}-{value}")}});
    let map = |name: &str| {
        let data = BTreeMap::from([("value", format!("{name}-{value}"))]);
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name), "data": data})
    };
    vec![map("one"), map("two"), map("three"), service(&metadata("four")), deployment(&metadata("five"))]
}

/// JSON is YAML. The namespace comes first and never changes.
fn manifest(namespace: &str, value: &str) -> String {
    let namespace_object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let all: Vec<String> =
        std::iter::once(namespace_object).chain(objects(namespace, value)).map(|object| object.to_string()).collect();
    all.join("\n---\n")
}

/// Of this program, and of those beside it.
pub(crate) const fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

fn outcome(samples: &Samples) -> Result<Outcome> {
    let applied = Milliseconds::of(&samples.applied)?;
    let healthy = Milliseconds::of(&samples.healthy)?;
    let floor = Milliseconds::of(&samples.floor)?;
    let fetch = Milliseconds::of(&samples.git_fetch)?;
    let returned = Milliseconds::of(&samples.push_returned)?;
    let rows = [
        ("ref update → all five objects new", applied),
        ("ref update → healthy", healthy),
        ("floor: the five applied by a bare client", floor),
        ("Git's part: `git fetch` of one commit", fetch),
        ("ref update → `git push` returned", returned),
    ];
    let rows = rows.map(|(what, ms)| format!("{what:44} {:>8.1} {:>8.1}\n", ms.p50, ms.p99));
    let table = format!("{:44} {:>8} {:>8}\n{}", "ms", "p50", "p99", rows.concat());
    let conditions = json!({
        "build": build(),
        "clusters": 1, "objects": 5, "pushes": PUSHES, "waves": 1, "soak_s": 0, "trigger": "webhook", "fsync": true,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "controller_manager_qps": 1000, "concurrent_deployment_syncs": 50, "percentiles": "nearest rank",
    });
    let metrics = json!({
        "applied_ms": applied, "healthy_ms": healthy, "floor_ms": floor, "git_fetch_ms": fetch,
        "push_returned_ms": returned,
    });
    Ok(Outcome { table, document: json!({"bench": "push", "conditions": conditions, "metrics": metrics}) })
}
