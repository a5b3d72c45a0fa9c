//! Agents that come and are heard → rows, many at once: a fleet of 10,000 that comes back in a moment passes in some hundred
//! transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bellwether_core::apis::Apis;
use bellwether_core::audit::{Action, Event};
use bellwether_core::definitions::{DEFINITION_BYTES_MAX, Definition, Definitions};
use bellwether_core::parameters::Traits;
use bellwether_core::session::identity_conflict::{Guest, IdentityConflict};
use bellwether_core::session::{Packed, Profile, ProfileWanted, UID_FACT, Want};
use bellwether_core::{ClusterId, Digest, SessionNumber};
use bellwether_proto::compression;
use jiff::Timestamp;

use super::arrivals::{Arrival, CaughtUp, Greeted};
use super::caller::Caller;
use super::listing;
use crate::Hub;
use crate::process::clock;
use crate::store::sessions::{self, Before, Opened, Said, Seen};
use crate::store::work::{self, Stage};
use crate::store::{self, StoreError};
use crate::work::actors;
use crate::work::change::{Change, ChangedFacts};
use crate::work::subjects;

/// Writes down that a stream began. `None`: its cluster has a newer one, or its certificate counts no more.
pub(super) async fn greet(hub: &Hub, arrival: Arrival) -> Result<Option<Greeted>, StoreError> {
    let greeted = hub.arrivals.hellos.ask(arrival, |all| write(hub, all)).await;
    greeted.unwrap_or_else(|| Err(StoreError::unserved()))
}

/// From now on the cluster counts as connected: rollouts that wait for it reconcile again.
pub(super) async fn mark_caught_up(hub: &Hub, cluster: ClusterId, number: SessionNumber) -> Result<(), StoreError> {
    let written = hub.arrivals.caught_up.ask(CaughtUp { cluster, number }, |all| write(hub, all)).await;
    written.unwrap_or_else(|| Err(StoreError::unserved()))
}

/// What is written down in one transaction, however many there are.
trait Batched: Sized {
    type Answer: Send;

    /// Answers for each, in their order.
    fn write(hub: &Hub, all: &[Self]) -> impl Future<Output = Result<Vec<Self::Answer>, StoreError>> + Send;
}

/// All at once; if that fails, and Postgres is there, each by itself: a row that cannot be read is its cluster's alone.
async fn write<T: Batched>(hub: &Hub, all: Vec<T>) -> Vec<Result<T::Answer, StoreError>> {
    match T::write(hub, &all).await {
        Ok(answers) => return answers.into_iter().map(Ok).collect(),
        Err(error) if all.len() == 1 => return vec![Err(error)],
        Err(error) => {
            tracing::warn!(streams = all.len(), error = %crate::chain(&error), "cannot write what agents said at once");
            if error.is_outage() {
                return all.iter().map(|_| Err(StoreError::unserved())).collect();
            }
        }
    }
    let mut answers = Vec::with_capacity(all.len());
    for one in &all {
        let answer = T::write(hub, std::slice::from_ref(one)).await;
        answers.push(answer.and_then(|mut answers| answers.pop().ok_or_else(StoreError::unserved)));
    }
    answers
}

impl Batched for Arrival {
    type Answer = Option<Greeted>;

    async fn write(hub: &Hub, all: &[Self]) -> Result<Vec<Option<Greeted>>, StoreError> {
        let now = clock::now();
        let _turn = store::take_turn(&hub.stream_turns).await;
        let mut change = Change::begin(&hub.vital, &hub.signals).await?;
        let certificates: Vec<_> = all.iter().map(|one| (one.caller.serial.as_str(), one.caller.cluster)).collect();
        let good = store::certificates::mark_all_used(&mut change, &certificates, now).await?;
        let opened = newest(all.iter().filter(|one| good.contains(&one.caller.serial)));
        // Before anything is written by it: a set that another stream brings meanwhile is asked for once more.
        let said = opened.iter().filter_map(|one| one.hello.apis).collect();
        let known_apis = store::apis::list_known(&mut change, &said).await?;
        let said = opened.iter().filter_map(|one| one.hello.definitions).collect();
        let whole = store::definitions::list_whole(&mut change, &said).await?;
        let rows: Vec<_> = opened.iter().map(|one| row(hub, one, &known_apis)).collect();
        let before = sessions::mark_opened(&mut change, &rows, now).await?;
        let mut greeted = greet_all(&mut change, &opened, before, (&known_apis, &whole), now).await?;
        change.commit().await?;
        // Afterwards: nobody waits for the rows of these clusters while bundles are read.
        load_listings(hub, &opened, &mut greeted).await?;
        Ok(all.iter().map(|one| greeted.remove(&one.number)).collect())
    }
}

