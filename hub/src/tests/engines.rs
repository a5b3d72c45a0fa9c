//! Targets of Kustomize and Helm: when they are rendered anew, and for whom.
//!
//! `./dev test` builds the engine and names it in `BELLWETHER_RENDER_ENGINE`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bellwether_core::{Condition, Digest, TargetId};
use serde_json::json;

use super::scene::{ANOTHER, ONE, Scene, finish, label};
use crate::bundle::Bundle;
use crate::bundle::engine_trouble::EngineTrouble;
use crate::process::clock;
use crate::store::work::{self, Stage};
use crate::store::{self, Pool};
use crate::testing::Lines;
use crate::worker::stage::Detached as _;

const OVERLAY: &str = "resources: [../base]\n";
const BASE: &str = "resources: [a.yaml]\n";

impl Scene {
    pub(super) async fn condition_of(&self, target: &str) -> Option<Condition> {
        let id = TargetId::new(self.id(target).await);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        store::renders::find_condition(&mut db, id).await.expect("it is read")
    }

    /// What the target's clusters are to run: one bundle for each set of values.
    pub(super) async fn bundles_of(&self, target: &str) -> BTreeSet<Digest> {
        self.wanted_of(target).await.render.variants.into_values().collect()
    }

    pub(super) async fn wanted_of(&self, target: &str) -> store::wanted::Wanted {
        let id = TargetId::new(self.id(target).await);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        store::wanted::find(&mut db, id).await.expect("it is read").expect("it was rendered")
    }

    /// Whom a push concerns, and what of `one` is wrong then.
    async fn push_to_one(&self, files: &[(&str, &str)]) -> (Vec<uuid::Uuid>, Option<String>) {
        self.push(files).await;
        (self.reconcile(Stage::Bundle).await, self.condition("one").await)
    }
}

/// Tests that need the engine fail without one.
pub(super) fn engine() -> PathBuf {
    let program = std::env::var_os("BELLWETHER_RENDER_ENGINE");
    program.expect("BELLWETHER_RENDER_ENGINE names the engine; `./dev test unit` builds it and sets it").into()
}

