//! Decisions → rows. To the letter: what is written here was decided in `core`.

use bellwether_core::audit::{Event, Outcome, Subject};
use bellwether_core::rollout::{Decision, Member, MemberState, Rollout, RolloutState, WaveState};
use bellwether_core::session::Action;
use bellwether_core::{ClusterId, Digest, ObjectKey};
use jiff::Timestamp;

use crate::change::Change;
use crate::store::assignments::Assignment;
use crate::store::intents::{Asked, Verb};
use crate::store::rollouts::{self, Rollout as Row, WaveClock, Which};
use crate::store::targets::Target;
use crate::store::work::Stage;
use crate::store::{self, StoreError};
use crate::{actors, clock};

pub(super) async fn all(
    change: &mut Change<'_>,
    target: &Target,
    row: &Row,
    rollout: &Rollout,
    decisions: Vec<Decision>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut scene = Scene { change, target, row, rollout, now };
    for decision in decisions {
        scene.carry_out(decision).await?;
    }
    Ok(())
}

/// What every decision is carried out on.
struct Scene<'a, 'c> {
    change: &'a mut Change<'c>,
    target: &'a Target,
    row: &'a Row,
    rollout: &'a Rollout,
    now: Timestamp,
}

impl Scene<'_, '_> {
    async fn carry_out(&mut self, decision: Decision) -> Result<(), StoreError> {
        match decision {
            Decision::Answer { refused } => self.answer(refused).await,
            Decision::Start => self.enter(RolloutState::Rolling, String::new(), "rollout.started").await,
            Decision::Resume => self.enter(RolloutState::Rolling, String::new(), "rollout.resumed").await,
            Decision::Pause { reason } => self.enter(RolloutState::Paused, reason, "rollout.paused").await,
            Decision::StartRollback { reason } => {
                self.enter(RolloutState::RollingBack, reason, "rollout.rolling_back").await
            }
            Decision::Finish { state, reason } => self.finish(state, reason).await,
            Decision::OpenWave { wave } => {
                let clock = WaveClock { opened_at: Some(self.now), ..WaveClock::default() };
                self.mark_wave(wave, WaveState::Open, clock, Some("rollout.wave.opened"), String::new()).await
            }
            Decision::StartSoak { wave, until } => {
                let clock = WaveClock { soak_until: Some(until), ..WaveClock::default() };
                self.mark_wave(wave, WaveState::Soaking, clock, None, String::new()).await
            }
            Decision::HoldSoak { wave, left } => {
                let clock = WaveClock { soak_left: Some(left), ..WaveClock::default() };
                self.mark_wave(wave, WaveState::Soaking, clock, None, String::new()).await
            }
            Decision::EndSoak { wave } => {
                let clock = WaveClock { soak_until: Some(self.now), ..WaveClock::default() };
                self.mark_wave(wave, WaveState::Soaking, clock, None, String::new()).await
            }
            Decision::RestartSoak { wave } => {
                self.mark_wave(wave, WaveState::Open, WaveClock::default(), None, String::new()).await
            }
            Decision::PassWave { wave, overridden } => {
                let reason = overridden.unwrap_or_default();
                self.mark_wave(wave, WaveState::Passed, WaveClock::default(), Some("rollout.wave.passed"), reason).await
            }
            Decision::FailWave { wave } => {
                let action = Some("rollout.wave.failed");
                self.mark_wave(wave, WaveState::Failed, WaveClock::default(), action, String::new()).await
            }
            Decision::Assign { cluster, digest } => self.assign(cluster, digest, false).await,
            Decision::Return { cluster, digest } => self.assign(cluster, digest, true).await,
            Decision::Skip { cluster, reason } => self.skip(cluster, reason).await,
            Decision::Retry { cluster } => self.retry(cluster).await,
        }
    }

    /// The oldest open intent of this rollout has its answer.
    async fn answer(&mut self, refused: Option<String>) -> Result<(), StoreError> {
        let open = store::intents::list_open(self.change, self.target.id).await?;
        let is_its = |asked: &Asked| asked.rollout == Some(self.row.id) && matches!(asked.verb, Verb::Rollout(_));
        let Some(asked) = open.into_iter().find(is_its) else { return Ok(()) };
        let outcome = refused.as_deref().unwrap_or("done");
        store::intents::mark_done(self.change, asked.id, outcome, self.now).await?;
        let Some(reason) = refused else { return Ok(()) };
        let mut event = self.event("rollout.intent.refused");
        event.actor = actors::token(&asked.actor);
        event.outcome = Outcome::Denied;
        event.reason = reason;
        self.change.audit(&event).await
    }

    async fn enter(&mut self, state: RolloutState, reason: String, action: &'static str) -> Result<(), StoreError> {
        rollouts::mark_state(self.change, self.row.id, state, &reason, self.now).await?;
        tracing::info!(target.name = %self.target.name, rollout.id = %self.row.id, reason, "{action}");
        let mut event = self.event(action);
        event.reason = reason;
        self.change.audit(&event).await
    }

