//! What happens to the objects that we own: one watch per kind, reduced on arrival to what is decided by.
//!
//! Bodies are watched only of kinds whose health is in them, and nothing of a body is kept. A watch never ends: it
//! reconnects, and lists anew when the API server has forgotten where it was or could not be reached for a while. Every
//! list is told as one, so that what went away unseen is found out. A watch that is broken, or silent, for longer than a
//! hiccup says so: what it told before is then not known any more, until it stands again. Lists alone do not change that,
//! and are not repeated for it. Of a kind that is served without the verb `watch`, or whose watches are answered and do not
//! tell what changes, they are all that there is: they come at a steady pace, and what is known is known as of the last one.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::ObjectKey;
use bellwether_core::health;
use bellwether_core::object::TARGET_LABEL;
use bellwether_core::quoting::without_values;
use bellwether_core::reconcile::{Condition, Freshness, Kind, ObjectEvent, ObjectState, WatchEvent};
use futures_util::{Stream, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, ObjectMeta};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use uuid::Uuid;

use super::discovery::Served;
use super::liveness::{Ear, MUTE_AFTER, Regained};
use super::{Cluster, ClusterError};
use crate::backoff::{Backoff, Jitter, chance};
use crate::clock::Clock;

/// Between tries of a watch that broke off: an API server that was away is to be seen again within ten seconds.
const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5), jitter: Jitter::Half };

/// Between tries that are refused: the API server is there, and somebody has to change something.
const REFUSED: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_mins(1), jitter: Jitter::Half };

/// Between two lists of a kind that cannot be watched: whoever waits for it waits for minutes, and a list of a few
/// thousand objects in half a minute is nothing to an API server.
const LIST_PAUSE: Duration = Duration::from_secs(30);

/// Before a watch is tried again where watches were none: what answered for them may be gone, and each try costs a list.
const TRY_PAUSE: Duration = Duration::from_mins(10);

/// How often what cannot be watched is listed, and tried to be watched; and after how long it is listed what may not be told.
#[derive(Debug, Clone, Copy)]
struct WatchIntervals {
    list: Duration,
    again: Duration,
    mute: SignedDuration,
}

const WATCH_INTERVALS: WatchIntervals = WatchIntervals { list: LIST_PAUSE, again: TRY_PAUSE, mute: MUTE_AFTER };

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
        self.watch_at(WATCH_INTERVALS, kind, clock, events).await;
    }

    async fn watch_at(self, intervals: WatchIntervals, kind: Kind, clock: Clock, events: mpsc::Sender<WatchEvent>) {
        let ear = Ear::new(clock, intervals.mute);
        let client = ear.listen(self.inner.requests.client());
        let mut watch = Watch {
            began_at: clock.now(),
            lists: Arc::clone(&self.inner.lists),
            events,
            clock,
            uids: BTreeSet::new(),
            newest: 0,
            has_news: false,
            ear,
            is_path_gone: false,
            has_status: false,
            intervals,
            kind,
        };
        // It is begun anew, with a list, when it was away for long.
        while !watch.events.is_closed() {
            let key = key_of(&watch.kind);
            if std::mem::take(&mut watch.is_path_gone) {
                self.inner.discovery.disprove(&key);
            }
            let (served, can_watch) = self.served(&mut watch).await;
            let again = SignedDuration::try_from(intervals.again).unwrap_or(SignedDuration::MAX);
            let can_watch = can_watch && watch.ear.liveness().may_watch(clock.now(), again);
            if health::needs_watch_in_full(key.group(), &key.kind) {
                let api = Api::<DynamicObject>::all_with(client.clone(), &served);
                watch.observe(api, can_watch, PAGE, full).await;
            } else {
                let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(client.clone(), &served);
                watch.observe(api, can_watch, PAGE_OF_METADATA, metadata_only).await;
            }
        }
    }

    /// How the kind is served, and whether it can be watched.
    async fn served(&self, watch: &mut Watch) -> (ApiResource, bool) {
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
            watch.tell_if_stale().await;
            tokio::time::sleep(backoff.wait(failures, chance())).await;
        };
        watch.has_status = resource.has_status;
        let served = ObjectKey { api_version: resource.api_version, ..key };
        let as_served = ApiResource {
            group: served.group().to_owned(),
            version: served.version().to_owned(),
            plural: resource.plural,
            api_version: served.api_version,
            kind: served.kind,
        };
        (as_served, resource.can_watch)
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
    /// The newest version of an object that was seen.
    newest: u64,
    /// The list that is being read has a newer one.
    has_news: bool,
    ear: Ear,
    intervals: WatchIntervals,
    /// The last failure says that the kind is not served where it was.
    is_path_gone: bool,
    /// It is served with a subresource for the status.
    has_status: bool,
}

