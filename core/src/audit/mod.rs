//! The audit log: what an entry says, its canonical bytes, and the RFC 6962 tree over them.
//!
//! An entry is written for each decision or fact of a person, a token, an agent or the hub; never for a healthy report.
//! Its bytes are hashed once, when the sealer gives it its number; all else that is stored about it is an index.

mod action;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub use action::Action;

use crate::object::canonical_json;
use crate::{Digest, EventId, Name, RolloutId};

/// Of the canonical form below; it stands in every entry.
pub const FORMAT: u32 = 1;
/// Bytes of an entry's detail.
pub const DETAIL_BYTES_MAX: usize = 8 * 1024;

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    pub kind: ActorKind,
    /// A token's or a cluster's name, or `hub`.
    pub name: String,
}

/// By what an actor was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person or a program, by an API token.
    Token,
    /// By its certificate; the name is its cluster's.
    Agent,
    /// The hub by itself: a decision, a find.
    Hub,
    /// Somebody who could not show who they are.
    Anonymous,
}

impl ActorKind {
    /// As it is stored, searched for and hashed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Agent => "agent",
            Self::Hub => "hub",
            Self::Anonymous => "anonymous",
        }
    }
}

/// What an entry is about, in two words. Both are hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// `cluster`, `repo`, `target`, `rollout`, `token`, `webhook`, `report`, `drift`.
    pub kind: String,
    /// Its name; of a rollout, and of a target that is told of, its id.
    pub name: String,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done, or it is a fact.
    Done,
    /// It was tried, and did not succeed.
    Failed,
    /// It was asked for, and is not allowed, or not possible as things are.
    Denied,
}

impl Outcome {
    /// As it is stored, searched for and hashed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Denied => "denied",
        }
    }
}

/// An entry before it has a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: EventId,
    /// By the hub's clock; cut to microseconds, which is what Postgres keeps.
    pub at: Timestamp,
    /// `None`: what belongs to the installation, such as a token.
    pub project: Option<Name>,
    pub actor: Actor,
    pub action: Action,
    pub subject: Subject,
    /// A cluster's name, or its id when no row gives the name any more.
    pub cluster: Option<String>,
    /// A target's name.
    pub target: Option<String>,
    pub rollout: Option<RolloutId>,
    /// 40 hexadecimal digits.
    pub commit: Option<String>,
    pub outcome: Outcome,
    /// A person's reason, or why it failed or was denied; may be empty. No secret, and no text of Postgres.
    pub reason: String,
    /// The one id from webhook to report.
    pub trace_id: Option<String>,
    /// What else belongs to this action; what is over [`DETAIL_BYTES_MAX`] is cut in [`Event::body`]. No secret.
    pub detail: Value,
}

/// What an entry is about, with all that this says of whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    pub subject: Subject,
    /// `None`: what belongs to the installation, such as a token.
    pub project: Option<Name>,
    pub cluster: Option<String>,
    pub target: Option<String>,
    pub rollout: Option<RolloutId>,
}

impl About {
    /// Of the installation.
    pub fn new(kind: &str, name: &(impl ToString + ?Sized)) -> Self {
        let subject = Subject { kind: kind.to_owned(), name: name.to_string() };
        Self { subject, project: None, cluster: None, target: None, rollout: None }
    }
}

impl Event {
    /// Done, without a reason, a commit, a trace or details: set the fields that differ. `id` and `at` come from the
    /// caller, as all chance and time do.
    pub fn new(id: Uuid, at: Timestamp, actor: Actor, action: Action, about: About) -> Self {
        let About { subject, project, cluster, target, rollout } = about;
        Self {
            id: EventId::new(id),
            at,
            project,
            actor,
            action,
            subject,
            cluster,
            target,
            rollout,
            commit: None,
            outcome: Outcome::Done,
            reason: String::new(),
            trace_id: None,
            detail: Value::Null,
        }
    }

    /// The bytes that are hashed, without the number: RFC 8785 JSON, times in microseconds.
    pub fn body(&self) -> Vec<u8> {
        let detail = fitted(self.detail.clone());
        canonical_json(&json!({
            "format": FORMAT,
            "eventId": self.id,
            "at": self.at.as_microsecond(),
            "project": self.project,
            "actor": self.actor,
            "action": self.action.as_str(),
            "subject": self.subject,
            "cluster": self.cluster,
            "target": self.target,
            "rollout": self.rollout,
            "commit": self.commit,
            "outcome": self.outcome,
            "reason": self.reason,
            "traceId": self.trace_id,
            "detail": detail,
        }))
    }
}

/// Within 8 KiB: the largest parts are told by their digests, and what they stand beside is kept.
fn fitted(mut detail: Value) -> Value {
    while canonical_json(&detail).len() > DETAIL_BYTES_MAX {
        let Some(largest) = largest_part(&mut detail) else {
            return cut(&detail);
        };
        *largest = cut(largest);
    }
    detail
}

fn cut(value: &Value) -> Value {
    let bytes = canonical_json(value);
    json!({"cut": {"sha256": Digest::of(&bytes), "bytes": bytes.len()}})
}

/// Smaller ones would not become smaller.
const PART_BYTES_MIN: usize = 256;

/// The largest part that none of its own parts outweighs; `None`: all are small.
fn largest_part(value: &mut Value) -> Option<&mut Value> {
    let parts: Vec<&mut Value> = match value {
        Value::Object(fields) => fields.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        _ => return None,
    };
    let total: usize = parts.iter().map(|part| canonical_json(part).len()).sum();
    let largest = parts.into_iter().max_by_key(|part| canonical_json(part).len())?;
    let size = canonical_json(largest).len();
    if size < PART_BYTES_MIN {
        return None;
    }
    // One part is nearly all of it: what stands inside is looked at before it goes as a whole.
    let has_parts = matches!(largest, Value::Object(_) | Value::Array(_)) && largest.get("cut").is_none();
    if has_parts && size * 2 > total && largest_part(&mut largest.clone()).is_some() {
        return largest_part(largest);
    }
    Some(largest)
}

