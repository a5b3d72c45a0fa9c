//! What every room of a running hub needs, and nothing that only one of them does.
//!
//! Each field's type stands where its work is done and knows no `Hub`; whoever runs with all of them takes one.

use std::net::IpAddr;
use std::sync::Arc;

use bellwether_core::{ClusterId, Digest, TargetId};
use bellwether_render::Engines;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::bundle::told::ToldRenders;
use crate::http::readiness::Readiness;
use crate::http::reads::Reads;
use crate::link::arrivals::Arrivals;
use crate::link::sessions::Sessions;
use crate::pki::ca::Authority;
use crate::pki::seal::Seal;
use crate::pki::trust::Trust;
use crate::process::config::Config;
use crate::process::metrics::Metrics;
use crate::process::rate::Buckets;
use crate::process::rate_limiter::RateLimiter;
use crate::process::turns::Turns;
use crate::record::queue::Incoming;
use crate::source::github::AppTokens;
use crate::source::mirrors::Mirrors;
use crate::store::Pool;
use crate::store::content::Content;
use crate::store::projects::Project;
use crate::store::targets::Target;
use crate::work::signals::Signals;
use crate::worker::heartbeat::promise::Heartbeat;

/// What every part of a running hub shares.
pub(crate) struct Hub {
    pub(crate) id: Uuid,
    pub(crate) config: Config,
    pub(crate) installation: Uuid,
    /// The one that every installation has: all callers', and that of webhooks whose path names none.
    pub(crate) project: Project,
    /// Of the stages.
    pub(crate) pool: Pool,
    /// Of what people and webhooks ask.
    pub(crate) requests: Pool,
    /// Of everything that must go on while others wait for a connection: what says that this hub lives, the ends of
    /// streams, who is revoked, agents' streams and what they report.
    pub(crate) vital: Pool,
    /// As the role that owns the tables: for what changes the schema while the hub runs.
    pub(crate) owner: Pool,
    /// Of streams at `vital`: they leave connections to the rest.
    pub(crate) stream_turns: Semaphore,
    pub(crate) signals: Signals,
    pub(crate) seal: Seal,
    pub(crate) authority: Authority,
    pub(crate) trust: Trust,
    pub(crate) mirrors: Arc<Mirrors>,
    pub(crate) engines: Engines,
    pub(crate) content: Content,
    pub(crate) sessions: Sessions,
    pub(crate) arrivals: Arrivals,
    pub(crate) report_queue: mpsc::Sender<Incoming>,
    pub(crate) metrics: Metrics,
    /// Of repos: forged webhooks are audited once in a while.
    pub(crate) forged_webhooks: RateLimiter,
    /// Of GitHub Apps, for repos that they may read.
    pub(crate) app_tokens: AppTokens,
    /// Webhooks whose bodies are kept while they come.
    pub(crate) webhook_bodies: Semaphore,
    /// Of clusters, or of nobody's: so are join tokens that are refused.
    pub(crate) refused_enrolments: RateLimiter,
    /// Of clusters: so is what they tell and no row can hold.
    pub(crate) dropped_events: RateLimiter,
    /// Of clusters: what agents say that no honest one does.
    pub(crate) foreign_reports: RateLimiter,
    /// Of addresses: tries to join that were refused.
    pub(crate) join_tries: Buckets<IpAddr>,
    pub(crate) told_renders: ToldRenders,
    /// Of clusters' targets: entries that one began to fail.
    pub(crate) began_to_fail: Buckets<(ClusterId, TargetId)>,
    /// Of the same: entries that one was suspended or resumed.
    pub(crate) suspensions: Buckets<(ClusterId, TargetId)>,
    pub(crate) renewals: Buckets<ClusterId>,
    pub(crate) enrolments: Buckets<ClusterId>,
    /// Of certificates: streams and renewals that begin with them.
    pub(crate) calls: Buckets<String>,
    /// Of clusters: what they say on all their streams.
    pub(crate) messages: Buckets<ClusterId>,
    /// Strangers that are looked up in the database at once.
    pub(crate) strangers: Turns,
    /// Hashes of API tokens that were good when they were last shown, and what each may ask at once.
    pub(crate) known_tokens: quick_cache::sync::Cache<Digest, Arc<Semaphore>>,
    pub(crate) readiness: Readiness,
    pub(crate) reads: Reads,
    /// Streams of agents and plans: one task each.
    pub(crate) tasks: TaskTracker,
    pub(crate) heartbeat: Heartbeat,
    /// What agents are told to connect to.
    pub(crate) agents_address: String,
}

impl Hub {
    /// `installation/project/target`: the owner that a target's objects name.
    pub(crate) fn owner_of(&self, target: &Target) -> String {
        format!("{}/{}/{}", self.installation, target.project.name, target.name)
    }
}