impl Watch {
    /// Until nobody listens any more, or it is to begin anew.
    async fn observe<K>(&mut self, api: Api<K>, can_watch: bool, page: u32, parts: impl Fn(K) -> (ObjectMeta, Value))
    where
        K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    {
        if can_watch {
            let config = watcher::Config::default().labels(super::OWNED_SELECTOR).page_size(page);
            self.follow(watcher(api, config), parts).await;
        } else {
            self.list_once(&api, page, &parts).await;
        }
    }

    async fn follow<K>(
        &mut self,
        events: impl Stream<Item = watcher::Result<Event<K>>>,
        parts: impl Fn(K) -> (ObjectMeta, Value),
    ) {
        let mut events = pin!(events);
        // Dropped when the list is read, or breaks off.
        let mut turn = None;
        let mut lists = true;
        loop {
            if self.regain().await == Some(Regained::Watch) && !lists {
                return;
            }
            let next_change = self.ear.liveness().next_change(self.clock.now());
            let event = tokio::select! {
                event = events.next() => event,
                () = self.clock.sleep_until(next_change) => {
                    if self.tell_if_stale().await {
                        tracing::warn!(kind = %self.kind.kind, "a watch is silent");
                        return;
                    }
                    continue;
                }
                is_mute = self.ear.wait_for_doubt() => {
                    if is_mute {
                        tracing::warn!(kind = %self.kind.kind, "its watches tell nothing; it is listed");
                    }
                    return;
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
                    lists = begins || lists && !ends;
                    let told = self.take(event, &parts);
                    self.tell(told).await;
                    if self.events.is_closed() {
                        return;
                    }
                }
                Some(Err(error)) => {
                    drop(turn.take());
                    self.fail(&error).await;
                    let begins_anew = {
                        let liveness = self.ear.liveness();
                        liveness.is_mute() || liveness.is_doubted()
                    };
                    if self.is_path_gone || is_expired(&error) || begins_anew {
                        return;
                    }
                }
            }
        }
    }

