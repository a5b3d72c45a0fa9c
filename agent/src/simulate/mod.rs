//! Many agents in one process, to see what a hub bears.
//!
//! Everything between them and the hub is real: each has its own key, certificate, connection and session. Behind that
//! there is nothing: what is accepted counts as applied and healthy at once, and is forgotten. Their certificates are not
//! renewed, and their keys end with the process; the next one enrols the same clusters again.

mod api;
mod figures;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_core::Name;
use bellwether_core::api::RegisteredCluster;
use bellwether_core::report::{Counts, Report, Verdict};
use bellwether_core::session::Profile;
use bellwether_core::session::agent::{Accepted, AgentSession, Change};
use bellwether_core::session::{Action, Assignment};
use bellwether_proto::compression;
use secrecy::SecretString;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::backoff::chance;
use crate::clock::{self, Clock};
use crate::config::{Fingerprint, HubAddress, Simulation};
use crate::executor::Outbound;
use crate::identity::{self, Identity, IdentityError, Key};
use crate::link::{self, CHANGES_MAX, EnrollError, Link, OUTBOUND_REPORTS_MAX, RECONNECT};
use api::{Api, ApiError};
use figures::{Fleet, Teller};

/// How often it checks whether there is something to tell.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Why a simulation cannot go on.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SimulateError(#[from] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("the hub's API cannot be used")]
    Api(#[from] ApiError),
    #[error("the hub's answer to a registration cannot be used: {0}")]
    Answer(String),
    #[error("{cluster} cannot join")]
    Enroll { cluster: Name, source: EnrollError },
    #[error("{cluster} has no identity")]
    Identity { cluster: Name, source: IdentityError },
    #[error("a simulated agent broke down")]
    Part(#[from] JoinError),
    #[error("the figures cannot be printed")]
    Figures(#[from] std::io::Error),
}

impl SimulateError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match &self.0 {
            Cause::Api(error) => error.hint(),
            Cause::Enroll { source, .. } => source.hint(),
            Cause::Identity { source, .. } => source.hint(),
            Cause::Answer(_) | Cause::Part(_) | Cause::Figures(_) => None,
        }
    }

    /// The error and all that caused it, in one line.
    pub fn with_sources(&self) -> String {
        crate::chain(&self.0)
    }
}

/// Runs until `stop`; an agent that is refused ends it.
pub async fn simulate(simulation: Simulation, stop: CancellationToken) -> Result<(), SimulateError> {
    Ok(run(&simulation, stop).await?)
}

async fn run(simulation: &Simulation, stop: CancellationToken) -> Result<(), Cause> {
    let fleet = Arc::new(Fleet::default());
    let mut teller = Teller::new(simulation, Arc::clone(&fleet));
    let registry = Arc::new(Registry {
        api: Api::connect(simulation).await?,
        slots: Semaphore::new(simulation.at_once as usize),
        fleet,
    });
    let mut agents = JoinSet::new();
    for name in names(&simulation.prefix, simulation.count) {
        agents.spawn(live(name, Arc::clone(&registry)));
    }
    let mut ticks = tokio::time::interval(POLL_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(teller.tell()?),
            Some(ended) = agents.join_next() => match ended?? {},
            _ = ticks.tick() => teller.tick()?,
        }
    }
}

/// `sim-0001` and so on, as wide as the last one, so that they sort.
fn names(prefix: &Name, count: u32) -> impl Iterator<Item = Name> {
    let width = count.to_string().len().max(4);
    (1..=count).map(move |number| format!("{prefix}-{number:0width$}").parse().expect("a name with digits is one"))
}

/// What simulated agents share.
struct Registry {
    api: Api,
    /// Of those who join now.
    slots: Semaphore,
    fleet: Arc<Fleet>,
}

