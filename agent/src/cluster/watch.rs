//! What happens to the objects that we own: one watch per kind, reduced to a verdict on arrival.
//!
//! Only kinds whose health has to be read from their body are watched here; nothing of a body is kept. A watch never
//! ends: it reconnects, and lists anew when the API server has forgotten where it was.

use std::time::Duration;

use bellwether_core::ObjectKey;
use bellwether_core::health::{self, Health};
use bellwether_core::object::TARGET_LABEL;
use futures_util::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use serde_json::Value;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Cluster;
use crate::backoff::{Backoff, Jitter, chance};

/// Between tries of a watch that broke off: an API server that was away is to be seen again within ten seconds.
const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5), jitter: Jitter::Half };

/// What is watched: a kind in one version, in all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) api_version: String,
    pub(crate) kind: String,
}

/// An object of ours, as it was at that version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sighting {
    /// The value of the target label.
    pub(crate) target: String,
    pub(crate) uid: Uuid,
    pub(crate) version: u64,
    pub(crate) seen: Seen,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    There(Health),
    /// Deleted, or without our label.
    Gone,
}

impl Kind {
    pub(crate) fn of(key: &ObjectKey) -> Self {
        Self { api_version: key.api_version.clone(), kind: key.kind.clone() }
    }

    fn key(&self) -> ObjectKey {
        ObjectKey {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: None,
            name: String::new(),
        }
    }
}

impl Cluster {
    /// Tells what is seen of a kind, until the receiver is gone.
    ///
    /// A send waits when the receiver is behind: the API server then holds the events back, and a watch that falls too
    /// far behind lists anew.
    pub(crate) async fn watch(self, kind: Kind, sightings: mpsc::Sender<Sighting>) {
        let api = self.api(&kind).await;
        let config = watcher::Config::default().labels(super::OWNED_SELECTOR);
        let mut events = std::pin::pin!(watcher::watcher(api, config));
        let mut failures = 0;
        while let Some(event) = events.next().await {
            failures = if event.is_ok() { 0 } else { failures + 1 };
            let sighting = match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => reduce(&kind, object, false),
                Ok(Event::Delete(object)) => reduce(&kind, object, true),
                Ok(Event::Init | Event::InitDone) => None,
                Err(error) => {
                    tracing::warn!(kind = %kind.kind, error = %crate::error_chain(&error), "a watch broke off");
                    // It goes on when it is polled again.
                    tokio::time::sleep(RECONNECT.wait(failures, chance())).await;
                    None
                }
            };
            let Some(sighting) = sighting else { continue };
            if sightings.send(sighting).await.is_err() {
                return;
            }
        }
    }

    async fn api(&self, kind: &Kind) -> Api<DynamicObject> {
        let key = kind.key();
        let mut failures = 0;
        let resource = loop {
            if let Ok(resource) = self.resource(&key).await {
                break resource;
            }
            // An object of it was applied a moment ago: the kind comes back, or the watch is of no use anyway.
            failures += 1;
            tokio::time::sleep(RECONNECT.wait(failures, chance())).await;
        };
        let served = ApiResource {
            group: key.group().to_owned(),
            version: key.version().to_owned(),
            api_version: key.api_version.clone(),
            kind: key.kind.clone(),
            plural: resource.plural,
        };
        Api::all_with(self.inner.requests.client(), &served)
    }
}

fn reduce(kind: &Kind, mut object: DynamicObject, gone: bool) -> Option<Sighting> {
    let metadata = &mut object.metadata;
    let target = metadata.labels.as_ref()?.get(TARGET_LABEL)?.clone();
    let uid = metadata.uid.as_ref()?.parse().ok()?;
    let version = metadata.resource_version.as_ref()?.parse().unwrap_or_default();
    if gone {
        return Some(Sighting { target, uid, version, seen: Seen::Gone });
    }
    // Who wrote when is read; what they own is the larger part of an object, and is not.
    for entry in metadata.managed_fields.iter_mut().flatten() {
        entry.fields_v1 = None;
    }
    let mut object = serde_json::to_value(object).ok()?;
    // The items of a list do not repeat them.
    object["apiVersion"] = Value::String(kind.api_version.clone());
    object["kind"] = Value::String(kind.kind.clone());
    Some(Sighting { target, uid, version, seen: Seen::There(health::assess(&object)) })
}
