//! Agents that come and are heard → rows, many at once: a fleet of 10,000 that comes back in a moment passes in some hundred
//! transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bellwether_core::apis::Apis;
use bellwether_core::audit::{Action, Event};
use bellwether_core::definitions::{DEFINITION_BYTES_MAX, Definition, Definitions};
use bellwether_core::parameters::Traits;
use bellwether_core::session::identity_conflict::{Guest, IdentityConflict};
use bellwether_core::session::{Hello, Packed, Profile, ProfileWanted, UID_FACT, Want};
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
        let clusters: Vec<_> = opened.iter().map(|one| one.caller.cluster).collect();
        let before = sessions::lock_guests(&mut change, &clusters).await?;
        let judged: Vec<_> = opened.iter().map(|one| Judged::of(one, &before, &known_apis, now)).collect();
        let rows: Vec<_> = judged.iter().map(|one| one.row(hub)).collect();
        let written = sessions::mark_opened(&mut change, &rows, now).await?;
        let judged: Vec<_> = judged.into_iter().filter(|one| written.contains(&one.arrival.caller.cluster)).collect();
        let mut greeted = greet_all(&mut change, &judged, (&known_apis, &whole), now).await?;
        change.commit().await?;
        // Afterwards: nobody waits for the rows of these clusters while bundles are read.
        load_listings(hub, &opened, &mut greeted).await?;
        Ok(all.iter().map(|one| greeted.remove(&one.number)).collect())
    }
}

/// A stream that begins, and what is known of its cluster's agent.
struct Judged<'a> {
    arrival: &'a Arrival,
    /// `None`: it is the first.
    before: Option<&'a Before>,
    /// Whether two agents take turns with its identity, as far as the rows say so from now on.
    conflict: Option<IdentityConflict>,
    /// What is believed of its cluster: of two agents neither, so what was known stays.
    seen: Seen,
}

impl<'a> Judged<'a> {
    fn of(
        arrival: &'a Arrival,
        before: &'a BTreeMap<ClusterId, Before>,
        known_apis: &BTreeSet<Digest>,
        now: Timestamp,
    ) -> Self {
        let Hello { facts, apis, definitions, .. } = &arrival.hello;
        let before = before.get(&arrival.caller.cluster);
        let conflict = before.and_then(|before| {
            IdentityConflict::assess(before.guest.clone(), before.conflict.clone(), &guest(arrival, now))
        });
        let is_contested = conflict.as_ref().is_some_and(|conflict| conflict.contested_at.is_some());
        let seen = match before.filter(|_| is_contested) {
            Some(before) => before.seen.clone(),
            None => {
                let last = before.and_then(|before| before.seen.apis);
                let apis = apis.filter(|digest| known_apis.contains(digest)).or(last);
                Seen { facts: facts.clone(), apis, definitions: *definitions }
            }
        };
        Self { arrival, before, conflict, seen }
    }

    fn is_contested(&self) -> bool {
        self.conflict.as_ref().is_some_and(|conflict| conflict.contested_at.is_some())
    }

    fn row(&self, hub: &Hub) -> Opened<'_> {
        let Arrival { caller, number, hello } = self.arrival;
        let is_believed = !self.is_contested();
        Opened {
            cluster: caller.cluster,
            session: *number,
            hub: hub.id,
            boot: hello.boot,
            address: &caller.address,
            serial: &caller.serial,
            agent_version: &hello.version,
            facts: &self.seen.facts,
            apis: hello.apis.filter(|_| is_believed),
            definitions: hello.definitions.filter(|_| is_believed),
            is_believed,
        }
    }
}

fn guest(Arrival { caller, hello, .. }: &Arrival, now: Timestamp) -> Guest {
    Guest { boot: hello.boot, uid: hello.facts.get(UID_FACT).cloned(), address: caller.address.clone(), at: now }
}

