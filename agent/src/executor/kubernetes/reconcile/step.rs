//! One thing to do with one object: what it may be, what may come of it, and how it is carried out.
//!
//! Decides nothing but whether what is there is this target's, and whether a field that somebody else took was ours.

use std::sync::Arc;

use bellwether_core::drift::{Change, corrected_paths, culprit, differing_paths, lost_paths, says};
use bellwether_core::takeover::taken_over;
use bellwether_core::yielded::without_yielded;
use bellwether_core::{Digest, Generation, ObjectKey, TargetId};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::bodies::Body;
use super::judge::{is_ours, owner_hint};
use super::owned::LastApplied;
use super::ownership::{Owner, may_delete};
use crate::executor::kubernetes::client::watch::Condition;
use crate::executor::kubernetes::client::{Apply, Cluster, ClusterError, FIELD_MANAGER, Live, Metadata};

/// A thing to do with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) target: TargetId,
    pub(crate) generation: Generation,
    pub(crate) key: ObjectKey,
    pub(crate) act: Act,
    /// What we applied under its name last.
    pub(crate) last_applied: Option<LastApplied>,
    /// Another object of the bundle that is this one, if their kind has no namespaces.
    pub(crate) twin: Option<ObjectKey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Inspect whether it may be applied, and apply it; or else apply it to exactly the one that is held.
    Apply { digest: Digest, inspect_first: bool },
    /// Inspect whether it is as we applied it; and if `writes`, make it so.
    Correct { digest: Digest, seen_at: Timestamp, writes: bool },
    /// Inspect whether it is there and carries the target's label.
    Inspect,
    /// Delete exactly the one that was inspected.
    Delete { uid: Uuid },
    /// Take our label off it, if nobody wrote it since it was inspected.
    Orphan { version: String },
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Finding {
    Applied {
        uid: Uuid,
        version: u64,
        condition: Condition,
        body: Body,
    },
    /// Left as it is, whether it is as we applied it or not; `None`: it is not there.
    Kept {
        seen: Option<(Uuid, u64, Condition)>,
    },
    /// A Job or a Pod that ran to its end, and is gone since.
    Finished,
    /// There already, and not ours; the hint says whose it is.
    Exists {
        hint: String,
    },
    /// There and ours.
    There {
        uid: Uuid,
        /// The one that it has, whatever its manifest says.
        namespace: Option<String>,
        version: String,
        finalizers: Vec<String>,
        is_leaving: bool,
    },
    /// Not there, or not ours (any more).
    Gone,
    Failed(ClusterError),
}

/// What somebody else did to an object of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) change: Change,
    pub(crate) manager: Option<String>,
    pub(crate) operation: Option<String>,
    pub(crate) fields: Vec<String>,
}

/// What came of a step, with what was found to be changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) finding: Finding,
    pub(crate) drift: Option<Found>,
}

impl From<Finding> for Answer {
    fn from(finding: Finding) -> Self {
        Self { finding, drift: None }
    }
}

impl Step {
    /// The value of the target label on what this target owns.
    pub(crate) fn label(&self) -> String {
        self.target.as_uuid().simple().to_string()
    }

    fn owner(&self, there: &Metadata) -> Owner {
        Owner::of(there, &self.label(), self.last_applied.as_ref().map(|last_applied| last_applied.uid))
    }

    /// About an object that should be in place.
    pub(super) fn is_question(&self) -> bool {
        matches!(self.act, Act::Correct { .. })
    }
}

impl Act {
    /// Of the object that is to be in place.
    pub(super) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Apply { digest, .. } | Self::Correct { digest, .. } => Some(*digest),
            Self::Inspect | Self::Delete { .. } | Self::Orphan { .. } => None,
        }
    }
}

/// `modified by kubectl-edit: .data.a`
impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.change.as_str())?;
        if let Some(manager) = &self.manager {
            write!(f, " by {manager}")?;
        }
        if !self.fields.is_empty() {
            write!(f, ": {}", self.fields.join(", "))?;
        }
        Ok(())
    }
}

