//! What happens to the objects that we own: one watch per kind, reduced on arrival to what is decided by.
//!
//! Bodies are watched only of kinds whose health is in them, and nothing of a body is kept. A watch never ends: it
//! reconnects, and lists anew when the API server has forgotten where it was or could not be reached for a while. Every
//! list is told as one, so that what went away unseen is found out. A watch that is broken, or silent, for longer than a
//! hiccup says so: what it told before is then not known any more.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::ObjectKey;
use bellwether_core::health;
use bellwether_core::object::TARGET_LABEL;
use bellwether_core::reconcile::{Condition, Kind, ObjectEvent, ObjectState, WatchEvent};
use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, ObjectMeta};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use uuid::Uuid;

use super::discovery::Served;
use super::liveness::Ear;
use super::{Cluster, ClusterError};
use crate::backoff::{Backoff, Jitter, chance};
use crate::clock::Clock;

/// Between tries of a watch that broke off: an API server that was away is to be seen again within ten seconds.
const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5), jitter: Jitter::Half };

/// Between tries of a kind that the API server does not serve: whoever brings it back is seldom in a hurry.
const ABSENT: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30), jitter: Jitter::Half };

/// Objects that are read at once, each as a tree of a dozen times its size: one page of large definitions or of many
/// ordinary objects stays below a third of the memory that an agent is given.
const PAGE: u32 = 20;
const PAGE_OF_METADATA: u32 = 100;

/// One kind lists at a time, so that at a start not every kind has a page in memory; a list that hangs holds up the others
/// for so long and no longer.
const TURN_MAX: Duration = Duration::from_secs(10);

/// To ask for a kind, one needs a key; its name says nothing.
fn key_of(kind: &Kind) -> ObjectKey {
    ObjectKey { api_version: kind.api_version.clone(), kind: kind.kind.clone(), namespace: None, name: String::new() }
}

impl Cluster {
    /// Tells what is seen of a kind, until the receiver is gone.
    ///
    /// A send waits when the receiver is behind: the API server then holds the events back, and a watch that falls too
    /// far behind lists anew.
    pub(crate) async fn watch(self, kind: Kind, clock: Clock, events: mpsc::Sender<WatchEvent>) {
        let config = watcher::Config::default().labels(super::OWNED_SELECTOR);
        let ear = Ear::new(clock);
        let client = ear.listen(self.inner.requests.client());
        let mut watch = Watch {
            began_at: clock.now(),
            lists: Arc::clone(&self.inner.lists),
            events,
            clock,
            uids: BTreeSet::new(),
            ear,
            is_path_gone: false,
            kind,
        };
        // It is begun anew, with a list, when it was away for long.
        while !watch.events.is_closed() {
            let key = key_of(&watch.kind);
            if std::mem::take(&mut watch.is_path_gone) {
                self.inner.discovery.disprove(&key);
            }
            let served = self.served(&watch).await;
            if health::needs_watch_in_full(key.group(), &key.kind) {
                let api = Api::<DynamicObject>::all_with(client.clone(), &served);
                watch.follow(watcher(api, config.clone().page_size(PAGE)), full).await;
            } else {
                let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(client.clone(), &served);
                watch.follow(watcher(api, config.clone().page_size(PAGE_OF_METADATA)), metadata_only).await;
            }
        }
    }

    async fn served(&self, watch: &Watch) -> ApiResource {
        let key = key_of(&watch.kind);
        let mut failures = 0;
        let resource = loop {
            let backoff = match self.resource(&key, Served::Somehow).await {
                Ok(resource) => break resource,
                // An object of it was applied before: the kind comes back, or the watch is of no use anyway.
                Err(ClusterError::KindMissing { .. }) => ABSENT,
                Err(_) => RECONNECT,
            };
            failures += 1;
            watch.tell_if_blind().await;
            tokio::time::sleep(backoff.wait(failures, chance())).await;
        };
        let served = ObjectKey { api_version: resource.api_version, ..key };
        ApiResource {
            group: served.group().to_owned(),
            version: served.version().to_owned(),
            plural: resource.plural,
            api_version: served.api_version,
            kind: served.kind,
        }
    }
}

struct Watch {
    kind: Kind,
    events: mpsc::Sender<WatchEvent>,
    clock: Clock,
    /// Whose turn it is to list.
    lists: Arc<Semaphore>,
    /// Of the list that is being read.
    began_at: Timestamp,
    uids: BTreeSet<Uuid>,
    ear: Ear,
    /// The last failure says that the kind is not served where it was.
    is_path_gone: bool,
}

impl Watch {
    /// Until nobody listens any more, or it is to begin anew.
    async fn follow<K>(
        &mut self,
        events: impl Stream<Item = watcher::Result<Event<K>>>,
        parts: impl Fn(K) -> (ObjectMeta, Value),
    ) {
        let mut events = pin!(events);
        // Dropped when the list is read, or breaks off.
        let mut turn = None;
        loop {
            let silent_at = self.ear.liveness().silent_at();
            let event = tokio::select! {
                event = events.next() => event,
                () = self.clock.sleep_until(silent_at) => {
                    if self.tell_if_blind().await {
                        tracing::warn!(kind = %self.kind.kind, "a watch is silent");
                        return;
                    }
                    continue;
                }
            };
            match event {
                None => return,
                Some(Ok(event)) => {
                    let (begins, ends) = (matches!(event, Event::Init), matches!(event, Event::InitDone));
                    if begins {
                        turn = self.wait_for_turn().await;
                    } else if ends {
                        drop(turn.take());
                    }
                    for event in self.take(event, &parts) {
                        if self.events.send(event).await.is_err() {
                            return;
                        }
                        // While the receiver was behind nobody listened.
                        self.ear.liveness().note_heard(self.clock.now());
                    }
                }
                Some(Err(error)) => {
                    drop(turn.take());
                    let wait = self.note_failure(&error);
                    tracing::warn!(kind = %self.kind.kind, error = %crate::chain(&error), "a watch broke off");
                    self.tell_if_blind().await;
                    tokio::time::sleep(wait).await;
                    if self.ear.liveness().is_blind() {
                        return;
                    }
                }
            }
        }
    }