/// The hash of a leaf of the tree: RFC 6962's, over the entry's number (from 1, eight bytes, big-endian) and its
/// [`Event::body`].
pub fn leaf_hash(seq: i64, body: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(seq.to_be_bytes());
    hasher.update(body);
    Digest::from_bytes(hasher.finalize().into())
}

fn node_hash(left: Digest, right: Digest) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    Digest::from_bytes(hasher.finalize().into())
}

/// The right edge of the RFC 6962 tree: the roots of its full subtrees, largest first. Enough to append and to give the
/// root, with at most 64 hashes for any size. The default is the empty tree's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Digest>,
}

impl Frontier {
    /// Of a tree with `size` leaves, from the roots of its full subtrees, largest (oldest) first: as many as `size` has
    /// set bits, so at most 64. `None` when that many hashes cannot be the frontier of a tree of that size; whether
    /// they are its true ones, only the leaves tell.
    pub fn new(size: u64, roots: Vec<Digest>) -> Option<Self> {
        (roots.len() == size.count_ones() as usize).then_some(Self { size, roots })
    }

    /// Leaves in the tree, which is the number of the newest entry.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Of the full subtrees, largest first: what [`Frontier::new`] takes.
    pub fn roots(&self) -> &[Digest] {
        &self.roots
    }

    /// Appends a leaf, by its [`leaf_hash`].
    pub fn push(&mut self, leaf: Digest) {
        let mut node = leaf;
        // Each full subtree at the edge that has a twin now becomes one with it.
        for _ in 0..self.size.trailing_ones() {
            let left = self.roots.pop().expect("a set bit of the size has its root");
            node = node_hash(left, node);
        }
        self.roots.push(node);
        self.size += 1;
    }

    /// The tree's root; of an empty tree, the hash of nothing.
    pub fn root(&self) -> Digest {
        let mut roots = self.roots.iter().rev();
        let Some(&last) = roots.next() else { return Digest::of(b"") };
        roots.fold(last, |right, &left| node_hash(left, right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(bytes: &[u8]) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update([0]);
        hasher.update(bytes);
        Digest::from_bytes(hasher.finalize().into())
    }

    /// The definition in RFC 6962 §2.1, word for word.
    fn tree_hash(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest::of(b""),
            [one] => *one,
            many => {
                let half = many.len().next_power_of_two() / 2;
                node_hash(tree_hash(&many[..half]), tree_hash(&many[half..]))
            }
        }
    }

    #[test]
    fn the_frontier_gives_the_root_that_the_rfc_defines() {
        let leaves: Vec<_> = (0..200_u8).map(|index| leaf(&[index])).collect();
        let mut frontier = Frontier::default();

        for (count, &next) in leaves.iter().enumerate() {
            assert_eq!(frontier.root(), tree_hash(&leaves[..count]), "{count} leaves");
            frontier.push(next);
        }
    }

    #[test]
    fn the_root_of_the_known_answer_test_is_met() {
        // The first leaves of the certificate-transparency reference tests.
        let inputs: [&[u8]; 3] = [b"", b"\x00", b"\x10"];
        let mut frontier = Frontier::default();
        for bytes in inputs {
            frontier.push(leaf(bytes));
        }

        let expected = "sha256:aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77";
        assert_eq!(frontier.root().to_string(), expected);
    }

    #[test]
    fn a_frontier_of_another_size_is_refused() {
        assert!(Frontier::new(3, vec![leaf(b"a")]).is_none());
    }

    #[test]
    fn a_detail_that_is_too_long_keeps_what_is_short_in_it() {
        let long = "x".repeat(DETAIL_BYTES_MAX);
        let many: Vec<_> = (0..2_000).collect();
        let detail = json!({"spec": {"path": "apps/shop", "parameters": [long], "hosts": many}, "mode": "prune"});

        let fitted = fitted(detail);

        assert!(canonical_json(&fitted).len() <= DETAIL_BYTES_MAX);
        assert_eq!((&fitted["mode"], &fitted["spec"]["path"]), (&json!("prune"), &json!("apps/shop")));
        assert!(fitted.to_string().contains("sha256"), "{fitted}");
    }

    #[test]
    fn a_detail_of_many_small_parts_ends_within_the_bound_too() {
        let many: Vec<_> = (0..5_000).collect();

        assert!(canonical_json(&super::fitted(json!(many))).len() <= DETAIL_BYTES_MAX);
        assert!(canonical_json(&super::fitted(json!({"a": many, "b": "kept"}))).len() <= DETAIL_BYTES_MAX);
    }

    #[test]
    fn two_entries_that_differ_in_anything_differ_in_their_bytes() {
        let at = Timestamp::from_microsecond(1).expect("is a time");
        let actor = Actor { kind: ActorKind::Hub, name: "hub".to_owned() };
        let event = Event::new(Uuid::nil(), at, actor, Action::ClusterJoined, About::new("cluster", "a"));
        let other = Event { reason: "x".to_owned(), ..event.clone() };
        let elsewhere = Event { project: "b".parse().ok(), ..event.clone() };

        assert_ne!(event.body(), other.body());
        assert_ne!(event.body(), elsewhere.body());
        assert_ne!(leaf_hash(1, &event.body()), leaf_hash(2, &event.body()));
    }
}