/// What those streams are told that are their clusters' newest, but for what their clusters are to run.
async fn greet_all(
    change: &mut Change<'_>,
    opened: &[&Arrival],
    mut before: BTreeMap<ClusterId, Before>,
    (known_apis, whole): (&BTreeSet<Digest>, &BTreeSet<Digest>),
    now: Timestamp,
) -> Result<BTreeMap<SessionNumber, Greeted>, StoreError> {
    let clusters: Vec<_> = before.keys().copied().collect();
    let keys: Vec<_> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    // What these announced is seen by what is read after them.
    work::take_due_of(change, Stage::Link, &keys, Timestamp::MAX).await?;
    let acked: Vec<_> = opened.iter().filter_map(|one| Some((one.caller.cluster, one.hello.acked?))).collect();
    let known = store::reports::list_known(change, &acked).await?;
    let is_known = |digest: &Digest| known_apis.contains(digest);
    let (mut greeted, mut changed) = (BTreeMap::new(), Vec::new());
    for one in opened {
        let cluster = one.caller.cluster;
        let (same_boot, is_contested) = match before.remove(&cluster) {
            None => continue,
            Some(Before::Guest { guest: last, conflict, facts, apis }) => {
                let said = Seen { facts: one.hello.facts.clone(), apis: one.hello.apis.filter(is_known).or(apis) };
                if facts != said.facts || apis != said.apis {
                    changed.push((cluster, Seen { facts, apis }, said));
                }
                (last.boot == one.hello.boot, mark_identity_conflict(change, one, *last, conflict, now).await?)
            }
            Some(Before::Nothing) => {
                mark_joined(change, &one.caller, now).await?;
                (false, false)
            }
        };
        let want = Want::assess(same_boot, one.hello.acked.map(|_| known.contains(&cluster)));
        let lacks_apis = one.hello.apis.is_some_and(|digest| !is_known(&digest));
        let lacks_definitions = one.hello.definitions.is_some_and(|digest| !whole.contains(&digest));
        let profile = if lacks_apis || lacks_definitions { ProfileWanted::Now } else { ProfileWanted::WhenChanged };
        greeted.insert(one.number, Greeted { want, profile, is_contested, listing: None });
    }
    tell_of_seen(change, changed, now).await?;
    Ok(greeted)
}

/// Writes down what an agent has seen of its cluster, and says which of its definitions are not stored; `None`: it named
/// none. Of a stream that is not its cluster's newest it is let go.
pub(super) async fn mark_profile(
    hub: &Hub,
    cluster: ClusterId,
    number: SessionNumber,
    Profile { facts, apis, definitions }: Profile,
) -> Result<Option<BTreeSet<Digest>>, StoreError> {
    let now = clock::now();
    let _turn = store::take_turn(&hub.stream_turns).await;
    let mut change = Change::begin(&hub.vital, &hub.signals).await?;
    if let Some(apis) = &apis {
        store::apis::mark(&mut change, apis, now).await?;
    }
    if let Some(definitions) = &definitions {
        store::definitions::mark(&mut change, definitions, now).await?;
    }
    let (digest, listed) = (apis.as_ref().map(Apis::digest), definitions.as_ref().map(Definitions::digest));
    let said = Said { facts: &facts, apis: digest, definitions: listed };
    let Some((before, listed_before)) = sessions::mark_seen(&mut change, cluster, number, &said, now).await? else {
        change.abandon().await?;
        return Ok(None);
    };
    let after = Seen { facts, apis: digest.or(before.apis) };
    let replaced = before.apis.filter(|_| before.apis != after.apis);
    if before.facts != after.facts || before.apis != after.apis {
        tell_of_seen(&mut change, vec![(cluster, before, after)], now).await?;
    }
    // So an agent that says something else each time fills no table.
    if let Some(replaced) = replaced {
        store::apis::delete_unnamed(&mut change, replaced).await?;
    }
    if let Some(replaced) = listed_before.filter(|_| listed.is_some() && listed != listed_before) {
        store::definitions::delete_unnamed(&mut change, replaced).await?;
    }
    let missing = match listed {
        Some(list) => Some(store::definitions::list_missing(&mut change, list).await?),
        None => None,
    };
    change.commit().await?;
    Ok(missing)
}

