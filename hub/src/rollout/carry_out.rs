//! Decisions → rows. To the letter: what is written here was decided in `core`.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::audit::{Action, Event, Outcome};
use bellwether_core::rollout::{
    Decision, Kind, Member, MemberState, Replaced, RolloutSnapshot, RolloutState, left_behind, prunable,
};
use bellwether_core::session;
use bellwether_core::{ClusterId, Digest, Generation, ObjectKey};
use jiff::Timestamp;

use crate::Hub;
use crate::process::clock;
use crate::store::StoreError;
use crate::store::assignments::{self, Assignment};
use crate::store::intents::{IntentRow, Verb};
use crate::store::rollouts::{self, Rollout as Row};
use crate::store::targets::Target;
use crate::store::wanted;
use crate::store::work::Stage;
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;

/// What decisions are carried out on: in memory, but for assignments, which get their generations from the database.
pub(super) struct RolloutExecutor<'a, 'c> {
    hub: &'a Hub,
    change: &'a mut Change<'c>,
    target: &'a Target,
    row: &'a mut Row,
    pub(super) snapshot: RolloutSnapshot,
    /// Not answered yet, oldest first, of whatever rollout.
    open: &'a mut Vec<IntentRow>,
    events: Vec<Event>,
    /// How many assignments this reconcile has written.
    pub(super) assigned: usize,
    now: Timestamp,
}

/// An assignment that was decided.
struct Given {
    cluster: ClusterId,
    digest: Digest,
    returning: bool,
}

impl<'a, 'c> RolloutExecutor<'a, 'c> {
    pub(super) async fn load(
        hub: &'a Hub,
        change: &'a mut Change<'c>,
        target: &'a Target,
        row: &'a mut Row,
        open: &'a mut Vec<IntentRow>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let snapshot = super::rows::load_snapshot(change, row, open, now).await?;
        Ok(Self { hub, change, target, row, snapshot, open, events: Vec::new(), assigned: 0, now })
    }

    /// After what changed was written: reads the members that decisions can be about by now.
    pub(super) async fn read(&mut self) -> Result<(), StoreError> {
        self.snapshot = super::rows::load_snapshot(self.change, self.row, self.open, self.now).await?;
        Ok(())
    }

    /// Writes what changed since it was read.
    pub(super) async fn write(&mut self) -> Result<(), StoreError> {
        let id = self.row.id;
        if let Some(changed) = self.snapshot.changed_row() {
            rollouts::mark_state(self.change, id, changed.state, &changed.reason, self.now).await?;
            (self.row.state, self.row.state_since) = (changed.state, changed.since);
            self.row.reason.clone_from(&changed.reason);
        }
        let has_ended = self.snapshot.changed_row().is_some_and(|changed| changed.state.leaves_out());
        for (place, wave) in self.snapshot.changed_waves() {
            rollouts::mark_wave(self.change, id, place, wave).await?;
        }
        let members: Vec<_> = self.snapshot.changed_members().collect();
        if !members.is_empty() {
            rollouts::mark_members(self.change, id, &members).await?;
            wanted::mark_aside(self.change, self.target.id, id, &members, self.now).await?;
        }
        if has_ended {
            wanted::mark_left_out(self.change, self.target.id, id, self.now).await?;
            if self.row.kind == Kind::Revision {
                // Whoever joined meanwhile was rendered for at its commit only, and is to have what the others run.
                self.change.tell(Stage::Bundle, &[self.target.id.as_uuid()], self.now, None).await?;
            }
        }
        let is_settled = |member: &&Member| {
            matches!(member.state, MemberState::Healthy | MemberState::Failed | MemberState::RolledBack)
        };
        for member in members.into_iter().filter(is_settled) {
            self.note_settled(member);
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            self.log(event);
        }
        self.change.audit_all(&events).await
    }

    /// Where the way of a change ends, in one cluster.
    fn note_settled(&self, member: &Member) {
        let state = rollouts::text(member.state);
        tracing::info!(
            target.name = %self.target.name,
            rollout.id = %self.row.id,
            cluster.id = %member.cluster,
            generation = member.generation.map(Generation::get),
            state,
            reason = member.reason,
            trace.id = self.row.trace_id,
            "a cluster has settled"
        );
        if let Some(assigned_at) = member.assigned_at {
            self.hub.metrics.note_settled(state, self.now.duration_since(assigned_at));
        }
    }