/// What those streams are told that are their clusters' newest, but for what their clusters are to run.
async fn greet_all(
    change: &mut Change<'_>,
    opened: &[Judged<'_>],
    (known_apis, whole): (&BTreeSet<Digest>, &BTreeSet<Digest>),
    now: Timestamp,
) -> Result<BTreeMap<SessionNumber, Greeted>, StoreError> {
    let keys: Vec<_> = opened.iter().map(|one| one.arrival.caller.cluster.as_uuid()).collect();
    // What these announced is seen by what is read after them.
    work::take_due_of(change, Stage::Link, &keys, Timestamp::MAX).await?;
    let acked = opened.iter().map(|one| one.arrival);
    let acked: Vec<_> = acked.filter_map(|one| Some((one.caller.cluster, one.hello.acked?))).collect();
    let known = store::reports::list_known(change, &acked).await?;
    let (mut greeted, mut changed) = (BTreeMap::new(), Vec::new());
    for one in opened {
        let Arrival { caller, number, hello } = one.arrival;
        match one.before {
            None => mark_joined(change, caller, now).await?,
            Some(before) => {
                mark_identity_conflict(change, one, before, now).await?;
                changed.push((caller.cluster, before.seen.clone(), one.seen.clone()));
            }
        }
        let same_boot = one.before.is_some_and(|before| before.guest.boot == hello.boot);
        let want = Want::assess(same_boot, hello.acked.map(|_| known.contains(&caller.cluster)));
        let is_contested = one.is_contested();
        let lacks_apis = hello.apis.is_some_and(|digest| !known_apis.contains(&digest));
        let lacks_definitions = hello.definitions.is_some_and(|digest| !whole.contains(&digest));
        let is_asked = !is_contested && (lacks_apis || lacks_definitions);
        let profile = if is_asked { ProfileWanted::Now } else { ProfileWanted::WhenChanged };
        greeted.insert(*number, Greeted { want, profile, is_contested, listing: None });
    }
    take_in(change, changed, now).await?;
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
    let Some(before) = sessions::mark_seen(&mut change, cluster, number, &said, now).await? else {
        change.abandon().await?;
        return Ok(None);
    };
    let after = Seen { facts, apis: digest.or(before.apis), definitions: listed.or(before.definitions) };
    take_in(&mut change, vec![(cluster, before, after)], now).await?;
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
    let Some(definition) = definition.filter(|definition| definition.digest() == packed.digest) else {
        tracing::warn!(cluster.id = %cluster, digest = %packed.digest, "what an agent tells of a definition cannot be used");
        return Ok(());
    };
    // Anew: an agent's frame may have any length, and it is counted with what all clusters store that have the definition.
    let bytes = compression::compress(definition.text().as_bytes());
    let packed = Packed { bytes, ..packed };
    let _turn = store::take_turn(&hub.stream_turns).await;
    let mut db = hub.vital.acquire().await.map_err(StoreError::from)?;
    if !store::definitions::insert(&mut db, (cluster, number), &packed, clock::now()).await? {
        tracing::debug!(cluster.id = %cluster, digest = %packed.digest, "a definition is not stored");
    }
    Ok(())
}

/// Tells of what agents say now and did not say before, and deletes what none says any more: so an agent that says something
/// else each time fills no table.
async fn take_in(
    change: &mut Change<'_>,
    mut changed: Vec<(ClusterId, Seen, Seen)>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let replaced = |of: fn(&Seen) -> Option<Digest>| {
        let of_all = changed.iter().filter_map(|(_, before, after)| of(before).filter(|_| of(after) != of(before)));
        of_all.collect::<BTreeSet<_>>()
    };
    let (apis, definitions) = (replaced(|seen| seen.apis), replaced(|seen| seen.definitions));
    changed.retain(|(_, before, after)| before.facts != after.facts || before.apis != after.apis);
    tell_of_seen(change, changed, now).await?;
    store::apis::delete_unnamed(change, &apis).await?;
    store::definitions::delete_unnamed(change, &definitions).await
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

/// Writes down whether two agents take turns with this identity. The first time, it is told.
async fn mark_identity_conflict(
    change: &mut Change<'_>,
    judged: &Judged<'_>,
    before: &Before,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Arrival { caller, .. } = judged.arrival;
    if judged.conflict != before.conflict {
        sessions::mark_identity_conflict(change, caller.cluster, judged.conflict.as_ref()).await?;
    }
    let was_contested = before.conflict.as_ref().is_some_and(|before| before.contested_at.is_some());
    let Some(conflict) = judged.conflict.as_ref().filter(|_| judged.is_contested() && !was_contested) else {
        return Ok(());
    };
    let Some(cluster) = store::clusters::find(change, caller.cluster).await? else { return Ok(()) };
    let (other, guest) = (&conflict.other, guest(judged.arrival, now));
    let mut event = Event::new(
        clock::new_id(),
        now,
        actors::agent(&cluster.name),
        Action::ClusterContested,
        subjects::cluster(&cluster),
    );
    event.reason = format!("two agents take turns with this identity: {} and {}", other.address, guest.address);
    event.detail = serde_json::json!({"agents": [
        {"address": other.address, "uid": other.uid, "boot": other.boot},
        {"address": guest.address, "uid": guest.uid, "boot": guest.boot},
    ]});
    change.audit(&event).await?;
    tracing::warn!(cluster.name = %cluster.name, reason = event.reason, "neither is told anything new, nor believed");
    Ok(())
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
