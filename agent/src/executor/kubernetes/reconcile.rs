//! Makes the cluster what the hub assigned to it: the loop around [`Targets`], which decides.
//!
//! One task feeds it with what comes from the journal, from requests and from watches, and has at most [`REQUESTS_MAX`] of
//! its steps carried out at a time, beside those that hang. It never waits for the hub, and one target or object never waits for another's
//! trouble. What was accepted and what each target had before comes from the journal: a new process applies it once more,
//! which changes nothing where nothing changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::TargetId;
use bellwether_core::assignment::{Holds, Reason, Shown};
use bellwether_core::drift::Response;
use bellwether_core::dry_run::{AT_ONCE_MAX, DryRun};
use bellwether_core::journal::Journalled;
use bellwether_core::object::OWNER_ANNOTATION;
use bellwether_core::policy::{Deletions, Refusal, Standing, Ticket};
use bellwether_core::reconcile::{
    self, Act, Answer, Body, ClusterError, Event, Finding, Kind, Metadata, Permit, Step, Targets, WatchEvent,
};
use bellwether_core::report::{Report, Verdict};
use bellwether_core::session::Assignment;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::assignments::Told;
use super::carry_out::carry_out;
use super::client::Cluster;
use super::dry_run::DryRunner;
use super::keyring::Keyring;
use crate::backoff::chance;
use crate::clock::{self, Clock};
use crate::executor::{Outbound, Outbox, Ports, Written};
use crate::journal::{Fence, InventoryUpdate, JournalError};
use crate::policy;

/// Requests on their way at once: enough to hide the API server's latency, far below what its priority and fairness
/// give one client.
const REQUESTS_MAX: usize = 8;

/// A request that takes longer waits for something that hangs, an admission webhook as a rule. It no longer counts among
/// those: what hangs is not what the API server works at.
const HANGING: SignedDuration = SignedDuration::from_secs(2);

/// Of one target, so that the rest goes on in others.
const UNDER_WAY_MAX: usize = 16;

/// All together. Each keeps its object in memory.
const UNDER_WAY_MAX_OF_ALL: usize = 64;

/// What watches told and this loop has not taken. It is never busy for long; beyond that the API server holds them back.
const WATCH_EVENTS_MAX: usize = 256;

/// How often a target that is being applied says how far it is.
const PROGRESS_PAUSE: SignedDuration = SignedDuration::from_millis(500);

/// From an assignment until the kinds that it no longer needs are not watched any more: what it left is being deleted
/// meanwhile, and the next one may want them again.
const SWEEP_PAUSE: SignedDuration = SignedDuration::from_mins(2);