    async fn finish(&mut self, state: RolloutState, reason: String) -> Result<(), StoreError> {
        let (action, outcome) = match state {
            RolloutState::Done => ("rollout.done", Outcome::Done),
            RolloutState::Superseded => ("rollout.superseded", Outcome::Done),
            RolloutState::Cancelled => ("rollout.cancelled", Outcome::Done),
            _ => ("rollout.failed", Outcome::Failed),
        };
        rollouts::mark_state(self.change, self.row.id, state, &reason, self.now).await?;
        tracing::info!(target.name = %self.target.name, rollout.id = %self.row.id, reason, "{action}");
        let mut event = self.event(action);
        event.outcome = outcome;
        event.reason = reason;
        self.change.audit(&event).await
    }

    async fn mark_wave(
        &mut self,
        place: u32,
        state: WaveState,
        clock: WaveClock,
        action: Option<&'static str>,
        reason: String,
    ) -> Result<(), StoreError> {
        rollouts::mark_wave(self.change, self.row.id, place, state, clock).await?;
        let Some(action) = action else { return Ok(()) };
        let Some(wave) = self.rollout.waves.get(place as usize) else { return Ok(()) };
        let mut event = self.event(action);
        event.reason = reason;
        event.detail = serde_json::json!({
            "wave": wave.name, "place": place + 1, "members": wave.members, "healthy": wave.healthy,
            "failed": wave.failed, "offline": wave.offline, "skipped": wave.skipped,
        });
        self.change.audit(&event).await
    }

    /// Writes an assignment under a new generation, and tells the cluster's link.
    async fn assign(&mut self, cluster: ClusterId, digest: Digest, returning: bool) -> Result<(), StoreError> {
        let Some(mut member) = self.find_member(cluster).await? else { return Ok(()) };
        let render = if returning { self.row.from_render.unwrap_or(self.row.render) } else { self.row.render };
        let prunable = prunable(self.change, self.target, cluster, digest).await?;
        let assignment = Assignment {
            cluster,
            target: self.target.id,
            digest,
            generation: bellwether_core::Generation::default(),
            rollout: self.row.id,
            render,
            action: Action::Apply,
            prunable,
        };
        let generation = store::assignments::mark(self.change, &assignment, self.now).await?;
        member.state = MemberState::Assigned;
        member.generation = Some(generation);
        member.assigned_at = Some(self.now);
        member.judged_from = Some(self.now);
        member.returning = returning;
        member.reason = String::new();
        rollouts::mark_member(self.change, self.row.id, &member).await?;
        self.change.tell(Stage::Link, &[cluster.as_uuid()], self.now, Some(&self.row.trace_id)).await
    }

    async fn skip(&mut self, cluster: ClusterId, reason: String) -> Result<(), StoreError> {
        let Some(mut member) = self.find_member(cluster).await? else { return Ok(()) };
        member.state = MemberState::Skipped;
        member.reason = reason;
        rollouts::mark_member(self.change, self.row.id, &member).await
    }

    async fn retry(&mut self, cluster: ClusterId) -> Result<(), StoreError> {
        let Some(mut member) = self.find_member(cluster).await? else { return Ok(()) };
        member.state = MemberState::Waiting;
        member.generation = None;
        member.judged_from = None;
        member.returning = false;
        member.reason = String::new();
        rollouts::mark_member(self.change, self.row.id, &member).await
    }

    async fn find_member(&mut self, cluster: ClusterId) -> Result<Option<Member>, StoreError> {
        let which = Which { cluster: Some(cluster), limit: 1, ..Which::default() };
        let mut members = rollouts::list_members(self.change, self.row.id, which, self.now).await?;
        Ok(members.pop().map(|judged| judged.member))
    }

    fn event(&self, action: &'static str) -> Event {
        let subject = Subject { kind: "rollout".to_owned(), name: self.row.id.to_string() };
        let mut event = Event::new(clock::new_id(), self.now, actors::hub(), action, subject);
        event.target = Some(self.target.name.to_string());
        event.rollout = Some(self.row.id);
        event.trace_id = Some(self.row.trace_id.clone());
        event
    }
}

/// What the change from the cluster's current bundle to this one leaves behind: the agent may delete that, and nothing
/// else, once the new objects are healthy.
async fn prunable(
    change: &mut Change<'_>,
    target: &Target,
    cluster: ClusterId,
    digest: Digest,
) -> Result<Vec<ObjectKey>, StoreError> {
    let assigned = store::assignments::list_digests_of_target(change, target.id).await?;
    let Some(before) = assigned.into_iter().find(|(of, _, _)| *of == cluster).map(|(_, before, _)| before) else {
        return Ok(Vec::new());
    };
    let [old, new] = [before, digest];
    let manifests = crate::manifests::load(change, &[old, new]).await?;
    let (Some(old), Some(new)) = (manifests.get(&old), manifests.get(&new)) else { return Ok(Vec::new()) };
    let kept: std::collections::BTreeSet<_> = new.entries().iter().map(|entry| entry.key.identity()).collect();
    let left = old.entries().iter().filter(|entry| !kept.contains(&entry.key.identity()));
    Ok(left.map(|entry| entry.key.clone()).collect())
}
