//! Carries out one step: which requests it takes, one after the other, and what came of them.
//!
//! What an answer means is decided by [`bellwether_core::reconcile`]: whose an object is, what was taken of what was ours,
//! and what may be forced or deleted; and by [`bellwether_core::yielded`]: what of it somebody else keeps. Before anything is
//! written the fence is asked, at the same time as what is there: a correction is two round trips.

mod adopt;
mod own_namespace;
mod replace;
mod try_out;

use std::sync::Arc;

use bellwether_core::drift::{Wanted as Compared, corrected_paths};
use bellwether_core::health;
use bellwether_core::hooks::Former;
use bellwether_core::keep::kept_by;
use bellwether_core::object::canonical_json;
use bellwether_core::reconcile::{
    Act, Answer, Body, ClusterError, Condition, Contested, Finding, Found, Metadata, Owner, Permit, Step,
    is_made_namespace, is_ours, label_of, owner_hint,
};
use bellwether_core::sealed;
use bellwether_core::takeover::taken_over;
use bellwether_core::yielded::{Yielded, is_scaled, may_be_yielded, without_yielded};
use bellwether_core::{ObjectKey, TargetId};
use serde_json::Value;
use uuid::Uuid;

use super::client::{Apply, Cluster, FIELD_MANAGER, Live, Onto};
use super::keyring::{Keyring, is_sealed};
use super::quoted::quotes;
use crate::clock;
use crate::journal::{Fence, JournalError};

pub(super) use try_out::{Seen, try_out};

/// How often a correction is tried at once when somebody writes the object between its two requests: whoever edits a
/// Deployment wakes its controller, which writes its status.
const TRIES_MAX: u32 = 3;

/// Why a step ended before its answer.
enum Stopped {
    Failed(ClusterError),
    /// Nothing was sent: it is not known whether this agent was replaced.
    Unasked(ClusterError),
    Replaced(JournalError),
}

impl From<ClusterError> for Stopped {
    fn from(error: ClusterError) -> Self {
        Self::Failed(error)
    }
}

/// `body` is the object as the bundle has it, of what is to be applied; `None` is answered as what it is, a mistake of
/// ours. `permit` allows the step itself. Fails when this agent was replaced.
pub(super) async fn carry_out(
    (cluster, keyring, fence): (&Cluster, &Keyring, &Fence),
    permit: &Permit,
    step: &Step,
    body: Option<Body>,
) -> Result<Answer, JournalError> {
    let sealed = body.clone().filter(is_sealed);
    let on_its_way = Attempt { cluster, keyring, fence, step, permit, sealed: sealed.as_ref() };
    let mut opened = None;
    let found = match &step.act {
        Act::Apply { inspect_first, .. } => match on_its_way.opened(body).await {
            Ok(body) => {
                opened = Some(body.clone());
                on_its_way.apply_or_replace(*inspect_first, body).await
            }
            Err(error) => Err(error.into()),
        },
        Act::Correct { writes, .. } => match on_its_way.opened(body).await {
            Ok(body) => {
                opened = Some(body.clone());
                Question { attempt: on_its_way, body, writes: *writes }.answer().await
            }
            Err(error) => Err(error.into()),
        },
        Act::Inspect => inspect(cluster, step).await.map(Answer::from).map_err(Stopped::from),
        Act::Delete { uid } => on_its_way.delete(*uid).await.map(Answer::from),
        Act::Orphan { version } => on_its_way.release(version, None).await.map(Answer::from),
        Act::Give { version, to } => on_its_way.release(version, Some(*to)).await.map(Answer::from),
    };
    let answer = match found {
        // What is not there needs neither deleting nor releasing.
        Err(Stopped::Failed(ClusterError::NotFound))
            if matches!(step.act, Act::Inspect | Act::Delete { .. } | Act::Orphan { .. } | Act::Give { .. }) =>
        {
            Finding::Gone.into()
        }
        Err(Stopped::Failed(error)) => Finding::Failed(error).into(),
        Err(Stopped::Unasked(error)) => Finding::Unasked(error).into(),
        Err(Stopped::Replaced(error)) => return Err(error),
        Ok(answer) => answer,
    };
    Ok(match sealed.zip(opened) {
        Some((sealed, opened)) => as_sealed(answer, sealed, &opened),
        None => answer,
    })
}

