//! Puts the parts together: reaches the cluster, joins if need be, then runs link, renewal, journal and reconciler
//! until the stop.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::assignment::Board;
use bellwether_core::dry_run::DryRuns;
use bellwether_core::journal::Journal;
use bellwether_core::session::Profile;
use bellwether_core::session::agent::AgentSession;
use bellwether_proto::compression;
use secrecy::SecretString;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::{Backoff, Jitter, chance};
use crate::clock::{self, Clock};
use crate::config::{self, Config};
use crate::definitions;
use crate::executor::Ports;
use crate::executor::kubernetes::assignments::{self, ShowError};
use crate::executor::kubernetes::client::{Cluster, ClusterError, ConnectError};
use crate::executor::kubernetes::{self, ReconcileError};
use crate::identity::{self, Identity, IdentityError, Join, Start};
use crate::journal::{self, Fence, INVENTORY_UPDATES_MAX, JournalError, Seal, Store};
use crate::link::{self, CHANGES_MAX, DRY_RUNS_MAX, EnrollError, Link, OUTBOUND_REPORTS_MAX, RECONNECT};
use crate::policy;
use crate::profile;
use crate::renewal::{self, Renewal};

/// Between tries to reach the API server at the start. It is often a pod's neighbour that starts at the same time.
const API_SERVER: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(10), jitter: Jitter::Half };

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RunError(Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("the way to the API server is not known")]
    Connect(#[from] ConnectError),
    #[error("the join token in {path} cannot be read")]
    TokenFile { path: String, source: std::io::Error },
    #[error("this agent has no identity")]
    Identity(#[from] IdentityError),
    #[error("this cluster cannot join")]
    Enroll(#[from] EnrollError),
    #[error("what the hub assigns cannot be written down")]
    Journal(#[from] JournalError),
    #[error("the reconciler failed")]
    Reconcile(#[from] ReconcileError),
    #[error("what shows the targets in the cluster failed")]
    Show(#[from] ShowError),
    #[error("a part of the agent broke down")]
    Part(#[source] JoinError),
    #[error("a part of the agent ended by itself")]
    Ended,
}

impl RunError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match &self.0 {
            Cause::Connect(error) => error.hint(),
            Cause::Identity(error) => error.hint(),
            Cause::Enroll(error) => error.hint(),
            Cause::Journal(error)
            | Cause::Reconcile(ReconcileError::Replaced(error))
            | Cause::Show(ShowError::Replaced(error)) => error.hint(),
            Cause::TokenFile { .. } => Some("check BELLWETHER_TOKEN_FILE".into()),
            Cause::Reconcile(_) | Cause::Show(_) | Cause::Part(_) | Cause::Ended => None,
        }
    }

    /// The error and all that caused it, in one line.
    pub fn with_sources(&self) -> String {
        crate::chain(&self.0)
    }
}

impl<T: Into<Cause>> From<T> for RunError {
    fn from(cause: T) -> Self {
        Self(cause.into())
    }
}

/// Runs the agent until `stop`; a part that ends by itself ends it with an error.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    tokio::select! {
        ready = start(&config) => serve(&config, ready?, stop).await,
        // Nothing is in hand before the start is through: a join that is cut off is repeated with the same key.
        () = stop.cancelled() => Ok(()),
    }
}

struct Ready {
    cluster: Cluster,
    identity: Identity,
    facts: BTreeMap<String, String>,
    boot: Uuid,
    store: Store,
    journal: Journal,
}

async fn start(config: &Config) -> Result<Ready, RunError> {
    let cluster = Cluster::connect(config.kubeconfig.as_deref()).await?;
    let facts = reach(&cluster).await;
    let token = token(config)?;
    let identity = match load_identity(&cluster, config, token).await? {
        Start::Joined(identity) => identity,
        Start::Join(join) => enroll(&cluster, config, *join).await?,
    };
    let boot = clock::random_id();
    let seal = load_seal(&cluster, config).await?;
    let store = Store::new(cluster.clone(), config.namespace.as_str(), boot, seal);
    let journal = load_journal(&store).await?;
    Ok(Ready { cluster, identity, facts, boot, store, journal })
}

async fn load_journal(store: &Store) -> Result<Journal, RunError> {
    let mut failures = 0;
    loop {
        match store.load().await {
            Err(JournalError::Storage { source: error, .. }) if may_pass(&error) => {
                wait_for_api_server(&mut failures, &error).await;
            }
            loaded => return Ok(loaded?),
        }
    }
}

/// Asks until the API server answers: without it there is neither an identity nor anything to do.
async fn reach(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut failures = 0;
    loop {
        match cluster.fetch_facts().await {
            Ok(facts) => return facts,
            Err(error) => wait_for_api_server(&mut failures, &error).await,
        }
    }
}

async fn load_identity(cluster: &Cluster, config: &Config, token: Option<SecretString>) -> Result<Start, RunError> {
    let mut failures = 0;
    loop {
        match identity::load(cluster, config.namespace.as_str(), token.clone()).await {
            Err(IdentityError::Storage { source: error, .. }) if may_pass(&error) => {
                wait_for_api_server(&mut failures, &error).await;
            }
            loaded => return Ok(loaded?),
        }
    }
}

async fn load_seal(cluster: &Cluster, config: &Config) -> Result<Seal, RunError> {
    let mut failures = 0;
    loop {
        match identity::load_journal_seal(cluster, config.namespace.as_str()).await {
            Err(IdentityError::Storage { source: error, .. }) if may_pass(&error) => {
                wait_for_api_server(&mut failures, &error).await;
            }
            loaded => return Ok(loaded?),
        }
    }
}

/// Somebody else's write in between is read anew, too: it may hold the identity. An API server that has just started
/// forbids everything for a moment, and a role that is missing may be given.
const fn may_pass(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Retry { .. } | ClusterError::Stale { .. } | ClusterError::Forbidden { .. })
}

async fn wait_for_api_server(failures: &mut u32, error: &ClusterError) {
    *failures += 1;
    tracing::warn!(%error, "waiting for the API server");
    tokio::time::sleep(API_SERVER.wait(*failures, chance())).await;
}

fn token(config: &Config) -> Result<Option<SecretString>, RunError> {
    let Some(path) = &config.token_file else { return Ok(config.token.clone()) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(config::token(&text)),
        // The Secret that it is mounted from may be deleted once the cluster has joined.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::info!(path = %path.display(), "there is no token file");
            Ok(None)
        }
        Err(source) => Err(Cause::TokenFile { path: path.display().to_string(), source }.into()),
    }
}

