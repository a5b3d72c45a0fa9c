//! Renews the certificate when half of its life is over, for as long as the agent runs.
//!
//! Whatever fails is tried again until the certificate has ended, and after that too: nothing in the cluster waits for
//! it. A new certificate is stored before it is used; the link then connects anew with it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::backoff::{Backoff, Jitter, chance};
use crate::clock;
use crate::config::HubAddress;
use crate::executor::kubernetes::client::Cluster;
use crate::identity::{Identity, IdentityError};
use crate::link::{self, LinkError};

/// Half of a life is time enough to be patient, and a fleet may be waiting for the same hub.
const RETRY: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_mins(10), jitter: Jitter::Half };

/// A machine that slept wakes up late: its timers did not run on.
const POLL_EVERY: Duration = Duration::from_mins(10);

pub(crate) struct Renewal {
    pub(crate) hub: HubAddress,
    pub(crate) identity: Arc<Identity>,
    pub(crate) cluster: Cluster,
    pub(crate) namespace: String,
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("the hub does not renew it")]
    Hub(#[from] LinkError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl RenewError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Hub(error) => error.hint(),
            Self::Identity(error) => error.hint(),
        }
    }
}

/// Runs until the stop. A renewal that is cut off leaves the certificate before it, which is still good.
pub(crate) async fn serve(renewal: Renewal, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        never = renewal.repeat() => match never {},
    }
}

impl Renewal {
    async fn repeat(&self) -> Infallible {
        let mut failures = 0;
        loop {
            wait_until(self.identity.live().renew_at(chance())).await;
            match self.renew().await {
                Ok(()) => {
                    failures = 0;
                    let live = self.identity.live();
                    tracing::info!(certificate_until = %live.not_after(), "renewed the certificate");
                    // By a clock that is ahead of the hub's, the new one may be half over already.
                    tokio::time::sleep((live.life() / 4).unsigned_abs()).await;
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(
                        error = crate::chain(&error),
                        hint = error.hint().as_deref(),
                        certificate_until = %self.identity.live().not_after(),
                        "could not renew the certificate"
                    );
                    tokio::time::sleep(RETRY.wait(failures, chance())).await;
                }
            }
        }
    }

    async fn renew(&self) -> Result<(), RenewError> {
        let csr = self.identity.request()?;
        let granted = link::renew(&self.hub, self.identity.live().tls(), csr).await?;
        Ok(self.identity.renew(&self.cluster, &self.namespace, &granted).await?)
    }
}

/// By the wall's clock, which is what certificates go by.
async fn wait_until(at: Timestamp) {
    loop {
        let left = Duration::try_from(at.duration_since(clock::wall())).unwrap_or_default();
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(POLL_EVERY)).await;
    }
}