/// `body` is the object as the bundle has it, of what is to be applied; `None` is answered as what it is, a mistake of
/// ours.
pub(super) async fn carry_out(cluster: &Cluster, step: &Step, body: Option<Body>) -> Answer {
    let body = || {
        body.map(|body| yielding(&step.key, body)).ok_or_else(|| ClusterError::Rejected {
            reason: "BodyMissing".to_owned(),
            message: "the object's body never came".to_owned(),
        })
    };
    let found = match &step.act {
        Act::Apply { inspect_first, .. } => match body() {
            Ok(body) => inspect_and_apply(cluster, step, *inspect_first, body).await.map(Answer::from),
            Err(error) => Err(error),
        },
        Act::Correct { writes, .. } => match body() {
            Ok(body) => Question { cluster, step, body, writes: *writes }.answer().await,
            Err(error) => Err(error),
        },
        Act::Inspect => inspect(cluster, step).await.map(Answer::from),
        Act::Delete { uid } => delete(cluster, step, *uid).await.map(Answer::from),
        Act::Orphan { version } => cluster.orphan(&step.key, version).await.map(|()| Answer::from(Finding::Gone)),
    };
    match found {
        // What is not there needs neither deleting nor releasing.
        Err(ClusterError::NotFound) if matches!(step.act, Act::Inspect | Act::Delete { .. } | Act::Orphan { .. }) => {
            Finding::Gone.into()
        }
        Err(error) => Finding::Failed(error).into(),
        Ok(answer) => answer,
    }
}

/// Without what is left to the cluster's own controllers.
fn yielding(key: &ObjectKey, body: Body) -> Body {
    without_yielded(key, body.bytes()).map_or(body, |body| Body::from(Arc::<[u8]>::from(body)))
}

async fn inspect_and_apply(
    cluster: &Cluster,
    step: &Step,
    inspect_first: bool,
    body: Body,
) -> Result<Finding, ClusterError> {
    refuse_twin(cluster, step).await?;
    let uid = if inspect_first {
        let there = cluster.find(&step.key).await?;
        if let Some(there) = there.as_ref().filter(|there| !step.owner(there).may_write()) {
            return Ok(Finding::Exists { hint: owner_hint(there) });
        }
        there.map(|there| there.uid)
    } else {
        step.last_applied.as_ref().map(|last_applied| last_applied.uid)
    };
    let (live, object) = apply(cluster, step, &body, true, uid).await?;
    Ok(applied(&live, &object, body))
}

/// Two spellings of one object would be applied in turns.
async fn refuse_twin(cluster: &Cluster, step: &Step) -> Result<(), ClusterError> {
    let Some(twin) = &step.twin else { return Ok(()) };
    if cluster.is_namespaced(&step.key).await? {
        return Ok(());
    }
    let (key, kind) = (&step.key, &step.key.kind);
    let message = format!("it stands twice: {key} and {twin} are one object, because {kind} has no namespaces");
    Err(ClusterError::Rejected { reason: "StandsTwice".to_owned(), message })
}

fn applied(live: &Live, object: &Value, body: Body) -> Finding {
    let (uid, version) = (live.metadata.uid, live.metadata.version());
    Finding::Applied { uid, version, condition: Condition::of(object), body }
}

/// Applies, to the object with that uid if there is one, and takes over what others took of what was ours; what never was
/// ours is a conflict, and nothing is changed.
async fn apply(
    cluster: &Cluster,
    step: &Step,
    body: &Body,
    writes: bool,
    uid: Option<Uuid>,
) -> Result<(Live, Value), ClusterError> {
    let (plain, forced) = if writes { (Apply::Plain, Apply::Forced) } else { (Apply::DryRun, Apply::ForcedDryRun) };
    let live = match cluster.apply(&step.key, body.bytes(), plain, uid).await {
        Err(ClusterError::Conflict(fields)) => {
            let last_applied = step.last_applied.as_ref();
            let was_ours = last_applied
                .is_some_and(|last_applied| last_applied.says_all(fields.iter().map(|field| field.field.as_str())));
            // It may have been made again since it was inspected.
            let there = if was_ours { cluster.find(&step.key).await? } else { None };
            let Some(there) = there.filter(|there| step.owner(there).may_write()) else {
                return Err(ClusterError::Conflict(fields));
            };
            cluster.apply(&step.key, body.bytes(), forced, Some(there.uid)).await?
        }
        live => live?,
    };
    if live.metadata.deletion_timestamp.is_some() {
        return Err(being_deleted());
    }
    let object = parse(&live.body)?;
    if writes { take_over(cluster, step, body, live, object).await } else { Ok((live, object)) }
}

