//! Identities and counters, each with a type of its own so that none is taken for another.
//!
//! Ids are UUIDs of version 7, made at the edge: this crate has neither clock nor randomness.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Of an id that was made elsewhere; any UUID is taken.
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// As rows and messages hold it.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

uuid_ids! {
    /// A registered cluster. In a certificate it is the last part of the SAN URI.
    ClusterId,
    /// A tenancy boundary.
    ProjectId,
    /// A watched Git repository.
    RepoId,
    /// A target. Without dashes, the value of the label by which its objects are found in a cluster.
    TargetId,
    /// A commit seen at a ref of a repo.
    RevisionId,
    /// One rendering of a target at a revision, with one bundle per distinct set of parameters.
    RenderId,
    /// One movement of a target's clusters.
    RolloutId,
    /// One running hub process.
    HubId,
    /// An audit entry, from its outbox row on.
    EventId,
}

/// Follows one change from what began it, a webhook or a person, to the reports about it. Stands in logs and in the audit
/// log; nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceId(Uuid);

impl TraceId {
    /// Of whoever begins a change.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// As the wire and the journal hold it.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

/// 32 hexadecimal digits, as traces are written elsewhere (W3C Trace Context).
impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl std::str::FromStr for TraceId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(i64);

        impl $name {
            /// Of a number that was handed out: none is made up here.
            pub const fn new(number: i64) -> Self {
                Self(number)
            }

            /// As rows and messages hold it.
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

counters! {
    /// The age of an assignment. From one Postgres sequence for the whole installation, never from the row it is
    /// written to: what a restored database hands out can be told from what agents have already seen.
    Generation,
    /// A row's optimistic counter. It travels to people, never to agents.
    Version,
    /// A live stream of one agent, from a Postgres sequence: a later stream has a greater number.
    SessionNumber,
    /// The place of a report within its session, from 1.
    ReportSequence,
}
