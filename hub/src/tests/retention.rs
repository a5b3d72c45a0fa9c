//! What the sweep takes and keeps.

use super::scene::{ANOTHER, ONE, Scene, finish, go_away};
use crate::process::clock;
use crate::store::work::Stage;
use crate::store::{self, Pool};

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_said_of_an_assignment_goes_with_it_and_signals_to_nobody_go_in_time(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    go_away(&scene, 0).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let two = store::count_rows(&mut db, &["reports", "work"]).await.expect("they are counted");
    store::execute_in(
        &mut db,
        "delete from assignments where cluster_id = (select min(cluster_id::text)::uuid from clusters)",
    )
    .await
    .expect("it goes");
    let one = store::count_rows(&mut db, &["reports"]).await.expect("they are counted");

    scene.tell(Stage::Link, scene.clusters[0].as_uuid()).await;
    scene.tell(Stage::Link, scene.clusters[1].as_uuid()).await;
    let later = clock::now() + jiff::SignedDuration::from_hours(25);
    store::work::delete_unheard(&mut db, clock::now() - jiff::SignedDuration::from_hours(24), 100)
        .await
        .expect("swept");
    let early = store::count_rows(&mut db, &["work"]).await.expect("they are counted");
    let swept = store::work::delete_unheard(&mut db, later, 100).await.expect("swept");

    assert_eq!((two["reports"], one["reports"]), (2, 1));
    assert!(early["work"] >= 2);
    assert!(swept >= 1);
    let heard =
        "select bool_and(key = (select max(cluster_id::text)::uuid from clusters)) from work where stage = 'link'";
    assert!(store::ask_raw(&mut db, heard).await.expect("it is read"), "the other one has a stream");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_sweep_keeps_what_runs_and_what_people_may_go_back_to(pool: Pool) {
    const PUSHES: i64 = 24;
    let scene = Scene::new(&pool, 2).await;
    for number in 1..=PUSHES {
        let text = ONE.replace("namespace: default", &format!("namespace: default, labels: {{push: p{number}}}"));
        scene.push(&[("one/a.yaml", &text), ("two/a.yaml", ANOTHER)]).await;
        scene.reconcile(Stage::Bundle).await;
        scene.reconcile(Stage::Rollout).await;
        finish(&scene, number).await;
    }
    let before = scene.counts().await;

    crate::worker::sweep::sweep(&scene.hub, clock::now()).await.expect("it sweeps");
    assert_eq!(scene.counts().await, before, "all of it is young");
    let later = clock::now() + jiff::SignedDuration::from_hours(100 * 24);
    crate::worker::sweep::sweep(&scene.hub, later).await.expect("it sweeps");

    // The last 20 rollouts of one and the only one of two; what they name, and what the oldest of them moved from; of
    // revisions, those of what is kept.
    let counts =
        [("rollouts", 20 + 1), ("renders", 21 + 1), ("bundles", 21 + 1), ("objects", 21 + 1), ("revisions", 21 + 1)];
    assert_eq!(scene.counts().await, counts.map(|(table, count)| (table.to_owned(), count)).into());
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    for listed in scene.listing(scene.clusters[0]).await.into_values() {
        let digest = listed.assignment.digest;
        let fresh = crate::store::content::Content::default();
        let manifests = fresh.load_manifests(&mut db, &[digest].into()).await.expect("it is read");
        let objects: Vec<_> = manifests[&digest].entries().iter().map(|entry| entry.digest).collect();
        assert_eq!(fresh.load_objects(&scene.hub.pool, &objects).await.expect("all are there").len(), 1);
    }
}