/// What left the manifest and stays because a tool that applied the same file holds it too, is made ours and goes.
async fn take_over(
    cluster: &Cluster,
    step: &Step,
    body: &Body,
    live: Live,
    object: Value,
) -> Result<(Live, Value), ClusterError> {
    let former = step
        .last_applied
        .as_ref()
        .filter(|last_applied| last_applied.uid == live.metadata.uid)
        .and_then(|last_applied| last_applied.body.clone());
    // After a restart it is as the bundle has it.
    let former = former.map(|former| yielding(&step.key, former));
    let Some(former) = former.filter(|former| former != body) else { return Ok((live, object)) };
    let managed_fields = &object["metadata"]["managedFields"];
    let Some(ours) = taken_over(managed_fields, FIELD_MANAGER, &parse(former.bytes())?, &parse(body.bytes())?) else {
        return Ok((live, object));
    };
    cluster.set_managers(&step.key, &live.metadata.resource_version, &ours).await?;
    let live = cluster.apply(&step.key, body.bytes(), Apply::Plain, Some(live.metadata.uid)).await?;
    let object = parse(&live.body)?;
    Ok((live, object))
}

fn being_deleted() -> ClusterError {
    ClusterError::retry("it is being deleted, and applied again when it is gone")
}

fn parse(body: &[u8]) -> Result<Value, ClusterError> {
    // The reader's words may be the body's.
    serde_json::from_slice(body).map_err(|_| ClusterError::retry("an object cannot be read"))
}

/// Whether an object is as we applied it; and if it may be written, it then is.
struct Question<'a> {
    cluster: &'a Cluster,
    step: &'a Step,
    body: Body,
    writes: bool,
}

impl Question<'_> {
    async fn answer(self) -> Result<Answer, ClusterError> {
        refuse_twin(self.cluster, self.step).await?;
        let there = self.cluster.read(&self.step.key).await?;
        let finished = self.step.last_applied.as_ref().is_some_and(|last_applied| last_applied.finished.is_some());
        match there {
            None if finished => Ok(Finding::Finished.into()),
            None => self.answer_deleted().await,
            Some(there) => self.answer_there(there).await,
        }
    }

    async fn answer_deleted(self) -> Result<Answer, ClusterError> {
        let drift = Some(Found { change: Change::Deleted, manager: None, operation: None, fields: Vec::new() });
        if !self.writes {
            return Ok(Answer { finding: Finding::Kept { seen: None }, drift });
        }
        let finding = match apply(self.cluster, self.step, &self.body, true, None).await {
            Ok((live, object)) => applied(&live, &object, self.body),
            // It is gone all the same.
            Err(error) => Finding::Failed(error),
        };
        Ok(Answer { finding, drift })
    }

    async fn answer_there(self, there: Live) -> Result<Answer, ClusterError> {
        if there.metadata.deletion_timestamp.is_some() {
            return Err(being_deleted());
        }
        let owner = self.step.owner(&there.metadata);
        let found = parse(&there.body)?;
        let change = match owner {
            Owner::Us => Change::Modified,
            Owner::UsUnlabelled => Change::Unlabelled,
            Owner::UsReplaced | Owner::Stranger => Change::Replaced,
        };
        if !owner.may_write() {
            let finding = Finding::Exists { hint: owner_hint(&there.metadata) };
            return Ok(Answer { finding, drift: Some(describe(change, &found, Vec::new())) });
        }
        let uid = Some(there.metadata.uid);
        let (live, after) = match apply(self.cluster, self.step, &self.body, self.writes, uid).await {
            Ok(answer) => answer,
            // What was found is not what is there by now.
            Err(error @ ClusterError::Stale { .. }) => return Err(error),
            Err(error) => {
                let drift = self.uncorrected(change, &found, &error)?;
                return Ok(Answer { finding: Finding::Failed(error), drift });
            }
        };
        let fields = corrected_paths(&found, &after);
        let drift = (!fields.is_empty()).then(|| describe(change, &found, fields));
        if self.writes {
            return Ok(Answer { finding: applied(&live, &after, self.body), drift });
        }
        let seen = Some((there.metadata.uid, there.metadata.version(), Condition::of(&found)));
        Ok(Answer { finding: Finding::Kept { seen }, drift })
    }
}

