//! Replaces an object that cannot be changed to what is wanted: deletes it, and makes it anew.
//!
//! Whether the one that is there may go is decided by [`Replacement`]. Before it goes, the API server is asked whether it would take
//! a new one: to a dry run of its making it says that the name is taken only after it has validated and admitted it. The new one is made
//! by a request that fails where somebody has made one by then. Whoever
//! dies after the deletion has not made it: the journal says that it is wanted, and the next process makes it.

use bellwether_core::reconcile::{Answer, Body, ClusterError, Metadata, Replacement};
use bellwether_core::replace::is_asked;

use super::{Attempt, Stopped, TRIES_MAX, Wanted, parse};
use crate::executor::kubernetes::client::{Apply, Onto};

impl Attempt<'_> {
    pub(super) async fn apply_or_replace(&self, inspect_first: bool, body: Body) -> Result<Answer, Stopped> {
        match self.inspect_and_apply(inspect_first, body.clone()).await {
            Err(Stopped::Failed(refusal))
                if refusal.immutable().is_some() && is_asked(self.step.replace, &self.step.key, body.bytes()) =>
            {
                self.replace(&body, &refusal).await
            }
            answer => answer,
        }
    }

    async fn replace(&self, body: &Body, refusal: &ClusterError) -> Result<Answer, Stopped> {
        let fields = refusal.immutable().unwrap_or_default().to_vec();
        let (mut tries, mut is_taken) = (1, false);
        // When it is gone meanwhile, nothing is in the way of the new one.
        while let Some(there) = self.read().await? {
            let found = parse(&there.body)?;
            let leaving = |finalizers| Stopped::Failed(ClusterError::leaving(fields.clone(), finalizers, &found));
            let cascade = match Replacement::of(self.step, body.bytes(), &there.metadata, &found) {
                Replacement::Due(cascade) => {
                    self.may_delete()?;
                    cascade
                }
                Replacement::Leaving => return Err(leaving(there.metadata.finalizers)),
                Replacement::Refused(why) => return Err(refusal.not_replaced(why).into()),
            };
            if !is_taken {
                self.ask_whether_taken(body, &fields).await?;
                // That may have taken as long as a webhook likes.
                is_taken = true;
                continue;
            }
            let Metadata { uid, resource_version, .. } = &there.metadata;
            match self.cluster.delete_by(&self.step.key, *uid, resource_version, cascade).await {
                Ok(left) => {
                    tracing::info!(target.id = %self.step.target, object = %self.step.key, ?fields, "deleted, to be made anew");
                    let Some(left) = left else { break };
                    return Err(leaving(left.finalizers));
                }
                // Its controller writes its status.
                Err(ClusterError::Stale { .. }) if tries < TRIES_MAX => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
        self.make_anew(body, fields).await
    }

    /// What is there by then is somebody's: whose, is inspected the next time.
    async fn make_anew(&self, body: &Body, fields: Vec<String>) -> Result<Answer, Stopped> {
        let live = match self.send((body, body), Apply::Plain, Onto::Nothing).await {
            Ok(live) => live,
            Err(ClusterError::Stale { .. } | ClusterError::Conflict(_)) => {
                let message = "another object has its name by now".to_owned();
                return Err(ClusterError::Stale { message }.into());
            }
            Err(why) => return Err(ClusterError::Absent { fields, why: Box::new(why) }.into()),
        };
        let made = self.applied(&Wanted::whole(body.clone()), true, live).await?;
        Ok(Answer { replaced: fields, ..made.answer(body.clone(), None) })
    }

    /// Whether the API server would take a new one, were there none.
    pub(super) async fn ask_whether_taken(&self, body: &Body, fields: &[String]) -> Result<(), ClusterError> {
        match self.cluster.try_to_create(&self.step.key, body.bytes()).await {
            Err(why @ (ClusterError::Rejected { .. } | ClusterError::Forbidden { .. })) => {
                Err(ClusterError::NewOneRefused { fields: fields.to_vec(), why: Box::new(why) })
            }
            answer => answer,
        }
    }
}
