//! Renders that are refused, bounded or not begun again.

use bellwether_core::TargetId;

use super::scene::{ANOTHER, ONE, Scene, await_true};
use crate::bundle::Bundle;
use crate::process::clock;
use crate::store::work::{self, QueueItem, Stage};
use crate::store::{self, Pool};
use crate::work::change::Change;
use crate::worker::stage::Detached as _;

#[crate::store::database_test(migrations = "../migrations")]
async fn a_render_that_hubs_died_of_is_not_begun_again_until_something_changes(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.die_of_rendering("one").await;

    assert_eq!(scene.reconcile(Stage::Bundle).await.len(), 2);
    assert_eq!(scene.condition("one").await.as_deref(), Some("render_broke_down"));
    assert_eq!(scene.condition("two").await, None);
    assert_eq!(scene.counts().await["renders"], 1);
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await, None, "another revision is another render");
    assert_eq!(scene.counts().await["renders"], 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_folder_that_hubs_died_of_is_not_read_again(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    // Whoever reads it says so.
    scene.push(&[("one/a\\b.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("file_name_unsafe"));
    scene.die_of_rendering("one").await;

    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("render_broke_down"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_target_that_has_stored_its_share_of_a_day_stores_nothing_more_and_others_do(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let spend = "update render_tries set stored_bytes = 4294967290, stored_since = now()
                   from targets where targets.target_id = render_tries.target_id and name = 'one'";
    store::execute_raw(&pool, spend).await.expect("it is written");
    let before = scene.counts().await["objects"];

    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("content_share_spent"));
    assert_eq!(scene.counts().await["objects"], before);

    scene.push(&[("two/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("two").await, None);
    assert!(scene.counts().await["objects"] > before);

    store::execute_raw(&pool, "update render_tries set stored_since = stored_since - interval '25 h'")
        .await
        .expect("a day passes");
    let third = "{apiVersion: v1, kind: ConfigMap, metadata: {name: third, namespace: default}}";
    scene.push(&[("one/a.yaml", third)]).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await, None);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn objects_in_an_agents_namespace_are_refused_and_the_last_render_stays(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let taken = ONE.replace("namespace: default", "namespace: bellwether-system");

    scene.push(&[("one/b.yaml", &taken)]).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("object_of_the_agent"));
    assert_eq!(scene.counts().await["renders"], 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_sops_sealed_is_rolled_out_to_nobody_and_the_last_render_stays(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let sealed =
        "{apiVersion: v1, kind: Secret, metadata: {name: pw, namespace: default}, data: {a: x}, sops: {mac: x}}";

    scene.push(&[("one/b.yaml", sealed)]).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("object_sealed"));
    assert_eq!(scene.counts().await["renders"], 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_sops_sealed_for_an_agent_is_rendered_in_its_cipher(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let sealed = include_str!("../../../agent/sops/tests/files/secret.yaml");

    scene.push(&[("one/a.yaml", sealed), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await, None);
    assert_eq!(scene.counts().await["renders"], 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_target_stores_counts_its_manifests_too(pool: Pool) {
    let scene = Scene::new(&pool, 3).await;
    let many = |last: &str| {
        let one = |number: usize| ONE.replace("name: one", &format!("name: c{number}"));
        let of_its_own = "{apiVersion: v1, kind: ConfigMap, metadata: {name: own, namespace: default}, data: {a: \"${cluster.name}\"}}";
        let all: Vec<_> = (0..200).map(one).chain([of_its_own.to_owned(), last.to_owned()]).collect();
        all.join("\n---\n")
    };
    for last in [ONE, ANOTHER] {
        scene.push(&[("one/a.yaml", &many(last))]).await;
        scene.reconcile(Stage::Bundle).await;
    }

    assert_eq!(scene.condition("one").await, None);
    let mut db = pool.acquire().await.expect("a connection");
    let weighed = "select (select sum(stored_bytes) from render_tries)
                       >= (select sum(length(body)) from objects) + (select sum(length(manifest)) from bundles)";
    assert!(scene.counts().await["bundles"] >= 6, "each cluster has one of its own, twice");
    assert!(store::ask_raw(&mut db, weighed).await.expect("it is read"), "manifests are stored and not counted");
}

/// What is due for a target.
async fn due(scene: &Scene, target: &str) -> QueueItem {
    let key = scene.id(target).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let due = work::list_due(&mut db, Stage::Bundle, clock::now(), &[], 16).await.expect("what is due");
    due.into_iter().find(|item| item.key == key).expect("it is due")
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_render_of_an_older_revision_that_ends_late_takes_nothing_from_a_newer_one(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    let older = due(&scene, "one").await;
    let mut held = Change::begin(&scene.hub.vital, &scene.hub.signals).await.expect("a transaction");
    store::lock_table(&mut held, "render_begins").await.expect("nobody has it");
    let hub = scene.hub.clone();
    let late = tokio::spawn(async move { Bundle.reconcile(&hub, &older).await });
    let mut beside = pool.acquire().await.expect("a connection");
    await_true(&mut beside, "select count(*) > 0 from pg_locks where not granted").await;

    // As it was at first: that is there, and is not begun.
    scene.push(&[("one/a.yaml", ONE)]).await;
    let newer = due(&scene, "one").await;
    Bundle.reconcile(&scene.hub, &newer).await.expect("it is written");
    held.abandon().await.expect("it is let go");
    late.await.expect("it ends").expect("it writes nothing");

    let (_, rendered) = scene.ask("GET", "/targets/one/render?cluster=cluster-1", "").await;
    assert_eq!(rendered["objects"][0]["body"]["metadata"]["name"], "one", "{rendered}");
    assert_eq!(scene.counts().await["renders"], 2, "what came late is written nowhere");
    let target = TargetId::new(scene.id("one").await);
    let mut db = pool.acquire().await.expect("a connection");
    let wanted = store::wanted::find(&mut db, target).await.expect("it is read").expect("something is");
    let (head, _) = store::revisions::find_head(&mut db, scene.repo, "refs/heads/main").await.expect("it is read");
    assert_eq!(Some(wanted.render.revision), head.map(|head| head.id));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn bundles_of_many_clusters_are_written_as_they_are_made_and_do_not_wait_in_memory(pool: Pool) {
    // Servers leave out what is larger.
    const BYTES: usize = 1_000_000;
    let clusters = 24;
    let scene = Scene::new(&pool, clusters).await;
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\ndata:\n  of: ${cluster.name}\n";
    let text = format!("{head}  a: {}\n", "x".repeat(BYTES));
    scene.push(&[("one/a.yaml", &text)]).await;
    let refused = "alter table renders add constraint never check (false) not valid";
    store::execute_raw(&pool, refused).await.expect("an intruder can");

    let item = due(&scene, "one").await;
    let ended = Bundle.reconcile(&scene.hub, &item).await;
    assert!(ended.is_err(), "the last transaction does not go through: {:?}", scene.condition_of("one").await);

    let written = scene.counts().await["bundles"];
    let waiting = usize::try_from(clusters - written).expect("no more than there are");
    assert!(written > 0 && waiting * BYTES < 18 << 20, "{waiting} of them waited to be written together");
}