/// What was begun when the stop came may end: a request's deadline is longer, but few come near it.
const DRAIN_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("a request or a watch broke down")]
    Broken(#[from] JoinError),
    #[error("a watch ended by itself")]
    WatchEnded,
    #[error("this agent was replaced")]
    Replaced(#[from] JournalError),
}

struct Reconciler {
    cluster: Cluster,
    keyring: Arc<Keyring>,
    fence: Fence,
    /// What the agent is installed in: no target's objects are there.
    home: Arc<str>,
    /// What the cluster's owner allows.
    policy: watch::Receiver<Arc<policy::Told>>,
    deletions: Deletions,
    /// Counted for what is on its way.
    counted: HashMap<Id, Ticket>,
    clock: Clock,
    targets: Targets,
    requests: JoinSet<Done>,
    begun_at: HashMap<Id, Timestamp>,
    watched: BTreeMap<Kind, AbortHandle>,
    /// When watches are ended that nobody needs any more.
    sweep_at: Option<Timestamp>,
    watches: JoinSet<()>,
    watch_events: mpsc::Sender<WatchEvent>,
    dry_runner: DryRunner,
    dry_runs: JoinSet<()>,
    to_hub: mpsc::Sender<Outbound>,
    outbox: Outbox,
    progress_at: Timestamp,
    /// `installation/project/target`, as the objects of each say it.
    owners: BTreeMap<TargetId, String>,
    /// It is known who is suspended; until then, nothing is begun.
    may_begin: bool,
}

/// A step, what came of it, and the policy that it was under; an error when this agent was replaced.
type Done = Result<(Box<Step>, Answer, Arc<policy::Told>), JournalError>;

/// What the loop woke up for.
enum Wake<'a> {
    Written(Written),
    Answered(Result<(Id, Done), JoinError>),
    Watched(WatchEvent),
    Asked((Instant, DryRun)),
    DryRan(Result<(), JoinError>),
    WatchEnded(Result<(), JoinError>),
    LinkWritable(mpsc::Permit<'a, Outbound>),
    JournalWritable(mpsc::Permit<'a, InventoryUpdate>),
    ShownWritable(mpsc::Permit<'a, Told>),
    Held(Holds),
    PolicyChanged,
    Ticked,
}

/// Runs until the stop, then lets what is on its way end. `inventory` is what the process before accepted.
pub(crate) async fn serve(
    (cluster, fence): (Cluster, Fence),
    (home, policy): (Arc<str>, watch::Receiver<Arc<policy::Told>>),
    clock: Clock,
    inventory: Vec<Journalled>,
    ports: Ports,
    stop: CancellationToken,
) -> Result<(), ReconcileError> {
    let Ports { mut written, mut dry_runs, updates, to_hub, shown, mut holds } = ports;
    let (watch_events, mut watched) = mpsc::channel(WATCH_EVENTS_MAX);
    let mut reconciler = Reconciler::new((cluster, fence), (home, policy), clock, (watch_events, to_hub.clone()));
    for journalled in inventory {
        reconciler.accept(journalled);
    }
    loop {
        reconciler.schedule();
        let wake_at = reconciler.next_wake();
        let wake = tokio::select! {
            () = stop.cancelled() => break,
            Some(message) = written.recv() => Wake::Written(message),
            Some(answered) = reconciler.requests.join_next_with_id() => Wake::Answered(answered),
            Some(event) = watched.recv() => Wake::Watched(event),
            Some(asked) = dry_runs.recv(), if reconciler.dry_runs.len() < AT_ONCE_MAX => Wake::Asked(asked),
            Some(ended) = reconciler.dry_runs.join_next() => Wake::DryRan(ended),
            Some(ended) = reconciler.watches.join_next() => Wake::WatchEnded(ended),
            Ok(slot) = to_hub.reserve(), if reconciler.outbox.has_outbound() => Wake::LinkWritable(slot),
            Ok(slot) = updates.reserve(), if reconciler.outbox.has_updates() => Wake::JournalWritable(slot),
            Ok(slot) = shown.reserve(), if reconciler.outbox.has_shown() => Wake::ShownWritable(slot),
            Ok(()) = holds.changed() => Wake::Held(holds.borrow_and_update().clone().unwrap_or_default()),
            Ok(()) = reconciler.policy.changed() => Wake::PolicyChanged,
            () = clock.sleep_until(wake_at) => Wake::Ticked,
        };
        reconciler.handle(wake)?;
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
        (cluster, fence): (Cluster, Fence),
        (home, policy): (Arc<str>, watch::Receiver<Arc<policy::Told>>),
        clock: Clock,
        (watch_events, to_hub): (mpsc::Sender<WatchEvent>, mpsc::Sender<Outbound>),
    ) -> Self {
        let keyring = Arc::new(Keyring::new(cluster.clone(), Arc::clone(&home)));
        Self {
            dry_runner: DryRunner::new(
                (cluster.clone(), Arc::clone(&keyring), fence.clone()),
                Arc::clone(&home),
                policy.clone(),
            ),
            dry_runs: JoinSet::new(),
            to_hub,
            keyring,
            cluster,
            fence,
            home,
            policy,
            deletions: Deletions::default(),
            counted: HashMap::new(),
            clock,
            targets: Targets::bounded(UNDER_WAY_MAX),
            requests: JoinSet::new(),
            begun_at: HashMap::new(),
            watched: BTreeMap::new(),
            sweep_at: None,
            watches: JoinSet::new(),
            watch_events,
            outbox: Outbox::default(),
            progress_at: clock.now(),
            owners: BTreeMap::new(),
            may_begin: false,
        }
    }

    fn handle(&mut self, wake: Wake<'_>) -> Result<(), ReconcileError> {
        match wake {
            Wake::Written(Written::Assigned(journalled)) => self.accept(journalled),
            Wake::Written(Written::Ended(target)) => {
                self.plan_sweep();
                self.owners.remove(&target);
                self.outbox.show(target, Told::Ended(target));
                self.tell(Event::Ended(target));
            }
            Wake::Written(Written::Learned(target, number)) => self.tell(Event::Written(target, number)),
            Wake::Answered(answered) => {
                let (id, answered) = answered?;
                self.begun_at.remove(&id);
                let (step, answer, told) = answered?;
                if let Some(ticket) = self.counted.remove(&id).filter(|_| deleted_nothing(&answer.finding)) {
                    self.deletions.give_back(&ticket);
                }
                let is_refused = matches!(answer.finding, Finding::Failed(ClusterError::Policy(_)));
                let is_outdated = is_refused && told != *self.policy.borrow();
                self.record(step, answer);
                if is_outdated {
                    // It was on its way when the others were told.
                    self.tell(Event::PolicyChanged);
                }
            }
            Wake::Asked((until, asked)) => self.begin_dry_run(asked, until),
            Wake::DryRan(ended) => ended?,
            // The last words of a watch that was ended.
            Wake::Watched(WatchEvent::Freshness { kind, .. }) if !self.watched.contains_key(&kind) => {}
            Wake::Watched(event) => self.tell(Event::Watched(event)),
            Wake::WatchEnded(Err(ended)) if ended.is_cancelled() => {}
            Wake::WatchEnded(ended) => {
                ended?;
                return Err(ReconcileError::WatchEnded);
            }
            Wake::LinkWritable(slot) => {
                if let Some(outbound) = self.outbox.take_outbound() {
                    slot.send(outbound);
                }
            }
            Wake::JournalWritable(slot) => {
                if let Some(update) = self.outbox.take_update() {
                    slot.send(update);
                }
            }
            Wake::ShownWritable(slot) => {
                if let Some(told) = self.outbox.take_shown() {
                    slot.send(told);
                }
            }
            Wake::Held(holds) => {
                self.may_begin = true;
                log_holds(&holds);
                self.tell(Event::Held(holds));
            }
            Wake::PolicyChanged => self.tell(Event::PolicyChanged),
            Wake::Ticked => {}
        }
        Ok(())
    }

    /// Lets it be decided upon, and keeps what is to be told of it.
    fn tell(&mut self, event: Event) {
        let told = self.targets.handle(event, self.clock.now(), chance());
        for drifted in told.drifts {
            if drifted.response == Response::Corrected {
                let by = drifted.found.manager.as_deref().unwrap_or("somebody");
                let text = format!("{} was {} by {by}", drifted.key, drifted.found.change.as_str());
                self.outbox.tell_of(Told::Happened(drifted.target, Reason::DriftCorrected, text));
            }
            self.outbox.drift(drifted.with_id(clock::new_id()));
        }
        for update in told.updates {
            if !update.gone.is_empty() {
                self.plan_sweep();
            }
            self.outbox.learn(update);
        }
    }

    fn accept(&mut self, journalled: Journalled) {
        log_accepted(&journalled.assignment);
        let owner = |body: &Arc<[u8]>| Metadata::of(body).ok()?.annotations.remove(OWNER_ANNOTATION);
        if let Some(owner) = journalled.objects.values().find_map(owner) {
            self.owners.insert(journalled.assignment.target, owner);
        }
        self.plan_sweep();
        self.tell(Event::Accepted(journalled));
    }

    fn record(&mut self, step: Box<Step>, answer: Answer) {
        let Some(assignment) = self.targets.assignment(step.target) else { return };
        log_answer(assignment, &step, &answer);
        if matches!((&answer.finding, &step.act), (Finding::Gone, Act::Delete { .. })) {
            let told = Told::Happened(step.target, Reason::Pruned, format!("{} is gone", step.key));
            self.outbox.tell_of(told);
        }
        if matches!(answer.finding, Finding::Applied { .. } | Finding::AsFound { .. } | Finding::Kept { .. }) {
            self.watch(Kind::of(&step.key));
        }
        self.tell(Event::Answered(step, answer));
    }

    fn watch(&mut self, kind: Kind) {
        if !self.watched.contains_key(&kind) {
            let watch = self.cluster.clone().watch(kind.clone(), self.clock, self.watch_events.clone());
            self.watched.insert(kind, self.watches.spawn(watch));
        }
    }

    fn plan_sweep(&mut self) {
        self.sweep_at = Some(self.clock.now().saturating_add(SWEEP_PAUSE).unwrap_or(Timestamp::MAX));
    }

    /// Ends the watches of kinds that no target has any more.
    fn sweep_watches(&mut self, now: Timestamp) {
        let wanted = self.targets.kinds();
        for (kind, watch) in self.watched.extract_if(.., |kind, _| !wanted.contains(kind)) {
            watch.abort();
            self.targets.unwatch(&kind, now);
        }
    }

    /// Begins what may begin, and puts down what is to be said.
    fn schedule(&mut self) {
        let now = self.clock.now();
        while self.may_begin && self.slot_at(now) <= now {
            let Some(step) = self.targets.take_step(now) else { break };
            self.begin(Box::new(step), now);
        }
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_at = None;
            self.sweep_watches(now);
        }
        let progress_is_due = now >= self.progress_at;
        if progress_is_due {
            self.progress_at = now.saturating_add(PROGRESS_PAUSE).unwrap_or(Timestamp::MAX);
        }
        for report in self.targets.take_reports(progress_is_due, now) {
            if let Some(assignment) = self.targets.assignment(report.target) {
                log_report(assignment, &report);
                let owner = self.owners.get(&report.target).map(String::as_str);
                self.outbox.show(report.target, Told::Stands(Shown::of(assignment, owner, &report)));
            }
            self.outbox.report(report);
        }
    }

    /// When another request may begin, if none ends before.
    fn slot_at(&self, now: Timestamp) -> Timestamp {
        if self.begun_at.len() >= UNDER_WAY_MAX_OF_ALL {
            return Timestamp::MAX;
        }
        let hang_at = self.begun_at.values().map(|&at| at.saturating_add(HANGING).unwrap_or(Timestamp::MAX));
        let quick: Vec<_> = hang_at.filter(|&at| at > now).collect();
        if quick.len() < REQUESTS_MAX { now } else { quick.into_iter().min().unwrap_or(now) }
    }

    fn begin(&mut self, step: Box<Step>, now: Timestamp) {
        let cluster = self.cluster.acting_for(&step.acts_as);
        let (fence, home) = (self.fence.clone(), Arc::clone(&self.home));
        let keyring = Arc::clone(&self.keyring);
        let body = self.targets.body(&step);
        let told = Arc::clone(&self.policy.borrow());
        let (ticket, waits) = self.count(&told.standing, &step, now);
        let request = self.requests.spawn(async move {
            if let Some(refused) = reconcile::refusal(&home, &step, body.as_ref()) {
                return Ok((step, refused, told));
            }
            let permit = match permit(&cluster, &told.standing, &step, body.as_ref()).await {
                Ok(permit) => permit,
                Err(error) => return Ok((step, Finding::Failed(error).into(), told)),
            };
            if let Some(refusal) = permit.step.clone().or(waits) {
                return Ok((step, Finding::Failed(ClusterError::Policy(refusal)).into(), told));
            }
            let answer = carry_out((&cluster, &keyring, &fence), &permit, &step, body).await?;
            Ok((step, answer, told))
        });
        self.begun_at.insert(request.id(), now);
        self.counted.extend(ticket.map(|ticket| (request.id(), ticket)));
    }

    /// Of a deletion: that it is counted, or why it waits.
    fn count(&mut self, standing: &Standing, step: &Step, now: Timestamp) -> (Option<Ticket>, Option<Refusal>) {
        let Standing::Policy(policy) = standing else { return (None, None) };
        let Act::Delete { uid } = step.act else { return (None, None) };
        match self.deletions.take(policy, (step.project.as_ref(), uid), now) {
            Ok(ticket) => (Some(ticket), None),
            Err(refusal) => (None, Some(refusal)),
        }
    }

    /// What is known of its target now is what it is carried out by.
    fn begin_dry_run(&mut self, asked: DryRun, until: Instant) {
        let steps = self.targets.steps_of_dry_run(&asked);
        let beside = self.targets.secrets_beside(&asked);
        tracing::info!(target.id = %asked.target, dry_run.id = %asked.id, objects = steps.len(), "asked what would change");
        let (runner, to_hub) = (self.dry_runner.clone(), self.to_hub.clone());
        self.dry_runs.spawn(async move {
            let ran = runner.run(asked, (steps, beside), until).await;
            // With nobody to take it, the agent ends.
            let _ = to_hub.send(Outbound::DryRan(ran)).await;
        });
    }

    fn next_wake(&self) -> Timestamp {
        let progress_at = self.targets.has_changed().then_some(self.progress_at);
        // A free slot is not waited for by the clock, but for those that hang: an answer that frees one is an event.
        let step_at = self.targets.next_wake().filter(|_| self.may_begin);
        let wakes = [step_at, progress_at, self.sweep_at];
        let soonest = wakes.into_iter().flatten().min().unwrap_or(Timestamp::MAX);
        let now = self.clock.now();
        let slot_at = self.slot_at(now);
        if slot_at > now { soonest.max(self.progress_at).min(slot_at) } else { soonest }
    }
}

fn log_holds(holds: &Holds) {
    if let Some(suspension) = &holds.all {
        tracing::info!(%suspension, "all targets are held");
    }
    for (target, suspension) in &holds.targets {
        tracing::info!(target.id = %target.as_uuid(), %suspension, "a target is held");
    }
}

/// Whether an object's kind has namespaces is asked of the API server, whatever is written of it.
pub(super) async fn is_namespaced(cluster: &Cluster, standing: &Standing, step: &Step) -> Result<bool, ClusterError> {
    Ok(!Permit::asks_for_scope(standing, step) || cluster.is_namespaced(&step.key).await?)
}

async fn permit(
    cluster: &Cluster,
    standing: &Standing,
    step: &Step,
    body: Option<&Body>,
) -> Result<Permit, ClusterError> {
    Ok(Permit::of(standing, step, body, is_namespaced(cluster, standing, step).await?))
}

/// Of a step that was to delete something. An answer that never came may have been that it is gone.
fn deleted_nothing(finding: &Finding) -> bool {
    match finding {
        Finding::Gone | Finding::There { is_leaving: true, .. } => false,
        Finding::Failed(error) => !matches!(error, ClusterError::Retry { .. } | ClusterError::NotFound),
        _ => true,
    }
}

fn log_accepted(assignment: &Assignment) {
    tracing::info!(
        target.name = %assignment.name,
        generation = assignment.generation.get(),
        action = assignment.action.as_str(),
        objects = assignment.manifest.entries().len(),
        trace.id = assignment.trace.map(tracing::field::display),
        "accepted"
    );
}

/// Of how far it is on its way there, the counts in the reports tell.
fn log_report(assignment: &Assignment, report: &Report) {
    if matches!(report.verdict, Verdict::Progressing | Verdict::Unknown) {
        return;
    }
    tracing::info!(
        target.name = %assignment.name,
        generation = report.generation.get(),
        verdict = %report.verdict,
        applied = report.applied,
        trace.id = assignment.trace.map(tracing::field::display),
        "reported"
    );
}

fn log_answer(assignment: &Assignment, step: &Step, answer: &Answer) {
    let (name, generation) = (&assignment.name, step.generation.get());
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
    if !answer.replaced.is_empty() {
        tracing::info!(target.name = %name, generation, object = %step.key, fields = ?answer.replaced, "replaced");
    }
    match &answer.finding {
        Finding::Applied { .. } => {
            tracing::debug!(target.name = %name, generation, object = %step.key, "applied");
        }
        Finding::Gone if !matches!(step.act, Act::Inspect) => {
            tracing::info!(target.name = %name, generation, object = %step.key, "removed");
        }
        Finding::Released => {
            tracing::info!(target.name = %name, generation, object = %step.key, "left, and no longer this target's");
        }
        Finding::EndedUnseen => {
            tracing::warn!(target.name = %name, generation, object = %step.key, "gone, and nobody saw how it ended");
        }
        Finding::AsFound { .. }
        | Finding::There { .. }
        | Finding::Unlabelled
        | Finding::Gone
        | Finding::Kept { .. }
        | Finding::Finished => {
            tracing::debug!(target.name = %name, generation, object = %step.key, "inspected");
        }
        Finding::Exists { hint } => {
            tracing::warn!(target.name = %name, generation, object = %step.key, hint, "exists and is not ours");
        }
        Finding::Failed(error) => {
            tracing::warn!(target.name = %name, generation, object = %step.key, %error, "failed");
        }
        Finding::Unasked(error) => {
            tracing::warn!(target.name = %name, generation, object = %step.key, %error, "not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_without_an_answer_may_have_deleted_something_and_a_refused_one_has_not() {
        let failed = |error: ClusterError| deleted_nothing(&Finding::Failed(error));

        assert!(!deleted_nothing(&Finding::Gone) && !failed(ClusterError::retry("no answer")));
        assert!(failed(ClusterError::Forbidden { message: String::new() }) && deleted_nothing(&Finding::Unlabelled));
        assert!(deleted_nothing(&Finding::Unasked(ClusterError::retry("no answer"))), "nothing was sent");
    }
}
