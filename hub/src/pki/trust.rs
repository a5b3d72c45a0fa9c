//! What the hub's ports present, and whose certificates they refuse: kept current while the hub runs.
//!
//! A revocation list ends new handshakes; a stream that is open already is cut here. Revocations by another hub are
//! seen at the next poll. So is where agents come from, which the rows know and no process has to remember.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use crate::Hub;
use crate::guests::network;
use crate::pki::ca::{Authority, CaError, ServerIdentity};
use crate::pki::tls::{self, TlsError};
use crate::process::clock;
use crate::store::{self, StoreError};

/// A live stream of a revoked cluster ends within 5 s, whichever hub was told.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// It is a row for each cluster, and only matters when strangers hold a port.
const POLLS_PER_KNOWN: u32 = 15;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot make a certificate or a revocation list")]
    Authority(#[from] CaError),
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
}

pub(crate) struct Trust {
    pub(crate) agents: Arc<ArcSwap<ServerConfig>>,
    pub(crate) api: Arc<ArcSwap<ServerConfig>>,
    pub(crate) known: tls::Known,
    names: Vec<String>,
    current: Mutex<Current>,
}

struct Current {
    identity: ServerIdentity,
    /// Half of its life is over then.
    renew_at: Timestamp,
    revoked: BTreeSet<String>,
}

impl Trust {
    pub(crate) fn new(authority: &Authority, names: &[String]) -> Result<Self, TrustError> {
        let now = clock::now();
        let identity = authority.issue_server(names, now)?;
        let agents = tls::agents_config(authority, &identity, None)?;
        let api = tls::api_config(&identity)?;
        let renew_at = now + identity.not_after.duration_since(now) / 2;
        Ok(Self {
            agents: Arc::new(ArcSwap::from_pointee(agents)),
            api: Arc::new(ArcSwap::from_pointee(api)),
            known: tls::Known::default(),
            names: names.to_vec(),
            current: Mutex::new(Current { identity, renew_at, revoked: BTreeSet::new() }),
        })
    }

    /// Takes a new revocation list, and a new identity when it is time; true: something changed.
    fn renew(&self, authority: &Authority, revoked: BTreeSet<String>, now: Timestamp) -> Result<bool, TrustError> {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if current.revoked == revoked && now < current.renew_at {
            return Ok(false);
        }
        if now >= current.renew_at {
            current.identity = authority.issue_server(&self.names, now)?;
            current.renew_at = now + current.identity.not_after.duration_since(now) / 2;
            self.api.store(Arc::new(tls::api_config(&current.identity)?));
        }
        let serials: Vec<_> = revoked.iter().cloned().collect();
        let list = if serials.is_empty() { None } else { Some(authority.revocation_list(&serials, now)?) };
        self.agents.store(Arc::new(tls::agents_config(authority, &current.identity, list)?));
        current.revoked = revoked;
        Ok(true)
    }
}

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

/// Reads where the agents that may still come have last come from.
pub(crate) async fn refresh_known(hub: &Hub) -> Result<(), TrustError> {
    let mut db = hub.vital.acquire().await.map_err(StoreError::from)?;
    let addresses = store::sessions::list_addresses(&mut db).await?;
    let addresses = addresses.iter().filter_map(|address| address.parse::<SocketAddr>().ok());
    hub.trust.known.store(Arc::new(addresses.map(|address| network(address.ip())).collect()));
    Ok(())
}

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    for poll in 0.. {
        if poll % POLLS_PER_KNOWN == 0
            && let Err(error) = refresh_known(&hub).await
        {
            tracing::warn!(error = %crate::chain(&error), "could not read where agents come from");
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