    fn log(&self, event: &Event) {
        tracing::info!(
            target.name = %self.target.name,
            rollout.id = %self.row.id,
            wave = event.detail["wave"].as_str(),
            reason = event.reason,
            trace.id = self.row.trace_id,
            "{}",
            event.action
        );
    }

    pub(super) async fn carry_out(&mut self, decisions: Vec<Decision>) -> Result<(), StoreError> {
        let mut given = Vec::new();
        for decision in decisions {
            self.tell_of(&decision).await?;
            self.snapshot.carry_out(&decision, self.now);
            match decision {
                Decision::Assign { cluster, digest } => given.push(Given { cluster, digest, returning: false }),
                Decision::Return { cluster, digest } => given.push(Given { cluster, digest, returning: true }),
                _ => {}
            }
        }
        self.assign(given).await
    }

    /// Whoever asked has the answer, and the log its entry.
    async fn tell_of(&mut self, decision: &Decision) -> Result<(), StoreError> {
        match decision {
            Decision::Answer { refused } => self.answer(refused.as_deref()).await?,
            Decision::Start => self.enter(Action::RolloutStarted, Outcome::Done, ""),
            Decision::Resume => self.enter(Action::RolloutResumed, Outcome::Done, ""),
            Decision::Pause { reason } => self.enter(Action::RolloutPaused, Outcome::Done, reason),
            Decision::StartRollback { reason } => self.enter(Action::RolloutRollingBack, Outcome::Done, reason),
            Decision::Finish { state, reason } => self.finish(*state, reason),
            Decision::OpenWave { wave } => self.tell_of_wave(*wave, Action::RolloutWaveOpened, ""),
            Decision::PassWave { wave, overridden } => {
                self.tell_of_wave(*wave, Action::RolloutWavePassed, overridden.as_deref().unwrap_or_default());
            }
            Decision::FailWave { wave } => self.tell_of_wave(*wave, Action::RolloutWaveFailed, ""),
            Decision::StartSoak { .. }
            | Decision::HoldSoak { .. }
            | Decision::EndSoak { .. }
            | Decision::RestartSoak { .. }
            | Decision::Assign { .. }
            | Decision::Return { .. }
            | Decision::Skip { .. }
            | Decision::Retry { .. } => {}
        }
        Ok(())
    }

    /// The oldest open intent of this rollout has its answer.
    async fn answer(&mut self, refused: Option<&str>) -> Result<(), StoreError> {
        let is_its =
            |intent: &IntentRow| intent.rollout == Some(self.row.id) && matches!(intent.verb, Verb::Rollout(_));
        let Some(place) = self.open.iter().position(is_its) else { return Ok(()) };
        let intent = self.open.remove(place);
        self.change.answer(intent.id, refused.unwrap_or("done"), self.now).await?;
        let Some(reason) = refused else { return Ok(()) };
        let mut event = self.event(Action::RolloutIntentRefused);
        event.actor = actors::token(&intent.actor);
        event.outcome = Outcome::Denied;
        reason.clone_into(&mut event.reason);
        self.events.push(event);
        Ok(())
    }

    fn enter(&mut self, action: Action, outcome: Outcome, reason: &str) {
        let mut event = self.event(action);
        event.outcome = outcome;
        reason.clone_into(&mut event.reason);
        self.events.push(event);
    }

    fn finish(&mut self, state: RolloutState, reason: &str) {
        let (action, outcome) = match state {
            RolloutState::Done => (Action::RolloutDone, Outcome::Done),
            RolloutState::Superseded => (Action::RolloutSuperseded, Outcome::Done),
            RolloutState::Cancelled => (Action::RolloutCancelled, Outcome::Done),
            _ => (Action::RolloutFailed, Outcome::Failed),
        };
        self.enter(action, outcome, reason);
        self.hub.metrics.note_ended(rollouts::text(state), self.now.duration_since(self.row.created_at));
    }