/// Stores a definition that an agent was asked for. One that is not what its digest says, or cannot be read, as of another
/// version, is let go: its cluster is known without it.
pub(super) async fn keep_definition(
    hub: &Hub,
    cluster: ClusterId,
    number: SessionNumber,
    packed: Packed,
) -> Result<(), StoreError> {
    let text =
        compression::decompress(&packed.bytes, DEFINITION_BYTES_MAX).and_then(|text| String::from_utf8(text).ok());
    let definition = text.and_then(|text| Definition::parse(text).ok());
    if definition.is_none_or(|definition| definition.digest() != packed.digest) {
        tracing::warn!(cluster.id = %cluster, digest = %packed.digest, "what an agent tells of a definition cannot be used");
        return Ok(());
    }
    let _turn = store::take_turn(&hub.stream_turns).await;
    let mut db = hub.vital.acquire().await.map_err(StoreError::from)?;
    if !store::definitions::insert(&mut db, (cluster, number), &packed, clock::now()).await? {
        tracing::debug!(cluster.id = %cluster, digest = %packed.digest, "a definition is not stored");
    }
    Ok(())
}

/// What an agent says of its cluster goes into what is rendered for it.
async fn tell_of_seen(
    change: &mut Change<'_>,
    changed: Vec<(ClusterId, Seen, Seen)>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if changed.is_empty() {
        return Ok(());
    }
    let digests = changed.iter().filter(|(_, before, after)| before.apis != after.apis);
    let digests = digests.flat_map(|(_, before, after)| before.apis.into_iter().chain(after.apis)).collect();
    let apis = store::apis::load(change, &digests).await?;
    let ids: Vec<_> = changed.iter().map(|(cluster, ..)| *cluster).collect();
    let clusters = store::clusters::list_of(change, &ids).await?;
    let mut clusters: BTreeMap<_, _> = clusters.into_iter().map(|cluster| (cluster.id, cluster)).collect();
    let of = |seen: Seen| {
        let apis = seen.apis.and_then(|digest| apis.get(&digest).cloned());
        Traits { facts: seen.facts, apis, ..Traits::default() }
    };
    let told = changed.into_iter().filter_map(|(cluster, before, after)| {
        let cluster = clusters.remove(&cluster)?;
        Some(ChangedFacts { cluster, before: of(before), after: of(after) })
    });
    change.tell_of_facts(&told.collect::<Vec<_>>(), now).await
}

async fn load_listings(
    hub: &Hub,
    opened: &[&Arrival],
    greeted: &mut BTreeMap<SessionNumber, Greeted>,
) -> Result<(), StoreError> {
    let told: Vec<_> =
        opened.iter().filter(|one| greeted.get(&one.number).is_some_and(|one| !one.is_contested)).collect();
    let clusters: Vec<_> = told.iter().map(|one| one.caller.cluster).collect();
    let mut db = hub.vital.acquire().await?;
    let read_at = Instant::now();
    let mut listings = listing::load(&mut db, &hub.content, &clusters).await?;
    for one in told {
        if let Some(greeted) = greeted.get_mut(&one.number) {
            greeted.listing = listings.remove(&one.caller.cluster).map(|listing| (read_at, listing));
        }
    }
    Ok(())
}

