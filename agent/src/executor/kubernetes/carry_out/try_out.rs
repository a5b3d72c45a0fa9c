//! What would become of an object, if it were applied now: the requests of an apply that change nothing.
//!
//! Nothing is written: neither the object nor who manages its fields, and no namespace is made for it. So the fence is not
//! asked either. What may be told of what is there, [`Step::may_tell`] decides.

use bellwether_core::drift::{Wanted as Compared, changed_values_without, corrected_paths, differing_paths};
use bellwether_core::dry_run::{Fate, Tried};
use bellwether_core::health;
use bellwether_core::object::is_secret_kind;
use bellwether_core::plan::{Hidden, texts_held};
use bellwether_core::reconcile::{Body, ClusterError, Owner, Permit, Replacement, Step, owner_hint};
use bellwether_core::replace::is_asked;
use serde_json::Value;

use super::{Attempt, Made, Question, Wanted, being_deleted, owner, parse, refuse_twin, yielding};
use crate::executor::kubernetes::client::{Apply, Cluster, Live, Onto};
use crate::executor::kubernetes::keyring::{Keyring, is_sealed};
use crate::journal::Fence;

/// What was found out of an object, and what the Secret that is there holds, if it is one: that is told nowhere. `None`: nobody
/// knows, or it is not the target's, so that who plans is not told either where it stands.
pub(crate) struct Seen {
    pub(crate) tried: Tried,
    pub(crate) held: Option<Vec<String>>,
}

impl From<Tried> for Seen {
    fn from(tried: Tried) -> Self {
        // Where none is, it holds nothing.
        let is_absent = matches!(tried.fate, Fate::Created | Fate::NamespaceMissing | Fate::KindMissing);
        Self { tried, held: is_absent.then(Vec::new) }
    }
}

/// An object, and what is not to be told of it.
#[derive(Clone, Copy)]
struct Trial<'a> {
    attempt: Attempt<'a>,
    hidden: &'a Hidden,
}

/// Asks the API server, and changes nothing.
pub(crate) async fn try_out(
    (cluster, keyring, fence): (&Cluster, &Keyring, &Fence),
    (permit, hidden): (&Permit, &Hidden),
    step: &Step,
    body: Body,
) -> Seen {
    // What is sealed for the cluster is opened for nobody who only asks.
    if is_sealed(&body) {
        return Tried::unknown("SOPS sealed it, and what is only asked about is not opened").into();
    }
    let body = yielding(&step.key, body);
    let attempt = Attempt { cluster, keyring, fence, step, permit, sealed: None };
    let asked = Trial { attempt, hidden }.try_out(body).await;
    asked.unwrap_or_else(|error| Tried::failed(&error).into())
}

