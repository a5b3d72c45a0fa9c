//! Which hub takes what a cluster is told, on a real Postgres.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::definitions::{Definition, Definitions};
use bellwether_core::dry_run::DryRuns;
use bellwether_core::parameters::TraitsUsed;
use bellwether_core::session::{
    AgentMessage, Hello, HubMessage, Listing, PROTOCOL, Packed, Profile, ProfileWanted, UID_FACT, root,
};
use bellwether_core::{ClusterId, Digest, Labels, SessionNumber, Version};
use bellwether_proto::compression;
use bellwether_proto::v1::{FromAgent, FromHub};
use futures_util::StreamExt as _;
use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::arrivals::Arrival;
use super::caller::Caller;
use super::enroll::{self, EnrollError};
use super::sessions::{Inbox, OpenStream};
use super::{deliver, ends, greet, session};
use crate::process::clock;
use crate::store::audit;
use crate::store::clusters::{self, Cluster};
use crate::store::sessions::{self, Opened};
use crate::store::work::Stage;
use crate::store::{Pool, ask_raw};
use crate::work::change::Change;
use crate::{Hub, store, testing};

async fn register(hub: &Hub, name: &str) -> ClusterId {
    let cluster = Cluster {
        id: ClusterId::new(clock::new_id()),
        project: hub.project.clone(),
        name: name.parse().expect("is a name"),
        labels: Labels::default(),
        namespace: "bellwether-system".to_owned(),
        version: Version::new(1),
        created_at: clock::now(),
        annotations: BTreeMap::new(),
        revoked_at: None,
    };
    let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("Postgres is there");
    clusters::insert(&mut change, &cluster).await.expect("it is new");
    change.commit().await.expect("it commits");
    cluster.id
}

/// A stream of the cluster begins; by which certificate.
async fn admit(hub: &Hub, cluster: ClusterId) -> (SessionNumber, String) {
    let serial = clock::new_id().simple().to_string();
    certify(hub, cluster, &serial).await;
    let mut db = hub.pool.acquire().await.expect("a connection");
    let number = sessions::admit(&mut db, &serial, cluster).await.expect("it is asked").expect("it is let in");
    (number, serial)
}

/// The cluster's newest stream is at this hub from now on.
async fn open_at(hub: &Hub, cluster: ClusterId, at: Uuid) -> SessionNumber {
    let (session, serial) = admit(hub, cluster).await;
    let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("Postgres is there");
    let opened = Opened {
        cluster,
        session,
        hub: at,
        boot: Uuid::nil(),
        address: "",
        serial: &serial,
        agent_version: "1",
        facts: &BTreeMap::new(),
        apis: None,
        definitions: None,
        is_believed: true,
    };
    sessions::mark_opened(&mut change, &[opened], clock::now()).await.expect("it is written");
    change.tell(Stage::Link, &[cluster.as_uuid()], clock::now(), None).await.expect("it is written");
    change.commit().await.expect("it commits");
    session
}

/// An agent opens a stream, has nothing to say but what it holds, and goes again once it counts as connected.
pub(crate) async fn come_back(hub: &Arc<Hub>, cluster: ClusterId, serial: &str, held: Digest) {
    say_hello(hub, cluster, serial, held, BTreeMap::new()).await;
}

/// The same, with facts.
pub(crate) async fn say_hello(
    hub: &Arc<Hub>,
    cluster: ClusterId,
    serial: &str,
    held: Digest,
    facts: BTreeMap<String, String>,
) {
    let not_after = clock::now() + SignedDuration::from_hours(24);
    let (serial, address) = (serial.to_owned(), "192.0.2.1:1".to_owned());
    let caller = Caller { cluster, serial, not_after, key: Digest::of(b"key"), address };
    let hello = Hello {
        protocol: PROTOCOL,
        version: "1".to_owned(),
        boot: clock::new_id(),
        root: held,
        acked: None,
        facts,
        apis: None,
        definitions: None,
        dry_runs: DryRuns::Unknown,
        acts_as_accounts: true,
    };
    let said = [AgentMessage::Hello(hello), AgentMessage::Heartbeat].map(|message| Ok(message.into()));
    let said = futures_util::stream::iter(said).chain(futures_util::stream::pending());
    let cut = CancellationToken::new();
    let begun = session::begin(hub, caller, said, cut.clone()).await;
    let Ok(mut to_agent) = begun else { panic!("it may begin") };
    let welcome = to_agent.next().await.expect("it is greeted");
    let ack = to_agent.next().await.expect("its heartbeat is answered");
    assert!(welcome.is_ok() && ack.is_ok());
    cut.cancel();
    // The end of the stream waits for what is in hand: that it has caught up is written then.
    assert!(to_agent.next().await.is_none(), "it holds what it is to run");
}

/// The agent of a cluster that is connected says this of it.
pub(crate) async fn see(hub: &Hub, cluster: ClusterId, profile: Profile) {
    let number = newest_stream(hub, cluster).await;
    greet::mark_profile(hub, cluster, number, profile).await.expect("it is written");
}

async fn newest_stream(hub: &Hub, cluster: ClusterId) -> SessionNumber {
    let mut db = hub.pool.acquire().await.expect("a connection");
    let open = sessions::list_open(&mut db, hub.id).await.expect("they are read");
    open.into_iter().find(|(one, _)| *one == cluster).expect("it is connected").1
}

/// An agent with a new certificate opens a stream and says this.
pub(crate) async fn connect(
    hub: &Arc<Hub>,
    cluster: ClusterId,
    said: impl futures_util::Stream<Item = Result<FromAgent, tonic::Status>> + Send + Unpin + 'static,
) -> tokio_stream::wrappers::ReceiverStream<Result<FromHub, tonic::Status>> {
    let serial = clock::new_id().simple().to_string();
    certify(hub, cluster, &serial).await;
    let begun = session::begin(hub, caller_with(cluster, &serial), said, CancellationToken::new()).await;
    let Ok(to_agent) = begun else { panic!("it may begin") };
    to_agent
}

/// The streams of these clusters end, all at once.
pub(crate) async fn part(hub: &Hub, clusters: &BTreeSet<ClusterId>) {
    let mut db = hub.vital.acquire().await.expect("a connection");
    let open = sessions::list_open(&mut db, hub.id).await.expect("they are read");
    drop(db);
    for (cluster, session) in open.into_iter().filter(|(cluster, _)| clusters.contains(cluster)) {
        hub.sessions.leave(cluster, session, clock::now());
    }
    while ends::write(hub, 500).await.expect("they are written") {}
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
    let stream = OpenStream {
        number: SessionNumber::new(1),
        serial: String::new(),
        inbox: inbox.clone(),
        cut: CancellationToken::new(),
    };
    hub.sessions.enter(cluster, stream);
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

    assert_eq!(readable, [Listing::default(), Listing::default()]);
    let told: Vec<_> = inboxes.iter().map(|inbox| inbox.take().expect("it came").listing).collect();
    assert!(told.iter().all(|listing| listing.assignments.is_empty()));
    assert_eq!(told.iter().map(|listing| listing.unreadable.len()).collect::<Vec<_>>(), [1, 0]);
    assert!(!deliver(&hub).await.expect("the rows can be read"), "nothing is left");
}