/// Of each cluster, in their order: a row is written once.
fn newest<'a>(arrivals: impl Iterator<Item = &'a Arrival>) -> Vec<&'a Arrival> {
    let mut newest: BTreeMap<_, &Arrival> = BTreeMap::new();
    for one in arrivals {
        let place = newest.entry(one.caller.cluster).or_insert(one);
        if place.number < one.number {
            *place = one;
        }
    }
    newest.into_values().collect()
}

fn row<'a>(hub: &Hub, arrival: &'a Arrival, known_apis: &BTreeSet<Digest>) -> Opened<'a> {
    let Arrival { caller, number, hello } = arrival;
    Opened {
        cluster: caller.cluster,
        session: *number,
        hub: hub.id,
        boot: hello.boot,
        address: &caller.address,
        serial: &caller.serial,
        agent_version: &hello.version,
        facts: &hello.facts,
        apis: hello.apis.filter(|digest| known_apis.contains(digest)),
        definitions: hello.definitions,
    }
}

/// Whether two agents take turns with this identity. The first time, it is told.
async fn mark_identity_conflict(
    change: &mut Change<'_>,
    Arrival { caller, hello, .. }: &Arrival,
    last: Guest,
    before: Option<IdentityConflict>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let (uid, address) = (hello.facts.get(UID_FACT).cloned(), caller.address.clone());
    let guest = Guest { boot: hello.boot, uid, address, at: now };
    let was_contested = before.as_ref().is_some_and(|before| before.contested_at.is_some());
    let conflict = IdentityConflict::assess(last, before.clone(), &guest);
    if conflict != before {
        sessions::mark_identity_conflict(change, caller.cluster, conflict.as_ref()).await?;
    }
    let Some(conflict) = conflict.filter(|conflict| conflict.contested_at.is_some()) else { return Ok(false) };
    if !was_contested && let Some(cluster) = store::clusters::find(change, caller.cluster).await? {
        let subject = subjects::cluster(&cluster);
        let mut event =
            Event::new(clock::new_id(), now, actors::agent(&cluster.name), Action::ClusterContested, subject);
        event.reason =
            format!("two agents take turns with this identity: {} and {}", conflict.other.address, guest.address);
        event.detail = serde_json::json!({"agents": [
            {"address": conflict.other.address, "uid": conflict.other.uid, "boot": conflict.other.boot},
            {"address": guest.address, "uid": guest.uid, "boot": guest.boot},
        ]});
        change.audit(&event).await?;
        tracing::warn!(cluster.name = %cluster.name, reason = event.reason, "neither is told anything new");
    }
    Ok(true)
}

impl Batched for CaughtUp {
    type Answer = ();

    async fn write(hub: &Hub, all: &[Self]) -> Result<Vec<()>, StoreError> {
        let now = clock::now();
        let _turn = store::take_turn(&hub.stream_turns).await;
        let mut change = Change::begin(&hub.vital, &hub.signals).await?;
        let streams: Vec<_> = all.iter().map(|one| (one.cluster, one.number)).collect();
        sessions::mark_caught_up(&mut change, &streams, now).await?;
        let clusters: Vec<_> = all.iter().map(|one| one.cluster).collect();
        let concerned = store::rollouts::list_targets_of(&mut change, &clusters).await?;
        change.tell(Stage::Rollout, &concerned, now, None).await?;
        change.commit().await?;
        Ok(vec![(); all.len()])
    }
}

/// A cluster's first stream: the targets that select it may move it now.
async fn mark_joined(change: &mut Change<'_>, caller: &Caller, now: Timestamp) -> Result<(), StoreError> {
    let Some(cluster) = store::clusters::find(change, caller.cluster).await? else { return Ok(()) };
    let subject = subjects::cluster(&cluster);
    let mut event = Event::new(clock::new_id(), now, actors::agent(&cluster.name), Action::ClusterJoined, subject);
    event.detail = serde_json::json!({"address": caller.address, "serial": caller.serial});
    change.audit(&event).await?;
    tracing::info!(cluster.name = %cluster.name, "a cluster joined");
    change.tell_of_labels(&cluster, None, Some(&cluster.labels), now).await
}
