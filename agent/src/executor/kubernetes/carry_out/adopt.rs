//! Takes an object from whoever applied it, where the target may have it. Whether it may is decided by
//! [`bellwether_core::reconcile::Owner`], and what becomes ours by [`bellwether_core::takeover`].

use bellwether_core::reconcile::{ClusterError, owner_hint};
use bellwether_core::takeover::adopted;

use super::{Attempt, Made, Wanted, parse};
use crate::executor::kubernetes::client::{Apply, FIELD_MANAGER, Live, Onto};

impl Attempt<'_> {
    /// Takes it from whoever applied it: what they hold of it is ours before it is applied, so that what Git does not say
    /// goes, their marks among that. Cut off in between it is nobody's, and adopted the next time.
    pub(super) async fn adopt(&self, wanted: &Wanted, there: &Live) -> Result<Made, ClusterError> {
        let (key, object) = (&self.step.key, parse(&there.body)?);
        let former = &object["metadata"]["managedFields"];
        let now = match adopted(former, FIELD_MANAGER, &key.api_version) {
            Some(ours) => self.cluster.set_managers(key, &there.metadata.resource_version, &ours).await?,
            None => there.metadata.clone(),
        };
        match self.cluster.apply(key, wanted.sent.bytes(), Apply::Forced, Onto::AsRead(&now)).await {
            Ok(live) => {
                let from = owner_hint(&there.metadata, self.step);
                tracing::info!(target.id = %self.step.target, object = %key, from, "adopted");
                self.applied(wanted, true, live).await
            }
            Err(error @ ClusterError::Rejected { .. }) => {
                // It stays theirs, and what they drop from their files goes. If that fails, it is adopted in part the next time.
                let _ = self.cluster.set_managers(key, &now.resource_version, former).await;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}