    fn tell_of_wave(&mut self, place: u32, action: Action, reason: &str) {
        let Some(wave) = self.snapshot.waves().get(place as usize) else { return };
        let mut event = self.event(action);
        reason.clone_into(&mut event.reason);
        event.detail = serde_json::json!({
            "wave": wave.name, "place": place + 1, "members": wave.members, "healthy": wave.healthy,
            "failed": wave.failed, "offline": wave.offline, "skipped": wave.skipped,
        });
        self.events.push(event);
    }

    /// Writes assignments, each under a new generation, and tells the clusters' links.
    async fn assign(&mut self, given: Vec<Given>) -> Result<(), StoreError> {
        if given.is_empty() {
            return Ok(());
        }
        let mut prunable = self.prunable(&given).await?;
        let returned: Vec<_> = given.iter().filter(|one| one.returning).map(|one| one.cluster).collect();
        let renders_before = rollouts::list_renders_before(self.change, self.row.id, &returned).await?;
        let render_of = |one: &Given| match renders_before.get(&one.cluster) {
            Some(render) => *render,
            None if one.returning => self.row.from_render.unwrap_or(self.row.render),
            None => self.row.render,
        };
        let assignments = given.iter().map(|one| Assignment {
            cluster: one.cluster,
            target: self.target.id,
            digest: one.digest,
            generation: Generation::default(),
            rollout: self.row.id,
            render: render_of(one),
            action: session::Action::Apply,
            prunable: prunable.remove(&one.cluster).unwrap_or_default(),
            options: self.target.spec.sync.clone(),
        });
        // What a person wants tried again is what failed: of that a way back is no second try, nor the other way round.
        let is_retried = |one: &&Given| {
            self.snapshot
                .member(one.cluster)
                .is_some_and(|member| member.is_retried() && member.returning == one.returning)
        };
        let retried = given.iter().filter(is_retried).map(|one| one.cluster).collect();
        let generations = assignments::mark(self.change, assignments.collect(), &retried, self.now).await?;
        let returning: BTreeSet<_> = given.iter().filter(|one| one.returning).map(|one| one.cluster).collect();
        for &(cluster, generation) in &generations {
            self.snapshot.assign(cluster, generation, returning.contains(&cluster), self.now);
        }
        self.assigned += generations.len();
        self.hub.metrics.assignments.inc_by(generations.len() as u64);
        let clusters: Vec<_> = generations.iter().map(|(cluster, _)| cluster.as_uuid()).collect();
        self.change.tell(Stage::Link, &clusters, self.now, Some(&self.row.trace_id)).await
    }

    /// What the agents of these clusters may delete: of one whose earlier bundle cannot be read, nothing.
    async fn prunable(&mut self, given: &[Given]) -> Result<BTreeMap<ClusterId, Vec<ObjectKey>>, StoreError> {
        let clusters: Vec<_> = given.iter().map(|one| one.cluster).collect();
        let mut replaced = assignments::list_replaced(self.change, self.target.id, &clusters).await?;
        if replaced.values().any(|old| old.is_any_lost) {
            // It may be what is replaced here: then nothing is missing any more.
            self.change.tell(Stage::Bundle, &[self.target.id.as_uuid()], self.now, None).await?;
        }
        let steps: Vec<_> =
            given.iter().filter_map(|one| Some((replaced.remove(&one.cluster)?, one.cluster, one.digest))).collect();
        let digests: BTreeSet<_> = steps.iter().flat_map(|(old, _, new)| [old.digest, *new]).collect();
        let manifests = self.hub.content.load_readable(self.change, &digests).await?;
        let mut left = BTreeMap::new();
        let of_cluster = steps.into_iter().filter_map(|(old, cluster, new)| {
            let (before, after) = (manifests.get(&old.digest)?, manifests.get(&new)?);
            // Most clusters take the same step.
            let step = left.entry((old.digest, new)).or_insert_with(|| left_behind(before, after));
            let replaced = Replaced { manifest: before, prunable: &old.prunable, is_done: old.is_done };
            Some((cluster, prunable(&replaced, step, after)))
        });
        Ok(of_cluster.collect())
    }

    fn event(&self, action: Action) -> Event {
        let subject = subjects::rollout(self.row.id, &self.target.project, &self.target.name);
        let mut event = Event::new(clock::new_id(), self.now, actors::hub(), action, subject);
        event.trace_id = Some(self.row.trace_id.clone());
        event
    }
}