pub(super) async fn scene(pool: &Pool, clusters: i64, engine: &Path) -> Scene {
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
    assert_eq!(condition.file.as_deref(), Some("base/a.yaml"));
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

#[crate::store::database_test(migrations = "../migrations")]
async fn what_cannot_be_read_in_a_plain_folder_is_told_by_its_path_from_the_root_on(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/deep/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.upstream.push_link("main", "one/deep/b.yaml", "/etc/passwd");
    scene.tell(Stage::Source, scene.repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    scene.reconcile(Stage::Bundle).await;

    let condition = scene.condition_of("one").await.expect("it is refused");

    assert_eq!((condition.code.as_str(), condition.file.as_deref()), ("file_symlink", Some("one/deep/b.yaml")));
}

/// Its size is in the file of the cluster's environment.
async fn chart_of_environments(scene: &Scene) {
    let files = [("envs/a.yaml", "size: a1\n"), ("envs/b.yaml", "size: b1\n"), ("envs/c.yaml", "size: c1\n")];
    scene.push(&[CHART[0], CHART[1], CHART[2], files[0], files[1], files[2]]).await;
    scene
        .change_spec("one", |spec| {
            let options = json!({"helm": {"valuesFiles": ["envs/${cluster.labels.env}.yaml"]}});
            spec.render = serde_json::from_value(options).expect("options");
        })
        .await;
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_variant_read_counts_as_long_as_the_variant_does(pool: Pool) {
    let scene = scene(&pool, 2, &engine()).await;
    label(&scene, 0, json!({"env": "a"})).await;
    label(&scene, 1, json!({"env": "b"})).await;
    chart_of_environments(&scene).await;
    scene.reconcile(Stage::Bundle).await;
    let first = scene.bundles_of("one").await;
    assert_eq!((scene.condition_of("one").await, first.len()), (None, 2));
    let one = scene.id("one").await;

    label(&scene, 1, json!({"env": "c"})).await;
    scene.tell(Stage::Bundle, one).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition_of("one").await, None);
    scene.push(&[("envs/b.yaml", "size: b2\n")]).await;
    scene.reconcile(Stage::Bundle).await;
    label(&scene, 1, json!({"env": "b"})).await;
    scene.tell(Stage::Bundle, one).await;
    scene.reconcile(Stage::Bundle).await;

    let last = scene.bundles_of("one").await;
    let shared: Vec<_> = first.intersection(&last).collect();
    assert_eq!(shared.len(), 1, "of the two only the one for `a` is still what the files make");
}

/// A program that is the engine, and keeps what it is asked.
fn watched_engine(folder: &Path) -> (PathBuf, PathBuf) {
    let asked = folder.join("asked");
    let text = format!("#!/bin/sh\n/usr/bin/tee -a {} | {}\n", asked.display(), engine().display());
    (program(&folder.join("watched-engine"), &text), asked)
}

/// How often it was asked to render.
fn renders(asked: &Path) -> usize {
    let asked = std::fs::read(asked).unwrap_or_default();
    String::from_utf8_lossy(&asked).matches("{\"render\":").count()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn for_a_cluster_that_joins_nothing_is_rendered_that_others_have(pool: Pool) {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, asked) = watched_engine(folder.path());
    let mut scene = scene(&pool, 2, &program).await;
    scene.push(&CHART).await;
    scene
        .change_spec("one", |spec| {
            let options = json!({"helm": {"values": {"host": "${cluster.name}"}}});
            spec.render = serde_json::from_value(options).expect("options");
        })
        .await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!((scene.bundles_of("one").await.len(), renders(&asked)), (2, 2));
    let one = scene.id("one").await;

    scene.join().await;
    scene.tell(Stage::Bundle, one).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!((scene.bundles_of("one").await.len(), renders(&asked)), (3, 3));

    // At another commit that moves none of it, too.
    scene.push(&[("README.md", "1")]).await;
    scene.join().await;
    scene.tell(Stage::Bundle, one).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!((scene.bundles_of("one").await.len(), renders(&asked)), (4, 4));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_time_did_not_suffice_for_is_rendered_next(pool: Pool) {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, asked) = watched_engine(folder.path());
    let scene = scene(&pool, 3, &program).await;
    scene.push(&CHART).await;
    scene
        .change_spec("one", |spec| {
            let options = json!({"helm": {"values": {"host": "${cluster.name}"}}});
            spec.render = serde_json::from_value(options).expect("options");
        })
        .await;
    let one = scene.id("one").await;

    let (mut bundles, mut rollouts) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        let due = work::list_due(&mut db, Stage::Bundle, clock::now(), &[], 16).await.expect("what is due");
        drop(db);
        let Some(item) = due.into_iter().find(|item| item.key == one) else { break };
        Bundle.reconcile_within(&scene.hub, &item, Duration::ZERO).await.expect("a reconcile");
        bundles.push(scene.bundles_of("one").await.len());
        scene.reconcile(Stage::Rollout).await;
        rollouts.push(scene.rollouts().await.len());
    }

    assert_eq!((bundles, renders(&asked)), (vec![1, 2, 3], 3));
    assert_eq!(scene.condition_of("one").await, None);
    assert_eq!(rollouts, [0, 0, 1], "nobody is rolled out to before there is something for everybody");
    let all = scene.runs_of_all().await;
    assert_eq!(all.into_iter().flatten().count(), 3, "its waves have all of them");
    assert!(!scene.entries().await.iter().any(|entry| entry["action"] == "render.failed"), "nothing failed");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_time_did_not_suffice_for_is_rendered_next_though_a_cluster_before_it_fails(pool: Pool) {
    let scene = Scene::new(&pool, 3).await;
    let by_name = "names/${cluster.name}.yaml".to_owned();
    scene.change_spec("one", |spec| spec.render.parameter_files = vec![by_name.into()]).await;
    let names = ["names/cluster-1.yaml", "names/cluster-2.yaml", "names/cluster-3.yaml"];
    let manifest = ONE.replace("name: one", "name: \"${name}\"");
    let files = [("one/a.yaml", &*manifest), (names[0], "name: [a"), (names[1], "name: b"), (names[2], "name: c")];
    scene.push(&files).await;
    let one = scene.id("one").await;

    let mut bundles = Vec::new();
    for _ in 0..10 {
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        let due = work::list_due(&mut db, Stage::Bundle, clock::now(), &[], 16).await.expect("what is due");
        drop(db);
        let Some(item) = due.into_iter().find(|item| item.key == one) else { break };
        Bundle.reconcile_within(&scene.hub, &item, Duration::ZERO).await.expect("a reconcile");
        bundles.push(scene.bundles_of("one").await.len());
    }

    assert_eq!(bundles, [1, 2]);
    let condition = scene.condition_of("one").await.expect("the first has nothing");
    assert!(condition.message.starts_with("not for cluster-1: "), "{condition:?}");
}

impl Scene {
    async fn runs_of_all(&self) -> Vec<Option<Digest>> {
        let mut runs = Vec::new();
        for cluster in &self.clusters {
            runs.push(self.runs(*cluster).await);
        }
        runs
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_an_earlier_version_of_this_program_made_is_made_anew_whenever_it_was_made(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let (one, before) = (scene.id("one").await, scene.wanted_of("one").await);
    assert_eq!(before.render.engine.as_deref(), Some(&*bellwether_render::made_by(None)));
    let mark = async |made_by: Option<&str>| {
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        // As it is in a database of an earlier version, and as another hub writes it meanwhile.
        sqlx::query("update renders set engine = $2 where target_id = $1")
            .bind(one)
            .bind(made_by)
            .execute(&mut *db)
            .await
            .expect("it is written");
        drop(db);
        crate::bundle::sweep_engines(&scene.hub, &EngineTrouble::default(), clock::now()).await.expect("a sweep");
        scene.reconcile(Stage::Bundle).await
    };

    assert_eq!(mark(Some("render 999999")).await, Vec::<uuid::Uuid>::new(), "a later hub's stays");
    for made_by in [None, Some("engine 0.2.0, helm v4.3.1, kustomize v0.21.2"), Some("render 0")] {
        let last = scene.wanted_of("one").await.render.id;
        assert_eq!(mark(made_by).await, [one], "{made_by:?}");
        let after = scene.wanted_of("one").await;
        assert_ne!(after.render.id, last);
        assert_eq!(after.render.engine, before.render.engine);
        assert_eq!((after.since, &after.render.variants), (before.since, &before.render.variants), "nobody is moved");
    }
    crate::bundle::sweep_engines(&scene.hub, &EngineTrouble::default(), clock::now()).await.expect("a sweep");
    assert_eq!(scene.reconcile(Stage::Bundle).await, Vec::<uuid::Uuid>::new());
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_only_a_kustomization_over_a_chart_refers_to_makes_clusters_differ(pool: Pool) {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, asked) = watched_engine(folder.path());
    let mut scene = scene(&pool, 3, &program).await;
    scene.push(&CHART).await;
    scene.push(&[("over/kustomization.yaml", "commonAnnotations: {cluster: \"${cluster.name}\"}\n")]).await;
    scene
        .change_spec("one", |spec| {
            spec.render = serde_json::from_value(json!({"kustomize": "over", "helm": {}})).expect("options");
        })
        .await;

    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition_of("one").await, None);
    assert_eq!(
        (scene.bundles_of("one").await.len(), renders(&asked)),
        (3, 3),
        "what the first finds changes nothing of it"
    );
    scene.join().await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!((scene.bundles_of("one").await.len(), renders(&asked)), (4, 4), "it is known then");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_later_cluster_refers_to_and_the_others_do_not_is_rendered_and_reaches_it(pool: Pool) {
    let mut scene = scene(&pool, 1, &engine()).await;
    scene.push(&CHART).await;
    scene
        .push(&[
            ("over/dev/kustomization.yaml", "commonAnnotations: {size: small}\n"),
            ("over/prod/kustomization.yaml", "commonAnnotations: {replicas: \"${replicas}\"}\n"),
        ])
        .await;
    scene
        .change_spec("one", |spec| {
            let options = json!({"kustomize": "over/${cluster.labels.env}", "helm": {}});
            spec.render = serde_json::from_value(options).expect("options");
            spec.parameters = serde_json::from_value(json!([{"values": {"replicas": 3}}])).expect("sets");
        })
        .await;
    label(&scene, 0, json!({"env": "dev"})).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    assert_eq!(scene.condition_of("one").await, None);
    let (first, before) =
        (scene.runs(scene.clusters[0]).await.expect("it is rolled out"), scene.wanted_of("one").await);

    finish(&scene, 1).await;

    scene.join().await;
    label(&scene, 1, json!({"env": "prod"})).await;
    for _ in 0..4 {
        scene.reconcile(Stage::Bundle).await;
        scene.reconcile(Stage::Rollout).await;
    }

    let after = scene.wanted_of("one").await;
    assert_ne!(after.render.id, before.render.id, "a row's variants are found by its variables");
    assert_eq!(after.render.variables, ["cluster.labels.env", "replicas"]);
    let second = scene.runs(scene.clusters[1]).await.expect("it is reached");
    assert_ne!(second, first);
    assert_eq!(scene.runs(scene.clusters[0]).await, Some(first), "its own is what it was");
    assert_eq!(scene.reconcile(Stage::Bundle).await, Vec::<uuid::Uuid>::new(), "and then there is peace");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_added_to_the_render_of_a_later_version_is_made_anew_by_that(pool: Pool) {
    let mut scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", super::rollouts::REGIONAL), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let (one, later) = (scene.id("one").await, bellwether_render::VERSION + 1);
    let before = scene.wanted_of("one").await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    // A hub of that version is beside this one.
    let mark = sqlx::query("update renders set engine = $2 where target_id = $1");
    mark.bind(one).bind(format!("render {later}")).execute(&mut *db).await.expect("it is written");
    let made_otherwise = async |db: &mut store::Connection| {
        store::wanted::list_made_otherwise(db, later, None, clock::new_id(), 10).await.expect("they are read")
    };
    assert!(!made_otherwise(&mut db).await.contains(&one), "all of it is that version's");

    scene.join().await;
    label(&scene, 1, json!({"region": "eu"})).await;
    scene.reconcile(Stage::Bundle).await;

    let after = scene.wanted_of("one").await;
    assert_eq!((after.render.id, after.render.variants.len()), (before.render.id, 2), "nobody else is moved");
    assert!(made_otherwise(&mut db).await.contains(&one), "{:?}", after.render.engine);
}

/// A program that waits for a file before it is the engine, and says that it waits.
fn held_engine(folder: &Path) -> PathBuf {
    let (file, at) = (folder.join("held-engine"), folder.display());
    let text = format!(
        "#!/bin/sh\n: >{at}/waits\nwhile [ ! -e {at}/go ]; do /bin/sleep 0.02; done\nexec {}\n",
        engine().display()
    );
    program(&file, &text)
}

/// Written by another process: one that is started while this one writes would hold the file.
fn program(file: &Path, text: &str) -> PathBuf {
    let write = "cat >\"$1\" && chmod 755 \"$1\"";
    let child = Command::new("/bin/sh").args(["-c", write, "sh"]).arg(file).stdin(Stdio::piped()).spawn();
    let mut child = child.expect("it starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), text.as_bytes()).expect("it is written");
    assert!(child.wait().expect("it ends").success());
    file.to_owned()
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

/// A program that says that it is an engine of another version, and is the same otherwise.
fn other_engine(folder: &Path) -> PathBuf {
    let engine = engine();
    let said = Command::new(&engine).stdin(Stdio::null()).output().expect("it says who it is, and ends").stdout;
    let mut hello: serde_json::Value = serde_json::from_slice(&said[4..]).expect("a frame");
    hello["hello"]["helm"] = "v0".into();
    let hello = hello.to_string();
    std::fs::write(
        folder.join("hello"),
        [&u32::try_from(hello.len()).expect("a short one").to_be_bytes(), hello.as_bytes()].concat(),
    )
    .expect("a file");
    let text = format!(
        // What is passed on is not held back.
        "#!/bin/sh\n/bin/cat {}/hello\n{} | (/bin/dd bs=1 count={} of=/dev/null status=none; exec /bin/cat)\n",
        folder.display(),
        engine.display(),
        said.len()
    );
    program(&folder.join("other-engine"), &text)
}

#[crate::store::database_test(migrations = "../migrations")]
async fn another_engine_renders_anew_what_an_engine_made_and_moves_nobody_where_the_same_comes_out(pool: Pool) {
    let mut scene = scene(&pool, 1, &engine()).await;
    scene.push(&[("one/kustomization.yaml", "resources: [a.yaml]\n"), ("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let (one, before, first) = (scene.id("one").await, scene.wanted_of("one").await, scene.hub.clone());
    assert!(before.render.engine.as_ref().is_some_and(|engine| engine.contains("kustomize v")), "{before:?}");
    assert_eq!(scene.wanted_of("two").await.render.engine.as_deref(), Some(&*bellwether_render::made_by(None)));
    let folder = tempfile::tempdir().expect("a folder");
    let other = other_engine(folder.path());
    let seal_key = scene.folder.path().join("seal-key");
    let settings =
        ["--seal-key-file", &seal_key.to_string_lossy(), "--render-engine", &other.to_string_lossy()].map(String::from);
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let (later, _data) = crate::testing::hub_with(&pool, &settings).await;

    crate::bundle::sweep_engines(&first, &EngineTrouble::default(), clock::now()).await.expect("a sweep");
    assert_eq!(scene.reconcile(Stage::Bundle).await, Vec::<uuid::Uuid>::new(), "it is of its own engine");
    crate::bundle::sweep_engines(&later, &EngineTrouble::default(), clock::now()).await.expect("a sweep");
    assert_eq!(scene.reconcile(Stage::Bundle).await, [one]);
    assert_eq!(scene.wanted_of("one").await.render.id, before.render.id, "a hub of the earlier version took it");
    crate::bundle::sweep_engines(&later, &EngineTrouble::default(), clock::now()).await.expect("a sweep");
    scene.hub = later;
    let fetched = scene.id("one").await;
    scene.tell(Stage::Source, scene.repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [fetched]);

    let after = scene.wanted_of("one").await;
    assert!(after.render.engine.as_ref().is_some_and(|engine| engine.contains("helm v0, ")), "{after:?}");
    assert_ne!(after.render.id, before.render.id);
    assert_eq!((after.since, &after.render.variants), (before.since, &before.render.variants), "nobody is moved");
    for hub in [first, scene.hub.clone()] {
        crate::bundle::sweep_engines(&hub, &EngineTrouble::default(), clock::now()).await.expect("a sweep");
        assert_eq!(scene.reconcile(Stage::Bundle).await, Vec::<uuid::Uuid>::new(), "each has what it wants");
    }
}

/// A program that renders once and dies of what it is asked then, as often as it is started. Says where it notes its starts.
fn mortal_engine(folder: &Path) -> (PathBuf, PathBuf) {
    let starts = folder.join("starts");
    let said = Command::new(engine()).stdin(Stdio::null()).output().expect("it says who it is, and ends").stdout;
    std::fs::write(folder.join("hello"), said).expect("a file");
    let done = json!({"done": {"documents": ONE}}).to_string();
    let length = u32::try_from(done.len()).expect("it is short").to_be_bytes();
    std::fs::write(folder.join("done"), [&length, done.as_bytes()].concat()).expect("a file");
    let at = folder.display();
    let text = format!(
        "#!/bin/sh\necho >>{at}/starts\n/bin/cat {at}/hello\n/usr/bin/head -c 4 >/dev/null\n\
         [ $(/usr/bin/wc -l <{at}/starts) = 1 ] && /bin/cat {at}/done\nexit 1\n"
    );
    (program(&folder.join("mortal-engine"), &text), starts)
}

#[crate::store::database_test(migrations = "../migrations")]
async fn of_values_that_an_engine_dies_of_one_is_tried_and_all_are_tried_again_in_minutes(pool: Pool) {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, starts) = mortal_engine(folder.path());
    let scene = scene(&pool, 4, &program).await;
    scene.push(&CHART).await;
    scene
        .change_spec("one", |spec| {
            let options = json!({"helm": {"values": {"host": "${cluster.name}"}}});
            spec.render = serde_json::from_value(options).expect("options");
        })
        .await;

    scene.reconcile(Stage::Bundle).await;

    let condition = scene.condition_of("one").await.expect("it died");
    assert_eq!(condition.code, "engine_died");
    assert!(condition.message.starts_with("not for cluster-2, cluster-3, cluster-4: "), "{condition:?}");
    assert_eq!(scene.bundles_of("one").await.len(), 1);
    let starts = std::fs::read_to_string(starts).expect("it was started").len();
    assert_eq!(starts, 2, "it is not started for each set of values");
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let later = clock::now() + jiff::SignedDuration::from_mins(10);
    let due = work::list_due(&mut db, Stage::Bundle, later, &[], 16).await.expect("what is due");
    assert_eq!(due.iter().map(|item| item.key).collect::<Vec<_>>(), [scene.id("one").await]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_engine_that_does_not_start_is_told_once_though_it_is_tried_each_hour(pool: Pool) {
    let scene = scene(&pool, 1, Path::new("/bin/false")).await;
    let (lines, trouble) = (Lines::default(), EngineTrouble::default());
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    for _ in 0..2 {
        crate::bundle::sweep_engines(&scene.hub, &trouble, clock::now()).await.expect("a sweep");
    }

    let logged = lines.text();
    assert_eq!(logged.matches("engine_not_started").count(), 1, "{logged}");
}