/// A bundle of nothing, and two targets of every cluster that are to run it.
const PLACED: &str = "
    insert into assignments
           (cluster_id, target_id, digest, generation, rollout_id, render_id, action, prunable, assigned_at, target_name)
    select cluster_id, gen_random_uuid(), sha256(''), nextval('generations'), gen_random_uuid(), gen_random_uuid(),
           'orphan', '[]', now(), target
      from clusters, (values ('shop'), ('blog')) as targets (target)";

#[crate::store::database_test(migrations = "../migrations")]
async fn of_250_clusters_one_row_that_cannot_be_read_is_left_out_alone(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let mut inboxes = Vec::new();
    for number in 1..=250 {
        let cluster = register(&hub, &format!("c{number}")).await;
        open_at(&hub, cluster, hub.id).await;
        inboxes.push(hold(&hub, cluster));
    }
    let nothing = bellwether_core::bundle::Manifest::new(Vec::new()).expect("is a manifest");
    let blob = store::bundles::Blob {
        digest: nothing.digest(),
        frame: bellwether_proto::compression::compress(&nothing.encode()),
    };
    let mut db = pool.acquire().await.expect("a connection");
    store::bundles::insert_bundle(&mut db, &blob, 0, clock::now()).await.expect("it is new");
    let broken = "update assignments set options = '7'
                   where target_name = 'shop' and cluster_id = (select cluster_id from clusters where name = 'c7')";
    for statement in [PLACED, broken] {
        store::execute_raw(&pool, statement).await.expect("an intruder can");
    }

    assert!(deliver(&hub).await.expect("it is no trouble of the database"));

    let listings = inboxes.iter().map(|inbox| inbox.take().expect("each is told at once").listing);
    for (number, listing) in (1..).zip(listings) {
        let expected = if number == 7 { (1, 1) } else { (2, 0) };
        assert_eq!((listing.assignments.len(), listing.unreadable.len()), expected, "c{number}");
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_stream_that_was_overtaken_neither_opens_nor_takes_a_place(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "c1").await;
    let (older, _) = admit(&hub, cluster).await;
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
        apis: None,
        definitions: None,
        is_believed: true,
    };
    let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("Postgres is there");
    let before = sessions::mark_opened(&mut change, &[late], clock::now()).await.expect("it is no error");
    assert!(before.is_empty());

    let newest = hold(&hub, cluster);
    let cut = CancellationToken::new();
    let stream =
        OpenStream { number: SessionNumber::new(0), serial: String::new(), inbox: Arc::default(), cut: cut.clone() };
    hub.sessions.enter(cluster, stream);
    assert!(cut.is_cancelled());
    assert!(Arc::ptr_eq(&hub.sessions.lock()[&cluster].inbox, &newest));
}

const ALL_ENDED: &str = "select bool_and(ended_at is not null) from sessions";

