//! Who is revoked, from the rows to the agents' port: new handshakes are refused, streams that are open here are cut, and
//! their connections closed.
//!
//! Revocations by another hub are seen at the next poll. So is where agents and those who have tokens come from, which the
//! rows know and no process has to remember.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Hub;
use crate::pki::trust::TrustError;
use crate::ports::network;
use crate::process::clock;
use crate::store::{self, StoreError};

/// A live stream of a revoked cluster ends within 5 s, whichever hub was told.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// It is a row for each cluster and token, and only matters when strangers hold a port.
const POLLS_PER_KNOWN: u32 = 15;
/// Of tokens that are good: more than people and programs use at a time, each of whose networks may hold some dozen places.
const KNOWN_CALLERS_MAX: i64 = 256;

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

/// Reads where agents that may still come, and tokens that are still good, have last come from.
pub(crate) async fn refresh_known(hub: &Hub) -> Result<(), TrustError> {
    let mut db = hub.vital.acquire().await.map_err(StoreError::from)?;
    let addresses = store::sessions::list_addresses(&mut db).await?;
    let networks = store::tokens::list_networks(&mut db, KNOWN_CALLERS_MAX, clock::now()).await?;
    drop(db);
    let addresses = addresses.iter().filter_map(|address| address.parse::<SocketAddr>().ok());
    hub.trust.known_agents.store(Arc::new(addresses.map(|address| network(address.ip())).collect()));
    hub.trust.known_callers.store(Arc::new(networks.iter().filter_map(|network| network.parse().ok()).collect()));
    Ok(())
}

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    for poll in 0.. {
        if poll % POLLS_PER_KNOWN == 0
            && let Err(error) = refresh_known(&hub).await
        {
            tracing::warn!(error = %crate::chain(&error), "could not read where agents and tokens come from");
        }
        if let Err(error) = refresh(&hub).await {
            tracing::warn!(error = %crate::chain(&error), "could not read which certificates are revoked");
        }
        tokio::select! {
            () = tokio::time::sleep(POLL_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
