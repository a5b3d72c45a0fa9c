//! The conversation of one agent with the hub: the messages, and both ends as state machines.
//!
//! Each end is fed with messages and the time, and asked for messages and the next wake-up. Neither opens a socket, so a
//! connection that drops in the middle of a hand-over is a unit test. What waits, waits here, where newer replaces older.

pub mod agent;
mod forgotten;
pub mod hub;
pub mod identity_conflict;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use uuid::Uuid;

use crate::apis::Apis;
use crate::bundle::Manifest;
use crate::definitions::Definitions;
use crate::drift::Drift;
use crate::dry_run::{DryRun, DryRuns};
use crate::report::Report;
use crate::{Digest, Generation, Name, ObjectKey, ReportSequence, SessionNumber, TargetId, TraceId};

pub use forgotten::Forgotten;

/// The protocol's number. A hub speaks every one that a released agent speaks.
pub const PROTOCOL: u32 = 1;

/// Bytes of objects in one frame: a Desired that is newer never waits for more than this.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The fact that tells a cluster from a copy of it: the uid of its namespace `kube-system`.
pub const UID_FACT: &str = "kubernetes.uid";

/// How often an agent sends a heartbeat, and how long either end stands silence. The hub says them in its Welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatPolicy {
    /// Between two of an agent's heartbeats.
    pub interval: SignedDuration,
    /// Silence of the other end after which either ends the stream.
    pub deadline: SignedDuration,
}

impl Default for HeartbeatPolicy {
    fn default() -> Self {
        Self { interval: SignedDuration::from_secs(15), deadline: SignedDuration::from_secs(25) }
    }
}

/// What an agent says. Each is of its own cluster: none names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentMessage {
    Hello(Hello),
    /// What it has seen of its cluster, to a hub that takes it ([`ProfileWanted`]).
    Profile(Profile),
    /// All that it has accepted; the answer to a [`HubMessage::Compare`] with another root than its own.
    Inventory(Vec<Listed>),
    /// Objects that its assignments name and that it does not have: what a journal has lost.
    Need(Vec<Digest>),
    /// One that a [`HubMessage::Wanted`] asked for.
    Definition(Packed),
    Report(ReportSequence, Report),
    /// In one count with the reports.
    Drift(ReportSequence, Drift),
    /// What came of a dry run.
    DryRan(DryRan),
    /// Every [`HeartbeatPolicy::interval`]; the first one says that nothing is left to be told.
    Heartbeat,
}

/// What the hub says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubMessage {
    /// Answers the Hello.
    Welcome(Welcome),
    /// The root of what the hub has listed: an agent with another one answers with what it holds, with an equal one it
    /// says nothing.
    Compare(Digest),
    /// At most [`FRAME_BYTES_MAX`] of them, before the Desired that names them.
    Objects(Vec<Piece>),
    /// Once every object that it brings has been sent.
    Desired(Desired),
    /// Everything up to this report or drift is committed. 0: nothing yet.
    Ack(ReportSequence),
    /// Definitions of a [`Profile`] of this session that the hub does not have, in the place of all that it asked for before.
    Wanted(Vec<Digest>),
    /// What would become of a bundle, to an agent that says that it takes them ([`Hello::dry_runs`]).
    DryRun(DryRun),
}

/// What came of a dry run, as [`crate::dry_run::DryRunAnswer::encode`] writes it, compressed. Whoever shows it reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRan {
    pub id: Uuid,
    /// At most [`crate::dry_run::ANSWER_PACKED_BYTES_MAX`].
    pub answer: Vec<u8>,
}

/// A definition on its way, compressed. Whoever takes it reads it and checks its digest: one that cannot be read, as of
/// another version, is not worth a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Of the text of a [`crate::definitions::Definition`].
    pub digest: Digest,
    /// At most [`crate::definitions::DEFINITION_PACKED_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// The first message of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub protocol: u32,
    /// Of the agent's program.
    pub version: String,
    /// Made anew at each start of the agent's process.
    pub boot: Uuid,
    /// [`root`] of what the hub last listed to this process.
    pub root: Digest,
    /// The last report that a hub acknowledged to this process.
    pub acked: Option<(SessionNumber, ReportSequence)>,
    /// What the agent says of its cluster, such as [`UID_FACT`]. Decides nothing about where something runs.
    pub facts: BTreeMap<String, String>,
    /// Of the APIs of its cluster; `None`: it has not seen them, or is of a version that does not look.
    pub apis: Option<Digest>,
    /// Of the list of its definitions; `None`: as above.
    pub definitions: Option<Digest>,
    pub dry_runs: DryRuns,
    /// It knows targets whose objects are asked for as a ServiceAccount. One that does not would pass over that, and apply
    /// them with all its rights.
    pub acts_as_accounts: bool,
}

