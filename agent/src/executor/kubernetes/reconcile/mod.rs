//! Makes the cluster what the hub assigned to it, and keeps what is known of that.
//!
//! One task owns every target; what is to be done is decided by [`Target`], which is pure, and done by at most
//! [`REQUESTS_MAX`] requests at a time. It never waits for the hub, and one target or object never waits for another's
//! trouble. What was accepted and what each target had before comes from the journal: a new process applies it once more,
//! which changes nothing where nothing changed.

mod bodies;
mod claims;
#[cfg(test)]
mod drift_scenarios;
mod evidence;
mod guard;
mod judge;
mod owned;
mod ownership;
#[cfg(test)]
mod ownership_scenarios;
mod recheck_queue;
mod removal;
#[cfg(test)]
mod removal_scenarios;
mod retries;
#[cfg(test)]
mod scenarios;
mod step;
mod target;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::TargetId;
use bellwether_core::bundle::Entry;
use bellwether_core::drift::Drift;
use bellwether_core::journal::Journalled;
use bellwether_core::report::{Report, Verdict};
use bellwether_core::session::Action;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::backoff::chance;
use crate::clock::{self, Clock};
use crate::executor::kubernetes::client::Cluster;
use crate::executor::kubernetes::client::watch::{Kind, ObjectEvent, WatchEvent};
use crate::journal::InventoryUpdate;
use bodies::Bodies;
use claims::Claims;
use owned::{Identity, LastApplied};
use removal::Candidate;
use step::{Act, Answer, Finding, Step, carry_out};
use target::{Drifted, Past, Target};

/// Requests on their way at once: enough to hide the API server's latency, far below what its priority and fairness
/// give one client.
const REQUESTS_MAX: usize = 8;

/// What watches told and this loop has not taken. It is never busy for long; beyond that the API server holds them back.
const WATCH_EVENTS_MAX: usize = 256;

/// How often a target that is being applied says how far it is.
const PROGRESS_PAUSE: SignedDuration = SignedDuration::from_millis(500);

/// From an assignment until the kinds that it no longer needs are not watched any more: what it left is being deleted
/// meanwhile, and the next one may want them again.
const SWEEP_PAUSE: SignedDuration = SignedDuration::from_mins(2);

/// What was begun when the stop came may end: a request's deadline is longer, but few come near it.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// The ways to and from the link.
pub(crate) struct Ports {
    pub(crate) journalled: mpsc::Receiver<Journalled>,
    pub(crate) updates: mpsc::Sender<InventoryUpdate>,
    pub(crate) to_hub: mpsc::Sender<Outbound>,
}

/// What the hub is told.
#[derive(Debug)]
pub(crate) enum Outbound {
    Report(Report),
    Drift(Drift),
}

/// Drifts that the link has not taken: it takes none while the hub is away. Of more, the oldest are forgotten; what they
/// were about has been dealt with.
const DRIFTS_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("a request or a watch broke down")]
    Broken(#[from] JoinError),
    #[error("a watch ended by itself")]
    WatchEnded,
}

struct Reconciler {
    cluster: Cluster,
    /// What the agent is installed in: no target's objects are there.
    home: Arc<str>,
    clock: Clock,
    targets: BTreeMap<TargetId, Target>,
    bodies: Bodies,
    claims: Claims,
    requests: JoinSet<Box<(Step, Answer)>>,
    /// The target that had the last turn: the next one is first in line.
    turn: Option<TargetId>,
    watched: BTreeMap<Kind, AbortHandle>,
    /// When watches are ended that nobody needs any more.
    sweep_at: Option<Timestamp>,
    watches: JoinSet<()>,
    /// Kinds of which it is not known how their objects stand.
    not_synced: BTreeSet<Kind>,
    watch_events: mpsc::Sender<WatchEvent>,
    /// What the journal has not taken yet.
    updates: BTreeMap<TargetId, InventoryUpdate>,
    /// Reports that the link has not taken yet; newer replaces older, so there is at most one for each target.
    reports: BTreeMap<TargetId, Report>,
    drifts: VecDeque<Drift>,
    progress_at: Timestamp,
}