    /// All that there is, of a kind that cannot be watched; and waits for the next time.
    async fn list_once<K>(&mut self, api: &Api<K>, page: u32, parts: &impl Fn(K) -> (ObjectMeta, Value))
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let ear = self.ear.clone();
        let turn = self.wait_for_turn().await;
        let listed = tokio::select! {
            listed = self.list(api, page, parts) => listed,
            () = ear.wait_for_silence() => {
                tracing::warn!(kind = %self.kind.kind, "a list is not answered");
                self.tell_if_stale().await;
                return;
            }
        };
        drop(turn);
        if let Err(error) = listed {
            return self.fail(&watcher::Error::InitialListFailed(error)).await;
        }
        self.ear.liveness().turn_listed();
        self.tell(vec![self.freshness_event(Freshness::AsOf(self.began_at))]).await;
        tokio::time::sleep(self.intervals.list).await;
    }

    async fn list<K>(
        &mut self,
        api: &Api<K>,
        page: u32,
        parts: &impl Fn(K) -> (ObjectMeta, Value),
    ) -> Result<(), kube::Error>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let mut params = ListParams::default().labels(super::OWNED_SELECTOR).limit(page);
        self.take(Event::<K>::Init, parts);
        loop {
            let list = api.list(&params).await?;
            for object in list.items {
                let told = self.take(Event::InitApply(object), parts);
                self.tell(told).await;
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        let told = self.take(Event::<K>::InitDone, parts);
        self.tell(told).await;
        Ok(())
    }

    async fn tell(&self, events: Vec<WatchEvent>) {
        for event in events {
            let _ = self.events.send(event).await;
            // While the receiver was behind nobody listened.
            self.ear.liveness().note_heard(self.clock.now());
        }
    }

    fn freshness_event(&self, freshness: Freshness) -> WatchEvent {
        WatchEvent::Freshness { kind: self.kind.clone(), freshness }
    }

    /// `None`: somebody else's list takes long, and is waited for no more.
    async fn wait_for_turn(&self) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(TURN_MAX, Arc::clone(&self.lists).acquire_owned()).await.ok()?.ok()
    }

    /// Says what is not known any more by that, and waits before the next try.
    async fn fail(&mut self, error: &watcher::Error) {
        let failures = self.ear.liveness().note_failure(self.clock.now());
        self.is_path_gone = status(error) == Some(404);
        let backoff = match status(error) {
            Some(404) => ABSENT,
            // One that is overloaded, or behind somebody who answers for it, is soon back.
            Some(code) if (400..500).contains(&code) && code != 429 => REFUSED,
            _ => RECONNECT,
        };
        tracing::warn!(kind = %self.kind.kind, error = %told(error), "a watch broke off");
        self.tell_if_stale().await;
        tokio::time::sleep(backoff.wait(failures, chance())).await;
    }

    /// Says it when what is known may be believed again, and answers with what came back.
    async fn regain(&self) -> Option<Regained> {
        let regained = self.ear.liveness().regains(self.clock.now());
        if regained == Some(Regained::Freshness) {
            self.tell(vec![self.freshness_event(Freshness::Watched)]).await;
        }
        regained
    }

    /// Says once that what it told is not known any more, when it is so. Answers whether it was said.
    async fn tell_if_stale(&self) -> bool {
        let now = self.clock.now();
        let is_news = {
            let mut liveness = self.ear.liveness();
            liveness.turns_stale(now) || self.is_path_gone && liveness.turn_stale()
        };
        if is_news {
            let _ = self.events.send(self.freshness_event(Freshness::Lost)).await;
        }
        is_news
    }

    /// Whether none was seen that is as new.
    fn note_version(&mut self, seen: Option<&ObjectEvent>) -> bool {
        let version = seen.map_or(0, |seen| seen.version);
        let is_newer = version > self.newest;
        self.newest = self.newest.max(version);
        is_newer
    }

    fn reduce(&self, (metadata, mut object): (ObjectMeta, Value), gone: bool) -> Option<ObjectEvent> {
        let target = metadata.labels.as_ref()?.get(TARGET_LABEL)?.clone();
        let uid = metadata.uid.as_ref()?.parse().ok()?;
        let version = metadata.resource_version.as_ref()?.parse().unwrap_or_default();
        let key =
            ObjectKey { namespace: metadata.namespace.clone(), name: metadata.name.clone()?, ..key_of(&self.kind) };
        if gone {
            return Some(ObjectEvent { target, key, uid, version, listed_at: None, seen: ObjectState::Deleted });
        }
        object["metadata"] = to_value(&metadata)?;
        // The items of a list do not repeat them.
        object["apiVersion"] = Value::String(self.kind.api_version.clone());
        object["kind"] = Value::String(self.kind.kind.clone());
        let seen = ObjectState::Present(Condition::of(&object, self.has_status));
        Some(ObjectEvent { target, key, uid, version, listed_at: None, seen })
    }

    fn take<K>(&mut self, event: Event<K>, parts: impl Fn(K) -> (ObjectMeta, Value)) -> Vec<WatchEvent> {
        match event {
            // The first of a list, before anything was asked: it says nothing about the connection.
            Event::Init => {
                self.began_at = self.clock.now();
                self.uids.clear();
                self.has_news = false;
                Vec::new()
            }
            Event::InitDone => {
                self.ear.liveness().note_listed(self.has_news, self.clock.now());
                let uids = std::mem::take(&mut self.uids);
                vec![WatchEvent::Listed { kind: self.kind.clone(), began_at: self.began_at, uids }]
            }
            Event::InitApply(object) => {
                let listed_at = Some(self.began_at);
                let object_event = self.reduce(parts(object), false).map(|seen| ObjectEvent { listed_at, ..seen });
                self.uids.extend(object_event.as_ref().map(|object_event| object_event.uid));
                self.has_news |= self.note_version(object_event.as_ref());
                events_of(object_event)
            }
            Event::Apply(object) => {
                self.ear.liveness().note_seen();
                let object_event = self.reduce(parts(object), false);
                self.note_version(object_event.as_ref());
                events_of(object_event)
            }
            Event::Delete(object) => {
                self.ear.liveness().note_seen();
                let parts = parts(object);
                // Its last state may be the only one that says how it ended.
                let last = self.reduce(parts.clone(), false).filter(ObjectEvent::has_ended);
                events_of(last).into_iter().chain(events_of(self.reduce(parts, true))).collect()
            }
        }
    }
}