#[crate::store::database_test(migrations = "../migrations")]
async fn streams_that_all_end_at_once_are_written_though_no_connection_is_free(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let mut streams = Vec::new();
    for number in 0..100 {
        let cluster = register(&hub, &format!("c{number}")).await;
        streams.push((cluster, open_at(&hub, cluster, hub.id).await));
    }
    let mut taken = Vec::new();
    for _ in 0..hub.pool.options().get_max_connections() {
        taken.push(hub.pool.acquire().await.expect("it is free"));
    }

    for (cluster, session) in streams {
        hub.sessions.leave(cluster, session, clock::now());
    }
    let written = tokio::time::timeout(std::time::Duration::from_secs(4), ends::write(&hub, 500)).await;

    assert!(written.expect("it waits for no connection").expect("it is written"));
    assert!(ask_raw(&mut taken[0], ALL_ENDED).await.expect("it is read"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn the_end_of_a_stream_that_cannot_be_written_is_written_later(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "c1").await;
    let session = open_at(&hub, cluster, hub.id).await;
    let mut holder = store::begin(&pool).await.expect("a transaction");
    store::lock_table(&mut holder, "sessions").await.expect("it is held");

    hub.sessions.leave(cluster, session, clock::now());
    ends::write(&hub, 500).await.expect_err("the row cannot be had");
    drop(holder);
    let later = ends::write(&hub, 500).await.expect("it can now");
    let nothing = ends::write(&hub, 500).await.expect("it can now");

    let mut db = pool.acquire().await.expect("a connection");
    assert!(later && !nothing);
    assert!(ask_raw(&mut db, ALL_ENDED).await.expect("it is read"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_row_of_a_stream_that_is_not_here_is_ended_and_no_other(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    for name in ["lost", "held", "elsewhere"] {
        let cluster = register(&hub, name).await;
        let at = if name == "elsewhere" { clock::new_id() } else { hub.id };
        let number = open_at(&hub, cluster, at).await;
        if name == "held" {
            let stream =
                OpenStream { number, serial: String::new(), inbox: Arc::default(), cut: CancellationToken::new() };
            hub.sessions.enter(cluster, stream);
        }
    }

    ends::compare(&hub).await.expect("the rows can be read");
    ends::write(&hub, 500).await.expect("it is written");

    let only_lost =
        "select bool_and((ended_at is not null) = (name = 'lost')) from sessions join clusters using (cluster_id)";
    let mut db = pool.acquire().await.expect("a connection");
    assert!(ask_raw(&mut db, only_lost).await.expect("it is read"));
}

async fn certify(hub: &Hub, cluster: ClusterId, serial: &str) {
    let mut db = hub.pool.acquire().await.expect("a connection");
    let not_after = clock::now() + SignedDuration::from_hours(24);
    store::certificates::insert(&mut db, serial, cluster, clock::now(), not_after, None).await.expect("it is new");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_silent_agent_is_cut_off_though_the_clock_is_set_back(pool: Pool) {
    let (hub, _folder) = testing::hub_with(&pool, &["--heartbeat-ms", "100", "--deadline-ms", "300"]).await;
    let cluster = register(&hub, "c1").await;
    certify(&hub, cluster, "1").await;
    let not_after = clock::now() + SignedDuration::from_hours(24);
    let caller = Caller { cluster, serial: "1".to_owned(), not_after, key: Digest::of(b"key"), address: String::new() };

    let silence = futures_util::stream::pending();
    let begun = session::begin(&hub, caller, silence, CancellationToken::new()).await;
    let Ok(mut to_agent) = begun else { panic!("it may begin") };
    clock::step(SignedDuration::from_hours(-1));
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), to_agent.next()).await;

    assert!(ended.expect("it ends in time").is_none(), "nothing was said to it");
    hub.tasks.close();
    hub.tasks.wait().await;
    assert_eq!((hub.sessions.count(), hub.sessions.ends().len()), (0, 1));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_stream_whose_task_breaks_down_has_ended(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "c1").await;
    certify(&hub, cluster, "1").await;
    let not_after = clock::now() + SignedDuration::from_hours(24);
    let caller = Caller { cluster, serial: "1".to_owned(), not_after, key: Digest::of(b"key"), address: String::new() };

    let broken = futures_util::stream::poll_fn(|_| panic!("as a fault in a stream's task would"));
    let begun = session::begin(&hub, caller, broken, CancellationToken::new()).await;
    let Ok(mut to_agent) = begun else { panic!("it may begin") };
    assert!(to_agent.next().await.is_none());

    hub.tasks.close();
    hub.tasks.wait().await;
    assert_eq!((hub.sessions.count(), hub.sessions.ends().len()), (0, 1));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn the_stream_of_a_cluster_that_another_hub_deleted_is_cut_here(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let mut cuts = Vec::new();
    for (name, serial) in [("deleted", "0a"), ("kept", "0b")] {
        let cluster = register(&hub, name).await;
        certify(&hub, cluster, serial).await;
        let cut = CancellationToken::new();
        let number = open_at(&hub, cluster, hub.id).await;
        hub.sessions
            .enter(cluster, OpenStream { number, serial: serial.to_owned(), inbox: Arc::default(), cut: cut.clone() });
        cuts.push((cluster, cut));
    }

    let mut db = pool.acquire().await.expect("a connection");
    clusters::delete(&mut db, cuts[0].0).await.expect("it goes");
    crate::pki::revocations::refresh(&hub).await.expect("the list can be read");

    let is_cut: Vec<_> = cuts.iter().map(|(_, cut)| cut.is_cancelled()).collect();
    assert_eq!(is_cut, [true, false]);
}

/// A join token of a cluster.
async fn invite(hub: &Hub, cluster: ClusterId) -> String {
    let token = clock::new_id().to_string();
    let mut db = hub.pool.acquire().await.expect("a connection");
    let (now, hash) = (clock::now(), crate::pki::seal::hash_token(&token));
    let until = now + jiff::SignedDuration::from_hours(1);
    clusters::insert_enrollment(&mut db, hash, cluster, now, until).await.expect("it is written");
    token
}

fn caller(issued: &crate::pki::ca::Issued) -> Caller {
    caller_of(&issued.chain[0])
}

fn caller_of(leaf: &[u8]) -> Caller {
    let identity = crate::pki::ca::identity_of(leaf).expect("an agent's");
    Caller {
        cluster: identity.cluster,
        serial: identity.serial,
        not_after: identity.not_after,
        key: identity.key,
        address: String::new(),
    }
}

async fn refusals(hub: &Hub) -> Vec<serde_json::Value> {
    entries(hub, "cluster.enroll.refused").await
}

async fn entries(hub: &Hub, action: &str) -> Vec<serde_json::Value> {
    let mut db = hub.pool.acquire().await.expect("a connection");
    let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
    let entries = bodies.iter().map(|body| serde_json::from_slice::<serde_json::Value>(body).expect("is JSON"));
    entries.filter(|entry| entry["action"] == action).collect()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn strangers_who_guess_join_tokens_write_one_entry_and_soon_do_not_reach_the_database(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let (_, csr) = crate::pki::ca::tests::agent_request();
    let stranger = |port| Some(std::net::SocketAddr::from(([192, 0, 2, 1], port)));

    let mut turned_away = 0;
    for port in 1..=100 {
        let refused = enroll::enroll(&hub, &format!("bwj_{port}"), &csr, stranger(port)).await;
        turned_away += usize::from(matches!(refused, Err(EnrollError::TooOften)));
    }

    assert!(turned_away >= 70, "{turned_away} of 100");
    assert_eq!(refusals(&hub).await.len(), 1);
    let cluster = register(&hub, "c1").await;
    let token = invite(&hub, cluster).await;
    let elsewhere = Some(std::net::SocketAddr::from(([192, 0, 2, 2], 1)));
    enroll::enroll(&hub, &token, &csr, elsewhere).await.expect("another address joins");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_certificate_is_renewed_for_its_own_key_only_and_has_one_successor(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "c1").await;
    let (_, csr) = crate::pki::ca::tests::agent_request();
    let (_, others) = crate::pki::ca::tests::agent_request();
    let token = invite(&hub, cluster).await;
    let first = caller(&enroll::enroll(&hub, &token, &csr, None).await.expect("it joins"));
    let used = async |caller: &Caller| {
        let mut db = hub.pool.acquire().await.expect("a connection");
        let now = clock::now();
        store::certificates::mark_used(&mut db, &caller.serial, cluster, now).await.expect("asked")
    };

    let stolen = enroll::renew(&hub, &first, &others).await;
    let lost = caller(&enroll::renew(&hub, &first, &csr).await.expect("renewed"));
    let second = caller(&enroll::renew(&hub, &first, &csr).await.expect("its answer was lost"));

    assert!(matches!(stolen, Err(EnrollError::OtherKey)), "{stolen:?}");
    assert!(!used(&lost).await, "two successors are good");
    assert!(used(&second).await);
    let late = enroll::renew(&hub, &first, &csr).await;
    assert!(matches!(late, Err(EnrollError::Replaced)), "{late:?}");

    let mut granted = 0;
    for _ in 0..20 {
        granted += usize::from(enroll::renew(&hub, &second, &csr).await.is_ok());
    }
    assert!(granted < 5, "{granted} at once");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn streams_and_beats_go_on_while_the_other_pool_is_exhausted(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let mut stream = Vec::new();
    for _ in 0..hub.pool.options().get_max_connections() {
        stream.push(hub.pool.acquire().await.expect("a connection"));
    }

    let delivered = deliver(&hub).await;
    let trusted = crate::pki::revocations::refresh(&hub).await;

    assert!(delivered.is_ok() && trusted.is_ok(), "{delivered:?} {trusted:?}");
}

fn caller_with(cluster: ClusterId, serial: &str) -> Caller {
    let not_after = clock::now() + SignedDuration::from_hours(24);
    Caller { cluster, serial: serial.to_owned(), not_after, key: Digest::of(b"key"), address: String::new() }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn streams_of_one_cluster_begin_only_so_often_and_those_of_others_do(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let (greedy, other) = (register(&hub, "greedy").await, register(&hub, "other").await);
    certify(&hub, greedy, "1").await;
    certify(&hub, other, "2").await;
    let begin = async |cluster, serial| {
        let silence = futures_util::stream::pending();
        session::begin(&hub, caller_with(cluster, serial), silence, CancellationToken::new()).await.is_ok()
    };

    let mut begun = 0;
    for _ in 0..50 {
        begun += usize::from(begin(greedy, "1").await);
    }

    assert!(begun < 25, "{begun} of 50");
    assert!(begin(other, "2").await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn where_agents_come_from_is_known_after_a_restart_and_of_no_revoked_cluster(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    for name in ["kept", "revoked"] {
        let cluster = register(&hub, name).await;
        open_at(&hub, cluster, clock::new_id()).await;
    }
    let by_name = "update sessions set address = case name when 'kept' then '192.0.2.1:77' else '192.0.2.2:77' end
                     from clusters where clusters.cluster_id = sessions.cluster_id";
    store::execute_raw(&pool, by_name).await.expect("it is written");
    let known = async || {
        crate::pki::revocations::refresh_known(&hub).await.expect("the rows can be read");
        hub.trust.known_agents.load().iter().map(ToString::to_string).collect::<Vec<_>>()
    };

    assert_eq!(known().await, ["192.0.2.1", "192.0.2.2"]);
    store::execute_raw(&pool, "update clusters set revoked_at = now() where name = 'revoked'").await.expect("it is");
    assert_eq!(known().await, ["192.0.2.1"]);
}

/// A Hello, so many heartbeats, and then nothing.
fn chatter(
    heartbeats: usize,
    read: &Arc<std::sync::atomic::AtomicUsize>,
) -> impl futures_util::Stream<Item = Result<FromAgent, tonic::Status>> + Send + Unpin + 'static {
    let hello = Hello {
        protocol: PROTOCOL,
        version: "1".to_owned(),
        boot: Uuid::nil(),
        root: root([]),
        acked: None,
        facts: BTreeMap::new(),
        apis: None,
        definitions: None,
        dry_runs: DryRuns::Unknown,
        acts_as_accounts: true,
    };
    let messages = std::iter::once(AgentMessage::Hello(hello)).chain((0..heartbeats).map(|_| AgentMessage::Heartbeat));
    let read = read.clone();
    let messages = messages.map(move |message| {
        read.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(FromAgent::from(message))
    });
    futures_util::stream::iter(messages).chain(futures_util::stream::pending())
}

#[crate::store::database_test(migrations = "../migrations")]
async fn all_streams_of_a_cluster_say_together_no_more_than_its_share(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "c1").await;
    certify(&hub, cluster, "1").await;
    let began = std::time::Instant::now();

    // 5,000 at once, and then a hundred a second: the last two hundred take two seconds.
    for heartbeats in [5_000, 200] {
        let read = Arc::default();
        let inbound = chatter(heartbeats, &read);
        let begun = session::begin(&hub, caller_with(cluster, "1"), inbound, CancellationToken::new()).await;
        let Ok(mut to_agent) = begun else { panic!("it may begin") };
        let all_read = async {
            while read.load(std::sync::atomic::Ordering::Relaxed) <= heartbeats {
                let next = tokio::time::timeout(std::time::Duration::from_millis(5), to_agent.next()).await;
                assert!(!matches!(next, Ok(None)), "the stream ended");
            }
        };
        tokio::time::timeout(std::time::Duration::from_mins(1), all_read).await.expect("it is read in time");
    }

    assert!(began.elapsed() >= std::time::Duration::from_secs(2), "the second stream had a share of its own");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_join_token_that_is_not_spent_gives_few_certificates_and_one_that_is_good(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "c1").await;
    let token = invite(&hub, cluster).await;
    let (_, csr) = crate::pki::ca::tests::agent_request();
    let agent = |port| Some(std::net::SocketAddr::from(([192, 0, 2, 1], port)));

    let (mut issued, mut turned_away) = (Vec::new(), 0);
    for port in 1..=100 {
        match enroll::enroll(&hub, &token, &csr, agent(port)).await {
            Ok(one) => issued.push(caller(&one)),
            Err(EnrollError::TooOften) => turned_away += 1,
            Err(error) => panic!("{error}"),
        }
    }

    assert!(issued.len() <= 25 && turned_away == 100 - issued.len(), "{} certificates", issued.len());
    assert!(entries(&hub, "cluster.enrolled").await.len() <= 25);
    let mut db = pool.acquire().await.expect("a connection");
    let now = clock::now();
    let mut good = Vec::new();
    for one in &issued {
        good.push(store::certificates::mark_used(&mut db, &one.serial, cluster, now).await.expect("asked"));
    }
    assert_eq!(good.iter().filter(|good| **good).count(), 1, "{good:?}");
    assert_eq!(good.last(), Some(&true), "the newest is the one that its agent has");
}

/// Whether the stream that an agent opens now is contested.
async fn greet(hub: &Hub, cluster: ClusterId, boot: u128, uid: &str) -> bool {
    let (number, serial) = admit(hub, cluster).await;
    let caller = Caller {
        cluster,
        serial,
        not_after: jiff::Timestamp::MAX,
        key: Digest::of(b"key"),
        address: format!("10.0.0.{boot}:1"),
    };
    let hello = Hello {
        protocol: PROTOCOL,
        version: "1".to_owned(),
        boot: Uuid::from_u128(boot),
        root: root([]),
        acked: None,
        facts: BTreeMap::from([(UID_FACT.to_owned(), uid.to_owned())]),
        apis: None,
        definitions: None,
        dry_runs: DryRuns::Unknown,
        acts_as_accounts: true,
    };
    let greeted = greet::greet(hub, Arrival { caller, number, hello }).await.expect("it is written");
    greeted.expect("it is the newest").listing.is_none()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn of_a_cluster_and_its_copy_both_are_named_and_neither_is_trusted_until_it_enrols_anew(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "c1").await;

    let mut turns = Vec::new();
    for (boot, uid) in [(1, "a"), (2, "b"), (1, "a"), (2, "b")] {
        turns.push(greet(&hub, cluster, boot, uid).await);
    }
    let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("Postgres is there");
    let said = audit::take_unsealed(&mut change, 100).await.expect("the rows can be read");
    let said: Vec<_> = said.iter().map(|one| String::from_utf8_lossy(&one.body)).collect();
    sessions::mark_identity_conflict(&mut change, cluster, None).await.expect("it is written");
    change.commit().await.expect("it commits");
    let settled = greet(&hub, cluster, 1, "a").await;

    assert_eq!(turns, [false, false, true, true]);
    let told: Vec<_> = said.iter().filter(|body| body.contains("cluster.contested")).collect();
    assert_eq!(told.len(), 1, "{said:?}");
    assert!(told[0].contains("10.0.0.1:1") && told[0].contains("10.0.0.2:1"), "{}", told[0]);
    assert!(!settled);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_two_agents_with_one_identity_say_of_their_cluster_is_believed_of_neither_until_it_is_settled(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "c1").await;
    let mut db = hub.pool.acquire().await.expect("a connection");
    let used = bellwether_core::parameters::TraitsUsed::ALL;
    let mut known = async || store::traits::load(&mut db, &[cluster], used).await.expect("read").remove(&cluster);
    for (boot, uid) in [(1, "a"), (2, "b")] {
        assert!(!greet(&hub, cluster, boot, uid).await, "the cluster may have been built anew");
    }
    let before = known().await.expect("it is known");

    assert!(greet(&hub, cluster, 1, "a").await, "it came back");
    let apis = bellwether_core::apis::Apis::parse("apps/v1").expect("names");
    let facts = BTreeMap::from([("kubernetes.minor".to_owned(), "1.99".to_owned())]);
    see(&hub, cluster, Profile { facts, apis: Some(apis), ..profile_of(&named(&[])) }).await;

    assert_eq!(known().await.as_ref(), Some(&before));
    let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("Postgres is there");
    sessions::mark_identity_conflict(&mut change, cluster, None).await.expect("it is written");
    change.commit().await.expect("it commits");
    assert!(!greet(&hub, cluster, 1, "a").await, "it was settled");
    let after = known().await.expect("it is known");
    assert_eq!(after.facts[UID_FACT], "a");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_two_agents_claim_is_not_heard_whatever_they_say(pool: Pool) {
    const HEARD: &str = "select coalesce(bool_or(is_heard), false) from presences";
    let (hub, _folder) = testing::hub(&pool).await;
    let mut db = hub.pool.acquire().await.expect("a connection");
    store::installation::mark_hub_heartbeat(&mut db, hub.id, std::time::Duration::from_mins(10))
        .await
        .expect("a heartbeat is written");
    let cluster = register(&hub, "c1").await;
    let newest = "select session from sessions";
    let catch_up = async |db: &mut store::Connection| {
        let number = SessionNumber::new(store::ask_number(db, newest).await.expect("it is read"));
        sessions::mark_caught_up(db, &[(cluster, number)], clock::now()).await.expect("it is written");
    };

    greet(&hub, cluster, 1, "a").await;
    catch_up(&mut db).await;
    let alone = ask_raw(&mut db, HEARD).await.expect("it is read");
    greet(&hub, cluster, 2, "b").await;
    assert!(greet(&hub, cluster, 1, "a").await, "contested");
    catch_up(&mut db).await;

    assert!(alone);
    assert!(!ask_raw(&mut db, HEARD).await.expect("it is read"));
    let candidates =
        store::fleet::list_candidates(&mut db, hub.project.id, &bellwether_core::Labels::new(), TraitsUsed::NONE)
            .await
            .expect("they are read");
    assert!(!candidates[0].connected, "no rollout begins with it");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_stream_whose_cluster_has_a_newer_one_at_another_hub_is_cut(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let mut cuts = Vec::new();
    for name in ["copied", "alone"] {
        let cluster = register(&hub, name).await;
        let number = open_at(&hub, cluster, hub.id).await;
        let cut = CancellationToken::new();
        let stream = OpenStream { number, serial: String::new(), inbox: Arc::default(), cut: cut.clone() };
        hub.sessions.enter(cluster, stream);
        cuts.push((cluster, cut));
    }
    open_at(&hub, cuts[0].0, clock::new_id()).await;

    ends::compare(&hub).await.expect("the rows can be read");

    let is_cut: Vec<_> = cuts.iter().map(|(_, cut)| cut.is_cancelled()).collect();
    assert_eq!(is_cut, [true, false]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn agents_that_come_at_once_are_greeted_at_once_and_each_by_its_own_rows(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let mut arrivals = Vec::new();
    // The first is greeted by itself, and the others meanwhile wait.
    for name in ["c0", "c1", "c2", "c3", "c4"] {
        let cluster = register(&hub, name).await;
        let (older, newer) = (admit(&hub, cluster).await, admit(&hub, cluster).await);
        arrivals.extend([(cluster, older), (cluster, newer)]);
    }
    let stolen = format!("update certificates set revoked_at = now() where serial = '{}'", arrivals[9].1.1);
    store::execute_raw(&hub.pool, stolen.leak()).await.expect("it is written");
    store::execute_raw(&pool, "update clusters set revoked_at = now() where name = 'c2'").await.expect("it is written");
    let unreadable = r#"insert into sessions (cluster_id, session, hub_id, boot, since, address, certificate_serial, agent_version, facts)
        select cluster_id, 0, gen_random_uuid(), gen_random_uuid(), now(), '', '', '', '{"uid": 7}' from clusters where name = 'c3'"#;
    store::execute_raw(&pool, unreadable).await.expect("it is written");

    let greeted = arrivals.into_iter().map(async |(cluster, (number, serial))| {
        let address = "10.0.0.1:1".to_owned();
        let caller = Caller { cluster, serial, not_after: jiff::Timestamp::MAX, key: Digest::of(b"key"), address };
        let hello = Hello {
            protocol: PROTOCOL,
            version: "1".to_owned(),
            boot: Uuid::from_u128(1),
            root: root([]),
            acked: None,
            facts: BTreeMap::new(),
            apis: None,
            definitions: None,
            dry_runs: DryRuns::Unknown,
            acts_as_accounts: true,
        };
        greet::greet(&hub, Arrival { caller, number, hello }).await
    });
    let greeted = futures_util::future::join_all(greeted).await;

    let said: Vec<_> = greeted.iter().map(|one| one.as_ref().ok().map(Option::is_some)).collect();
    assert_eq!(said[3..6], [Some(true), Some(false), Some(false)], "the newest of c1, and none of c2");
    assert_eq!(said[6..8], [None, None], "of c3 a row cannot be read");
    assert_eq!(
        said[8..],
        [Some(true), Some(false)],
        "the certificate of c4's newest stream is revoked, the other's is not"
    );
    assert_eq!(entries(&hub, "cluster.joined").await.len(), 3);
}

/// The agents' port of this hub, open, until it is dropped.
struct OpenPort {
    address: std::net::SocketAddr,
    stop: tokio_util::sync::DropGuard,
}

async fn open_port(hub: &Arc<Hub>) -> OpenPort {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let (address, stop) = (listener.local_addr().expect("bound"), CancellationToken::new());
    tokio::spawn(super::serve(hub.clone(), listener, stop.clone()));
    OpenPort { address, stop: stop.drop_guard() }
}

/// What one has that an agent connects with.
#[derive(Clone)]
struct Credentials {
    key: Vec<u8>,
    csr: Vec<u8>,
    chain: Vec<Vec<u8>>,
}

impl Credentials {
    async fn enroll(hub: &Hub, cluster: ClusterId) -> Self {
        let (key, csr) = crate::pki::ca::tests::agent_request();
        let token = invite(hub, cluster).await;
        let chain = enroll::enroll(hub, &token, &csr, None).await.expect("it joins").chain;
        Self { key, csr, chain }
    }

    fn caller(&self) -> Caller {
        caller_of(&self.chain[0])
    }

    async fn renew(&self, hub: &Hub) -> Self {
        let chain = enroll::renew(hub, &self.caller(), &self.csr).await.expect("renewed").chain;
        Self { chain, ..self.clone() }
    }
}

type Client = bellwether_proto::v1::agents_client::AgentsClient<tonic::transport::Channel>;

async fn dial(hub: &Hub, port: &OpenPort, credentials: &Credentials) -> Option<Client> {
    let mut roots = rustls::RootCertStore::empty();
    for root in hub.authority.roots() {
        roots.add(root.into()).expect("a root");
    }
    let chain = credentials.chain.iter().cloned().map(Into::into).collect();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(credentials.key.clone()).into();
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (config, address) = (Arc::new(config), port.address);
    let connector = tower::service_fn(move |_| {
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        async move {
            let name = rustls::pki_types::ServerName::try_from(crate::pki::ca::HUB_NAME).expect("a name");
            let tcp = tokio::net::TcpStream::connect(address).await?;
            connector.connect(name, tcp).await.map(hyper_util::rt::TokioIo::new)
        }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://bellwether-hub");
    endpoint.connect_with_connector(connector).await.ok().map(Client::new)
}

/// Opens a stream and leaves it; whether it was let in.
async fn call(client: &mut Client) -> Result<(), tonic::Status> {
    client.session(futures_util::stream::pending()).await.map(drop)
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_revoked_clusters_connections_are_closed_and_its_next_certificate_is_let_in(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let port = open_port(&hub).await;
    let cluster = register(&hub, "c1").await;
    let stolen = Credentials::enroll(&hub, cluster).await;
    let mut thieves = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = dial(&hub, &port, &stolen).await.expect("it is good still");
        // Whether it is let in or not, until there is no connection: only then there is a cause beneath the status.
        thieves.spawn(async move {
            let mut pace = tokio::time::interval(std::time::Duration::from_millis(50));
            while !call(&mut client).await.is_err_and(|status| std::error::Error::source(&status).is_some()) {
                pace.tick().await;
            }
        });
    }

    let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("Postgres is there");
    store::certificates::mark_all_revoked(&mut change, cluster, clock::now()).await.expect("they are revoked");
    change.commit().await.expect("it commits");
    crate::pki::revocations::refresh(&hub).await.expect("the list can be read");
    let rightful = Credentials::enroll(&hub, cluster).await;
    let let_in = async {
        loop {
            if let Some(mut client) = dial(&hub, &port, &rightful).await
                && call(&mut client).await.is_ok()
            {
                return;
            }
        }
    };

    let five = std::time::Duration::from_secs(5);
    assert!(tokio::time::timeout(five, let_in).await.is_ok(), "those who are revoked hold its places");
    let all_gone = async { while thieves.join_next().await.is_some() {} };
    assert!(tokio::time::timeout(five, all_gone).await.is_ok(), "a revoked certificate keeps its connection");
    drop(port.stop);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_certificate_that_was_issued_in_vain_is_refused_by_the_handshake_too(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "c1").await;
    let (_, csr) = crate::pki::ca::tests::agent_request();
    let token = invite(&hub, cluster).await;
    let mut issued = Vec::new();
    for _ in 0..2 {
        issued.push(caller(&enroll::enroll(&hub, &token, &csr, None).await.expect("its answer was lost")));
    }
    for _ in 0..2 {
        issued.push(caller(&enroll::renew(&hub, &issued[1], &csr).await.expect("its answer was lost")));
    }

    let mut db = pool.acquire().await.expect("a connection");
    let mut listed = store::certificates::list_revoked(&mut db, clock::now()).await.expect("they are read");

    let mut in_vain = vec![issued[0].serial.clone(), issued[2].serial.clone()];
    in_vain.sort();
    listed.sort();
    assert_eq!(listed, in_vain);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_is_refused_spends_nothing_of_the_share_of_its_cluster(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "c1").await;
    let revoked = Credentials::enroll(&hub, cluster).await;
    let mut db = pool.acquire().await.expect("a connection");
    store::certificates::mark_all_revoked(&mut db, cluster, clock::now()).await.expect("they are revoked");
    let rightful = Credentials::enroll(&hub, cluster).await;

    for _ in 0..50 {
        let begun = session::begin(&hub, revoked.caller(), futures_util::stream::pending(), CancellationToken::new());
        assert!(begun.await.is_err());
        assert!(enroll::renew(&hub, &revoked.caller(), &revoked.csr).await.is_err());
    }

    let begun = session::begin(&hub, rightful.caller(), futures_util::stream::pending(), CancellationToken::new());
    assert!(begun.await.is_ok(), "its streams were used up");
    rightful.renew(&hub).await;
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_call_of_one_message_is_not_read_beyond_what_such_a_message_needs(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let port = open_port(&hub).await;
    let cluster = register(&hub, "c1").await;
    let mut client = dial(&hub, &port, &Credentials::enroll(&hub, cluster).await).await.expect("it is good");

    let csr = vec![0; 100 * 1024];
    let refused = client.renew(bellwether_proto::v1::RenewRequest { csr }).await.expect_err("it is no request");

    assert!(refused.message().contains("length limit"), "it was read: {refused}");
    drop(port.stop);
}

fn greeting(apis: Option<Digest>) -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: "1".to_owned(),
        boot: clock::new_id(),
        root: root([]),
        acked: None,
        facts: BTreeMap::from([("kubernetes.minor".to_owned(), "1.33".to_owned())]),
        apis,
        definitions: None,
        dry_runs: DryRuns::Unknown,
        acts_as_accounts: true,
    }
}

/// Whether a hub that is told of APIs by their digest asks for them.
async fn asks_for_apis(hub: &Arc<Hub>, cluster: ClusterId, apis: Option<Digest>) -> bool {
    asks_for_profile(hub, cluster, greeting(apis)).await
}

async fn asks_for_profile(hub: &Arc<Hub>, cluster: ClusterId, hello: Hello) -> bool {
    let said = futures_util::stream::iter([Ok(AgentMessage::Hello(hello).into())]);
    let mut told = connect(hub, cluster, said.chain(futures_util::stream::pending())).await;
    let welcome = told.next().await.expect("it is greeted").expect("it is let in");
    match bellwether_proto::hub_message(welcome).expect("it is read") {
        HubMessage::Welcome(welcome) => {
            assert_ne!(welcome.profile, ProfileWanted::Never);
            welcome.profile == ProfileWanted::Now
        }
        other => panic!("{other:?}"),
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn apis_that_one_cluster_has_said_are_asked_of_no_other_and_go_when_none_has_them(pool: Pool) {
    const SETS: &str = "select count(*) = 1 from api_sets";
    let (hub, _folder) = testing::hub(&pool).await;
    let (one, other) = (register(&hub, "one").await, register(&hub, "other").await);
    let apis = |text| bellwether_core::apis::Apis::parse(text).expect("names");
    let (old, new) = (apis("apps/v1\nv1"), apis("apps/v1\nmonitoring.coreos.com/v1\nv1"));
    let profile = |apis: &bellwether_core::apis::Apis| Profile { apis: Some(apis.clone()), ..Profile::default() };

    assert!(!asks_for_apis(&hub, one, None).await, "an agent that has not looked has nothing to say");
    assert!(asks_for_apis(&hub, one, Some(old.digest())).await);
    see(&hub, one, profile(&old)).await;
    assert!(!asks_for_apis(&hub, one, Some(old.digest())).await);
    assert!(!asks_for_apis(&hub, other, Some(old.digest())).await, "they are the same");

    see(&hub, one, profile(&new)).await;
    see(&hub, one, profile(&new)).await;
    let mut db = hub.pool.acquire().await.expect("a connection");
    assert!(!ask_raw(&mut db, SETS).await.expect("asked"), "the other has the old ones still");
    see(&hub, other, profile(&new)).await;
    assert!(ask_raw(&mut db, SETS).await.expect("asked"));
    let used = bellwether_core::parameters::TraitsUsed::ALL;
    let traits = store::traits::load(&mut db, &[one, other], used).await.expect("read");
    assert_eq!(traits[&one].apis, Some(new));

    store::execute_raw(&pool, "update api_sets set apis = 'apps/v1'").await.expect("written");
    let traits = store::traits::load(&mut db, &[one, other], used).await.expect("read");
    assert!(traits.is_empty(), "what cannot be read was taken for what was never told: {traits:?}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn clusters_that_exchange_what_they_serve_and_define_do_not_wait_for_each_other(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let apis = ["apps/v1", "batch/v1"].map(|text| bellwether_core::apis::Apis::parse(text).expect("names"));
    let lists = [named(&[("a.io", &packed("a.io", "a"))]), named(&[("b.io", &packed("b.io", "b"))])];
    let clusters = [register(&hub, "one").await, register(&hub, "other").await];
    let mut streams = Vec::new();
    for ((cluster, apis), list) in clusters.into_iter().zip(&apis).zip(&lists) {
        asks_for_profile(&hub, cluster, greeting(None)).await;
        see(&hub, cluster, Profile { apis: Some(apis.clone()), ..profile_of(list) }).await;
        streams.push((cluster, newest_stream(&hub, cluster).await));
    }
    let mut changes = Vec::new();
    for _ in 0..2 {
        changes.push(Change::begin(&hub.pool, &hub.signals).await.expect("a transaction"));
    }

    // Each has said what the other said before, and then what it said itself is named by none that it knows of.
    for (place, change) in changes.iter_mut().enumerate() {
        let (apis, list, (cluster, number)) = (&apis[1 - place], &lists[1 - place], streams[place]);
        store::apis::mark(change, apis, clock::now()).await.expect("it is there");
        store::definitions::mark(change, list, clock::now()).await.expect("it is there");
        let (facts, definitions) = (BTreeMap::new(), Some(list.digest()));
        let said = sessions::Said { facts: &facts, apis: Some(apis.digest()), definitions };
        sessions::mark_seen(change, cluster, number, &said, clock::now()).await.expect("it is written");
    }
    let forget = async |(place, mut change): (usize, Change<'_>)| {
        store::apis::delete_unnamed(&mut change, &BTreeSet::from([apis[place].digest()])).await?;
        store::definitions::delete_unnamed(&mut change, &BTreeSet::from([lists[place].digest()])).await?;
        change.commit().await
    };
    let ended = futures_util::future::join_all(changes.into_iter().enumerate().map(forget)).await;

    for one in ended {
        one.expect("it waits for nobody");
    }
    let mut db = hub.pool.acquire().await.expect("a connection");
    assert!(ask_raw(&mut db, "select count(*) = 2 from api_sets").await.expect("asked"), "both are named");
    assert!(ask_raw(&mut db, "select count(*) = 2 from definition_lists").await.expect("asked"), "both are named");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn clusters_that_say_the_same_at_once_do_not_wait_for_each_other(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let apis = bellwether_core::apis::Apis::parse("apps/v1").expect("names");
    let list = named(&[("a.io", &packed("a.io", "a"))]);
    let profile = Profile { apis: Some(apis.clone()), ..profile_of(&list) };
    let (one, other) = (register(&hub, "one").await, register(&hub, "other").await);
    for cluster in [one, other] {
        asks_for_profile(&hub, cluster, greeting(None)).await;
    }
    see(&hub, one, profile.clone()).await;

    let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("a transaction");
    store::apis::mark(&mut change, &apis, clock::now()).await.expect("it is there");
    store::definitions::mark(&mut change, &list, clock::now()).await.expect("it is there");
    let number = newest_stream(&hub, other).await;
    let meanwhile = greet::mark_profile(&hub, other, number, profile).await;

    assert!(meanwhile.expect("nobody is waited for").is_some());
    change.commit().await.expect("it commits");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_known_of_a_cluster_is_shown_with_when_its_agent_told_it(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "one").await;
    let mut db = hub.pool.acquire().await.expect("a connection");
    let mut shown = async || {
        let shown = store::views::clusters::load(&mut db, &[cluster], clock::now()).await.expect("it is read");
        let shown = shown.into_values().next().expect("it has joined");
        (shown.facts_told_at, shown.apis_told_at)
    };

    clock::step(SignedDuration::from_hours(-1));
    asks_for_profile(&hub, cluster, greeting(None)).await;
    let (facts_at_first, apis_at_first) = shown().await;
    clock::step(SignedDuration::ZERO);
    let apis = bellwether_core::apis::Apis::parse("apps/v1").expect("names");
    see(&hub, cluster, Profile { apis: Some(apis.clone()), ..Profile::default() }).await;
    let (facts_at, apis_at) = shown().await;
    see(&hub, cluster, Profile::default()).await;
    let (_, apis_at_last) = shown().await;

    let an_hour_ago = clock::now() - SignedDuration::from_mins(59);
    assert!(facts_at_first.expect("they were told") < an_hour_ago);
    assert_eq!(apis_at_first, None);
    assert!(facts_at.expect("they were told") > an_hour_ago && apis_at == facts_at);
    assert_eq!(apis_at_last, apis_at, "nothing was said of them");
}

/// What is told of a definition of this name, which defines this field.
fn packed(name: &str, field: &str) -> Packed {
    let definition = serde_json::json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
        "spec": {"group": "example.org", "names": {"plural": "widgets", "kind": "Widget"}, "scope": "Namespaced",
            "versions": [{"name": "v1", "served": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object", "properties": {(field): {"type": "string"}}}}}}}]},
    });
    let definition = Definition::parse(definition.to_string()).expect("is one");
    Packed { digest: definition.digest(), bytes: compression::compress(definition.text().as_bytes()) }
}

fn named(all: &[(&str, &Packed)]) -> Definitions {
    Definitions::new(all.iter().map(|(name, packed)| ((*name).to_owned(), Some(packed.digest))))
}

fn profile_of(definitions: &Definitions) -> Profile {
    Profile { definitions: Some(definitions.clone()), ..Profile::default() }
}

/// A new cluster tells a definition, and that it has another one that is too large to be told.
pub(crate) async fn tell_a_definition(hub: &Arc<Hub>, name: &str) -> Digest {
    let cluster = register(hub, name).await;
    asks_for_profile(hub, cluster, greeting(None)).await;
    let told = packed("widgets.example.org", "size");
    let list = [("widgets.example.org", Some(told.digest)), ("gadgets.example.org", None)];
    let list = Definitions::new(list.map(|(name, digest)| (name.to_owned(), digest)));
    see(hub, cluster, profile_of(&list)).await;
    keep(hub, cluster, &told).await;
    told.digest
}

/// Of which definitions a hub lacks more than the digest, when it is told of these.
async fn missing(hub: &Hub, cluster: ClusterId, definitions: &Definitions) -> BTreeSet<Digest> {
    let number = newest_stream(hub, cluster).await;
    let missing = greet::mark_profile(hub, cluster, number, profile_of(definitions)).await.expect("it is written");
    missing.expect("it named some")
}

async fn keep(hub: &Hub, cluster: ClusterId, packed: &Packed) {
    let number = newest_stream(hub, cluster).await;
    greet::keep_definition(hub, cluster, number, packed.clone()).await.expect("it is written");
}

async fn stored(hub: &Hub, packed: &Packed) -> bool {
    let mut db = hub.pool.acquire().await.expect("a connection");
    store::definitions::find_packed(&mut db, packed.digest).await.expect("it is read").is_some()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn definitions_that_one_cluster_has_told_are_asked_of_no_other_and_go_when_none_has_them(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let (one, other) = (register(&hub, "one").await, register(&hub, "other").await);
    let (a, b, c) = (packed("a.io", "a"), packed("b.io", "b"), packed("b.io", "c"));
    let (old, new) = (named(&[("a.io", &a), ("b.io", &b)]), named(&[("a.io", &a), ("b.io", &c)]));
    let hello = |list: &Definitions| Hello { definitions: Some(list.digest()), ..greeting(None) };

    assert!(!asks_for_profile(&hub, one, greeting(None)).await, "an agent that has not looked has nothing to say");
    assert!(asks_for_profile(&hub, one, hello(&old)).await);
    assert_eq!(missing(&hub, one, &old).await, BTreeSet::from([a.digest, b.digest]));
    keep(&hub, one, &a).await;
    assert!(asks_for_profile(&hub, one, hello(&old)).await, "one of them is not here");
    assert_eq!(missing(&hub, one, &old).await, BTreeSet::from([b.digest]));
    keep(&hub, one, &b).await;
    assert!(!asks_for_profile(&hub, one, hello(&old)).await);
    assert!(!asks_for_profile(&hub, other, hello(&old)).await, "they are the same");

    assert_eq!(missing(&hub, one, &new).await, BTreeSet::from([c.digest]), "one was changed");
    keep(&hub, one, &c).await;
    assert!(stored(&hub, &b).await, "the other has it still");
    assert!(missing(&hub, other, &new).await.is_empty());
    assert!(stored(&hub, &a).await && stored(&hub, &c).await && !stored(&hub, &b).await);
    let mut db = hub.pool.acquire().await.expect("a connection");
    assert!(ask_raw(&mut db, "select count(*) = 1 from definition_lists").await.expect("asked"));
    let told = store::definitions::find_told(&mut db, other).await.expect("it is read").expect("it was told");
    assert_eq!((told.list, told.stored), (new, BTreeSet::from([a.digest, c.digest])));
    drop(db);

    // Their clusters are deleted.
    let later = clock::now() + SignedDuration::from_hours(2);
    sqlx::query("delete from sessions").execute(&pool).await.expect("they are deleted");
    crate::worker::sweep::sweep(&hub, later).await.expect("it sweeps");
    assert!(!stored(&hub, &a).await && !stored(&hub, &c).await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn of_definitions_only_what_its_own_cluster_names_and_is_what_it_says_is_stored_and_so_much_of_it(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let (one, other) = (register(&hub, "one").await, register(&hub, "other").await);
    let (a, b) = (packed("a.io", "a"), packed("b.io", "b"));
    for cluster in [one, other] {
        asks_for_profile(&hub, cluster, greeting(None)).await;
    }
    missing(&hub, one, &named(&[("a.io", &a)])).await;

    keep(&hub, one, &b).await;
    keep(&hub, other, &a).await;
    keep(&hub, one, &Packed { bytes: b.bytes.clone(), ..a.clone() }).await;
    keep(&hub, one, &Packed { bytes: b"no frame".to_vec(), ..a.clone() }).await;
    let bomb = vec![b' '; 8 << 20];
    keep(&hub, one, &Packed { digest: Digest::of(&bomb), bytes: compression::compress(&bomb) }).await;
    let text = compression::compress(b"{}");
    missing(&hub, one, &named(&[("a.io", &a), ("c.io", &Packed { digest: Digest::of(b"{}"), bytes: Vec::new() })]))
        .await;
    keep(&hub, one, &Packed { digest: Digest::of(b"{}"), bytes: text }).await;
    let mut db = hub.pool.acquire().await.expect("a connection");
    assert!(ask_raw(&mut db, "select count(*) = 0 from definitions").await.expect("asked"), "nothing is right");

    // What they unpack to was looked at above; here only how much it is.
    let huge =
        |number: usize| Packed { digest: Digest::of(format!("{number}").as_bytes()), bytes: vec![0; 512 * 1024] };
    let all: Vec<_> = (0..40).map(|number| (format!("c{number:0>2}.io"), huge(number))).collect();
    let list: Vec<_> = all.iter().map(|(name, packed)| (name.as_str(), packed)).collect();
    assert_eq!(missing(&hub, other, &named(&list)).await.len(), 40);
    let stream = (other, newest_stream(&hub, other).await);
    for (_, packed) in &all {
        store::definitions::insert(&mut db, stream, packed, clock::now()).await.expect("it is written or not");
    }
    assert!(ask_raw(&mut db, "select count(*) = 32 from definitions").await.expect("asked"), "16 MiB");
    assert!(missing(&hub, other, &named(&list)).await.is_empty(), "more is not asked for");
    assert_eq!(missing(&hub, one, &named(&[("a.io", &a)])).await, BTreeSet::from([a.digest]), "of another it is");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn of_a_definition_no_more_is_stored_than_it_says_however_it_was_packed(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "one").await;
    let mut told = packed("a.io", "a");
    asks_for_profile(&hub, cluster, greeting(None)).await;
    missing(&hub, cluster, &named(&[("a.io", &told)])).await;

    // A frame that readers skip (RFC 8878, 3.1.2).
    told.bytes.extend([0x50, 0x2a, 0x4d, 0x18]);
    told.bytes.extend(400_000_u32.to_le_bytes());
    told.bytes.extend(vec![0; 400_000]);
    keep(&hub, cluster, &told).await;

    let mut db = hub.pool.acquire().await.expect("a connection");
    let small = "select length(packed) = packed_bytes and packed_bytes < 1000 from definitions";
    assert!(ask_raw(&mut db, small).await.expect("it is stored"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_hello_that_names_other_definitions_and_apis_leaves_none_that_nobody_names(pool: Pool) {
    let (hub, _folder) = testing::hub(&pool).await;
    let (one, other) = (register(&hub, "one").await, register(&hub, "other").await);
    let (a, b) = (packed("a.io", "a"), packed("b.io", "b"));
    let (old, new) = (named(&[("a.io", &a)]), named(&[("b.io", &b)]));
    let apis = ["apps/v1", "batch/v1"].map(|text| bellwether_core::apis::Apis::parse(text).expect("names"));
    for (cluster, list, apis, packed) in [(one, &old, &apis[0], &a), (other, &new, &apis[1], &b)] {
        asks_for_profile(&hub, cluster, greeting(None)).await;
        see(&hub, cluster, Profile { apis: Some(apis.clone()), ..profile_of(list) }).await;
        keep(&hub, cluster, packed).await;
    }

    let hello = Hello { definitions: Some(new.digest()), ..greeting(Some(apis[1].digest())) };
    assert!(!asks_for_profile(&hub, one, hello).await, "both are known");

    let mut db = hub.pool.acquire().await.expect("a connection");
    assert!(ask_raw(&mut db, "select count(*) = 1 from definition_lists").await.expect("asked"));
    assert!(ask_raw(&mut db, "select count(*) = 1 from api_sets").await.expect("asked"));
    assert!(!stored(&hub, &a).await && stored(&hub, &b).await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_definition_that_a_hub_lacks_is_asked_for_over_the_stream_and_one_that_cannot_be_read_does_not_end_it(
    pool: Pool,
) {
    let (hub, _folder) = testing::hub(&pool).await;
    let cluster = register(&hub, "one").await;
    let (a, b) = (packed("a.io", "a"), packed("b.io", "b"));
    let list = named(&[("a.io", &a), ("b.io", &b)]);
    let (say, said) = tokio::sync::mpsc::channel::<Result<FromAgent, tonic::Status>>(8);
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut told = connect(&hub, cluster, said).await;
    let say = async |message: AgentMessage| say.send(Ok(message.into())).await.expect("it is heard");

    say(AgentMessage::Hello(Hello { definitions: Some(list.digest()), ..greeting(None) })).await;
    say(AgentMessage::Profile(profile_of(&list))).await;
    let wanted = loop {
        let message = told.next().await.expect("it goes on").expect("it is well");
        if let HubMessage::Wanted(wanted) = bellwether_proto::hub_message(message).expect("it is read") {
            break wanted;
        }
    };
    assert_eq!(wanted.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([a.digest, b.digest]));
    say(AgentMessage::Definition(Packed { bytes: b"of a later version".to_vec(), ..a.clone() })).await;
    say(AgentMessage::Definition(b.clone())).await;
    say(AgentMessage::Heartbeat).await;
    loop {
        let message = told.next().await.expect("it goes on").expect("it is well");
        if let HubMessage::Ack(_) = bellwether_proto::hub_message(message).expect("it is read") {
            break;
        }
    }

    assert!(stored(&hub, &b).await && !stored(&hub, &a).await);
}
