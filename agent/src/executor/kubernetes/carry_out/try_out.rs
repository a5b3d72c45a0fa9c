//! What would become of an object, if it were applied now: the requests of an apply that change nothing.
//!
//! Nothing is written: neither the object nor who manages its fields, and no namespace is made for it. So the fence is not
//! asked either. What may be told of what is there, [`Step::may_tell`] decides.

use bellwether_core::drift::{ChangedValues, Wanted as Compared, changed_values, corrected_paths, differing_paths};
use bellwether_core::dry_run::{Fate, Tried};
use bellwether_core::health;
use bellwether_core::object::is_secret_kind;
use bellwether_core::plan::texts_held;
use bellwether_core::reconcile::{Body, ClusterError, Owner, Permit, Replacement, Step, owner_hint};
use bellwether_core::replace::is_asked;
use serde_json::Value;

use super::{Attempt, Made, Question, Wanted, being_deleted, owner, parse, refuse_twin, yielding};
use crate::executor::kubernetes::client::{Apply, Cluster, Live, Onto};
use crate::executor::kubernetes::keyring::{Keyring, is_sealed};
use crate::journal::Fence;

/// What was found out of an object, and what the Secret that is there holds, if it is one: that is told nowhere.
pub(crate) struct Seen {
    pub(crate) tried: Tried,
    pub(crate) held: Vec<String>,
}

impl From<Tried> for Seen {
    fn from(tried: Tried) -> Self {
        Self { tried, held: Vec::new() }
    }
}

/// Asks the API server, and changes nothing.
pub(crate) async fn try_out(
    (cluster, keyring, fence): (&Cluster, &Keyring, &Fence),
    permit: &Permit,
    step: &Step,
    body: Body,
) -> Seen {
    // What is sealed for the cluster is opened for nobody who only asks.
    if is_sealed(&body) {
        return Tried::unknown("SOPS sealed it, and what is only asked about is not opened").into();
    }
    let body = yielding(&step.key, body);
    let asked = Attempt { cluster, keyring, fence, step, permit, sealed: None }.try_out(body).await;
    asked.unwrap_or_else(|error| Tried::failed(&error).into())
}

impl Attempt<'_> {
    async fn try_out(&self, body: Body) -> Result<Seen, ClusterError> {
        refuse_twin(self.cluster, self.step).await?;
        let Some(there) = self.cluster.read(&self.step.key).await? else {
            let made = self.cluster.apply(&self.step.key, body.bytes(), Apply::DryRun, Onto::Anything).await?;
            return Ok(tell(Fate::Created, &body, &parse(&made.body)?)?.into());
        };
        if self.step.is_applied_once {
            return Ok(
                Tried::new(Fate::Unchanged, "it is there, and is left as it is, since it is applied once").into()
            );
        }
        if there.metadata.deletion_timestamp.is_some() {
            return Err(being_deleted());
        }
        let owner = owner(self.step, &there.metadata, &body);
        let found = parse(&there.body)?;
        if !owner.may_write() {
            return Ok(Tried::new(Fate::Exists, owner_hint(&there.metadata, self.step)).into());
        }
        let wanted = self.wanted(&body, &found).await?;
        if matches!(owner, Owner::Adopted | Owner::Left) {
            // Whose fields it has now, nobody is told.
            let how = if owner == Owner::Adopted { Apply::ForcedDryRun } else { Apply::DryRun };
            self.cluster.apply(&self.step.key, wanted.sent.bytes(), how, Onto::AsRead(&there.metadata)).await?;
            return Ok(Tried::new(Fate::Adopted, "").into());
        }
        let held = if is_secret_kind(&self.step.key.kind) { texts_held(&found) } else { Vec::new() };
        let tried = self.try_over(&wanted, &there, (owner, &found)).await;
        let tried = tried.unwrap_or_else(|error| Tried::failed(&error));
        Ok(Seen { tried, held })
    }

    /// Over what the target has there.
    async fn try_over(
        &self,
        wanted: &Wanted,
        there: &Live,
        (owner, found): (Owner, &Value),
    ) -> Result<Tried, ClusterError> {
        let key = &self.step.key;
        if health::runs_once(key.group(), &key.kind) && self.step.is_run_before(there.metadata.uid) {
            self.cluster.try_to_create(key, wanted.body.bytes()).await?;
            return Ok(Tried::new(Fate::Replaced, "it runs once, and is made anew since it is another one"));
        }
        let question = Question { attempt: *self, body: wanted.body.clone(), writes: false };
        let made = match question.apply_onto(wanted, there, owner).await {
            Ok(made) => made,
            Err(error) if error.immutable().is_some() && is_asked(self.step.replace, key, wanted.body.bytes()) => {
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
        match Replacement::of(self.step, wanted.body.bytes(), &there.metadata, found) {
            Replacement::Refused(why) => Err(refusal.not_replaced(why)),
            Replacement::Leaving => Err(being_deleted()),
            Replacement::Due(_) => {
                self.ask_whether_taken(&wanted.body, &fields).await?;
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
        let told = changed_values(Compared::After(&made.object), found);
        let is_other = !told.values.is_empty() || told.are_more || !corrected_paths(found, &made.object).is_empty();
        let fate = if is_other { Fate::Changed } else { Fate::Unchanged };
        if !self.step.may_tell(owner, &there.metadata) {
            return Ok(Tried::new(fate, "what it holds is not told: it is not the one that this target applied"));
        }
        Ok(Tried { values: told, ..tell(fate, &wanted.sent, &made.object)? })
    }
}

/// With what of the sent comes out as something else.
fn tell(fate: Fate, sent: &Body, made: &Value) -> Result<Tried, ClusterError> {
    let sent = parse(sent.bytes())?;
    let mut paths = differing_paths(&sent, made);
    // What has no namespace is sent without one.
    paths.retain(|path| path != ".metadata.namespace");
    let admitted =
        if paths.is_empty() { ChangedValues::default() } else { changed_values(Compared::Sent(&sent, &paths), made) };
    Ok(Tried { admitted, ..Tried::new(fate, "") })
}
