//! Targets of Kustomize and Helm: when they are rendered anew, and for whom.
//!
//! `./dev test` builds the engine and names it in `BELLWETHER_RENDER_ENGINE`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bellwether_core::{Condition, Digest, TargetId};
use serde_json::json;

use super::scene::{ANOTHER, ONE, Scene};
use crate::bundle::Bundle;
use crate::process::clock;
use crate::store::work::{self, Stage};
use crate::store::{self, Pool};
use crate::worker::stage::Detached as _;

const OVERLAY: &str = "resources: [../base]\n";
const BASE: &str = "resources: [a.yaml]\n";

impl Scene {
    async fn condition_of(&self, target: &str) -> Option<Condition> {
        let id = TargetId::new(self.id(target).await);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        store::renders::find_condition(&mut db, id).await.expect("it is read")
    }

    /// What the target's clusters are to run: one bundle for each set of values.
    async fn bundles_of(&self, target: &str) -> BTreeSet<Digest> {
        let id = TargetId::new(self.id(target).await);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let wanted = store::wanted::find(&mut db, id).await.expect("it is read").expect("it was rendered");
        wanted.render.variants.into_values().collect()
    }

    /// Whom a push concerns, and what of `one` is wrong then.
    async fn push_to_one(&self, files: &[(&str, &str)]) -> (Vec<uuid::Uuid>, Option<String>) {
        self.push(files).await;
        (self.reconcile(Stage::Bundle).await, self.condition("one").await)
    }
}

/// Tests that need the engine fail without one.
fn engine() -> PathBuf {
    let program = std::env::var_os("BELLWETHER_RENDER_ENGINE");
    program.expect("BELLWETHER_RENDER_ENGINE names the engine; `./dev test unit` builds it and sets it").into()
}

