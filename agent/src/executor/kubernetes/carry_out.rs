//! Carries out one step: which requests it takes, one after the other, and what came of them.
//!
//! What an answer means is decided by [`bellwether_core::reconcile`]: whose an object is, what was taken of what was ours,
//! and what may be forced or deleted.

use std::sync::Arc;

use bellwether_core::ObjectKey;
use bellwether_core::drift::corrected_paths;
use bellwether_core::reconcile::{
    Act, Answer, Body, ClusterError, Condition, Finding, Found, Metadata, Owner, Step, is_ours, owner_hint,
};
use bellwether_core::takeover::taken_over;
use bellwether_core::yielded::without_yielded;
use serde_json::Value;
use uuid::Uuid;

use super::client::{Apply, Cluster, FIELD_MANAGER, Live};

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

fn owner(step: &Step, there: &Metadata) -> Owner {
    Owner::of(there, &step.label(), step.last_uid())
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
        if let Some(there) = there.as_ref().filter(|there| !owner(step, there).may_write()) {
            return Ok(Finding::Exists { hint: owner_hint(there) });
        }
        there.map(|there| there.uid)
    } else {
        step.last_uid()
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
            let Some(there) = there.filter(|there| owner(step, there).may_write()) else {
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
        match there {
            Some(there) => self.answer_there(there).await,
            None => match Finding::ended(self.step) {
                Some(ended) => Ok(ended.into()),
                None => self.answer_deleted().await,
            },
        }
    }

    async fn answer_deleted(self) -> Result<Answer, ClusterError> {
        let drift = Some(Found::deleted());
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
        let owner = owner(self.step, &there.metadata);
        let found = parse(&there.body)?;
        if !owner.may_write() {
            let finding = Finding::Exists { hint: owner_hint(&there.metadata) };
            return Ok(Answer { finding, drift: Some(Found::of(owner, &found, Vec::new())) });
        }
        let uid = Some(there.metadata.uid);
        let (live, after) = match apply(self.cluster, self.step, &self.body, self.writes, uid).await {
            Ok(answer) => answer,
            // What was found is not what is there by now.
            Err(error @ ClusterError::Stale { .. }) => return Err(error),
            Err(error) => {
                let drift = Found::uncorrected(owner, &parse(self.body.bytes())?, &found, &error);
                return Ok(Answer { finding: Finding::Failed(error), drift });
            }
        };
        let fields = corrected_paths(&found, &after);
        let drift = (!fields.is_empty()).then(|| Found::of(owner, &found, fields));
        if self.writes {
            return Ok(Answer { finding: applied(&live, &after, self.body), drift });
        }
        let seen = Some((there.metadata.uid, there.metadata.version(), Condition::of(&found)));
        Ok(Answer { finding: Finding::Kept { seen }, drift })
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
    Ok(Finding::inspected(step, there))
}

/// Reasons of ours why no path leads to an object.
const UNADDRESSABLE: [&str; 2] = ["NamespaceRequired", "InvalidName"];

/// What was inspected may have been given to somebody else since: it is read once more, and deleted as it was read.
async fn delete(cluster: &Cluster, step: &Step, uid: Uuid) -> Result<Finding, ClusterError> {
    let Some(there) = cluster.find(&step.key).await? else { return Ok(Finding::Gone) };
    if !is_ours(&there, &step.label()) {
        return Ok(if there.uid == uid { Finding::Unlabelled } else { Finding::Gone });
    }
    if there.uid != uid {
        let message = "another object has its name by now".to_owned();
        return Err(ClusterError::Stale { message });
    }
    let left = cluster.delete(&step.key, uid, &there.resource_version).await?;
    Ok(left.map_or(Finding::Gone, |there| Finding::there(there, true)))
}
