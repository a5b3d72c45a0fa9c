//! The documents of the REST API, as hub and command line both see them.
//!
//! camelCase, RFC 3339 in UTC, digests as `sha256:HEX`, states as lower-case words. Unknown fields of what people write
//! are errors, which is why these are no nouns that rows could hold: `Written…` types convert to and from the nouns in
//! [`domain`](crate::domain), which know nothing of this module. Nothing here holds a secret but the answers that hand one
//! out once.

mod audit;
mod cluster;
mod drift;
mod plan;
mod problem;
mod repo;
mod rollout;
mod status;
mod strategy;
mod target;
mod token;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use audit::{AuditDocument, AuditEntry, AuditFilter, AuditVerification};
pub use cluster::{
    ClusterApis, ClusterDefinition, ClusterDefinitions, ClusterDocument, ClusterPhase, ClusterRights, ClusterStatus,
    ClusterTarget, NamedDefinition, RegisterCluster, RegisteredCluster,
};
pub use drift::{ChangedValue, DriftAction, DriftChange, DriftDocument};
pub use plan::{
    AskDryRun, AskPlan, Fate, HookTime, ObjectChange, PlanBase, PlanCounts, PlanDocument, PlanDryRun, PlanDryRuns,
    PlanField, PlanGroup, PlanHead, PlanObject, PlanTried, PlanUnanswered, PlanWave, Unplanned,
};
pub use problem::Problem;
pub use repo::{
    AcceptHead, CreatedRepo, MadeCredential, RepoCredential, RepoDocument, RepoHead, RepoStatus, WebhookAnswer,
    WrittenCommitStatus, WrittenRepo, WrittenVerify, webhook_path,
};
pub use rollout::{MemberDocument, RolloutDocument, RolloutIntent, WaveDocument};
pub use status::{NamedCondition, StatusDocument, StatusRow};
pub use strategy::{WrittenStrategy, WrittenWave};
pub use target::{
    DeletionStatus, ExplainedParameter, ParameterLayer, RenderedObject, RenderedTarget, SetAside, SourceCommit,
    TargetCommitStatus, TargetDocument, TargetStatus, WrittenFile, WrittenHelm, WrittenOtherFile, WrittenParameters,
    WrittenRef, WrittenRender, WrittenSync, WrittenTarget,
};
pub use token::{CreateToken, CreatedToken, TokenDocument};

pub use crate::API_VERSION;
use crate::{Name, Version};

/// What people write and read: a kind, a name, a spec, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document<Spec, Status> {
    pub api_version: String,
    pub kind: String,
    pub metadata: Metadata,
    pub spec: Spec,
    /// Written by the hub; ignored when a person sends it.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

fn none<T>() -> Option<T> {
    None
}

/// Who a document is about. People write `name`, and `version` when they want to be told of a change by others; the
/// rest is the hub's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    pub name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// The row's id: what agents, labels in clusters and certificates call it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// The row's counter: a writer that names it is refused when somebody else wrote meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
}

impl Metadata {
    /// As people write it: without what the hub adds.
    pub fn named(name: Name) -> Self {
        Self { name, project: None, id: None, version: None, created_at: None }
    }
}

/// A page of a list, at most as long as the request's `limit`. `next` is given back as `?cursor=`, as it came, for the page
/// after it, which may be empty; `None`: this is the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}
