//! A stream whose cluster is to run something of which an object is not stored.

use std::collections::BTreeMap;

use bellwether_core::session::{AgentMessage, Desired, Hello, HubMessage, PROTOCOL, root};
use bellwether_proto::hub_message;
use bellwether_proto::v1::{FromAgent, FromHub};
use futures_util::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::scene::{ANOTHER, ONE, Scene};
use crate::process::clock;
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
    };
    let said = [AgentMessage::Hello(hello), AgentMessage::Heartbeat].map(|message| Ok(message.into()));
    futures_util::stream::iter(said).chain(futures_util::stream::pending())
}

/// The next Desired; `None`: the stream ended.
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
    super::scene::await_true(
        &mut db,
        "select is_heard from presences join sessions using (cluster_id) where session > 1000",
    )
    .await;

    // The bundle stage was asked to mend it, and the stream to ask again.
    assert_eq!(scene.reconcile(Stage::Bundle).await.len(), 1);
    assert_eq!(scene.counts().await["objects"], 2);
    store::execute_raw(&pool, "update work set due_at = now() where stage = 'link'").await.expect("time passes");
    let stop = CancellationToken::new();
    let link = tokio::spawn(crate::link::run(scene.hub.clone(), stop.clone()));
    let second = desired(&mut from_hub).await.expect("the stream lives");
    let mut both = [names(&first), names(&second)].concat();
    both.sort_unstable();
    assert_eq!(both, ["one", "two"]);
    stop.cancel();
    link.await.expect("it ends");
}
