//! Makes the cluster what the hub assigned to it, and keeps what is known of that.
//!
//! One task owns every target; what is to be done is decided by [`Target`], which is pure, and done by at most
//! [`REQUESTS_MAX`] requests at a time. It never waits for the hub, and one target or object never waits for another's
//! trouble. What was accepted and what each target had before comes from the journal: a new process applies it once more,
//! which changes nothing where nothing changed.

mod bodies;
mod claims;
mod judge;
mod removal;
#[cfg(test)]
mod removal_scenarios;
#[cfg(test)]
mod scenarios;
mod step;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bellwether_core::TargetId;
use bellwether_core::bundle::Entry;
use bellwether_core::health::needs_watch_in_full;
use bellwether_core::journal::Journalled;
use bellwether_core::report::Report;
use bellwether_core::session::Action;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::backoff::chance;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::cluster::watch::{Kind, Sighting};
use crate::journal::Forgotten;
use bodies::Bodies;
use claims::Claims;
use removal::Candidate;
use step::carry_out;
use target::{Act, Finding, Step, Target};

/// Requests on their way at once: enough to hide the API server's latency, far below what its priority and fairness
/// give one client.
const REQUESTS_MAX: usize = 8;

/// Sightings that wait for this loop. It is never busy for long; beyond that the API server holds them back.
const SIGHTINGS_MAX: usize = 256;

/// How often a target that is being applied says how far it is.
const PROGRESS_PAUSE: SignedDuration = SignedDuration::from_millis(500);

/// What was begun when the stop came may end: a request's deadline is longer, but few come near it.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// The ways to and from the link.
pub(crate) struct Ports {
    pub(crate) journalled: mpsc::Receiver<Journalled>,
    pub(crate) forgotten: mpsc::Sender<Forgotten>,
    pub(crate) reports: mpsc::Sender<Report>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("a request or a watch broke down")]
    Broken(#[from] JoinError),
    #[error("a watch ended by itself")]
    WatchEnded,
}

struct Reconciler {
    cluster: Cluster,
    clock: Clock,
    targets: BTreeMap<TargetId, Target>,
    bodies: Bodies,
    claims: Claims,
    requests: JoinSet<(Step, Finding)>,
    /// The target that had the last turn: the next one is first in line.
    turn: Option<TargetId>,
    watched: BTreeSet<Kind>,
    watches: JoinSet<()>,
    sightings: mpsc::Sender<Sighting>,
    forgotten: mpsc::Sender<Forgotten>,
    /// Reports that the link has not taken yet; newer replaces older, so there is at most one for each target.
    outbox: BTreeMap<TargetId, Report>,
    progress_at: Timestamp,
}

enum Event<'a> {
    Journalled(Journalled),
    Found(Result<(Step, Finding), JoinError>),
    Sighted(Sighting),
    WatchEnded(Result<(), JoinError>),
    Writable(mpsc::Permit<'a, Report>),
    Ticked,
}