/// One agent, from its registration on.
async fn live(name: Name, registry: Arc<Registry>) -> Result<Infallible, Cause> {
    let slot = registry.slots.acquire().await.expect("it is never closed");
    let registered = registry.api.register(&name).await?;
    let hub: HubAddress = registered.hub.parse().map_err(Cause::Answer)?;
    let began = Instant::now();
    let identity = enroll(&name, &hub, &registered, &registry.fleet).await?;

    let clock = Clock::start();
    let (changes_sender, changes) = mpsc::channel(CHANGES_MAX);
    let (to_hub_sender, to_hub) = mpsc::channel(OUTBOUND_REPORTS_MAX);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let facts = BTreeMap::from([("simulated".to_owned(), "true".to_owned())]);
    let (_, profile) = watch::channel(Profile { facts: facts.clone(), ..Profile::default() });
    let presence = watch::Sender::new(false);
    let mut present = presence.subscribe();
    let link = Link {
        hub,
        identity: Arc::new(identity),
        session: AgentSession::new(clock::random_id(), version, facts, compression::decompress, clock.now()),
        clock,
        changes: changes_sender,
        to_hub,
        profile,
        // It has none.
        wanted: watch::Sender::new(BTreeSet::new()),
        definitions: mpsc::channel(1).1,
        // It has said of none that it takes it.
        dry_runs: mpsc::channel(1).0,
        presence,
    };
    // It ends with its task, in the middle of whatever it does: nothing is kept.
    let linked = link::serve(link, CancellationToken::new());
    let joined = async {
        if present.wait_for(|&present| present).await.is_ok() {
            registry.fleet.mark_joined(present, began.elapsed());
        }
        drop(slot);
    };
    let ((), (), ()) = tokio::join!(linked, joined, answer(&name, changes, to_hub_sender, &registry.fleet));
    unreachable!("a link serves until it is told to stop");
}

async fn enroll(
    name: &Name,
    hub: &HubAddress,
    registered: &RegisteredCluster,
    fleet: &Fleet,
) -> Result<Identity, Cause> {
    let fingerprint: Fingerprint = registered.ca_fingerprint.parse().map_err(Cause::Answer)?;
    let tls = identity::joining_tls(fingerprint);
    let token = SecretString::from(registered.token.as_str());
    let without_identity = |source| Cause::Identity { cluster: name.clone(), source };
    let key = Key::generate().map_err(without_identity)?;
    let request = key.request().map_err(without_identity)?;
    let mut failures = 0;
    loop {
        match link::enroll(hub, Arc::clone(&tls), &token, request.clone()).await {
            Ok(granted) => return key.joined(&granted).map_err(without_identity),
            Err(EnrollError::Unanswered(reason)) => {
                failures += 1;
                fleet.mark_trouble(reason.to_string());
                tokio::time::sleep(RECONNECT.wait(failures, chance())).await;
            }
            Err(source) => return Err(Cause::Enroll { cluster: name.clone(), source }),
        }
    }
}

/// Says of everything that it is applied and healthy.
async fn answer(name: &Name, mut changes: mpsc::Receiver<Change>, to_hub: mpsc::Sender<Outbound>, fleet: &Fleet) {
    while let Some(change) = changes.recv().await {
        let Change::Accepted(Accepted { assignment, .. }) = change else { continue };
        fleet.mark_accepted(name, &assignment);
        let _ = to_hub.send(Outbound::Report(all_well(&assignment))).await;
    }
}

fn all_well(assignment: &Assignment) -> Report {
    let objects = match assignment.action {
        Action::Apply => assignment.manifest.entries().len(),
        Action::Delete | Action::Orphan => 0,
    };
    let count = u32::try_from(objects).unwrap_or(u32::MAX);
    Report {
        target: assignment.target,
        generation: assignment.generation,
        digest: assignment.manifest.digest(),
        applied: true,
        verdict: Verdict::Healthy,
        objects: Counts { total: count, in_place: count, healthy: count },
        lines: Vec::new(),
        suspended: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_wide_as_the_last() {
        let of = |count| names(&"sim".parse().expect("a name"), count).map(|name| name.to_string()).collect::<Vec<_>>();

        assert_eq!(of(2), ["sim-0001", "sim-0002"]);
        assert_eq!(of(10_000).first().map(String::as_str), Some("sim-00001"));
    }
}