/// What an agent has seen of its cluster. It is what something is rendered for, and decides nothing about where it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    pub facts: BTreeMap<String, String>,
    /// `None`: not seen yet.
    pub apis: Option<Apis>,
    /// `None`: not seen yet.
    pub definitions: Option<Definitions>,
}

/// Whether a hub takes a [`Profile`]; one of an earlier version would end the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileWanted {
    Never,
    /// When something is another than the Hello said.
    WhenChanged,
    /// At once: it does not know these APIs, or does not have all of these definitions.
    Now,
}

/// The least time between what two profiles lead to: one that comes before is kept until then, unless a newer one comes.
pub const PROFILE_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// The first message of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Greater than that of every earlier stream.
    pub session: SessionNumber,
    pub want: Want,
    pub heartbeat: HeartbeatPolicy,
    pub profile: ProfileWanted,
}

/// Which reports the hub wants first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Those that were not acknowledged.
    Unacked,
    /// One for each target: a new process, or a hub whose rows are older than what it acknowledged.
    All,
}

impl Want {
    /// What a hub wants that knows the agent's last boot, and whether its rows hold the last report that it acknowledged
    /// (`None`: the agent has none that was).
    pub const fn assess(same_boot: bool, holds_acked: Option<bool>) -> Self {
        match (same_boot, holds_acked) {
            (true, None | Some(true)) => Self::Unacked,
            (false, _) | (true, Some(false)) => Self::All,
        }
    }
}

/// A part of a compressed object. The parts of an object come in order and without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Of the object, uncompressed.
    pub digest: Digest,
    /// Of the compressed object.
    pub bytes_total: u32,
    /// Of the first of these bytes within the compressed object.
    pub offset: u32,
    /// At most [`FRAME_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// What the cluster is to run, as a difference to what was listed before in this session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Nothing was listed before, or it no longer counts: this, with what came on this connection before it and stands
    /// among the unchanged, is all of it. What the agent holds and this does not name is kept and reported as unlisted:
    /// absence never means delete. Only a tombstone that was carried out is let go.
    pub complete: bool,
    pub assignments: Vec<Assignment>,
    /// Of a complete one: targets that are listed as well, as the agent says that it holds them.
    pub unchanged: Vec<TargetId>,
}

/// What one cluster is to run for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub target: TargetId,
    /// The target's, for people.
    pub name: Name,
    pub generation: Generation,
    pub action: Action,
    pub manifest: Manifest,
    /// Which earlier objects of this target the plan allows to be deleted once the new ones are healthy.
    pub prunable: Vec<ObjectKey>,
    /// The target's own, for objects that name none; a hub of an earlier version does not tell.
    pub namespace: Option<Name>,
    /// Whose the target is; a hub of an earlier version does not tell.
    pub project: Option<Name>,
    pub options: SyncOptions,
    /// Under which generation a person asked last to have it tried again in this cluster; the first, 0: nobody did. What
    /// runs once, was applied under an older one and did not come to a good end may run again.
    pub retried: Generation,
    /// Of the change that led to it; `None` when the hub does not know any more.
    pub trace: Option<TraceId>,
}

/// What an assignment is for. The order is part of what [`root`] hashes: none is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Run the bundle.
    Apply,
    /// A tombstone: delete what this target owns here.
    Delete,
    /// A tombstone: forget it, and leave the objects.
    Orphan,
}

impl Action {
    /// As rows and the journal hold it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Delete => "delete",
            Self::Orphan => "orphan",
        }
    }
}

impl std::str::FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Apply, Self::Delete, Self::Orphan]
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not an action"))
    }
}

/// What the rows say that one cluster is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub assignments: Vec<Assignment>,
    /// Assigned as well, in rows that cannot be read: the cluster goes on with what it has of these, and is told nothing
    /// about them.
    pub unreadable: BTreeSet<TargetId>,
}