/// What was opened is kept by nobody, and told by nobody, whatever was said of it.
fn as_sealed(answer: Answer, sealed: Body, opened: &Body) -> Answer {
    let unquoted = |error: ClusterError| error.without_quotes(&|words| quotes(opened, words));
    let finding = match answer.finding {
        Finding::Applied { uid, version, condition, .. } => Finding::Applied { uid, version, condition, body: sealed },
        Finding::Failed(error) => Finding::Failed(unquoted(error)),
        Finding::Unasked(error) => Finding::Unasked(unquoted(error)),
        other => other,
    };
    Answer { finding, ..answer }
}

/// Whose what is there is, to whom would apply that body.
fn owner(step: &Step, there: &Metadata, body: &Body) -> Owner {
    Owner::of(there, step).or_left(there, step, body).or_adopted(there, step)
}

/// Without what is left to the cluster's own controllers.
fn yielding(key: &ObjectKey, body: Body) -> Body {
    without_yielded(key, body.bytes()).map_or(body, |body| Body::from(Arc::<[u8]>::from(body)))
}

/// What is applied of a body: all of it, but for what somebody else keeps.
struct Wanted {
    body: Body,
    sent: Body,
    yielded: Option<Yielded>,
}

impl Wanted {
    fn whole(body: Body) -> Self {
        Self { sent: body.clone(), body, yielded: None }
    }

    fn without(yielded: Yielded, object: Value, body: Body) -> Self {
        let sent = canonical_json(&yielded.without(object));
        Self { body, sent: Arc::<[u8]>::from(sent).into(), yielded: Some(yielded) }
    }
}

/// What an apply made of an object.
struct Made {
    live: Live,
    object: Value,
    yielded: Option<Yielded>,
}

impl Made {
    /// All of the body is what Git says, and what was yielded of it is taken back when nobody keeps it any more.
    fn answer(self, body: Body, drift: Option<Found>) -> Answer {
        let Live { metadata, has_status, .. } = self.live;
        let (uid, version, condition) = (metadata.uid, metadata.version(), Condition::of(&self.object, has_status));
        let finding = Finding::Applied { uid, version, condition, body };
        Answer { drift, yielded: self.yielded, ..finding.into() }
    }
}

fn as_found(step: &Step, there: &Live, body: &Body) -> Result<Finding, ClusterError> {
    if there.metadata.deletion_timestamp.is_some() {
        return Err(being_deleted());
    }
    let (wanted, found) = (parse(body.bytes())?, parse(&there.body)?);
    let condition = Condition::of(&found, there.has_status);
    Ok(Finding::as_found(step, &there.metadata, condition, (&wanted, &found), clock::wall()))
}

fn being_deleted() -> ClusterError {
    ClusterError::retry("it is being deleted, and applied again when it is gone")
}

fn parse(body: &[u8]) -> Result<Value, ClusterError> {
    // The reader's words may be the body's.
    serde_json::from_slice(body).map_err(|_| ClusterError::retry("an object cannot be read"))
}

/// A step, and whom to ask about it.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    cluster: &'a Cluster,
    keyring: &'a Keyring,
    fence: &'a Fence,
    step: &'a Step,
    permit: &'a Permit,
    /// The body as the bundle has it, if that has to be opened.
    sealed: Option<&'a Body>,
}