async fn scene(pool: &Pool, clusters: i64, engine: &Path) -> Scene {
    let settings = ["--render-engine", &engine.to_string_lossy(), "--allow-unconfined-render"];
    Scene::with(pool, clusters, &settings, &json!({"waves": [{"name": "all", "maxConcurrent": "100%"}]})).await
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_base_that_an_overlay_reads_renders_it_anew_and_what_lies_beside_it_does_not(pool: Pool) {
    let scene = scene(&pool, 1, &engine()).await;
    let files = [("base/kustomization.yaml", BASE), ("base/a.yaml", ONE), ("base/README.md", "1")];
    scene.push(&files).await;
    scene.push(&[("one/kustomization.yaml", OVERLAY), ("two/a.yaml", ONE)]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await.len(), 2);
    assert_eq!(scene.condition_of("one").await, None);
    let before = scene.bundles_of("one").await;
    let one = scene.id("one").await;

    for beside in [("base/README.md", "2"), ("base/b.yaml", ANOTHER), ("one/README.md", "1"), ("README.md", "1")] {
        assert_eq!(scene.push_to_one(&[beside]).await, (vec![], None), "{beside:?}");
    }
    assert_eq!(scene.push_to_one(&[("base/a.yaml", ANOTHER)]).await, (vec![one], None));
    let after = scene.bundles_of("one").await;
    assert_ne!(after, before);
    assert_eq!(scene.push_to_one(&[("base/kustomization.yaml", "resources: [a.yaml, b.yaml]\n")]).await.0, [one]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_base_that_appears_where_it_was_looked_for_is_found(pool: Pool) {
    let scene = scene(&pool, 1, &engine()).await;
    scene.push(&[("one/kustomization.yaml", "# eu\nresources:\n- ../base\n"), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let condition = scene.condition_of("one").await.expect("there is no base");
    assert_eq!(condition.code, "kustomize_failed");
    assert_eq!((condition.file.as_deref(), condition.line), (Some("one/kustomization.yaml"), Some(3)));
    assert!(condition.message.contains("base"), "{condition:?}");
    let one = scene.id("one").await;

    assert_eq!(scene.push_to_one(&[("base/kustomization.yaml", BASE), ("base/a.yaml", ONE)]).await, (vec![one], None));

    // What was not there and did no harm is looked for as well.
    scene.push(&[("two/Chart.yaml", "apiVersion: v2\nname: two\nversion: 1.0.0\n")]).await;
    scene.reconcile(Stage::Bundle).await;
    let two = scene.id("two").await;
    scene.push(&[("two/templates/a.yaml", ONE)]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [two]);
    assert_eq!(scene.condition_of("two").await, None);
    scene.push(&[("two/values.yaml", "a: 1\n")]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [two]);
}

const CHART: [(&str, &str); 4] = [
    ("two/a.yaml", ONE),
    ("one/Chart.yaml", "apiVersion: v2\nname: one\nversion: 1.0.0\n"),
    (
        "one/templates/a.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one, namespace: default}\n\
         data: {size: {{ .Values.size | quote }}, host: {{ .Values.host | quote }}}\n",
    ),
    ("envs/small.yaml", "size: small\n"),
];

#[crate::store::database_test(migrations = "../migrations")]
async fn a_chart_is_rendered_once_for_each_set_of_values_that_it_uses(pool: Pool) {
    let scene = scene(&pool, 3, &engine()).await;
    scene.push(&CHART).await;
    scene
        .change_spec("one", |spec| {
            let options = json!({"helm": {"values": {"host": "${host}"}, "valuesFiles": ["envs/small.yaml"]}});
            spec.render = serde_json::from_value(options).expect("options");
            spec.parameters =
                serde_json::from_value(json!([{"values": {"host": "a.example.org", "other": 1}}])).expect("sets");
        })
        .await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition_of("one").await, None);
    assert_eq!(scene.bundles_of("one").await.len(), 1, "all three have the same");

    scene
        .change_spec("one", |spec| {
            spec.parameters = serde_json::from_value(json!([{"values": {"host": "${x}"}}])).expect("sets");
            let options = json!({"helm": {"values": {"host": "${cluster.name}"}, "valuesFiles": ["envs/small.yaml"]}});
            spec.render = serde_json::from_value(options).expect("options");
        })
        .await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.bundles_of("one").await.len(), 3, "each has a name of its own");

    let one = scene.id("one").await;
    assert_eq!(scene.push_to_one(&[("envs/large.yaml", "size: large\n")]).await, (vec![], None));
    assert_eq!(scene.push_to_one(&[("envs/small.yaml", "size: tiny\n")]).await, (vec![one], None));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_whose_file_of_values_is_missing_lacks_its_bundle_and_the_others_have_theirs(pool: Pool) {
    let scene = scene(&pool, 2, &engine()).await;
    scene.push(&CHART).await;
    scene.push(&[("envs/cluster-1.yaml", "host: a\n")]).await;
    scene
        .change_spec("one", |spec| {
            let options = json!({"helm": {"valuesFiles": ["envs/small.yaml", "envs/${cluster.name}.yaml"]}});
            spec.render = serde_json::from_value(options).expect("options");
        })
        .await;

    scene.reconcile(Stage::Bundle).await;

    let condition = scene.condition_of("one").await.expect("one is missing");
    assert!(condition.message.starts_with("not for cluster-2: "), "{condition:?}");
    assert!(condition.message.contains("envs/cluster-2.yaml"), "{condition:?}");
    assert_eq!(scene.bundles_of("one").await.len(), 1);
    let one = scene.id("one").await;
    assert_eq!(scene.push_to_one(&[("envs/cluster-2.yaml", "host: b\n")]).await, (vec![one], None));
    assert_eq!(scene.bundles_of("one").await.len(), 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_link_in_a_base_is_told_by_its_name_and_the_last_render_stays(pool: Pool) {
    let scene = scene(&pool, 1, &engine()).await;
    scene.push(&[("base/kustomization.yaml", BASE), ("base/a.yaml", ONE), ("one/kustomization.yaml", OVERLAY)]).await;
    scene.reconcile(Stage::Bundle).await;
    let before = scene.bundles_of("one").await;

    scene.upstream.push_link("main", "base/a.yaml", "/etc/passwd");
    scene.tell(Stage::Source, scene.repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    scene.reconcile(Stage::Bundle).await;

    let condition = scene.condition_of("one").await.expect("it is refused");
    assert_eq!(
        (condition.code.as_str(), condition.message.as_str()),
        ("file_symlink", "`base/a.yaml` is a symbolic link")
    );
    assert_eq!(scene.bundles_of("one").await, before);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_hub_without_an_engine_says_so_at_the_targets_that_need_one_and_tries_again(pool: Pool) {
    let scene = scene(&pool, 1, Path::new("/nowhere/engine")).await;
    scene.push(&[("one/kustomization.yaml", "resources: [a.yaml]\n"), ("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;

    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("engine_not_started"));
    assert_eq!(scene.condition("two").await, None, "plain files need none");
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let later = clock::now() + jiff::SignedDuration::from_mins(10);
    let due = work::list_due(&mut db, Stage::Bundle, later, &[], 16).await.expect("what is due");
    assert_eq!(
        due.iter().map(|item| item.key).collect::<Vec<_>>(),
        [scene.id("one").await],
        "nothing in Git may change"
    );
}

/// A program that waits for a file before it is the engine, and says that it waits.
fn held_engine(folder: &Path) -> PathBuf {
    let (file, at) = (folder.join("held-engine"), folder.display());
    let text = format!(
        "#!/bin/sh\n: >{at}/waits\nwhile [ ! -e {at}/go ]; do /bin/sleep 0.02; done\nexec {}\n",
        engine().display()
    );
    // Written by another process: one that is started while this one writes would hold the file.
    let write = "cat >\"$1\" && chmod 755 \"$1\"";
    let child = Command::new("/bin/sh").args(["-c", write, "sh"]).arg(&file).stdin(Stdio::piped()).spawn();
    let mut child = child.expect("it starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), text.as_bytes()).expect("it is written");
    assert!(child.wait().expect("it ends").success());
    file
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_moves_while_a_render_first_reads_it_is_rendered_anew(pool: Pool) {
    let folder = tempfile::tempdir().expect("a folder");
    let scene = scene(&pool, 1, &held_engine(folder.path())).await;
    scene
        .push(&[("one/a.yaml", ONE), ("base/kustomization.yaml", BASE), ("base/a.yaml", ONE), ("two/a.yaml", ONE)])
        .await;
    scene.reconcile(Stage::Bundle).await;
    let one = scene.id("one").await;
    // From plain files to an overlay: of the base nobody knows until it is rendered.
    scene.push(&[("one/kustomization.yaml", OVERLAY)]).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let due = work::list_due(&mut db, Stage::Bundle, clock::now(), &[], 16).await.expect("what is due");
    let hub = scene.hub.clone();
    let item = due.into_iter().find(|item| item.key == one).expect("it is due");
    let rendering = tokio::spawn(async move { Bundle.reconcile(&hub, &item).await });
    let deadline = Instant::now() + Duration::from_secs(20);
    while !folder.path().join("waits").exists() {
        assert!(Instant::now() < deadline, "it does not come to render");
        tokio::task::yield_now().await;
    }

    scene.push(&[("base/a.yaml", ANOTHER)]).await;
    std::fs::write(folder.path().join("go"), "").expect("a file");
    rendering.await.expect("no panic").expect("a reconcile");

    let before = scene.bundles_of("one").await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [one], "the push compared what the render before it had read");
    assert_ne!(scene.bundles_of("one").await, before);
}
