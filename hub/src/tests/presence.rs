//! Clusters that go and come back, and hubs that lose their database.

use std::sync::Arc;

use bellwether_core::{ClusterId, SessionNumber, TargetId};
use serde_json::json;
use tower::ServiceExt as _;

use super::scene::{ONE, Scene, TWO_IS_FOR_LATE_ONES, await_true, come_back, finish, go_away, label};
use crate::Hub;
use crate::process::clock;
use crate::rollout::Rollouts;
use crate::store::work::Stage;
use crate::store::{self, Pool};

/// Whoever began a rollout looks at it again a second later: on a slow machine before the next thing is done here.
async fn look_no_more(pool: &Pool) {
    let timers = "delete from work where stage = 'rollout' and is_timer";
    store::execute_raw(pool, timers).await.expect("they are deleted");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_is_away_when_it_is_selected_gets_the_target_when_it_is_back(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    store::execute_raw(&pool, TWO_IS_FOR_LATE_ONES).await.expect("it is written");
    label(&scene, 1, json!({"ring": "late"})).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    scene.reconcile(Stage::Rollout).await;

    look_no_more(&pool).await;
    go_away(&scene, 0).await;
    label(&scene, 0, json!({"ring": "late"})).await;
    let rendered = scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    assert_eq!(rendered, [scene.id("two").await], "no other minds the label");
    assert!(!scene.listing(scene.clusters[0]).await.contains_key("two"), "it is away");
    look_no_more(&pool).await;
    come_back(&scene, 0).await;
    assert_eq!(scene.reconcile(Stage::Rollout).await, [scene.id("two").await], "no other waits for it");
    assert!(scene.listing(scene.clusters[0]).await.contains_key("two"));

    finish(&scene, 2).await;
    scene.reconcile(Stage::Rollout).await;
    look_no_more(&pool).await;
    go_away(&scene, 0).await;
    come_back(&scene, 0).await;
    assert!(scene.reconcile(Stage::Rollout).await.is_empty(), "nobody waits for it any more");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_came_back_while_it_was_written_that_they_are_waited_for_is_seen(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    let target = TargetId::new(scene.id("one").await);
    go_away(&scene, 0).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");

    let away = store::wanted::mark_awaited(&mut db, target, &scene.clusters[..1]).await.expect("it is written");
    let both = store::wanted::mark_awaited(&mut db, target, &scene.clusters).await.expect("it is written");
    let concerned = store::rollouts::list_targets_of(&mut db, &scene.clusters).await.expect("it is read");
    store::wanted::mark_awaited(&mut db, target, &[]).await.expect("it is written");
    let nobody = store::rollouts::list_targets_of(&mut db, &scene.clusters).await.expect("it is read");

    assert_eq!((away, both), (false, true));
    assert_eq!((concerned, nobody), (vec![target.as_uuid()], vec![]));
}

/// It asks whose members wait for it before the rollout can be seen, and after that has taken it for away.
#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_comes_back_while_a_rollout_begins_without_it_gets_what_that_brings(pool: Pool) {
    const WAITS: &str = "select exists (select from pg_locks where not granted and relation = 'assignments'::regclass)";

    let strategy = json!({"waves": [{"name": "all", "maxConcurrent": "100%"}]});
    let scene = Scene::with(&pool, 2, &["--offline-after-ms", "1", "--grace-ms", "1"], &strategy).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    store::execute_raw(&pool, "delete from work where stage = 'rollout'").await.expect("it is written");
    go_away(&scene, 0).await;
    let mut other = store::begin(&pool).await.expect("a transaction");
    store::execute_in(&mut other, "lock table assignments in exclusive mode").await.expect("it is locked");

    let mut db = pool.acquire().await.expect("a connection");
    let comes = async {
        await_true(&mut db, WAITS).await;
        come_back(&scene, 0).await;
        let waits_still = store::ask_raw(&mut db, WAITS).await.expect("it is answered");
        drop(other);
        waits_still
    };
    let (decided, waits_still) = tokio::join!(scene.try_to_decide(), comes);
    decided.expect("it is decided");
    assert!(waits_still, "it came back before the rollout could be seen");
    assert!(!scene.listing(scene.clusters[0]).await.contains_key("one"), "it was away when that was decided");
    await_true(&mut db, "select count(*) > 0 from work where stage = 'rollout' and due_at <= clock_timestamp()").await;
    scene.reconcile(Stage::Rollout).await;

    assert!(scene.listing(scene.clusters[0]).await.contains_key("one"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_may_join_again_is_asked_for_again(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let name = "cluster-1";
    let ask = async |what: &str| {
        let request = axum::http::Request::post(format!("/api/v1/clusters/{name}/{what}"))
            .header("authorization", format!("Bearer {}", crate::testing::admin_token(&scene.folder)))
            .extension(crate::ports::Peer("127.0.0.1:1".parse().expect("is an address")))
            .body(axum::body::Body::from("{}"))
            .expect("is a request");
        crate::http::router(Arc::clone(&scene.hub)).oneshot(request).await.expect("it always answers").status()
    };
    assert!(ask("revoke").await.is_success());
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    assert!(scene.listing(scene.clusters[0]).await.is_empty());

    assert!(ask("reenroll").await.is_success());
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    assert!(scene.listing(scene.clusters[0]).await.contains_key("one"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_outage_of_the_database_fails_no_healthy_rollout(pool: Pool) {
    let settings = ["--hub-heartbeat-ms", "100", "--offline-after-ms", "200", "--grace-ms", "2000"];
    let strategy = json!({"offline": "fail", "waves": [{"name": "all", "maxConcurrent": "100%", "soak": "1h"}]});
    let scene = Scene::with(&pool, 2, &settings, &strategy).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    await_true(&mut db, "select count(*) = 2 from rollout_waves where state = 'soaking'").await;
    // Those grace periods of the start are over when the heartbeats have gone on for a while.
    let stop = tokio_util::sync::CancellationToken::new();
    let stage = tokio::spawn(crate::worker::stage::run_transactional(scene.hub.clone(), Rollouts, stop.clone()));
    let heartbeat = tokio::spawn(crate::worker::heartbeat::run(scene.hub.clone(), stop.clone()));
    let agents = tokio::spawn(say_that_all_are_there(scene.hub.clone(), scene.clusters.clone(), stop.clone()));
    await_true(&mut db, "select heartbeat_at > started_at + interval '2100 ms' from hubs").await;

    store::set_outage(&pool, &mut db, true).await.expect("the owner may");
    let due = "insert into work (stage, key, due_at) select 'rollout', target_id, now() from targets returning true";
    assert!(store::ask_raw(&mut db, due).await.expect("it is written"));
    await_true(&mut db, "select clock_timestamp() > heartbeat_at + interval '3 s' from hubs").await;
    store::set_outage(&pool, &mut db, false).await.expect("the owner may");
    await_true(&mut db, "select clock_timestamp() < lives_until from hubs").await;
    await_true(&mut db, "select count(*) = 0 from work where stage = 'rollout' and due_at <= clock_timestamp()").await;

    let unharmed = "select bool_and(state = 'rolling') and (select bool_and(state = 'healthy') from rollout_clusters)
                           and (select bool_and(state = 'soaking') from rollout_waves)
                      from rollouts";
    assert!(store::ask_raw(&mut db, unharmed).await.expect("it is read"));
    stop.cancel();
    for task in [stage, heartbeat, agents] {
        task.await.expect("it ends");
    }
}

/// A statement that is on its way when Postgres is stopped is carried out when that goes on, as if nothing had been.
#[crate::store::database_test(migrations = "../migrations")]
async fn a_time_in_which_postgres_stood_still_is_none_in_which_agents_were_heard(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    crate::worker::heartbeat::beat_and_tell(&scene.hub).await;
    assert!(store::ask_raw(&mut db, "select is_heard from presences").await.expect("it is read"));

    let goes_by = "update hubs set heartbeat_at = now() - interval '75 s', lives_until = now() - interval '60 s'";
    store::execute_raw(&pool, goes_by).await.expect("it is written");
    assert!(scene.hub.heartbeat.is_current(), "the hub knows of nothing");
    crate::worker::heartbeat::beat_and_tell(&scene.hub).await;

    let away =
        "select is_connected and not is_heard and since between now() - interval '80 s' and now() - interval '70 s'
                  from presences";
    assert!(store::ask_raw(&mut db, away).await.expect("it is read"));
}

/// Writes again and again, whenever it can, that the first stream of each cluster is heard.
async fn say_that_all_are_there(hub: Arc<Hub>, clusters: Vec<ClusterId>, stop: tokio_util::sync::CancellationToken) {
    while !stop.is_cancelled() {
        for (number, cluster) in (1..).zip(&clusters) {
            let Ok(mut db) = hub.pool.acquire().await else { continue };
            let written =
                store::sessions::mark_caught_up(&mut db, &[(*cluster, SessionNumber::new(number))], clock::now()).await;
            drop((db, written));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