/// Runs until the stop, then lets what is on its way end. `held` is what the process before accepted.
pub(crate) async fn serve(
    cluster: Cluster,
    clock: Clock,
    held: Vec<Journalled>,
    ports: Ports,
    stop: CancellationToken,
) -> Result<(), ReconcileError> {
    let Ports { mut journalled, forgotten, reports } = ports;
    let (sightings, mut seen) = mpsc::channel(SIGHTINGS_MAX);
    let mut reconciler = Reconciler::new(cluster, clock, sightings, forgotten);
    for held in held {
        reconciler.accept(held);
    }
    loop {
        reconciler.go_on();
        let wake = reconciler.next_wake();
        let event = tokio::select! {
            () = stop.cancelled() => break,
            Some(message) = journalled.recv() => Event::Journalled(message),
            Some(found) = reconciler.requests.join_next() => Event::Found(found),
            Some(sighting) = seen.recv() => Event::Sighted(sighting),
            Some(ended) = reconciler.watches.join_next() => Event::WatchEnded(ended),
            Ok(slot) = reports.reserve(), if !reconciler.outbox.is_empty() => Event::Writable(slot),
            () = clock.sleep_until(wake) => Event::Ticked,
        };
        reconciler.handle(event)?;
    }
    // Dropped at the end, with whatever did not make it: a request that is cut off is repeated by the next process.
    let drained = tokio::time::timeout(DRAIN_MAX, async { while reconciler.requests.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(requests = reconciler.requests.len(), "stopping with requests on their way");
    }
    Ok(())
}

impl Reconciler {
    fn new(
        cluster: Cluster,
        clock: Clock,
        sightings: mpsc::Sender<Sighting>,
        forgotten: mpsc::Sender<Forgotten>,
    ) -> Self {
        Self {
            cluster,
            clock,
            targets: BTreeMap::new(),
            bodies: Bodies::default(),
            claims: Claims::default(),
            requests: JoinSet::new(),
            turn: None,
            watched: BTreeSet::new(),
            watches: JoinSet::new(),
            sightings,
            forgotten,
            outbox: BTreeMap::new(),
            progress_at: clock.now(),
        }
    }

    fn handle(&mut self, event: Event<'_>) -> Result<(), ReconcileError> {
        match event {
            Event::Journalled(journalled) => self.accept(journalled),
            Event::Found(found) => {
                let (step, finding) = found?;
                self.record(&step, finding);
            }
            Event::Sighted(sighting) => self.see(sighting),
            Event::WatchEnded(ended) => {
                ended?;
                return Err(ReconcileError::WatchEnded);
            }
            Event::Writable(slot) => {
                if let Some((_, report)) = self.outbox.pop_first() {
                    slot.send(report);
                }
            }
            Event::Ticked => {}
        }
        Ok(())
    }

    fn accept(&mut self, journalled: Journalled) {
        let Journalled { assignment, before, objects } = journalled;
        tracing::info!(
            target.name = %assignment.name,
            generation = assignment.generation.get(),
            action = assignment.action.as_str(),
            objects = assignment.manifest.entries().len(),
            "accepted"
        );
        let id = assignment.target;
        // The new ones are held before the old ones are let go: what both have stays.
        if assignment.action == Action::Apply {
            self.bodies.hold(assignment.manifest.entries(), &objects);
            self.claims.add(id, assignment.manifest.entries());
        }
        let phase = |entry: &Entry| self.bodies.phase(entry);
        match self.targets.get_mut(&id) {
            Some(target) => {
                let old = target.accept(assignment, phase);
                if old.action == Action::Apply {
                    self.bodies.release(old.manifest.entries());
                    self.claims.remove(id, old.manifest.entries());
                }
            }
            None => {
                let before = before.into_iter().map(Candidate::of).collect();
                self.targets.insert(id, Target::new(assignment, before, phase));
            }
        }
    }

    fn record(&mut self, step: &Step, finding: Finding) {
        let Some(target) = self.targets.get_mut(&step.target) else { return };
        log(target, step, &finding);
        if matches!(finding, Finding::Applied { .. }) && needs_watch_in_full(step.key.group(), &step.key.kind) {
            let kind = Kind::of(&step.key);
            if self.watched.insert(kind.clone()) {
                self.watches.spawn(self.cluster.clone().watch(kind, self.sightings.clone()));
            }
        }
        target.record(step, finding, self.clock.now(), chance());
        let keys = target.take_forgotten();
        if !keys.is_empty() {
            // A journal that is behind looks for them once more after the next start.
            let _ = self.forgotten.try_send(Forgotten { target: step.target, keys });
        }
    }

    fn see(&mut self, sighting: Sighting) {
        let owner = sighting.target.parse().ok().map(TargetId::new);
        if let Some(target) = owner.and_then(|owner| self.targets.get_mut(&owner)) {
            target.see(sighting);
        }
    }

    /// Begins what may begin, and puts down what is to be said.
    fn go_on(&mut self) {
        let now = self.clock.now();
        while self.requests.len() < REQUESTS_MAX {
            let Some(step) = self.next_step(now) else { break };
            let cluster = self.cluster.clone();
            let body = match step.act {
                Act::Apply { digest, .. } => self.bodies.find(digest),
                _ => None,
            };
            self.requests.spawn(async move {
                let finding = carry_out(&cluster, &step, body).await;
                (step, finding)
            });
        }
        let progress_is_due = now >= self.progress_at;
        if progress_is_due {
            self.progress_at = now.saturating_add(PROGRESS_PAUSE).unwrap_or(Timestamp::MAX);
        }
        for (&id, target) in &mut self.targets {
            if let Some(report) = target.take_report(progress_is_due, now) {
                self.outbox.insert(id, report);
            }
        }
    }

    /// Targets take turns, so that a large one does not keep a small one waiting.
    fn next_step(&mut self, now: Timestamp) -> Option<Step> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let (after, until) = match self.turn {
            Some(last) => ((Excluded(last), Unbounded), (Unbounded, Included(last))),
            None => ((Unbounded, Unbounded), (Unbounded, Unbounded)),
        };
        for range in [after, until] {
            for (&id, target) in self.targets.range_mut(range) {
                let claims = &self.claims;
                if let Some(step) = target.take_step(now, |key| claims.has_another(id, key)) {
                    self.turn = Some(id);
                    return Some(step);
                }
            }
        }
        None
    }

    fn next_wake(&self) -> Timestamp {
        let is_changed = self.targets.values().any(Target::is_changed);
        let wakes = self.targets.values().filter_map(Target::next_wake).chain(is_changed.then_some(self.progress_at));
        // A free slot is not waited for by the clock: an answer that frees one is an event.
        let soonest = wakes.min().unwrap_or(Timestamp::MAX);
        let is_full = self.requests.len() >= REQUESTS_MAX;
        if is_full { soonest.max(self.progress_at) } else { soonest }
    }
}

fn log(target: &Target, step: &Step, finding: &Finding) {
    let (name, generation) = (target.name(), step.generation.get());
    match finding {
        Finding::Applied { .. } => {
            tracing::debug!(target.name = %name, generation, object = %step.key, "applied");
        }
        Finding::Gone if !matches!(step.act, Act::Look) => {
            tracing::info!(target.name = %name, generation, object = %step.key, "removed");
        }
        Finding::There { .. } | Finding::Gone => {
            tracing::debug!(target.name = %name, generation, object = %step.key, "looked at");
        }
        Finding::Exists { hint } => {
            tracing::warn!(target.name = %name, generation, object = %step.key, hint, "exists and is not ours");
        }
        Finding::Failed(error) => {
            tracing::warn!(target.name = %name, generation, object = %step.key, %error, "failed");
        }
    }
}
