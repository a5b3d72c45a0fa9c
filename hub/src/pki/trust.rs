//! What the hub's ports present, and whose certificates they refuse: kept current while the hub runs.
//!
//! A revocation list ends new handshakes, and connections; a stream that is open already is for [`super::revocations`] to
//! cut.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::ServerConfig;

use crate::pki::ca::{Authority, CaError, ServerIdentity};
use crate::pki::tls::{self, TlsError};
use crate::ports;
use crate::process::clock;
use crate::store::StoreError;

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
    /// Networks of agents, and of those who have tokens.
    pub(crate) known_agents: ports::Known,
    pub(crate) known_callers: ports::Known,
    pub(crate) revoked: ports::Revoked,
    names: Vec<String>,
    current: Mutex<Current>,
}

struct Current {
    identity: ServerIdentity,
    /// Half of its life is over then.
    renew_at: Timestamp,
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
            known_agents: ports::Known::default(),
            known_callers: ports::Known::default(),
            revoked: ports::Revoked::default(),
            names: names.to_vec(),
            current: Mutex::new(Current { identity, renew_at }),
        })
    }

    /// Takes a new revocation list, and a new identity when it is time; true: something changed.
    pub(super) fn renew(
        &self,
        authority: &Authority,
        revoked: BTreeSet<String>,
        now: Timestamp,
    ) -> Result<bool, TrustError> {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if **self.revoked.load() == revoked && now < current.renew_at {
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
        self.revoked.store(Arc::new(revoked));
        Ok(true)
    }
}