impl Question<'_> {
    /// What is not as we applied it, as far as that can be told without the API server's help: what left our entry was
    /// taken. After a refusal that says so itself, any other value is a change.
    fn uncorrected(&self, change: Change, found: &Value, error: &ClusterError) -> Result<Option<Found>, ClusterError> {
        let wanted = parse(self.body.bytes())?;
        let mut fields = lost_paths(&wanted, &found["metadata"], FIELD_MANAGER);
        if fields.is_empty() && matches!(error, ClusterError::Conflict(_) | ClusterError::Rejected { .. }) {
            fields = differing_paths(&wanted, found);
        }
        let is_drift = change != Change::Modified || !fields.is_empty();
        Ok(is_drift.then(|| describe(change, found, fields)))
    }
}

fn describe(change: Change, found: &Value, fields: Vec<String>) -> Found {
    let (manager, operation) = culprit(&found["metadata"], FIELD_MANAGER, &fields).unzip();
    Found { change, manager, operation, fields }
}

impl LastApplied {
    /// Whether what we applied last says something at each of these paths.
    fn says_all<'a>(&self, mut paths: impl Iterator<Item = &'a str>) -> bool {
        let object = self.body.as_ref().and_then(|body| serde_json::from_slice(body.bytes()).ok());
        object.is_some_and(|object: Value| paths.all(|path| says(&object, path)))
    }
}

async fn inspect(cluster: &Cluster, step: &Step) -> Result<Finding, ClusterError> {
    let there = match cluster.find(&step.key).await {
        Ok(there) => there,
        // With its definition went all objects of a kind; one that only is not listed now may come back.
        Err(error @ ClusterError::KindMissing { .. }) => {
            return if cluster.is_kind_gone(&step.key).await? { Ok(Finding::Gone) } else { Err(error) };
        }
        // It has no address, so it was never there.
        Err(ClusterError::Rejected { reason, .. }) if UNADDRESSABLE.contains(&reason.as_str()) => None,
        Err(error) => return Err(error),
    };
    let label = step.label();
    Ok(match there.filter(|there| is_ours(there, &label)) {
        None => Finding::Gone,
        Some(there) if !may_delete(&there, &label, step.last_applied.as_ref().map(|last_applied| last_applied.uid)) => {
            Finding::Exists { hint: owner_hint(&there) }
        }
        Some(there) => {
            let is_leaving = there.deletion_timestamp.is_some();
            found(there, is_leaving)
        }
    })
}

/// Reasons of ours why no path leads to an object.
const UNADDRESSABLE: [&str; 2] = ["NamespaceRequired", "InvalidName"];

/// What was inspected may have been given to somebody else since: it is read once more, and deleted as it was read.
async fn delete(cluster: &Cluster, step: &Step, uid: Uuid) -> Result<Finding, ClusterError> {
    let Some(there) = cluster.find(&step.key).await? else { return Ok(Finding::Gone) };
    if !is_ours(&there, &step.label()) {
        return Ok(Finding::Gone);
    }
    if there.uid != uid {
        let message = "another object has its name by now".to_owned();
        return Err(ClusterError::Stale { message });
    }
    let left = cluster.delete(&step.key, uid, &there.resource_version).await?;
    Ok(left.map_or(Finding::Gone, |there| found(there, true)))
}

fn found(there: Metadata, is_leaving: bool) -> Finding {
    let Metadata { uid, namespace, resource_version, finalizers, .. } = there;
    Finding::There { uid, namespace, version: resource_version, finalizers, is_leaving }
}
