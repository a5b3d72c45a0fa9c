//! Which hub takes what a cluster is told, on a real Postgres.

use std::collections::BTreeMap;

use bellwether_core::{ClusterId, Labels, Version};
use uuid::Uuid;

use super::deliver;
use crate::change::Change;
use crate::store::Pool;
use crate::store::clusters::{self, Cluster};
use crate::store::sessions::{self, Opened};
use crate::store::work::Stage;
use crate::{Hub, clock, testing};

async fn register(hub: &Hub) -> ClusterId {
    let cluster = Cluster {
        id: ClusterId::new(clock::new_id()),
        project: hub.project,
        name: "c1".parse().expect("is a name"),
        labels: Labels::default(),
        namespace: "bellwether-system".to_owned(),
        version: Version::new(1),
        created_at: clock::now(),
        revoked_at: None,
    };
    let mut change = Change::begin(&hub.pool, &hub.wakes).await.expect("Postgres is there");
    clusters::insert(&mut change, &cluster).await.expect("it is new");
    change.commit().await.expect("it commits");
    cluster.id
}

/// The cluster's newest stream is at this hub from now on.
async fn open_at(hub: &Hub, cluster: ClusterId, at: Uuid) {
    let mut change = Change::begin(&hub.pool, &hub.wakes).await.expect("Postgres is there");
    let opened = Opened {
        cluster,
        session: sessions::next_number(&mut change).await.expect("there is a sequence"),
        hub: at,
        boot: Uuid::nil(),
        address: "",
        serial: "",
        agent_version: "1",
        facts: &BTreeMap::new(),
    };
    sessions::mark_opened(&mut change, &opened, clock::now()).await.expect("it is written");
    change.tell(Stage::Link, &[cluster.as_uuid()], clock::now(), None).await.expect("it is written");
    change.commit().await.expect("it commits");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_stream_that_was_replaced_at_another_hub_takes_nothing(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub).await;

    open_at(&hub, cluster, clock::new_id()).await;
    let elsewhere = deliver(&hub).await.expect("the rows can be read");
    open_at(&hub, cluster, hub.id).await;
    let here = deliver(&hub).await.expect("the rows can be read");
    let again = deliver(&hub).await.expect("the rows can be read");

    assert!(!elsewhere, "the newest stream's hub has yet to see it");
    assert!(here && !again);
}