async fn enroll(cluster: &Cluster, config: &Config, join: Join) -> Result<Identity, RunError> {
    let tls = identity::joining_tls(config.ca_fingerprint);
    let mut failures = 0;
    let granted = loop {
        match link::enroll(&config.hub, Arc::clone(&tls), join.token(), join.request()?).await {
            Ok(granted) => break granted,
            Err(EnrollError::Unanswered(reason)) => {
                failures += 1;
                tracing::warn!(hub = %config.hub, %reason, hint = reason.hint().as_deref(), "waiting for the hub to join");
                tokio::time::sleep(RECONNECT.wait(failures, chance())).await;
            }
            Err(refused) => return Err(refused.into()),
        }
    };
    let identity = join.complete(cluster, &granted).await?;
    tracing::info!(hub = %config.hub, certificate_until = %identity.live().not_after(), "joined");
    Ok(identity)
}

#[expect(clippy::too_many_lines, reason = "it is the list of the parts of an agent")]
async fn serve(config: &Config, ready: Ready, stop: CancellationToken) -> Result<(), RunError> {
    let clock = Clock::start();
    let (changes_sender, changes) = mpsc::channel(CHANGES_MAX);
    let (written_sender, written) = mpsc::channel(CHANGES_MAX);
    let (updates_sender, updates) = mpsc::channel(INVENTORY_UPDATES_MAX);
    let (to_hub_sender, to_hub) = mpsc::channel(OUTBOUND_REPORTS_MAX);
    let (dry_runs_sender, dry_runs) = mpsc::channel(DRY_RUNS_MAX);
    let (inventory, lacking) = (ready.journal.inventory(), ready.journal.lacking());
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let facts = ready.facts.clone();
    let (to_link, profiles) = watch::channel(Profile { facts: ready.facts.clone(), ..Profile::default() });
    let (wanted_sender, wanted) = watch::channel(BTreeSet::new());
    let (definitions_sender, definitions) = mpsc::channel(1);
    let (shown_sender, shown) = mpsc::channel(CHANGES_MAX);
    let (holds_sender, holds) = watch::channel(None);
    let board_ports = assignments::Ports { told: shown, holds: holds_sender, profile: to_link.subscribe() };
    let source = policy::Source::new(config.policy.clone());
    let (policy_sender, policy) = watch::channel(Arc::new(source.read()));
    let session = AgentSession::new(ready.boot, version, ready.facts, compression::decompress, clock.now())
        .with_dry_runs(if config.dry_run { DryRuns::Taken } else { DryRuns::Off })
        .resume(inventory.iter().map(|journalled| &journalled.assignment))
        .resume_lacking(lacking)
        .resume_forgotten(ready.journal.forgotten().clone());
    let identity = Arc::new(ready.identity);
    let renewal = Renewal {
        hub: config.hub.clone(),
        identity: Arc::clone(&identity),
        cluster: ready.cluster.clone(),
        namespace: config.namespace.to_string(),
    };
    let link = Link {
        hub: config.hub.clone(),
        identity,
        session,
        clock,
        changes: changes_sender,
        to_hub,
        profile: profiles,
        wanted: wanted_sender,
        definitions,
        dry_runs: dry_runs_sender,
        presence: watch::Sender::new(false),
    };
    let mut parts: JoinSet<Result<(), Cause>> = JoinSet::new();
    let every = Duration::from_secs(config.poll_seconds.max(1));
    let ends = definitions::Ports { to_link: to_link.clone(), wanted, to_hub: definitions_sender };
    let tells = definitions::serve(ready.cluster.clone(), every.min(definitions::PAUSE), ends, stop.clone());
    parts.spawn(async {
        tells.await;
        Ok(())
    });
    let policy_reader = policy::serve(source, every.min(policy::PAUSE), policy_sender, stop.clone());
    parts.spawn(async {
        policy_reader.await;
        Ok(())
    });
    let polls = profile::serve((ready.cluster.clone(), policy.clone()), facts, every, to_link, stop.clone());
    parts.spawn(async {
        polls.await;
        Ok(())
    });
    let link_stop = stop.clone();
    parts.spawn(async move {
        link::serve(link, link_stop).await;
        Ok(())
    });
    let renewal_stop = stop.clone();
    parts.spawn(async move {
        renewal::serve(renewal, renewal_stop).await;
        Ok(())
    });
    let to_writer = journal::Ports { changes, written: written_sender, updates, to_hub: to_hub_sender.clone() };
    let fence = Fence::new(ready.store.clone(), &ready.journal);
    let writer = journal::serve((ready.store, fence.clone()), ready.journal, to_writer, stop.clone());
    parts.spawn(async { Ok(writer.await?) });
    let known = inventory.iter().map(|journalled| journalled.assignment.target);
    let board = Board::new(config.namespace.as_str(), known, clock.now());
    let showing = assignments::serve((ready.cluster.clone(), fence.clone()), board, clock, board_ports, stop.clone());
    parts.spawn(async { Ok(showing.await?) });
    let to_executor =
        Ports { written, dry_runs, updates: updates_sender, to_hub: to_hub_sender, shown: shown_sender, holds };
    let rules = (config.namespace.as_str().into(), policy);
    let executor = kubernetes::serve((ready.cluster, fence), rules, clock, inventory, to_executor, stop.clone());
    parts.spawn(async { Ok(executor.await?) });
    let mut first = Ok(());
    while let Some(ended) = parts.join_next().await {
        let verdict = match ended {
            Err(error) => Err(Cause::Part(error).into()),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(())) if stop.is_cancelled() => Ok(()),
            Ok(Ok(())) => Err(Cause::Ended.into()),
        };
        first = first.and(verdict);
        // One down, all down: half an agent looks healthy and is not.
        stop.cancel();
    }
    first
}
