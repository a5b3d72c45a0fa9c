//! What bundles name stays, whatever goes wrong with the rows that say so.

use jiff::SignedDuration;

use super::scene::{ANOTHER, ONE, Scene, finish};
use crate::process::clock;
use crate::store::work::Stage;
use crate::store::{self, Pool};
use crate::work::change::Change;

/// A scene whose hub keeps nothing in memory of what was rendered.
async fn rendered(pool: &Pool) -> (Scene, tempfile::TempDir) {
    let scene = Scene::new(pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let (hub, folder) = crate::testing::hub_beside(pool, &scene.folder).await;
    (Scene { hub, ..scene }, folder)
}

impl Scene {
    async fn sweep_after(&self, days: i64) -> Result<(), store::StoreError> {
        crate::worker::sweep::sweep(&self.hub, clock::now() + SignedDuration::from_hours(24 * days)).await
    }

    /// A person asks for a render.
    async fn ask_for_render(&self, target: &str) {
        let (key, trace) = (self.id(target).await, clock::new_trace());
        self.tell(Stage::Source, self.repo.as_uuid()).await;
        self.reconcile(Stage::Source).await;
        let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await.expect("a transaction");
        change.tell(Stage::Bundle, &[key], clock::now(), Some(&trace)).await.expect("it is told");
        change.commit().await.expect("it commits");
        self.reconcile(Stage::Bundle).await;
    }
}

const DAMAGED: &str = "update bundles set manifest = 'x'
                        where digest = (select a.digest from assignments a join targets using (target_id) where name = 'one')";

#[crate::store::database_test(migrations = "../migrations")]
async fn while_a_bundle_cannot_be_read_no_object_is_deleted_and_others_are_marked(pool: Pool) {
    let (scene, _folder) = rendered(&pool).await;
    store::execute_raw(&pool, DAMAGED).await.expect("an intruder can");

    for days in [4, 8, 12] {
        let _ = scene.sweep_after(days).await;
    }

    let mut db = pool.acquire().await.expect("a connection");
    let marked = "select count(*) from bundles where marked_at > now() + interval '10 days'";
    assert_eq!(scene.counts().await["objects"], 2, "one of them may be what the unreadable bundle names");
    assert_eq!(store::ask_number(&mut db, marked).await.expect("it is read"), 1);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_bundle_that_cannot_be_read_keeps_nobody_from_the_next(pool: Pool) {
    let (scene, _folder) = rendered(&pool).await;
    finish(&scene, 1).await;
    let before = scene.runs(scene.clusters[0]).await;
    store::execute_raw(&pool, DAMAGED).await.expect("an intruder can");

    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    let assignment = scene.listing(scene.clusters[0]).await.remove("one").expect("it is assigned").assignment;
    assert_ne!(Some(assignment.digest), before);
    assert!(assignment.prunable.is_empty(), "nobody knows what it may delete");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn objects_that_no_bundle_was_asked_about_are_not_deleted(pool: Pool) {
    let (scene, _folder) = rendered(&pool).await;
    // The first sweep after the hubs were down for a while, which gets into a render's way.
    let function = "create function nothing() returns trigger language plpgsql as
                    $$ begin raise exception using errcode = '40P01'; end $$";
    let trigger = "create trigger nothing before update on objects for each row execute function nothing()";
    for statement in [function, trigger] {
        store::execute_raw(&pool, statement).await.expect("no object can be marked");
    }

    let swept = scene.sweep_after(12).await;
    store::execute_raw(&pool, "drop trigger nothing on objects").await.expect("they can again");

    swept.expect_err("the objects cannot be marked");
    assert_eq!(scene.counts().await["objects"], 2);
    scene.sweep_after(12).await.expect("they can now");
    assert_eq!(scene.counts().await["objects"], 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_bundle_that_lost_an_object_or_its_lines_is_made_whole_when_somebody_asks(pool: Pool) {
    let (scene, _folder) = rendered(&pool).await;
    store::execute_raw(&pool, "delete from objects").await.expect("an intruder can");
    store::execute_raw(&pool, DAMAGED).await.expect("an intruder can");

    scene.ask_for_render("one").await;
    assert_eq!(scene.counts().await["objects"], 1);
    scene.ask_for_render("two").await;

    assert_eq!(scene.counts().await["objects"], 2);
    assert_eq!(scene.counts().await["renders"], 2, "they are the same renders");
    let mut db = pool.acquire().await.expect("a connection");
    let readable = "select count(*) from bundles where manifest <> 'x'";
    assert_eq!(store::ask_number(&mut db, readable).await.expect("it is read"), 2);
}