    /// `None`: somebody else's list takes long, and is waited for no more.
    async fn wait_for_turn(&self) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(TURN_MAX, Arc::clone(&self.lists).acquire_owned()).await.ok()?.ok()
    }

    /// How long to wait after it.
    fn note_failure(&mut self, error: &watcher::Error) -> Duration {
        let failures = self.ear.liveness().note_failure(self.clock.now());
        self.is_path_gone = is_not_found(error);
        let backoff = if self.is_path_gone { ABSENT } else { RECONNECT };
        backoff.wait(failures, chance())
    }

    /// Says once that what it told is not known any more, when it is so. Answers whether it was said.
    async fn tell_if_blind(&self) -> bool {
        let now = self.clock.now();
        let is_news = {
            let mut liveness = self.ear.liveness();
            liveness.turns_blind(now) || self.is_path_gone && liveness.turn_blind()
        };
        if is_news {
            let _ = self.events.send(WatchEvent::NotSynced { kind: self.kind.clone() }).await;
        }
        is_news
    }

    fn take<K>(&mut self, event: Event<K>, parts: impl Fn(K) -> (ObjectMeta, Value)) -> Vec<WatchEvent> {
        match event {
            // The first of a list, before anything was asked: it says nothing about the connection.
            Event::Init => {
                self.began_at = self.clock.now();
                self.uids.clear();
                Vec::new()
            }
            Event::InitDone => {
                self.ear.liveness().note_listed();
                let uids = std::mem::take(&mut self.uids);
                vec![WatchEvent::Listed { kind: self.kind.clone(), began_at: self.began_at, uids }]
            }
            Event::InitApply(object) => {
                let listed_at = Some(self.began_at);
                let object_event =
                    reduce(&self.kind, parts(object), false).map(|seen| ObjectEvent { listed_at, ..seen });
                self.uids.extend(object_event.as_ref().map(|object_event| object_event.uid));
                events_of(object_event)
            }
            Event::Apply(object) => {
                self.ear.liveness().note_seen();
                events_of(reduce(&self.kind, parts(object), false))
            }
            Event::Delete(object) => {
                self.ear.liveness().note_seen();
                let parts = parts(object);
                // Its last state may be the only one that says how it ended.
                let last = reduce(&self.kind, parts.clone(), false).filter(ObjectEvent::has_ended);
                events_of(last).into_iter().chain(events_of(reduce(&self.kind, parts, true))).collect()
            }
        }
    }
}

fn events_of(object_event: Option<ObjectEvent>) -> Vec<WatchEvent> {
    object_event.map(|object_event| WatchEvent::Object(Box::new(object_event))).into_iter().collect()
}

fn is_not_found(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    let (InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error)) = error else { return false };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn full(object: DynamicObject) -> (ObjectMeta, Value) {
    (object.metadata, object.data)
}

fn metadata_only(object: PartialObjectMeta<DynamicObject>) -> (ObjectMeta, Value) {
    (object.metadata, json!({}))
}

fn reduce(kind: &Kind, (metadata, mut object): (ObjectMeta, Value), gone: bool) -> Option<ObjectEvent> {
    let target = metadata.labels.as_ref()?.get(TARGET_LABEL)?.clone();
    let uid = metadata.uid.as_ref()?.parse().ok()?;
    let version = metadata.resource_version.as_ref()?.parse().unwrap_or_default();
    let key = ObjectKey { namespace: metadata.namespace.clone(), name: metadata.name.clone()?, ..key_of(kind) };
    if gone {
        return Some(ObjectEvent { target, key, uid, version, listed_at: None, seen: ObjectState::Deleted });
    }
    object["metadata"] = to_value(&metadata)?;
    // The items of a list do not repeat them.
    object["apiVersion"] = Value::String(kind.api_version.clone());
    object["kind"] = Value::String(kind.kind.clone());
    Some(ObjectEvent { target, key, uid, version, listed_at: None, seen: ObjectState::Present(Condition::of(&object)) })
}

fn to_value(metadata: &impl Serialize) -> Option<Value> {
    serde_json::to_value(metadata).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_that_falls_silent_says_that_nothing_is_known_any_more() {
        let clock = Clock::start();
        let (events, mut told) = mpsc::channel(1);
        let ear = Ear::new(clock);
        let kind = Kind { api_version: "v1".to_owned(), kind: "ConfigMap".to_owned() };
        let mut watch = Watch {
            kind: kind.clone(),
            events,
            clock,
            lists: Arc::new(Semaphore::new(1)),
            began_at: clock.now(),
            uids: BTreeSet::new(),
            ear,
            is_path_gone: false,
        };
        watch.ear.liveness().note_listed();
        watch.ear.liveness().hear_nothing_since(Timestamp::UNIX_EPOCH);

        watch.follow(futures_util::stream::pending(), full).await;

        assert_eq!(told.try_recv(), Ok(WatchEvent::NotSynced { kind }));
    }
}
