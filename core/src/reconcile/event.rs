//! What the decider is told: what was assigned, what came of a step, and what a watch saw.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::finding::Answer;
use super::step::Step;
use crate::assignment::Holds;
use crate::drift::Fingerprint;
use crate::health::{self, Ending, Health};
use crate::journal::Journalled;
use crate::keep;
use crate::object::MANAGER;
use crate::{ObjectKey, TargetId};

/// What happened, for [`Targets::handle`](super::Targets::handle): in the order in which it did. Each step that was
/// taken is answered once, also when it failed.
#[derive(Debug)]
pub enum Event {
    /// It is written down, so it may be acted on.
    Accepted(Journalled),
    /// Its tombstone was carried out, and nobody asks about it again.
    Ended(TargetId),
    /// All that was learned of the target is written down, up to the update of that number.
    Written(TargetId, u64),
    Answered(Box<Step>, Answer),
    Watched(WatchEvent),
    /// Who is suspended from now on, by somebody of the cluster.
    Held(Holds),
    /// What the cluster's owner allows is another by now.
    PolicyChanged,
}

/// What is watched: a kind in one version, in all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub api_version: String,
    pub kind: String,
}

impl Kind {
    /// Of the objects that are spelled like this one.
    pub fn of(key: &ObjectKey) -> Self {
        Self { api_version: key.api_version.clone(), kind: key.kind.clone() }
    }
}

/// What a watch has to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    Object(Box<ObjectEvent>),
    /// All objects of the kind that there are. Those that were made after it began may be missing. It says nothing of the
    /// watch behind it.
    Listed {
        kind: Kind,
        began_at: Timestamp,
        uids: BTreeSet<Uuid>,
    },
    /// What holds from now on, of what was told by then too.
    Freshness {
        kind: Kind,
        freshness: Freshness,
    },
}

/// How well it is known how objects of a kind stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Watched,
    /// They cannot be watched: so they stood when they were last listed.
    AsOf(Timestamp),
    /// Not any more.
    Lost,
}

impl Freshness {
    /// Among those of kinds that are not watched well. Answers whether that is news.
    pub(super) fn put(self, freshness: &mut BTreeMap<Kind, Self>, kind: &Kind) -> bool {
        let before = if self == Self::Watched { freshness.remove(kind) } else { freshness.insert(kind.clone(), self) };
        before.unwrap_or(Self::Watched) != self
    }
}

/// An object of ours, as it was at that version.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectEvent {
    /// The value of the target label.
    pub target: String,
    pub key: ObjectKey,
    /// Tells it from another object that has had the name.
    pub uid: Uuid,
    /// Its resource version, to be compared with others of this object; 0 when it does not tell.
    pub version: u64,
    /// When the list began that it was found in; `None`: it is an event. A list is the state of the cluster, whatever was
    /// seen before: after a restore of etcd, versions begin anew at lower ones.
    pub listed_at: Option<Timestamp>,
    pub seen: ObjectState,
}

impl ObjectEvent {
    /// It is a Job or a Pod that ran to its end.
    pub fn has_ended(&self) -> bool {
        matches!(&self.seen, ObjectState::Present(condition) if condition.finished.is_some())
    }
}

/// What an event says of an object.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "almost all that is seen is there")]
pub enum ObjectState {
    Present(Condition),
    /// Deleted, or without our label.
    Deleted,
    /// No longer there, and nobody saw it go.
    Missing,
}

/// How an object stands, as far as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub health: Health,
    /// How a Job or a Pod ended that ran to its end.
    pub finished: Option<Ending>,
    /// `None` when it was never in an API server.
    pub fingerprint: Option<Fingerprint>,
    /// It asks to be left in the cluster.
    pub is_kept: bool,
}

impl Condition {
    /// Of an object as JSON; of kinds that need no watch in full, the metadata is enough. `has_status`: its kind is served
    /// with a subresource for the status.
    pub fn of(object: &Value, has_status: bool) -> Self {
        Self {
            health: health::assess(object, has_status),
            finished: health::ending(object),
            fingerprint: Fingerprint::of(&object["metadata"], MANAGER),
            is_kept: keep::is_asked(&object["metadata"]),
        }
    }
}
