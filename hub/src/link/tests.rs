//! Which hub takes what a cluster is told, on a real Postgres.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::{ClusterId, Labels, SessionNumber, Version};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Held, Inbox, deliver};
use crate::change::Change;
use crate::store::Pool;
use crate::store::clusters::{self, Cluster};
use crate::store::sessions::{self, Opened};
use crate::store::work::Stage;
use crate::{Hub, clock, store, testing};

async fn register(hub: &Hub, name: &str) -> ClusterId {
    let cluster = Cluster {
        id: ClusterId::new(clock::new_id()),
        project: hub.project,
        name: name.parse().expect("is a name"),
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
    let cluster = register(&hub, "c1").await;

    open_at(&hub, cluster, clock::new_id()).await;
    let elsewhere = deliver(&hub).await.expect("the rows can be read");
    open_at(&hub, cluster, hub.id).await;
    let here = deliver(&hub).await.expect("the rows can be read");
    let again = deliver(&hub).await.expect("the rows can be read");

    assert!(!elsewhere, "the newest stream's hub has yet to see it");
    assert!(here && !again);
}

/// Takes the place of the cluster's stream.
fn hold(hub: &Hub, cluster: ClusterId) -> Arc<Inbox> {
    let inbox = Arc::new(Inbox::default());
    let held = Held {
        number: SessionNumber::new(1),
        serial: String::new(),
        inbox: inbox.clone(),
        cut: CancellationToken::new(),
    };
    hub.sessions.enter(cluster, held);
    inbox
}

/// A name that no version of ours has written.
const UNREADABLE: &str = "
    insert into bundles (digest, manifest, objects, used_at) values ('x', 'x', 0, now());
    insert into assignments
           (cluster_id, target_id, digest, generation, rollout_id, render_id, action, prunable, assigned_at, target_name)
    select cluster_id, gen_random_uuid(), 'x', 1, gen_random_uuid(), gen_random_uuid(), 'orphan', '[]', now(), 'No Name'
      from clusters
     where name = 'c1'";

#[crate::store::database_test(migrations = "../migrations")]
async fn a_row_of_one_cluster_that_cannot_be_read_holds_up_no_other(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let (mut clusters, mut inboxes) = (Vec::new(), Vec::new());
    for name in ["c1", "c2"] {
        let cluster = register(&hub, name).await;
        open_at(&hub, cluster, hub.id).await;
        inboxes.push(hold(&hub, cluster));
        clusters.push(cluster);
    }

    assert!(deliver(&hub).await.expect("the rows can be read"));
    let readable: Vec<_> = inboxes.iter().map(|inbox| inbox.take().expect("it came").listing).collect();
    for statement in UNREADABLE.split(';') {
        store::execute_raw(&pool, statement).await.expect("an intruder can");
    }
    for cluster in clusters {
        open_at(&hub, cluster, hub.id).await;
    }
    assert!(deliver(&hub).await.expect("it is no trouble of the database"));

    assert_eq!(readable, [Some(Vec::new()), Some(Vec::new())]);
    for inbox in &inboxes {
        assert_eq!(inbox.take().expect("it came").listing, None, "each reads by itself");
    }
    assert!(!deliver(&hub).await.expect("the rows can be read"), "nothing is left");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_stream_that_was_overtaken_neither_opens_nor_takes_a_place(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "c1").await;
    let mut change = Change::begin(&hub.pool, &hub.wakes).await.expect("Postgres is there");
    let older = sessions::next_number(&mut change).await.expect("there is a sequence");
    change.commit().await.expect("it commits");
    open_at(&hub, cluster, hub.id).await;

    let (boot, facts) = (Uuid::nil(), BTreeMap::new());
    let late = Opened {
        cluster,
        session: older,
        hub: hub.id,
        boot,
        address: "",
        serial: "",
        agent_version: "1",
        facts: &facts,
    };
    let mut change = Change::begin(&hub.pool, &hub.wakes).await.expect("Postgres is there");
    let before = sessions::mark_opened(&mut change, &late, clock::now()).await.expect("it is no error");
    assert!(matches!(before, sessions::Before::Newer));

    let newest = hold(&hub, cluster);
    let cut = CancellationToken::new();
    let held = Held { number: SessionNumber::new(0), serial: String::new(), inbox: Arc::default(), cut: cut.clone() };
    hub.sessions.enter(cluster, held);
    assert!(cut.is_cancelled());
    assert!(Arc::ptr_eq(&hub.sessions.lock()[&cluster].inbox, &newest));
}
