//! Who is revoked, from the rows to both ports: new handshakes are refused, and streams that are open here are cut.
//!
//! Revocations by another hub are seen at the next poll.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Hub;
use crate::pki::trust::TrustError;
use crate::process::clock;
use crate::store::{self, StoreError};

/// A live stream of a revoked cluster ends within 5 s, whichever hub was told.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// Reads who is revoked, refuses them from now on, and cuts the streams that they have here.
pub(crate) async fn refresh(hub: &Hub) -> Result<(), TrustError> {
    let now = clock::now();
    let mut db = hub.vital.acquire().await.map_err(StoreError::from)?;
    let revoked: BTreeSet<_> = store::certificates::list_revoked(&mut db, now).await?.into_iter().collect();
    drop(db);
    hub.sessions.cut_all(&revoked);
    hub.trust.renew(&hub.authority, revoked, now)?;
    Ok(())
}

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    loop {
        if let Err(error) = refresh(&hub).await {
            tracing::warn!(error = %crate::chain(&error), "could not read which certificates are revoked");
        }
        tokio::select! {
            () = tokio::time::sleep(POLL_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