enum Event<'a> {
    Journalled(Journalled),
    Answered(Result<Box<(Step, Answer)>, JoinError>),
    Watched(WatchEvent),
    WatchEnded(Result<(), JoinError>),
    LinkWritable(mpsc::Permit<'a, Outbound>),
    JournalWritable(mpsc::Permit<'a, InventoryUpdate>),
    Ticked,
}

/// Runs until the stop, then lets what is on its way end. `inventory` is what the process before accepted.
pub(crate) async fn serve(
    cluster: Cluster,
    home: Arc<str>,
    clock: Clock,
    inventory: Vec<Journalled>,
    ports: Ports,
    stop: CancellationToken,
) -> Result<(), ReconcileError> {
    let Ports { mut journalled, updates, to_hub } = ports;
    let (watch_events, mut watched) = mpsc::channel(WATCH_EVENTS_MAX);
    let mut reconciler = Reconciler::new(cluster, home, clock, watch_events);
    for journalled in inventory {
        reconciler.accept(journalled);
    }
    loop {
        reconciler.schedule();
        let wake = reconciler.next_wake();
        let event = tokio::select! {
            () = stop.cancelled() => break,
            Some(message) = journalled.recv() => Event::Journalled(message),
            Some(answered) = reconciler.requests.join_next() => Event::Answered(answered),
            Some(event) = watched.recv() => Event::Watched(event),
            Some(ended) = reconciler.watches.join_next() => Event::WatchEnded(ended),
            Ok(slot) = to_hub.reserve(), if reconciler.has_something_to_tell() => Event::LinkWritable(slot),
            Ok(slot) = updates.reserve(), if !reconciler.updates.is_empty() => Event::JournalWritable(slot),
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
    fn new(cluster: Cluster, home: Arc<str>, clock: Clock, watch_events: mpsc::Sender<WatchEvent>) -> Self {
        Self {
            cluster,
            home,
            clock,
            targets: BTreeMap::new(),
            bodies: Bodies::default(),
            claims: Claims::default(),
            requests: JoinSet::new(),
            turn: None,
            watched: BTreeMap::new(),
            sweep_at: None,
            watches: JoinSet::new(),
            not_synced: BTreeSet::new(),
            watch_events,
            updates: BTreeMap::new(),
            reports: BTreeMap::new(),
            drifts: VecDeque::new(),
            progress_at: clock.now(),
        }
    }

    fn handle(&mut self, event: Event<'_>) -> Result<(), ReconcileError> {
        match event {
            Event::Journalled(journalled) => self.accept(journalled),
            Event::Answered(answered) => {
                let (step, answer) = *answered?;
                self.record(&step, answer);
            }
            Event::Watched(event) => self.see(event),
            Event::WatchEnded(Err(ended)) if ended.is_cancelled() => {}
            Event::WatchEnded(ended) => {
                ended?;
                return Err(ReconcileError::WatchEnded);
            }
            Event::LinkWritable(slot) => {
                // Reports first: a rollout may wait for one.
                let report = self.reports.pop_first().map(|(_, report)| Outbound::Report(report));
                if let Some(to_hub) = report.or_else(|| self.drifts.pop_front().map(Outbound::Drift)) {
                    slot.send(to_hub);
                }
            }
            Event::JournalWritable(slot) => {
                if let Some((_, update)) = self.updates.pop_first() {
                    slot.send(update);
                }
            }
            Event::Ticked => {}
        }
        Ok(())
    }

    fn has_something_to_tell(&self) -> bool {
        !self.reports.is_empty() || !self.drifts.is_empty()
    }

    fn accept(&mut self, journalled: Journalled) {
        let Journalled { assignment, before, applied, objects } = journalled;
        tracing::info!(
            target.name = %assignment.name,
            generation = assignment.generation.get(),
            action = assignment.action.as_str(),
            objects = assignment.manifest.entries().len(),
            trace.id = assignment.trace.map(tracing::field::display),
            "accepted"
        );
        let id = assignment.target;
        self.plan_sweep();
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
                let last_applied = applied.into_iter().map(|applied| {
                    let body = objects.get(&applied.digest).map(|body| Arc::clone(body).into());
                    let last_applied =
                        LastApplied { uid: applied.uid, digest: applied.digest, body, finished: applied.finished };
                    (Identity::of(&applied.key), last_applied)
                });
                let past = Past { before, last_applied: last_applied.collect() };
                let mut target = Target::new(assignment, past, phase);
                for kind in &self.not_synced {
                    target.set_not_synced(kind, true);
                }
                self.targets.insert(id, target);
            }
        }
    }

    fn record(&mut self, step: &Step, answer: Answer) {
        let Some(target) = self.targets.get_mut(&step.target) else { return };
        log(target, step, &answer);
        if matches!(answer.finding, Finding::Applied { .. } | Finding::Kept { .. }) {
            let kind = Kind::of(&step.key);
            if !self.watched.contains_key(&kind) {
                let watch = self.cluster.clone().watch(kind.clone(), self.clock, self.watch_events.clone());
                self.watched.insert(kind, self.watches.spawn(watch));
            }
        }
        target.record(step, answer, self.clock.now(), chance());
        for drifted in target.take_drifts() {
            if self.drifts.len() == DRIFTS_MAX {
                self.drifts.pop_front();
            }
            self.drifts.push_back(drift(step.target, drifted));
        }
        self.learn(step.target);
    }

    fn learn(&mut self, id: TargetId) {
        let Some(learned) = self.targets.get_mut(&id).map(Target::take_learned) else { return };
        if !(learned.applied.is_empty() && learned.gone.is_empty()) {
            if !learned.gone.is_empty() {
                self.plan_sweep();
            }
            let update = self.updates.entry(id).or_insert_with(|| InventoryUpdate::about(id));
            update.applied.extend(learned.applied);
            update.gone.extend(learned.gone);
        }
    }

    fn plan_sweep(&mut self) {
        self.sweep_at = Some(self.clock.now().saturating_add(SWEEP_PAUSE).unwrap_or(Timestamp::MAX));
    }

    /// Ends the watches of kinds that no target has any more.
    fn sweep_watches(&mut self) {
        let wanted: BTreeSet<_> = self.targets.values().flat_map(Target::kinds).collect();
        for (kind, watch) in self.watched.extract_if(.., |kind, _| !wanted.contains(kind)) {
            watch.abort();
            self.not_synced.remove(&kind);
            for target in self.targets.values_mut() {
                target.set_not_synced(&kind, false);
            }
        }
    }

    fn see(&mut self, event: WatchEvent) {
        let now = self.clock.now();
        match event {
            WatchEvent::Object(object_event) => self.see_one(&object_event, now),
            WatchEvent::Listed { kind, began_at, uids } => {
                self.not_synced.remove(&kind);
                for target in self.targets.values_mut() {
                    target.set_not_synced(&kind, false);
                    target.see_all(&kind, began_at, &uids, now);
                }
            }
            // The last words of a watch that was ended.
            WatchEvent::NotSynced { kind } if !self.watched.contains_key(&kind) => {}
            WatchEvent::NotSynced { kind } => {
                for target in self.targets.values_mut() {
                    target.set_not_synced(&kind, true);
                }
                self.not_synced.insert(kind);
            }
        }
    }

    /// To the target that the object is known by, and to the one that its label names: anybody may edit a label.
    fn see_one(&mut self, object_event: &ObjectEvent, now: Timestamp) {
        let labelled = object_event.target.parse().map(TargetId::new).ok();
        let concerned: Vec<_> = self
            .targets
            .iter()
            .filter(|(id, target)| Some(**id) == labelled || target.follows(object_event.uid))
            .map(|(id, _)| *id)
            .collect();
        for id in concerned {
            let Some(target) = self.targets.get_mut(&id) else { continue };
            target.see(object_event.clone(), now);
            self.learn(id);
        }
    }

    /// Begins what may begin, and puts down what is to be said.
    fn schedule(&mut self) {
        let now = self.clock.now();
        while self.requests.len() < REQUESTS_MAX {
            let Some(step) = self.next_step(now) else { break };
            let (cluster, home) = (self.cluster.clone(), Arc::clone(&self.home));
            let body = match step.act {
                Act::Apply { digest, .. } | Act::Correct { digest, .. } => self.bodies.find(digest),
                _ => None,
            };
            self.requests.spawn(async move {
                let answer = match guard::refusal(&home, &step, body.as_ref()) {
                    Some(refused) => refused,
                    None => carry_out(&cluster, &step, body).await,
                };
                Box::new((step, answer))
            });
        }
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_at = None;
            self.sweep_watches();
        }
        let progress_is_due = now >= self.progress_at;
        if progress_is_due {
            self.progress_at = now.saturating_add(PROGRESS_PAUSE).unwrap_or(Timestamp::MAX);
        }
        for (&id, target) in &mut self.targets {
            if let Some(report) = target.take_report(progress_is_due, now) {
                log_report(target, &report);
                self.reports.insert(id, report);
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
        let soonest = wakes.chain(self.sweep_at).min().unwrap_or(Timestamp::MAX);
        let is_full = self.requests.len() >= REQUESTS_MAX;
        if is_full { soonest.max(self.progress_at) } else { soonest }
    }
}

fn drift(target: TargetId, drifted: Drifted) -> Drift {
    let Drifted { key, found_at, found, response } = drifted;
    Drift {
        id: clock::new_id(),
        target,
        object: key,
        found_at,
        change: found.change,
        response,
        manager: found.manager,
        operation: found.operation,
        fields: found.fields,
    }
}

/// Of how far it is on its way there, the counts in the reports tell.
fn log_report(target: &Target, report: &Report) {
    if matches!(report.verdict, Verdict::Progressing | Verdict::Unknown) {
        return;
    }
    tracing::info!(
        target.name = %target.name(),
        generation = report.generation.get(),
        verdict = %report.verdict,
        applied = report.applied,
        trace.id = target.trace().map(tracing::field::display),
        "reported"
    );
}

fn log(target: &Target, step: &Step, answer: &Answer) {
    let (name, generation) = (target.name(), step.generation.get());
    if let Some(found) = &answer.drift {
        tracing::info!(
            target.name = %name,
            object = %step.key,
            change = found.change.as_str(),
            manager = found.manager.as_deref().unwrap_or_default(),
            fields = ?found.fields,
            "drift"
        );
    }
    match &answer.finding {
        Finding::Applied { .. } => {
            tracing::debug!(target.name = %name, generation, object = %step.key, "applied");
        }
        Finding::Gone if !matches!(step.act, Act::Inspect) => {
            tracing::info!(target.name = %name, generation, object = %step.key, "removed");
        }
        Finding::There { .. } | Finding::Gone | Finding::Kept { .. } | Finding::Finished => {
            tracing::debug!(target.name = %name, generation, object = %step.key, "inspected");
        }
        Finding::Exists { hint } => {
            tracing::warn!(target.name = %name, generation, object = %step.key, hint, "exists and is not ours");
        }
        Finding::Failed(error) => {
            tracing::warn!(target.name = %name, generation, object = %step.key, %error, "failed");
        }
    }
}
