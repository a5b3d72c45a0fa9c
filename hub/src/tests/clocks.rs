//! Machines' clocks differ, and are set: what came later is newer all the same.

use bellwether_core::rollout::{Intent, RolloutState};
use bellwether_render::VERSION;
use jiff::SignedDuration;
use serde_json::json;

use super::rollouts::strategy;
use super::scene::{ANOTHER, ONE, Scene, come_back, finish, go_away};
use crate::process::clock;
use crate::store::intents::Verb;
use crate::store::work::Stage;
use crate::store::{self, Pool};

/// What comes now is done by a hub whose clock is behind that of the one before, or that began anew after its clock was
/// set back.
fn go_to_a_hub_that_is_behind() {
    clock::step(SignedDuration::from_hours(-1));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_commit_that_a_hub_sees_whose_clock_is_behind_is_the_newest_and_is_seen_once(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let before = scene.listings().await;

    go_to_a_hub_that_is_behind();
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.render().await;
    scene.tell(Stage::Source, scene.repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;

    assert_ne!(scene.listings().await, before, "the earlier commit was taken for the newest");
    assert_eq!(scene.counts().await["revisions"], 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_was_away_gets_nothing_older_from_a_rollout_that_a_clock_ahead_began(pool: Pool) {
    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    go_away(&scene, 1).await;
    scene.push(&[("one/a.yaml", ANOTHER)]).await;

    go_to_a_hub_that_is_behind();
    scene.render().await;
    finish(&scene, 2).await;
    let newest = scene.rollouts().await.remove(0);
    come_back(&scene, 1).await;
    scene.reconcile(Stage::Rollout).await;

    assert_eq!(scene.rollouts().await.len(), 2);
    assert!(newest.from_render.is_some(), "the first rollout is shown as the newest");
    let listings = scene.listings().await;
    assert_eq!(listings[0], listings[1]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_joins_after_an_abort_is_welcome_whatever_the_clock_of_the_hub_that_gave_up_says(pool: Pool) {
    let waves = json!({"waves": [{"name": "one", "count": 1}, {"name": "rest"}]});
    let mut scene = Scene::with(&pool, 3, &[], &waves).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    finish(&scene, 2).await;
    let good = scene.listings().await[0];

    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    go_to_a_hub_that_is_behind();
    scene.render().await;
    let rolling = scene.rollouts().await.into_iter().find(|rollout| rollout.state == RolloutState::Rolling);
    let rolling = rolling.expect("it is rolled out").id;
    assert_eq!(scene.intend(Some(rolling), Verb::Rollout(Intent::Abort)).await, "done");
    scene.join().await;
    scene.render().await;

    assert_eq!(scene.listings().await[3], good);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_another_engine_made_is_made_anew_though_its_hub_had_a_clock_that_was_ahead(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let engine = |name| format!("render {VERSION}, engine {name}");
    let mark = sqlx::query("update renders set engine = $1");
    mark.bind(engine("old")).execute(&pool).await.expect("it is written");

    go_to_a_hub_that_is_behind();
    let (hub, _folder) = crate::testing::hub_beside(&pool, &scene.folder).await;

    let mut db = pool.acquire().await.expect("a connection");
    let others = store::wanted::list_made_otherwise(&mut db, VERSION, Some(&engine("new")), hub.id, 10).await;
    assert!(others.expect("they are read").contains(&scene.id("one").await));
}

#[test]
fn hubs_that_begin_after_the_same_render_have_ids_of_their_own() {
    let newest: uuid::Uuid = "ffffffff-0000-7000-8000-000000000000".parse().expect("is an id");

    let ids = [(); 2].map(|()| clock::new_id_after(Some(newest)));

    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| *id > newest), "{ids:?}");
}