#[cfg(test)]
impl Watch {
    fn of_config_maps(clock: Clock, events: mpsc::Sender<WatchEvent>) -> Self {
        Self {
            kind: Kind { api_version: "v1".to_owned(), kind: "ConfigMap".to_owned() },
            events,
            clock,
            lists: Arc::new(Semaphore::new(1)),
            began_at: clock.now(),
            uids: BTreeSet::new(),
            newest: 0,
            has_news: false,
            ear: Ear::new(clock, MUTE_AFTER),
            intervals: WATCH_INTERVALS,
            is_path_gone: false,
            has_status: false,
        }
    }
}

fn events_of(object_event: Option<ObjectEvent>) -> Vec<WatchEvent> {
    object_event.map(|object_event| WatchEvent::Object(Box::new(object_event))).into_iter().collect()
}

/// What the API server answered with, if it did. That it sends no versions is as good as a refusal.
pub(super) fn status(error: &watcher::Error) -> Option<u16> {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => Some(status.code),
        InitialListFailed(_) | WatchStartFailed(_) | WatchFailed(_) => None,
        NoResourceVersion => Some(405),
    }
}

/// kube's own words hold the whole answer, and those of its reader what it read.
pub(super) fn told(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    let (what, error) = match error {
        InitialListFailed(error) => ("it cannot be listed", error),
        WatchStartFailed(error) => ("it cannot be watched", error),
        WatchFailed(error) => ("it broke off", error),
        WatchError(status) => return format!("the API server ended it: {}", without_values(&status.message)),
        NoResourceVersion => return "the API server sends no versions".to_owned(),
    };
    match error {
        kube::Error::Api(status) => format!("{what}: {}", without_values(&status.message)),
        kube::Error::SerdeError(_) => format!("{what}: what the API server sends cannot be read"),
        error => format!("{what}: {}", crate::chain(error)),
    }
}

/// A watch cannot go on where it was, and would be tried there for ever.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(_)) && status(error) == Some(410)
}

fn full(object: DynamicObject) -> (ObjectMeta, Value) {
    (object.metadata, object.data)
}

fn metadata_only(object: PartialObjectMeta<DynamicObject>) -> (ObjectMeta, Value) {
    (object.metadata, json!({}))
}

