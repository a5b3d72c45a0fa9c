//! Renders that are refused, bounded or not begun again.

use super::scene::{ANOTHER, ONE, Scene};
use crate::store::work::Stage;
use crate::store::{self, Pool};

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
