//! Which renders count as broken down, and when they are tried again.

use super::scene::{ONE, Scene, finish};
use crate::store::work::Stage;
use crate::store::{self, Pool};
use crate::worker::stage::Detached as _;

/// Every cluster runs something of its own.
const NAMED: &str =
    "{apiVersion: v1, kind: ConfigMap, metadata: {name: one, namespace: default}, data: {at: \"${cluster.name}\"}}";
const IN_AN_HOUR: &str = "select exists (select from work join targets on key = target_id
                                          where stage = 'bundle' and name = 'one'
                                            and due_at between now() + interval '59 min' and now() + interval '61 min')";

impl Scene {
    /// The bundle stage works on what is due; how often that failed.
    async fn try_to_render(&self) -> usize {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let due = store::work::list_due(&mut db, Stage::Bundle, crate::process::clock::now(), &[], 16).await;
        drop(db);
        let mut failed = 0;
        for item in due.expect("what is due") {
            failed += usize::from(crate::bundle::Bundle.reconcile(&self.hub, &item).await.is_err());
        }
        failed
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_render_that_could_not_be_written_did_not_break_down(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    let forbidden = "alter table renders add constraint nothing check (false) not valid";
    store::execute_raw(&pool, forbidden).await.expect("no render can be written");

    let mut failed = 0;
    for _ in 0..5 {
        failed += scene.try_to_render().await;
    }
    store::execute_raw(&pool, "alter table renders drop constraint nothing").await.expect("they can again");
    scene.try_to_render().await;

    assert_eq!(failed, 10, "each is tried again");
    assert_eq!(scene.condition("one").await, None);
    assert_eq!(scene.counts().await["renders"], 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_hubs_died_of_is_tried_again_after_an_hour(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.die_of_rendering("one").await;

    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("render_broke_down"));
    // A person asks for it all the same: that makes nobody wait for longer.
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;

    let mut db = pool.acquire().await.expect("a connection");
    assert!(store::ask_raw(&mut db, IN_AN_HOUR).await.expect("it is read"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_hubs_died_of_for_who_joined_is_tried_again_though_the_newest_commit_does_not_render(pool: Pool) {
    let mut scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", NAMED), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    scene.die_of_rendering("one").await;
    scene.push(&[("one/a.yaml", "a: [")]).await;
    scene.join().await;

    scene.reconcile(Stage::Bundle).await;

    let mut db = pool.acquire().await.expect("a connection");
    assert_eq!(scene.condition("one").await.as_deref(), Some("yaml_invalid"));
    assert!(store::ask_raw(&mut db, IN_AN_HOUR).await.expect("it is read"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn hubs_that_live_and_render_the_same_did_not_break_down(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.die_of_rendering("one").await;
    let mut db = pool.acquire().await.expect("a connection");
    let living = "insert into hubs (hub_id, started_at, heartbeat_at, lives_until)
                  select hub_id, now(), now(), now() + interval '1 h' from render_begins";
    store::execute_raw(&pool, living).await.expect("they live");

    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await, None);
    assert_eq!(store::ask_number(&mut db, "select count(*) from render_begins").await.expect("it is read"), 0);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_joins_while_the_newest_commit_does_not_render_gets_what_the_others_run(pool: Pool) {
    let mut scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    scene.push(&[("one/a.yaml", "a: [")]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    let newcomer = scene.join().await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("yaml_invalid"));
    assert!(scene.listing(newcomer).await.contains_key("one"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_joins_while_the_newest_commit_does_not_render_gets_what_it_would_have_had(pool: Pool) {
    let mut scene = Scene::new(&pool, 2).await;
    scene.push(&[("one/a.yaml", NAMED), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    let before = scene.listing(scene.clusters[0]).await["one"].assignment.digest;
    scene.push(&[("one/a.yaml", "a: [")]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    let newcomer = scene.join().await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("yaml_invalid"));
    let given = scene.listing(newcomer).await["one"].assignment.digest;
    assert_ne!(given, before, "with its own name");
    assert_eq!(scene.listing(scene.clusters[0]).await["one"].assignment.digest, before);
    scene.push(&[("one/a.yaml", NAMED), ("one/README.md", "fixed")]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    assert_eq!(scene.listing(newcomer).await["one"].assignment.digest, given, "as the next commit has it");
}