fn to_value(metadata: &impl Serialize) -> Option<Value> {
    serde_json::to_value(metadata).ok()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use http_body_util::combinators::UnsyncBoxBody;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use hyper::body::{Bytes, Frame};
    use kube::client::Body;
    use tokio::task::JoinHandle;

    use super::super::Inner;
    use super::super::discovery::Discovery;
    use super::super::request::Requests;
    use super::*;

    type Answer = http::Response<UnsyncBoxBody<Bytes, Infallible>>;

    fn answer(status: u16, value: &Value) -> Answer {
        let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
        http::Response::builder().status(status).body(body).expect("is an answer")
    }

    /// What becomes of a watch.
    #[derive(Debug, Clone, Copy)]
    enum Watches {
        Refused,
        /// At once.
        Ended,
        Kept,
        /// And something is told on each.
        Telling,
        /// After a while, without an error and without a word.
        Swallowed(Duration),
    }

    /// An API server that has one ConfigMap, and counts.
    struct ApiServer {
        /// What discovery says that can be done with ConfigMaps.
        verbs: &'static [&'static str],
        watches_are: Mutex<Watches>,
        lists: AtomicUsize,
        watches: AtomicUsize,
        /// The one that the ConfigMap has.
        version: AtomicUsize,
        /// Or else there are none.
        has_config_maps: AtomicBool,
        discoveries: AtomicUsize,
    }

    impl ApiServer {
        fn start(verbs: &'static [&'static str], watches_are: Watches) -> Arc<Self> {
            let (lists, watches, version) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(3));
            let (has_config_maps, discoveries) = (AtomicBool::new(true), AtomicUsize::new(0));
            let watches_are = Mutex::new(watches_are);
            Arc::new(Self { verbs, watches_are, lists, watches, version, has_config_maps, discoveries })
        }

        fn watches_are(&self) -> MutexGuard<'_, Watches> {
            self.watches_are.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn answer(&self, uri: &http::Uri) -> Answer {
            let resource = json!({"resource": "configmaps", "responseKind": {"group": "", "version": "", "kind": "ConfigMap"},
                "scope": "Namespaced", "verbs": self.verbs});
            // An API server without any kind of v1 is none.
            let other = json!({"resource": "secrets", "responseKind": {"group": "", "version": "", "kind": "Secret"},
                "scope": "Namespaced", "verbs": self.verbs});
            let has_config_maps = self.has_config_maps.load(Ordering::SeqCst);
            let resources = if has_config_maps { json!([resource, other]) } else { json!([other]) };
            let core = json!({"versions": [{"version": "v1", "freshness": "Current", "resources": resources}]});
            let is_watch = uri.query().is_some_and(|query| query.contains("watch=true"));
            match uri.path() {
                "/api" => {
                    self.discoveries.fetch_add(1, Ordering::SeqCst);
                    answer(200, &json!({"items": [core]}))
                }
                "/apis" => answer(200, &json!({"items": []})),
                _ if is_watch => {
                    self.watches.fetch_add(1, Ordering::SeqCst);
                    let silence = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
                    match *self.watches_are() {
                        Watches::Refused => answer(403, &json!({"kind": "Status", "status": "Failure", "code": 403})),
                        Watches::Ended => http::Response::new(Full::default().boxed_unsync()),
                        Watches::Swallowed(after) => {
                            let ends = futures_util::stream::once(tokio::time::sleep(after));
                            http::Response::new(StreamBody::new(ends.filter_map(async |()| None)).boxed_unsync())
                        }
                        Watches::Kept => http::Response::new(StreamBody::new(silence).boxed_unsync()),
                        Watches::Telling => {
                            let event = json!({"type": "MODIFIED", "object": {"kind": "PartialObjectMetadata",
                                "apiVersion": "meta.k8s.io/v1", "metadata": self.metadata()}});
                            let told = Ok(Frame::data(Bytes::from(format!("{event}\n"))));
                            let stream = futures_util::stream::iter([told]).chain(silence);
                            http::Response::new(StreamBody::new(stream).boxed_unsync())
                        }
                    }
                }
                _ => {
                    self.lists.fetch_add(1, Ordering::SeqCst);
                    let metadata = self.metadata();
                    answer(
                        200,
                        &json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                        "metadata": {"resourceVersion": "7"}, "items": [{"metadata": metadata}]}),
                    )
                }
            }
        }

        /// As it is by now.
        fn metadata(&self) -> Value {
            let version = self.version.load(Ordering::SeqCst).to_string();
            json!({"name": "a", "namespace": "shop", "resourceVersion": version,
                "uid": "00000000-0000-0000-0000-000000000001", "labels": {TARGET_LABEL: "shop"}})
        }

        fn cluster(self: &Arc<Self>) -> Cluster {
            let api_server = Arc::clone(self);
            let service = tower::service_fn(move |request: http::Request<Body>| {
                let answer = api_server.answer(request.uri());
                async move { Ok::<_, tower::BoxError>(answer) }
            });
            let requests = Requests::new(kube::Client::new(service, "default"));
            let (discovery, lists) = (Discovery::default(), Arc::new(Semaphore::new(1)));
            Cluster { inner: Arc::new(Inner { requests, discovery, lists }), acting: None }
        }

        fn watch(self: &Arc<Self>) -> (mpsc::Receiver<WatchEvent>, JoinHandle<()>) {
            self.watch_at(WATCH_INTERVALS)
        }

        fn watch_at(self: &Arc<Self>, intervals: WatchIntervals) -> (mpsc::Receiver<WatchEvent>, JoinHandle<()>) {
            let (events, told) = mpsc::channel(100);
            (told, tokio::spawn(self.cluster().watch_at(intervals, config_maps(), Clock::start(), events)))
        }

        async fn wait_for_watches(&self, count: usize) {
            let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
            while self.watches.load(Ordering::SeqCst) < count {
                assert!(tokio::time::Instant::now() < deadline, "not so many watches");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn config_maps() -> Kind {
        Kind { api_version: "v1".to_owned(), kind: "ConfigMap".to_owned() }
    }

    /// What is told next, in a word.
    async fn next(told: &mut mpsc::Receiver<WatchEvent>) -> &'static str {
        let event = tokio::time::timeout(Duration::from_mins(1), told.recv()).await.expect("in time");
        match event.expect("the watch lives") {
            WatchEvent::Object(_) => "object",
            WatchEvent::Listed { .. } => "listed",
            WatchEvent::Freshness { freshness: Freshness::Lost, .. } => "lost",
            WatchEvent::Freshness { freshness: Freshness::Watched, .. } => "watched",
            WatchEvent::Freshness { freshness: Freshness::AsOf(_), .. } => "known",
        }
    }

    #[tokio::test]
    async fn where_only_watches_are_refused_objects_are_listed_once_and_not_believed() {
        let api_server = ApiServer::start(&["get", "list", "patch", "watch"], Watches::Refused);
        let (mut told, watch) = api_server.watch();

        api_server.wait_for_watches(5).await;

        let said = [next(&mut told).await, next(&mut told).await, next(&mut told).await];
        assert_eq!(said, ["object", "listed", "lost"]);
        assert!(told.try_recv().is_err(), "nothing else is told");
        assert_eq!(api_server.lists.load(Ordering::SeqCst), 1);
        *api_server.watches_are() = Watches::Kept;
        let said = [next(&mut told).await, next(&mut told).await, next(&mut told).await];
        assert_eq!(said, ["object", "listed", "watched"], "once a watch stands, what is there is listed");
        assert_eq!(api_server.lists.load(Ordering::SeqCst), 2);
        watch.abort();
    }

    #[tokio::test]
    async fn a_kind_that_is_gone_is_asked_for_seldom_and_followed_when_it_is_back() {
        let api_server = ApiServer::start(&["get", "list", "patch", "watch"], Watches::Kept);
        api_server.has_config_maps.store(false, Ordering::SeqCst);
        let (mut told, watch) = api_server.watch();

        tokio::time::sleep(Duration::from_secs(4)).await;

        let asked = (api_server.discoveries.load(Ordering::SeqCst), api_server.lists.load(Ordering::SeqCst));
        assert_eq!(asked, (1, 0));
        api_server.has_config_maps.store(true, Ordering::SeqCst);
        while next(&mut told).await != "listed" {}
        api_server.wait_for_watches(1).await;
        watch.abort();
    }

    #[tokio::test]
    async fn a_kind_whose_watches_end_at_once_is_known_by_lists() {
        let api_server = ApiServer::start(&["get", "list", "patch", "watch"], Watches::Ended);
        let began_at = std::time::Instant::now();
        let (mut told, watch) = api_server.watch();

        let said = [next(&mut told).await, next(&mut told).await, next(&mut told).await];
        assert_eq!(said, ["object", "listed", "object"]);
        assert!(began_at.elapsed() >= Duration::from_millis(900), "{:?}", began_at.elapsed());
        let said = [next(&mut told).await, next(&mut told).await];
        assert_eq!(said, ["listed", "known"]);
        assert!(api_server.watches.load(Ordering::SeqCst) <= 3);
        watch.abort();
    }

    #[tokio::test]
    async fn a_kind_whose_watches_were_none_is_watched_again_when_they_are() {
        let api_server = ApiServer::start(&["get", "list", "patch", "watch"], Watches::Ended);
        let intervals =
            WatchIntervals { list: Duration::from_millis(50), again: Duration::from_millis(100), ..WATCH_INTERVALS };
        let (mut told, watch) = api_server.watch_at(intervals);
        while next(&mut told).await != "known" {}

        *api_server.watches_are() = Watches::Telling;

        while next(&mut told).await != "watched" {}
        let lists = api_server.lists.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(api_server.lists.load(Ordering::SeqCst), lists, "it is not listed any more");
        watch.abort();
    }

    #[tokio::test]
    async fn what_watches_did_not_tell_that_ended_by_themselves_is_listed() {
        let after = Duration::from_millis(3_200);
        let api_server = ApiServer::start(&["get", "list", "patch", "watch"], Watches::Swallowed(after));
        let (mut told, watch) =
            api_server.watch_at(WatchIntervals { mute: SignedDuration::from_secs(4), ..WATCH_INTERVALS });
        assert_eq!([next(&mut told).await, next(&mut told).await], ["object", "listed"]);

        api_server.version.fetch_add(1, Ordering::SeqCst);

        assert_eq!([next(&mut told).await, next(&mut told).await], ["object", "listed"]);
        assert_eq!(api_server.lists.load(Ordering::SeqCst), 2);
        assert!(api_server.watches.load(Ordering::SeqCst) >= 2, "one that said nothing was believed");
        watch.abort();
    }

    #[tokio::test]
    async fn only_what_no_watch_told_before_it_was_listed_is_news() {
        let clock = Clock::start();
        let (events, _told) = mpsc::channel(10);
        let mut watch = Watch::of_config_maps(clock, events);
        let config_map = |version: &str| {
            let labels = [(TARGET_LABEL.to_owned(), "shop".to_owned())].into();
            let (name, uid) = (Some("a".to_owned()), Some(Uuid::from_u128(1).to_string()));
            ObjectMeta {
                name,
                uid,
                labels: Some(labels),
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            }
        };
        let parts = |metadata: ObjectMeta| (metadata, json!({}));
        let list = |watch: &mut Watch, version: &str| {
            for event in [Event::Init, Event::InitApply(config_map(version)), Event::InitDone] {
                watch.take(event, parts);
            }
            watch.has_news
        };

        assert!(list(&mut watch, "3"), "nobody has looked before");
        assert!(!list(&mut watch, "3"));
        watch.take(Event::Apply(config_map("4")), parts);
        assert!(!list(&mut watch, "4"), "a watch told it");
        assert!(list(&mut watch, "5"));
        assert!(!list(&mut watch, "5"), "the list told it");
    }

    #[tokio::test]
    async fn watches_that_end_at_once_are_not_believed() {
        let api_server = ApiServer::start(&["get", "list", "patch", "watch"], Watches::Refused);
        let (mut told, watch) = api_server.watch();
        while next(&mut told).await != "lost" {}

        *api_server.watches_are() = Watches::Ended;

        let said = [next(&mut told).await, next(&mut told).await, next(&mut told).await];
        assert_eq!(said, ["object", "listed", "known"]);
        watch.abort();
    }

    #[tokio::test]
    async fn a_list_that_is_never_answered_says_that_nothing_is_known_any_more() {
        let clock = Clock::start();
        let (events, mut told) = mpsc::channel(1);
        let mut watch = Watch::of_config_maps(clock, events);
        watch.ear.liveness().hear_nothing_since(Timestamp::UNIX_EPOCH);
        let never =
            tower::service_fn(|_: http::Request<Body>| std::future::pending::<Result<Answer, tower::BoxError>>());
        let api = Api::<DynamicObject>::all_with(kube::Client::new(never, "default"), &as_resource());

        let listed = tokio::time::timeout(Duration::from_secs(5), watch.list_once(&api, 1, &full)).await;

        assert!(listed.is_ok(), "it is given up");
        assert_eq!(told.try_recv(), Ok(WatchEvent::Freshness { kind: config_maps(), freshness: Freshness::Lost }));
    }

    fn as_resource() -> ApiResource {
        let word = str::to_owned;
        ApiResource {
            group: String::new(),
            version: word("v1"),
            api_version: word("v1"),
            kind: word("ConfigMap"),
            plural: word("configmaps"),
        }
    }

    #[tokio::test]
    async fn a_kind_that_cannot_be_watched_is_known_by_lists() {
        let api_server = ApiServer::start(&["get", "list", "patch"], Watches::Refused);
        let (mut told, watch) = api_server.watch();

        let said = [next(&mut told).await, next(&mut told).await, next(&mut told).await];

        assert_eq!(said, ["object", "listed", "known"]);
        assert_eq!(api_server.watches.load(Ordering::SeqCst), 0);
        watch.abort();
    }

    #[tokio::test]
    async fn a_watch_that_falls_silent_says_that_nothing_is_known_any_more() {
        let clock = Clock::start();
        let (events, mut told) = mpsc::channel(1);
        let mut watch = Watch::of_config_maps(clock, events);
        watch.ear.liveness().note_listed(false, clock.now());
        watch.ear.liveness().hear_nothing_since(Timestamp::UNIX_EPOCH);

        watch.follow(futures_util::stream::pending(), full).await;

        assert_eq!(told.try_recv(), Ok(WatchEvent::Freshness { kind: config_maps(), freshness: Freshness::Lost }));
    }
}
