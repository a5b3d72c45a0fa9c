//! A stream whose cluster is to run something of which an object is not stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::dry_run::DryRuns;
use bellwether_core::session::{AgentMessage, Desired, Hello, HubMessage, PROTOCOL, root};
use bellwether_proto::hub_message;
use bellwether_proto::v1::{FromAgent, FromHub};
use futures_util::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::scene::{ANOTHER, ONE, Scene, await_true};
use crate::process::clock;
use crate::store::intents::{TargetVerb, Verb};
use crate::store::work::Stage;
use crate::store::{self, Pool};

/// What an agent says that holds nothing.
fn newcomer() -> impl Stream<Item = Result<FromAgent, Status>> + Send + Unpin + 'static {
    let hello = Hello {
        protocol: PROTOCOL,
        version: "1".to_owned(),
        boot: clock::new_id(),
        root: root([]),
        acked: None,
        facts: BTreeMap::new(),
        apis: None,
        definitions: None,
        dry_runs: DryRuns::Unknown,
        acts_as_accounts: true,
    };
    let said = [AgentMessage::Hello(hello), AgentMessage::Heartbeat].map(|message| Ok(message.into()));
    futures_util::stream::iter(said).chain(futures_util::stream::pending())
}

/// The next Desired; `None`: the stream ended.
/// Somebody's stream is about to be told.
const SOON: &str = "select count(*) > 0 from work where stage = 'link' and due_at < now() + interval '10 s'";