impl From<Vec<Assignment>> for Listing {
    fn from(assignments: Vec<Assignment>) -> Self {
        Self { assignments, unreadable: BTreeSet::new() }
    }
}

/// How an agent keeps a target. As rows hold it: what a later version adds is not read.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyncOptions {
    pub prune: Prune,
    pub drift: DriftMode,
    pub adopt: Adopt,
    pub replace: Replace,
    /// The target's own namespace is made where it is absent.
    pub create_namespace: bool,
    /// Of the target's own namespace: whom agents act as in all that they ask of the target's objects. `None`: as themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<Name>,
}

/// When what left the bundle is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Prune {
    /// Once the new objects are healthy.
    #[default]
    AfterHealthy,
    /// Once they are in place.
    AfterApply,
    Never,
}

/// What becomes of what others change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DriftMode {
    /// It is taken back, and told.
    #[default]
    Correct,
    /// It is told, and stays until the next revision.
    Warn,
    /// Nobody looks.
    Ignore,
}

/// Whether a target may have what is there already under a name of its own, and is no target's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Adopt {
    /// It stays as it is, and is told.
    #[default]
    Never,
    /// What no other tool has: whoever ran `kubectl apply` with the same file has given it to Git.
    IfUnowned,
    /// From Helm, Flux, Argo CD and whoever else applies it, too.
    Always,
}

/// Whether an object is deleted and made anew when it cannot be changed to what is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Replace {
    /// It stays as it is, and is told.
    #[default]
    Never,
    /// Where all that stands in the way is fields that never change, such as the selector of a Deployment.
    Immutable,
}

/// What makes an assignment another one, in short: it stands in the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub target: TargetId,
    pub generation: Generation,
    pub action: Action,
    pub digest: Digest,
}

impl Assignment {
    /// What it is in the root.
    pub fn listed(&self) -> Listed {
        Listed { target: self.target, generation: self.generation, action: self.action, digest: self.manifest.digest() }
    }

    /// About what it takes on the wire.
    fn wire_bytes(&self) -> usize {
        // Of a line of the manifest, beside the names: a digest in hexadecimals, and the fields' names.
        const LINE: usize = 64 + 72;
        let names = |key: &ObjectKey| {
            key.api_version.len() + key.kind.len() + key.namespace.as_ref().map_or(0, String::len) + key.name.len()
        };
        let lines = self.manifest.entries().iter().map(|entry| LINE + names(&entry.key));
        // And of a key: its tags and lengths.
        lines.chain(self.prunable.iter().map(|key| 16 + names(key))).sum::<usize>() + 256
    }

    /// The bodies that it needs: none for a tombstone.
    pub fn objects(&self) -> impl Iterator<Item = Digest> + '_ {
        let entries = if self.action == Action::Apply { self.manifest.entries() } else { &[] };
        entries.iter().map(|entry| entry.digest)
    }
}

/// The hash of a whole desired state: equal roots mean that nothing has to be said.
pub fn root(listed: impl IntoIterator<Item = Listed>) -> Digest {
    let mut listed: Vec<_> = listed.into_iter().collect();
    listed.sort_unstable();
    let mut bytes = Vec::with_capacity(listed.len() * 57);
    for line in listed {
        bytes.extend_from_slice(line.target.as_uuid().as_bytes());
        bytes.extend_from_slice(&line.generation.get().to_be_bytes());
        bytes.push(line.action as u8);
        bytes.extend_from_slice(line.digest.as_bytes());
    }
    Digest::of(&bytes)
}

/// The other end did what the protocol does not allow; the connection ends and starts anew.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Violation {
    #[error("the first message was not a Hello")]
    NoHello,
    #[error("the first message was not a Welcome")]
    NoWelcome,
    #[error("a second Hello or Welcome")]
    Repeated,
    #[error("protocol {theirs} is not spoken here, only {PROTOCOL}")]
    Protocol { theirs: u32 },
    #[error("silent for longer than {0:#}")]
    Silent(SignedDuration),
    #[error("object {0:?} came in pieces that do not fit together")]
    Pieces(Digest),
    #[error("object {0:?} does not have that digest")]
    Mismatch(Digest),
    #[error("said what it holds and was not asked")]
    Unasked,
    #[error("report {0} was acknowledged and never sent")]
    Unsent(ReportSequence),
    #[error("more objects came, or were asked for, than one end keeps for the other")]
    TooMuch,
}