impl Trial<'_> {
    async fn try_out(&self, body: Body) -> Result<Seen, ClusterError> {
        let Attempt { cluster, step, .. } = self.attempt;
        refuse_twin(cluster, step).await?;
        let Some(there) = cluster.read(&step.key).await? else {
            if let Some(tried) = step.has_gone() {
                return Ok(Seen { tried, held: Some(Vec::new()) });
            }
            let made = cluster.apply(&step.key, body.bytes(), Apply::DryRun, Onto::Anything).await?;
            return Ok(self.tell(Fate::Created, &body, &parse(&made.body)?)?.into());
        };
        let (owner, found) = (owner(step, &there.metadata, &body), parse(&there.body)?);
        let is_ours = is_secret_kind(&step.key.kind) && step.may_tell(owner, &there.metadata);
        let held = is_ours.then(|| texts_held(&found));
        let tried = self.try_over(body, &there, (owner, &found)).await;
        Ok(Seen { tried: tried.unwrap_or_else(|error| Tried::failed(&error)), held })
    }

    async fn try_over(&self, body: Body, there: &Live, (owner, found): (Owner, &Value)) -> Result<Tried, ClusterError> {
        let Attempt { cluster, step, .. } = self.attempt;
        if step.is_applied_once {
            return Ok(Tried::new(Fate::Unchanged, "it is there, and is left as it is, since it is applied once"));
        }
        if there.metadata.deletion_timestamp.is_some() {
            return Err(being_deleted());
        }
        if !owner.may_write() {
            return Ok(Tried::new(Fate::Exists, owner_hint(&there.metadata, step)));
        }
        let wanted = self.attempt.wanted(&body, found).await?;
        if matches!(owner, Owner::Adopted | Owner::Left) {
            // Whose fields it has now, nobody is told.
            let how = if owner == Owner::Adopted { Apply::ForcedDryRun } else { Apply::DryRun };
            cluster.apply(&step.key, wanted.sent.bytes(), how, Onto::AsRead(&there.metadata)).await?;
            return Ok(Tried::new(Fate::Adopted, ""));
        }
        self.try_over_own(&wanted, there, (owner, found)).await
    }

    /// Over what the target has there.
    async fn try_over_own(
        &self,
        wanted: &Wanted,
        there: &Live,
        (owner, found): (Owner, &Value),
    ) -> Result<Tried, ClusterError> {
        let Attempt { cluster, step, .. } = self.attempt;
        let key = &step.key;
        let is_former = health::runs_once(key.group(), &key.kind) && step.is_run_before(there.metadata.uid);
        if is_former && owner == Owner::Us && self.attempt.may_go(&wanted.body, there).await? {
            cluster.try_to_create(key, wanted.body.bytes()).await?;
            return Ok(Tried::new(Fate::Replaced, "it runs once, and is made anew since it is another one"));
        }
        let question = Question { attempt: self.attempt, body: wanted.body.clone(), writes: false };
        let made = match question.apply_onto(wanted, there, owner).await {
            Ok(made) => made,
            Err(error) if error.immutable().is_some() && is_asked(step.replace, key, wanted.body.bytes()) => {
                return self.try_to_replace(wanted, there, (found, &error)).await;
            }
            Err(error) => return Err(error),
        };
        self.compare(wanted, there, (owner, found), &made)
    }

    async fn try_to_replace(
        &self,
        wanted: &Wanted,
        there: &Live,
        (found, refusal): (&Value, &ClusterError),
    ) -> Result<Tried, ClusterError> {
        let fields = refusal.immutable().unwrap_or_default().to_vec();
        match Replacement::of(self.attempt.step, wanted.body.bytes(), &there.metadata, found) {
            Replacement::Refused(why) => Err(refusal.not_replaced(why)),
            Replacement::Leaving => Err(being_deleted()),
            Replacement::Due(_) => {
                self.attempt.ask_whether_taken(&wanted.body, &fields).await?;
                Ok(Tried::new(Fate::Replaced, format!("these fields cannot change: {}", fields.join(", "))))
            }
        }
    }

    fn compare(
        &self,
        wanted: &Wanted,
        there: &Live,
        (owner, found): (Owner, &Value),
        made: &Made,
    ) -> Result<Tried, ClusterError> {
        let told = changed_values_without(self.hidden, Compared::After(&made.object), found);
        let is_other = !told.values.is_empty() || told.are_more || !corrected_paths(found, &made.object).is_empty();
        let fate = if is_other { Fate::Changed } else { Fate::Unchanged };
        if !self.attempt.step.may_tell(owner, &there.metadata) {
            return Ok(Tried::new(fate, "what it holds is not told: it is not the one that this target applied"));
        }
        Ok(Tried { values: told, ..self.tell(fate, &wanted.sent, &made.object)? })
    }

    /// With what of the sent comes out as something else.
    fn tell(&self, fate: Fate, sent: &Body, made: &Value) -> Result<Tried, ClusterError> {
        let sent = parse(sent.bytes())?;
        let mut paths = differing_paths(&sent, made);
        // What has no namespace is sent without one.
        paths.retain(|path| path != ".metadata.namespace");
        if paths.is_empty() {
            return Ok(Tried::new(fate, ""));
        }
        let admitted = changed_values_without(self.hidden, Compared::Sent(&sent, &paths), made);
        Ok(Tried { admitted, ..Tried::new(fate, "") })
    }
}
