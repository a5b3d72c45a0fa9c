//! What a change of a target does to its clusters.

use std::collections::BTreeMap;

use bellwether_core::TargetId;
use serde_json::json;

use super::scene::{ANOTHER, ONE, Scene, finish, shown};
use crate::process::clock;
use crate::store::assignments::Listed;
use crate::store::work::Stage;
use crate::store::{self, Pool};

#[crate::store::database_test(migrations = "../migrations")]
async fn a_changed_spec_moves_nobody_before_it_is_rendered(pool: Pool) {
    let mut scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    let before = scene.listing(scene.clusters[0]).await;

    scene.change_spec("one", |spec| "two".clone_into(&mut spec.path)).await;
    let newcomer = scene.join().await;
    scene.decide("one").await;

    assert!(!scene.listing(newcomer).await.contains_key("one"), "what the old spec renders to is not for it");

    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let after = scene.listing(newcomer).await;
    assert_ne!(after["one"].assignment.digest, before["one"].assignment.digest);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_skipped_cluster_stays_as_it_is_when_others_join(pool: Pool) {
    let mut scene = Scene::new(&pool, 2).await;
    let waves = json!({"waves": [{"name": "all", "maxConcurrent": 1}]});
    scene.change_spec("one", |spec| spec.rollout = serde_json::from_value(waves).expect("a strategy")).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let skipped = scene.clusters[1];
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let target = TargetId::new(scene.id("one").await);
    let rollout = shown(&mut db, target).await.id;
    let asked = store::intents::IntentRow {
        id: clock::new_id(),
        target,
        rollout: Some(rollout),
        verb: store::intents::Verb::Rollout(bellwether_core::rollout::Intent::Skip { cluster: skipped }),
        actor: "alice".to_owned(),
        reason: String::new(),
    };
    store::intents::insert(&mut db, &asked, clock::now()).await.expect("it is written");
    drop(db);
    scene.decide("one").await;
    finish(&scene, 1).await;

    let newcomer = scene.join().await;
    scene.decide("one").await;
    assert!(scene.listing(newcomer).await.contains_key("one"));
    finish(&scene, 2).await;
    let second = scene.join().await;
    scene.decide("one").await;

    assert!(scene.listing(second).await.contains_key("one"));
    assert!(!scene.listing(skipped).await.contains_key("one"), "a person took it out");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn another_way_to_keep_a_target_comes_to_every_cluster_as_a_new_generation(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    let rollouts = scene.counts().await["rollouts"];
    let before = scene.listing(scene.clusters[1]).await;

    scene.change_spec("one", |spec| spec.sync.drift = bellwether_core::session::DriftMode::Ignore).await;
    scene.tell_by_a_person("one").await;
    scene.reconcile(Stage::Rollout).await;
    let unrendered = scene.listing(scene.clusters[1]).await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let after = scene.listing(scene.clusters[1]).await;

    let drift = |listing: &BTreeMap<String, Listed>| listing["one"].assignment.options.drift;
    assert_eq!(drift(&before), bellwether_core::session::DriftMode::Correct);
    assert_eq!(drift(&unrendered), bellwether_core::session::DriftMode::Ignore, "it waits for no render");
    assert!(unrendered["one"].assignment.generation > before["one"].assignment.generation);
    assert_eq!(after["one"].assignment.generation, unrendered["one"].assignment.generation);
    assert_eq!(after["one"].assignment.digest, before["one"].assignment.digest);
    assert_eq!(scene.counts().await["rollouts"], rollouts, "no content moves");
}