async fn desired(from_hub: &mut (impl Stream<Item = Result<FromHub, Status>> + Unpin)) -> Option<Desired> {
    let next = async {
        loop {
            if let HubMessage::Desired(desired) = hub_message(from_hub.next().await?.ok()?).expect("it can be read") {
                return Some(desired);
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), next).await.expect("it comes in time")
}

fn names(desired: &Desired) -> Vec<String> {
    desired.assignments.iter().map(|one| one.name.to_string()).collect()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_target_whose_object_is_not_stored_waits_alone_and_its_bundle_is_made_whole(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let (hub, _folder) = crate::testing::hub_beside(&pool, &scene.folder).await;
    let scene = Scene { hub, ..scene };
    let (cluster, mut db) = (scene.clusters[0], pool.acquire().await.expect("a connection"));
    let lives = std::time::Duration::from_mins(10);
    store::installation::mark_hub_heartbeat(&mut db, scene.hub.id, lives).await.expect("it lives");
    store::execute_raw(&pool, "select setval('session_numbers', 1000)").await.expect("it is written");
    let lost = "delete from objects where digest <> (select digest from objects order by digest limit 1)";
    store::execute_raw(&pool, lost).await.expect("an intruder can");
    scene.tell(Stage::Source, scene.repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;

    let mut from_hub = crate::link::tests::connect(&scene.hub, cluster, newcomer()).await;
    let first = desired(&mut from_hub).await.expect("the stream lives");
    assert_eq!((first.complete, names(&first).len(), first.unchanged.len()), (true, 1, 0));
    await_true(&mut db, "select is_heard from presences join sessions using (cluster_id) where session > 1000").await;

    // The bundle stage was asked to repair it, and the stream to ask again.
    assert_eq!(scene.reconcile(Stage::Bundle).await.len(), 1);
    assert_eq!(scene.counts().await["objects"], 2);
    assert!(scene.is_so(SOON).await, "its cluster does not wait until it asks again");
    let stop = CancellationToken::new();
    let link = tokio::spawn(crate::link::run(scene.hub.clone(), stop.clone()));
    let second = desired(&mut from_hub).await.expect("the stream lives");
    let mut both = [names(&first), names(&second)].concat();
    both.sort_unstable();
    assert_eq!(both, ["one", "two"]);
    stop.cancel();
    link.await.expect("it ends");
}

/// The target `one` is back at its first bundle, and held there; all objects are lost, and another hub, which has none in
/// memory, listens to its clusters.
async fn held_without_objects(pool: &Pool, clusters: i64) -> (Scene, Arc<crate::Hub>, tempfile::TempDir) {
    let scene = Scene::new(pool, clusters).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let first = scene.rollouts().await.remove(0).render;
    scene.roll_out(&[("one/a.yaml", ANOTHER)], 2).await;
    assert_eq!(scene.roll_back_to(first).await, "done");
    let (listener, folder) = listener(pool, &scene).await;
    store::execute_raw(pool, "delete from objects").await.expect("an intruder can");
    (scene, listener, folder)
}

/// Another hub, which lives, and has nothing to do.
async fn listener(pool: &Pool, scene: &Scene) -> (Arc<crate::Hub>, tempfile::TempDir) {
    let (listener, folder) = crate::testing::hub_beside(pool, &scene.folder).await;
    let mut db = pool.acquire().await.expect("a connection");
    let lives = std::time::Duration::from_mins(10);
    store::installation::mark_hub_heartbeat(&mut db, listener.id, lives).await.expect("it lives");
    for statement in ["select setval('session_numbers', 1000)", "delete from work"] {
        store::execute_raw(pool, statement).await.expect("it is written");
    }
    (listener, folder)
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_an_older_bundle_lost_is_made_anew_from_its_commit(pool: Pool) {
    let (scene, listener, _folder) = held_without_objects(&pool, 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    let mut from_hub = crate::link::tests::connect(&listener, scene.clusters[0], newcomer()).await;
    assert!(desired(&mut from_hub).await.expect("the stream lives").assignments.is_empty());
    await_true(&mut db, "select exists (select from work where stage = 'bundle')").await;

    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.counts().await["objects"], 2, "of the newest commit, and of the one that runs");
    assert_eq!(scene.condition("one").await, None);
    assert!(scene.is_so(SOON).await, "its clusters do not wait until they ask again");
    let stop = CancellationToken::new();
    let link = tokio::spawn(crate::link::run(listener.clone(), stop.clone()));
    assert_eq!(names(&desired(&mut from_hub).await.expect("the stream lives")), ["one"]);
    stop.cancel();
    link.await.expect("it ends");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_lost_for_good_is_told_at_its_target_and_looked_for_ever_less_often(pool: Pool) {
    const TOLD: &str =
        "select count(*) = 1 from audit_outbox where convert_from(body, 'UTF8') like '%content_missing%'";

    let (scene, listener, _folder) = held_without_objects(&pool, 3).await;
    let mut db = pool.acquire().await.expect("a connection");
    // Nobody knows any more how the older bundle was made.
    scene.change_spec("one", |spec| spec.namespace = Some("default".parse().expect("a name"))).await;
    let mut streams = Vec::new();
    for cluster in &scene.clusters {
        let mut from_hub = crate::link::tests::connect(&listener, *cluster, newcomer()).await;
        assert!(desired(&mut from_hub).await.expect("the stream lives").assignments.is_empty());
        streams.push(from_hub);
    }
    await_true(&mut db, "select count(*) = 3 from work where stage = 'link'").await;
    assert!(scene.is_so("select count(*) = 1 from work where stage = 'bundle'").await, "one loss is told once");

    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("content_missing"));
    let next = "select count(*) = 1 from work where stage = 'bundle' and trace_id is null
                   and due_at between now() + interval '4 min' and now() + interval '6 min'";
    assert!(scene.is_so(next).await);
    // Somebody joins: that is not asked again, and stays said.
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("content_missing"));
    assert!(scene.is_so(next).await);

    for statement in
        ["update lost_content set again_at = now()", "update work set due_at = now() where stage = 'bundle'"]
    {
        store::execute_raw(&pool, statement).await.expect("time passes");
    }
    scene.reconcile(Stage::Bundle).await;
    let later = "select count(*) = 1 from work where stage = 'bundle' and due_at > now() + interval '9 min'";
    assert!(scene.is_so(later).await, "twice as long");
    assert!(scene.is_so(TOLD).await, "once");

    // A later bundle takes its place.
    assert_eq!(scene.intend(None, Verb::Target(TargetVerb::Release)).await, "done");
    scene.roll_out(&[("README.md", "a word")], 3).await;
    assert!(scene.is_so("select tries = 2 from lost_content").await, "a push is no reason to try that again");
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await, None);
    assert!(scene.is_so("select count(*) = 0 from lost_content").await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_bundle_whose_lines_are_lost_is_made_anew_though_it_is_not_the_newest(pool: Pool) {
    let (scene, listener, _folder) = held_without_objects(&pool, 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    store::execute_raw(&pool, "update bundles set manifest = 'x'").await.expect("an intruder can");
    let _from_hub = crate::link::tests::connect(&listener, scene.clusters[0], newcomer()).await;
    await_true(&mut db, "select exists (select from work where stage = 'bundle')").await;

    // This hub has rendered it, and has it in memory: that is not stored.
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await, None);
    assert!(scene.is_so("select count(*) = 0 from bundles where manifest = 'x'").await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn the_newest_bundle_whose_lines_are_lost_comes_to_its_clusters_as_soon_as_it_is_made_anew(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let (listener, _folder) = listener(&pool, &scene).await;
    store::execute_raw(&pool, "update bundles set manifest = 'x'").await.expect("an intruder can");
    let mut db = pool.acquire().await.expect("a connection");
    let _from_hub = crate::link::tests::connect(&listener, scene.clusters[0], newcomer()).await;
    await_true(&mut db, "select exists (select from work where stage = 'bundle')").await;

    scene.reconcile(Stage::Bundle).await;

    assert!(scene.is_so("select count(*) = 0 from bundles where manifest = 'x'").await);
    assert!(scene.is_so(SOON).await, "its cluster does not wait until it asks again");
    assert!(scene.is_so("select count(*) = 0 from lost_content").await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_loss_that_nobody_looks_after_any_more_is_told_again_by_the_next_who_finds_it(pool: Pool) {
    let (scene, listener, _folder) = held_without_objects(&pool, 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    // A hub of an earlier version took the row of work, and knows nothing of losses.
    let left = "insert into lost_content (target_id, found_at, again_at)
                select target_id, now() - interval '1 h', now() - interval '1 h' from targets where name = 'one'";
    store::execute_raw(&pool, left).await.expect("it is written");

    let mut from_hub = crate::link::tests::connect(&listener, scene.clusters[0], newcomer()).await;

    assert!(desired(&mut from_hub).await.expect("the stream lives").assignments.is_empty());
    await_true(&mut db, "select exists (select from work where stage = 'bundle')").await;
}