impl Attempt<'_> {
    /// What is to be applied of the body that a bundle has.
    async fn opened(&self, body: Option<Body>) -> Result<Body, ClusterError> {
        let missing = || ClusterError::rejected("BodyMissing", "the object's body never came");
        let opened = self.keyring.open(&self.step.key, body.ok_or_else(missing)?).await?;
        Ok(yielding(&self.step.key, opened))
    }

    /// From here on it may write.
    async fn pass_fence(&self) -> Result<(), Stopped> {
        match self.fence.check().await {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(Stopped::Unasked(error)),
            Err(replaced) => Err(Stopped::Replaced(replaced)),
        }
    }

    /// What stands in the way of the new one may go, as far as the cluster's owner has a say in that.
    fn may_delete(&self) -> Result<(), ClusterError> {
        self.permit.delete.clone().map_or(Ok(()), |refusal| Err(ClusterError::Policy(refusal)))
    }

    /// What is there, of what is about to be written.
    async fn find(&self) -> Result<Option<Metadata>, Stopped> {
        let (passed, there) = tokio::join!(self.pass_fence(), self.cluster.find(&self.step.key));
        passed?;
        Ok(there?)
    }

    async fn read(&self) -> Result<Option<Live>, Stopped> {
        let (passed, there) = tokio::join!(self.pass_fence(), self.cluster.read(&self.step.key));
        passed?;
        Ok(there?)
    }

    async fn inspect_and_apply(&self, inspect_first: bool, body: Body) -> Result<Answer, Stopped> {
        refuse_twin(self.cluster, self.step).await?;
        if self.step.is_applied_once {
            return self.make_once(body).await;
        }
        let key = &self.step.key;
        let there = if health::runs_once(key.group(), &key.kind) {
            self.make_room(&body).await?
        } else if inspect_first {
            self.read().await?
        } else {
            self.pass_fence().await?;
            let onto = self.step.last_uid().map_or(Onto::Anything, Onto::One);
            return Ok(self.apply(&Wanted::whole(body.clone()), true, onto).await?.answer(body, None));
        };
        let Some(there) = there else {
            return Ok(self.apply(&Wanted::whole(body.clone()), true, Onto::Anything).await?.answer(body, None));
        };
        let there = self.finish(there).await?;
        let owner = owner(self.step, &there.metadata, &body);
        if !owner.may_write() {
            return Ok(Finding::Exists { hint: owner_hint(&there.metadata, self.step) }.into());
        }
        let wanted = self.wanted(&body, &parse(&there.body)?).await?;
        if owner == Owner::Adopted {
            return Ok(self.adopt(&wanted, &there).await?.answer(body, None));
        }
        Ok(self.apply(&wanted, true, Onto::One(there.metadata.uid)).await?.answer(body, None))
    }

    /// What is to be applied to what is there.
    async fn wanted(&self, body: &Body, found: &Value) -> Result<Wanted, ClusterError> {
        let object = parse(body.bytes())?;
        let autoscalers = match found["metadata"]["namespace"].as_str() {
            Some(namespace) if is_scaled(&object, found) => self.cluster.autoscalers(namespace).await?,
            _ => Vec::new(),
        };
        let yielded = Yielded::of(&self.step.key, &object, found, &autoscalers);
        let whole = || Wanted::whole(body.clone());
        Ok(yielded.map_or_else(whole, |yielded| Wanted::without(yielded, object, body.clone())))
    }

    /// Makes it where it is absent. Somebody who makes it meanwhile is not written over: it is found the next time.
    async fn make_once(&self, body: Body) -> Result<Answer, Stopped> {
        if let Some(there) = self.read().await? {
            let there = self.finish(there).await?;
            return Ok(as_found(self.step, &there, &body)?.into());
        }
        Ok(self.create(&body).await?.answer(body, None))
    }

    /// What this target once made, whatever kept it from doing all of that, is ours as if it had been applied; and so is a
    /// namespace that a target made for itself.
    async fn finish(&self, there: Live) -> Result<Live, ClusterError> {
        if !is_ours(&there.metadata, &self.step.label()) && !is_made_namespace(&self.step.key, &there.metadata) {
            return Ok(there);
        }
        self.cluster.manage_as_applied(&self.step.key, there).await
    }

    async fn create(&self, body: &Body) -> Result<Made, ClusterError> {
        let live = self.send_new(body).await?;
        let object = parse(&live.body)?;
        Ok(Made { live, object, yielded: None })
    }

    /// What runs once, and is made anew when it changes, is deleted before that, if it is the very one that we applied, and has
    /// run to its end or cannot begin. What is there then.
    async fn make_room(&self, body: &Body) -> Result<Option<Live>, Stopped> {
        let Some(there) = self.read().await? else { return Ok(None) };
        let is_former = self.step.is_run_before(there.metadata.uid);
        if !is_former || owner(self.step, &there.metadata, body) != Owner::Us {
            return Ok(Some(there));
        }
        if there.metadata.deletion_timestamp.is_some() {
            return Err(being_deleted().into());
        }
        if !self.may_go(body, &there).await? {
            return Ok(Some(there));
        }
        self.may_delete()?;
        let Metadata { uid, resource_version, .. } = there.metadata;
        let left = self.cluster.delete(&self.step.key, uid, &resource_version).await?;
        if left.is_some() { Err(being_deleted().into()) } else { Ok(None) }
    }

    /// Whether a former run is deleted to make room, or stays and is applied onto; fails while it may do neither.
    async fn may_go(&self, body: &Body, there: &Live) -> Result<bool, ClusterError> {
        let found = parse(&there.body)?;
        let former = Former::of(&parse(body.bytes())?, &found);
        if former == Former::Stays {
            return Ok(false);
        }
        if let Some(name) = kept_by(&there.metadata.annotations, &there.metadata.labels) {
            let message =
                format!("{name} asks for the one before to be left: take it off, or delete that in the cluster");
            return Err(ClusterError::retry(message));
        }
        if former == Former::Runs && !self.cannot_begin(&found).await? {
            let message =
                "the one before runs still: it is made anew when that has ended, or is deleted in the cluster";
            return Err(ClusterError::retry(message));
        }
        Ok(true)
    }

    /// Of what has not ended: whether nothing of it ever ran, for long, so that only a change of it helps.
    async fn cannot_begin(&self, former: &Value) -> Result<bool, ClusterError> {
        if !health::may_be_stuck(former, clock::wall()) {
            return Ok(false);
        }
        if self.step.key.kind == "Pod" {
            return Ok(!health::has_begun(former));
        }
        let pods = match self.cluster.pods_of_job(former).await {
            Ok(pods) => pods,
            // Who may not look does not know.
            Err(ClusterError::Forbidden { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        // Older servers, and whoever selects them otherwise, show none or not all of them.
        let are_all_seen = pods.len() >= health::active_pods(former);
        Ok(are_all_seen && !pods.iter().any(health::has_begun))
    }

    /// Applies, and takes over what others took of what was ours; what never was ours is a conflict, and nothing is changed.
    async fn apply(&self, wanted: &Wanted, writes: bool, onto: Onto<'_>) -> Result<Made, ClusterError> {
        let plain = if writes { Apply::Plain } else { Apply::DryRun };
        match self.send((&wanted.body, &wanted.sent), plain, onto).await {
            Err(ClusterError::Conflict(fields)) => self.contest(wanted, writes, fields).await,
            live => self.applied(wanted, writes, live?).await,
        }
    }

    /// What stands in the way was ours, or is somebody else's to keep, or stays a conflict.
    async fn contest(&self, wanted: &Wanted, writes: bool, fields: Vec<Contested>) -> Result<Made, ClusterError> {
        let was_ours = self.step.was_all_ours(&fields);
        let may_be_kept = fields.iter().any(|contested| may_be_yielded(&contested.field));
        // It may have been made again since it was inspected.
        let there = if was_ours || may_be_kept { self.cluster.read(&self.step.key).await? } else { None };
        let there = there.filter(|there| owner(self.step, &there.metadata, &wanted.body).may_write());
        let Some(there) = there else { return Err(ClusterError::Conflict(fields)) };
        let wanted = self.wanted(&wanted.body, &parse(&there.body)?).await?;
        if !was_ours && wanted.yielded.is_none() {
            return Err(ClusterError::Conflict(fields));
        }
        self.take_back(&wanted, writes, &there.metadata).await
    }

    /// What stands in the way of the very version that was read is asked once more, as more may be theirs in it than in the
    /// one before.
    async fn take_back(&self, wanted: &Wanted, writes: bool, there: &Metadata) -> Result<Made, ClusterError> {
        let plain = if writes { Apply::Plain } else { Apply::DryRun };
        match self.cluster.apply(&self.step.key, wanted.sent.bytes(), plain, Onto::AsRead(there)).await {
            Err(ClusterError::Conflict(fields)) if self.step.was_all_ours(&fields) => {
                self.force(wanted, writes, there).await
            }
            live => self.applied(wanted, writes, live?).await,
        }
    }

    /// Takes each field that it applies, unless somebody has written the object since it was read: more may be theirs by now.
    async fn force(&self, wanted: &Wanted, writes: bool, there: &Metadata) -> Result<Made, ClusterError> {
        let how = if writes { Apply::Forced } else { Apply::ForcedDryRun };
        let live = self.cluster.apply(&self.step.key, wanted.sent.bytes(), how, Onto::AsRead(there)).await?;
        self.applied(wanted, writes, live).await
    }

    async fn applied(&self, wanted: &Wanted, writes: bool, live: Live) -> Result<Made, ClusterError> {
        if live.metadata.deletion_timestamp.is_some() {
            return Err(being_deleted());
        }
        let object = parse(&live.body)?;
        let made = Made { live, object, yielded: wanted.yielded.clone() };
        if writes { self.take_over(wanted, made).await } else { Ok(made) }
    }

    /// What left the manifest and stays because a tool that applied the same file holds it too, is made ours and goes.
    async fn take_over(&self, wanted: &Wanted, made: Made) -> Result<Made, ClusterError> {
        let former = self
            .step
            .last_applied
            .as_ref()
            .filter(|last_applied| last_applied.uid == made.live.metadata.uid)
            .and_then(|last_applied| last_applied.body.clone());
        // After a restart it is as the bundle has it.
        let former = former.map(|former| yielding(&self.step.key, former));
        let is_other = |former: &Body| *former != wanted.body && Some(former) != self.sealed;
        let Some(former) = former.filter(is_other) else { return Ok(made) };
        let managed_fields = &made.object["metadata"]["managedFields"];
        let (former, body) = (parse(former.bytes())?, parse(wanted.body.bytes())?);
        // Its fields are known without its key.
        let former = sealed::shape(&former).unwrap_or(former);
        let Some(ours) = taken_over(managed_fields, FIELD_MANAGER, &former, &body) else { return Ok(made) };
        let Metadata { uid, resource_version, .. } = &made.live.metadata;
        self.cluster.set_managers(&self.step.key, resource_version, &ours).await?;
        let live = self.cluster.apply(&self.step.key, wanted.sent.bytes(), Apply::Plain, Onto::One(*uid)).await?;
        let object = parse(&live.body)?;
        Ok(Made { live, object, ..made })
    }

    /// What was inspected may have been given to somebody else since: it is read once more, and deleted as it was read.
    async fn delete(&self, uid: Uuid) -> Result<Finding, Stopped> {
        let Some(there) = self.find().await? else { return Ok(Finding::Gone) };
        if !is_ours(&there, &self.step.label()) {
            return Ok(if there.uid == uid { Finding::Unlabelled } else { Finding::Gone });
        }
        if there.uid != uid {
            let message = "another object has its name by now".to_owned();
            return Err(ClusterError::Stale { message }.into());
        }
        // Somebody may have asked for it to be kept since.
        let found = Finding::there(there.clone(), false);
        if matches!(found, Finding::There { kept_by: Some(_), .. }) {
            return Ok(found);
        }
        let left = self.cluster.delete(&self.step.key, uid, &there.resource_version).await?;
        Ok(left.map_or(Finding::Gone, |there| Finding::there(there, true)))
    }

    /// Leaves it, to that target or to nobody.
    async fn release(&self, version: &str, to: Option<TargetId>) -> Result<Finding, Stopped> {
        self.pass_fence().await?;
        self.cluster.set_label(&self.step.key, version, to.map(label_of).as_deref()).await?;
        Ok(Finding::Released)
    }
}

/// Two spellings of one object would be applied in turns.
async fn refuse_twin(cluster: &Cluster, step: &Step) -> Result<(), ClusterError> {
    let Some(twin) = &step.twin else { return Ok(()) };
    if cluster.is_namespaced(&step.key).await? {
        return Ok(());
    }
    let (key, kind) = (&step.key, &step.key.kind);
    let message = format!("it stands twice: {key} and {twin} are one object, because {kind} has no namespaces");
    Err(ClusterError::rejected("StandsTwice", message))
}

/// Whether an object is as we applied it; and if it may be written, it then is.
struct Question<'a> {
    attempt: Attempt<'a>,
    body: Body,
    writes: bool,
}

impl Question<'_> {
    async fn answer(self) -> Result<Answer, Stopped> {
        let step = self.attempt.step;
        refuse_twin(self.attempt.cluster, step).await?;
        let mut tries = 1;
        loop {
            let there = self.read().await?;
            let Some(there) = there else {
                return match Finding::ended(step) {
                    Some(ended) => Ok(ended.into()),
                    None => Ok(self.answer_deleted().await),
                };
            };
            match self.answer_there(there).await {
                // What was found is not what is there by now.
                Err(ClusterError::Stale { .. }) if tries < TRIES_MAX => tries += 1,
                answer => return Ok(answer?),
            }
        }
    }

    async fn read(&self) -> Result<Option<Live>, Stopped> {
        if self.writes {
            return self.attempt.read().await;
        }
        Ok(self.attempt.cluster.read(&self.attempt.step.key).await?)
    }

    async fn answer_deleted(self) -> Answer {
        let drift = Some(Found::deleted());
        if !self.writes {
            return Answer { drift, ..Finding::Kept { seen: None }.into() };
        }
        let made = if self.attempt.step.is_applied_once {
            self.attempt.create(&self.body).await
        } else {
            self.attempt.apply(&Wanted::whole(self.body.clone()), true, Onto::Anything).await
        };
        match made {
            Ok(made) => made.answer(self.body, drift),
            // It is gone all the same.
            Err(error) => Answer { drift, ..Finding::Failed(error).into() },
        }
    }

    async fn answer_there(&self, there: Live) -> Result<Answer, ClusterError> {
        let there = if self.writes { self.attempt.finish(there).await? } else { there };
        if self.attempt.step.is_applied_once {
            return as_found(self.attempt.step, &there, &self.body).map(Answer::from);
        }
        if there.metadata.deletion_timestamp.is_some() {
            return Err(being_deleted());
        }
        let owner = owner(self.attempt.step, &there.metadata, &self.body);
        let found = parse(&there.body)?;
        // To ask what an apply would change, nothing is taken from anybody.
        if !owner.may_write() || (owner == Owner::Adopted && !self.writes) {
            let finding = Finding::Exists { hint: owner_hint(&there.metadata, self.attempt.step) };
            return Ok(Answer { drift: Some(Found::of(owner, &found, Vec::new(), None)), ..finding.into() });
        }
        let wanted = self.attempt.wanted(&self.body, &found).await?;
        let made = match self.apply_onto(&wanted, &there, owner).await {
            Ok(made) => made,
            Err(error @ ClusterError::Stale { .. }) => return Err(error),
            Err(error) => {
                let drift = Found::uncorrected(owner, &parse(wanted.sent.bytes())?, &found, &error);
                return Ok(Answer { drift, ..Finding::Failed(error).into() });
            }
        };
        let fields = corrected_paths(&found, &made.object);
        let drift = (!fields.is_empty()).then(|| Found::of(owner, &found, fields, Some(Compared::After(&made.object))));
        if self.writes {
            return Ok(made.answer(self.body.clone(), drift));
        }
        let seen = Some((there.metadata.uid, there.metadata.version(), Condition::of(&found, there.has_status)));
        Ok(Answer { drift, yielded: made.yielded, ..Finding::Kept { seen }.into() })
    }

    /// Where each field is ours nobody is asked whether it is somebody's by now.
    async fn apply_onto(&self, wanted: &Wanted, there: &Live, owner: Owner) -> Result<Made, ClusterError> {
        if owner == Owner::Adopted {
            return self.attempt.adopt(wanted, there).await;
        }
        let there = &there.metadata;
        if self.attempt.step.is_all_ours(there.uid) {
            return self.attempt.force(wanted, self.writes, there).await;
        }
        self.attempt.apply(wanted, self.writes, Onto::One(there.uid)).await
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
