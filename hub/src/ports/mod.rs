//! The hub's two ports: who may be connected, for how long and how much they may send, before anybody asks for anything.
//!
//! Configurations are read per connection, so a new certificate or revocation list counts from the next handshake on; a
//! connection whose certificate is revoked is closed, and its streams are for `link` to end. Neighbours: `pki::tls`
//! (configurations), `link` and `http` (which serve what comes out of here).

mod accept;
mod http;
mod limited;
mod permits;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

pub(crate) use accept::{Connection, incoming};
pub(crate) use http::{UntilTaken, serve_http};
pub(crate) use permits::{Limits, network};
pub(crate) use usage::{ActiveRequest, IdleTimeouts, Usage};

/// People, scripts and webhooks. Below the usual limit of 1,024 descriptors, with room for agents and Postgres.
const HTTP_CONNECTIONS_MAX: usize = 512;

/// Where a request of [`serve_http`] came from; one of its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// What one port allows whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) connections: Limits,
    pub(crate) timeouts: IdleTimeouts,
    /// What a connection without a certificate may send in all.
    pub(crate) stranger_bytes_max: Option<usize>,
}

/// A join is one small request; an agent's stream stays for as long as the agent lives.
pub(crate) const AGENTS: Rules = Rules {
    // A rack of clusters behind one address joins at once; together they stay well below the usual 1,024 descriptors.
    // A cluster has one stream, and for a moment the one before and a call to renew. So many may also join at once from
    // where agents are, whatever strangers hold.
    connections: Limits { strangers: 512, per_address: 128, per_known: 8 },
    timeouts: IdleTimeouts {
        before_first: Duration::from_secs(15),
        between: Duration::from_secs(15),
        // A join is one call, and comes again if it fails.
        stranger_age_max: Duration::from_secs(15),
        age_max: None,
    },
    // A token, a request for a certificate (4 KiB at most), and HTTP/2 around them. Times the strangers, it is all the
    // memory that they can take.
    stranger_bytes_max: Some(32 * 1024),
};

/// People, scripts and webhooks.
pub(crate) const API: Rules = Rules {
    // Behind one address of those who have tokens may be an office and its pipelines.
    connections: Limits { strangers: HTTP_CONNECTIONS_MAX, per_address: 128, per_known: 64 },
    timeouts: IdleTimeouts {
        before_first: Duration::from_secs(10),
        between: Duration::from_mins(1),
        // Probes, scrapes and webhooks need no token, and come again.
        stranger_age_max: Duration::from_mins(1),
        // A pool of connections that is never empty would otherwise keep to one hub for ever.
        age_max: Some(Duration::from_hours(1)),
    },
    stranger_bytes_max: None,
};

/// Networks that the last sessions of the fleet's agents came from, or the last requests with good tokens, whichever hub
/// they were at.
pub(crate) type Known = Arc<ArcSwap<BTreeSet<IpAddr>>>;

/// Serials of certificates that count no more.
pub(crate) type Revoked = Arc<ArcSwap<BTreeSet<String>>>;
