//! Makes the namespace that a target's objects are in, where it is absent and the target asks for that.
//!
//! It is made by a request that fails where there is one by now: that is left as it is, and the object is sent all the same. One
//! that is being deleted is there; the API server then says of the object that it has to wait.

use bellwether_core::reconcile::{Body, ClusterError};

use super::Attempt;
use crate::executor::kubernetes::client::{Apply, Live, Onto};

impl Attempt<'_> {
    /// Applies what comes of `body`, in the target's own namespace too where that is missing.
    pub(super) async fn send(
        &self,
        (body, sent): (&Body, &Body),
        how: Apply,
        onto: Onto<'_>,
    ) -> Result<Live, ClusterError> {
        match self.cluster.apply(&self.step.key, sent.bytes(), how, onto).await {
            // Who only asks makes nothing.
            Err(ClusterError::NamespaceMissing { namespace, .. }) if matches!(how, Apply::Plain | Apply::Forced) => {
                self.make_namespace(namespace, body).await?;
            }
            answer => return answer,
        }
        self.cluster.apply(&self.step.key, sent.bytes(), how, onto).await
    }

    /// Makes an object where it is absent.
    pub(super) async fn send_new(&self, body: &Body) -> Result<Live, ClusterError> {
        match self.cluster.create(&self.step.key, body.bytes()).await {
            Err(ClusterError::NamespaceMissing { namespace, .. }) => self.make_namespace(namespace, body).await?,
            answer => return answer,
        }
        self.cluster.create(&self.step.key, body.bytes()).await
    }

    /// Fails as the object did where it is not the target's to make, and where it cannot be made: then, too, it is what the object
    /// and many others lack.
    async fn make_namespace(&self, namespace: String, body: &Body) -> Result<(), ClusterError> {
        let Some((key, object)) = self.step.own_namespace(&namespace, body) else {
            return Err(ClusterError::NamespaceMissing { namespace, not_made: None });
        };
        if let Some(refusal) = &self.permit.namespace {
            return Err(ClusterError::NamespaceMissing { namespace, not_made: Some(refusal.message.clone()) });
        }
        match self.cluster.create(&key, &object).await {
            Ok(_) => {
                tracing::info!(target.id = %self.step.target, object = %key, "made for the target");
                Ok(())
            }
            // Somebody was faster.
            Err(ClusterError::Stale { .. }) => Ok(()),
            Err(error) => Err(ClusterError::NamespaceMissing { namespace, not_made: Some(error.to_string()) }),
        }
    }
}
