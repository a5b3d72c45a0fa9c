//! A hub and its fleet in memory: carries out decisions as an executor would, and watches every one of them.
//!
//! What it watches ([`World::violations`]) is computed from the fleet itself and never from the functions under test.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::rows::{
    Intent, Member, MemberState, Notable, PendingIntent, Presence, Rollout, RolloutState, Wave, WaveState,
};
use super::settle::{Evidence, Heard, Limits, Seen, settle};
use super::{Candidate, Decision, MemberSnapshot, OnFailure, RolloutSnapshot, Strategy, after, decide, waves};
use crate::parameters::Traits;
use crate::report::Verdict;
use crate::{ClusterId, Digest, Generation, Labels, RolloutId};

/// More reconciles than this without an end mean that decisions chase each other.
const RECONCILES_MAX: usize = 400;

/// How the message of a failure begins that may pass.
pub(super) const MAY_PASS: &str = "denied:";

/// With this a report begins that says so of its cluster.
const SUSPENDED: &str = "suspended";

pub(super) const OFFLINE_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// One cluster, as it is and as the hub's rows know it.
pub(super) struct Cluster {
    pub(super) id: ClusterId,
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) presence: Presence,
    /// What the assignments' row says; what an agent holds as soon as it is connected.
    pub(super) assignment: Option<(Generation, Digest)>,
    pub(super) evidence: Option<Evidence>,
    /// Since when the newest report is about the newest assignment, and healthy.
    well_since: Option<Timestamp>,
    /// From when to when nobody heard it; the last one may go on.
    absences: Vec<(Timestamp, Option<Timestamp>)>,
}

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) strategy: Strategy,
    pub(super) clusters: Vec<Cluster>,
    pub(super) members: Vec<Member>,
    pub(super) waves: Vec<Wave>,
    pub(super) state: RolloutState,
    pub(super) reason: String,
    since: Timestamp,
    failures_max: u32,
    grace_until: Timestamp,
    pub(super) intents: Vec<PendingIntent>,
    generation: i64,
    soak_ended_by_hand: bool,
    /// Since when the open wave soaks, with or without its clock running.
    soaks_since: Option<Timestamp>,
    pub(super) log: Vec<Decision>,
    pub(super) violations: Vec<String>,
}

impl World {
    pub(super) fn new(strategy: Strategy) -> Self {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        Self {
            now,
            strategy,
            clusters: Vec::new(),
            members: Vec::new(),
            waves: Vec::new(),
            state: RolloutState::Planned,
            reason: String::new(),
            since: now,
            failures_max: 0,
            grace_until: now,
            intents: Vec::new(),
            generation: 100,
            soak_ended_by_hand: false,
            soaks_since: None,
            log: Vec::new(),
            violations: Vec::new(),
        }
    }

    pub(super) fn add_cluster(&mut self, name: &str, labels: Labels, is_connected: bool, runs: Option<Digest>) {
        let since = after(self.now, -SignedDuration::from_hours(1));
        let presence = if is_connected { Presence::Connected { since } } else { Presence::Disconnected { since } };
        self.generation += 1;
        self.clusters.push(Cluster {
            id: ClusterId::new(Uuid::from_u128(self.clusters.len() as u128 + 1)),
            name: name.to_owned(),
            labels,
            presence,
            assignment: runs.map(|digest| (Generation::new(self.generation), digest)),
            evidence: None,
            well_since: None,
            absences: if is_connected { Vec::new() } else { vec![(since, None)] },
        });
    }

    /// Plans the rollout of this digest over the clusters.
    pub(super) fn start(&mut self, digest: Digest) {
        let candidates: Vec<_> = self.clusters.iter().map(Cluster::candidate).collect();
        for (index, planned) in (0..).zip(waves(&candidates, &self.strategy)) {
            for id in &planned.members {
                let before = self.cluster(*id).assignment.map(|(_, digest)| digest);
                self.members.push(Member::waiting(*id, index, digest, before));
            }
            self.waves.push(Wave {
                name: planned.name,
                state: WaveState::Waiting,
                concurrent_max: planned.concurrent_max,
                healthy_min: planned.healthy_min,
                soak: planned.soak,
                opened_at: None,
                soak_from: None,
                soak_until: None,
                soak_left: None,
                members: 0,
                overtaken: 0,
                waiting: 0,
                in_flight: 0,
                healthy: 0,
                failed: 0,
                offline: 0,
                skipped: 0,
                rolled_back: 0,
                silent: 0,
                heard_for: None,
                returnable: 0,
                first_installs: 0,
                notable: None,
            });
        }
        let assigned = u32::try_from(self.members.len()).expect("a small fleet");
        self.failures_max = self.strategy.failures_max(assigned);
        self.reconcile();
    }

    pub(super) fn cluster(&self, id: ClusterId) -> &Cluster {
        self.clusters.iter().find(|cluster| cluster.id == id).expect("a cluster of this world")
    }

    fn cluster_mut(&mut self, id: ClusterId) -> &mut Cluster {
        self.clusters.iter_mut().find(|cluster| cluster.id == id).expect("a cluster of this world")
    }

    fn member_mut(&mut self, id: ClusterId) -> &mut Member {
        self.members.iter_mut().find(|member| member.cluster == id).expect("a member of this rollout")
    }

    /// A report about this assignment arrives, whether or not it is the newest one.
    pub(super) fn report(
        &mut self,
        id: ClusterId,
        about: (Generation, Digest),
        applied: bool,
        verdict: Verdict,
        message: &str,
    ) {
        // As agents say it of what another try may fix.
        let may_pass = verdict == Verdict::Failed && message.starts_with(MAY_PASS);
        let suspended = message.starts_with(SUSPENDED).then(|| message.to_owned());
        let now = self.now;
        let cluster = self.cluster_mut(id);
        let (generation, digest) = about;
        cluster.evidence = Some(Evidence {
            generation,
            digest,
            applied,
            verdict,
            may_pass,
            at: now,
            message: message.to_owned(),
            suspended,
        });
        cluster.mark_well(now);
        self.reconcile();
    }

    pub(super) fn connect(&mut self, id: ClusterId, is_connected: bool) {
        let since = self.now;
        let cluster = self.cluster_mut(id);
        if is_connected {
            cluster.come(since);
        } else {
            cluster.leave(since);
        }
        self.reconcile();
    }

    /// A cluster leaves now, and is back before anything is decided.
    pub(super) fn blink(&mut self, id: ClusterId, by: SignedDuration) {
        let (left_at, back_at) = (self.now, after(self.now, by));
        self.now = back_at;
        let cluster = self.cluster_mut(id);
        if cluster.presence.is_connected() {
            cluster.leave(left_at);
            cluster.come(back_at);
        }
    }

    /// Nobody reconciles for a while, and meanwhile connections come and go: what a late worker finds.
    pub(super) fn nap(&mut self, by: SignedDuration, left: &[ClusterId]) {
        self.now = after(self.now, by);
        let since = self.now;
        for id in left {
            self.cluster_mut(*id).leave(since);
        }
        self.reconcile();
    }

    /// The hub starts anew: nobody is connected, and everybody has time to come back.
    pub(super) fn restart_hub(&mut self) {
        let since = self.now;
        self.grace_until = after(since, OFFLINE_AFTER);
        self.clusters.iter_mut().for_each(|cluster| cluster.leave(since));
        self.reconcile();
    }

    /// No hub hears anybody for so long. Some are heard again before anything is decided.
    pub(super) fn pass_unseen(&mut self, by: SignedDuration, back: &[ClusterId]) {
        let gone_at = self.now;
        self.now = after(gone_at, by);
        self.grace_until = after(self.now, OFFLINE_AFTER);
        let heard_at = self.now;
        for cluster in self.clusters.iter_mut().filter(|cluster| cluster.presence.is_connected()) {
            cluster.leave(gone_at);
            if back.contains(&cluster.id) {
                cluster.come(heard_at);
            }
        }
        self.reconcile();
    }

    /// A later rollout of the target has this cluster from now on.
    pub(super) fn overtake(&mut self, id: ClusterId) {
        let Some(member) = self.members.iter_mut().find(|member| member.cluster == id) else { return };
        *member = member.clone().overtaken();
        self.reconcile();
    }

    pub(super) fn ask(&mut self, intent: Intent, reason: &str) {
        self.intents.push(PendingIntent { intent, by: "alice".to_owned(), reason: reason.to_owned(), member: None });
        self.reconcile();
    }

    /// Another cluster is found to belong to this wave.
    pub(super) fn join(&mut self, wave: u32, digest: Digest) {
        let id = self.clusters.last().expect("a cluster that joins").id;
        let before = self.cluster(id).assignment.map(|(_, digest)| digest);
        self.members.push(Member::waiting(id, wave, digest, before));
        self.reconcile();
    }

    /// Lets the time pass, reconciling whenever a reconcile was asked for.
    pub(super) fn tick(&mut self, by: SignedDuration) {
        let until = after(self.now, by);
        for _ in 0..RECONCILES_MAX {
            match self.reconcile() {
                Some(at) if at <= until => {
                    if at <= self.now {
                        self.violations
                            .push(format!("asked to reconcile again at {at}, which is not later than {}", self.now));
                        break;
                    }
                    self.now = at;
                }
                _ => break,
            }
        }
        self.now = until;
        self.reconcile();
    }

    /// One reconcile of the hub's worker: settle, count, decide, execute, until nothing is left to do.
    pub(super) fn reconcile(&mut self) -> Option<Timestamp> {
        let rounds_max = self.members.len() * 8 + self.waves.len() * 8 + self.intents.len() * 4 + 20;
        let mut snapshot = self.snapshot();
        for _ in 0..rounds_max {
            let next_at = self.settle_all();
            let rollout = self.rollout(next_at);
            let (decisions, next_at) = decide(&rollout, self.now);
            self.compare(&mut snapshot, &rollout, &(decisions.clone(), next_at));
            if decide(&rollout.clone(), self.now) != (decisions.clone(), next_at) {
                self.violations.push("the same rows gave other decisions".to_owned());
            }
            if decisions.is_empty() {
                self.watch_rows();
                return next_at;
            }
            for decision in decisions {
                self.watch(&decision);
                self.execute(&decision);
                self.execute_on(&mut snapshot, &decision);
                self.log.push(decision);
            }
            if snapshot.lacks_members() {
                snapshot = self.snapshot();
            }
        }
        self.violations.push(format!("decisions without end: {:?}", self.log.iter().rev().take(6).collect::<Vec<_>>()));
        None
    }

    /// What a worker reads: the members within scope, and no others.
    fn snapshot(&self) -> RolloutSnapshot {
        let rollout = self.rollout(None);
        let scope = rollout.scope();
        let is_named = |member: &Member| {
            let mut named = rollout.intents.iter().filter_map(|pending| pending.member.as_ref());
            named.any(|named| named.cluster == member.cluster)
        };
        let is_within = |member: &&Member| match member.state {
            _ if member.overtaken => is_named(member),
            MemberState::Assigned | MemberState::Applied | MemberState::Offline | MemberState::Failed => true,
            MemberState::Waiting if member.wave <= scope.wave => true,
            MemberState::Healthy if member.wave == scope.wave => true,
            _ => is_named(member) || (scope.returnable && member.is_returnable()),
        };
        let entry = |member: &Member| {
            let cluster = self.cluster(member.cluster);
            let seen = cluster.seen();
            MemberSnapshot { member: member.clone(), seen, cluster_name: cluster.name.clone() }
        };
        let entries = self.members.iter().filter(is_within).map(entry).collect();
        RolloutSnapshot::new(rollout, entries)
    }

    fn execute_on(&self, snapshot: &mut RolloutSnapshot, decision: &Decision) {
        snapshot.carry_out(decision, self.now);
        if let Decision::Assign { cluster, .. } | Decision::Return { cluster, .. } = decision {
            let Some((generation, _)) = self.cluster(*cluster).assignment else { return };
            snapshot.assign(*cluster, generation, matches!(decision, Decision::Return { .. }), self.now);
        }
    }

    /// What is carried along in memory is what the rows say, and leads to the same decisions.
    fn compare(
        &mut self,
        snapshot: &mut RolloutSnapshot,
        rollout: &Rollout,
        decided: &(Vec<Decision>, Option<Timestamp>),
    ) {
        snapshot.settle(&self.limits(), self.now);
        let carried = snapshot.rollout();
        if (&carried.waves, carried.state, carried.since, &carried.reason)
            != (&rollout.waves, rollout.state, rollout.since, &rollout.reason)
        {
            self.violations.push(format!("in memory it is {carried:?}, and in rows {rollout:?}"));
        }
        if decide(carried, self.now) != *decided {
            self.violations.push(format!("in memory it decides otherwise than {decided:?}"));
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            deadline: self.strategy.deadline.duration(),
            offline_after: OFFLINE_AFTER,
            grace_until: self.grace_until,
            offline: self.strategy.offline,
            wave: WaveState::Waiting,
        }
    }

    fn settle_all(&mut self) -> Option<Timestamp> {
        if self.state.is_over() && self.state != RolloutState::Done {
            return None;
        }
        let mut next_at = None;
        for index in 0..self.members.len() {
            let member = &self.members[index];
            let cluster = self.cluster(member.cluster);
            let seen = cluster.seen();
            let limits = Limits { wave: self.waves[member.wave as usize].state, ..self.limits() };
            let settled = settle(member, &seen, &limits, self.now);
            if let Some(after) = &settled.member
                && settle(after, &seen, &limits, self.now).member.is_some()
            {
                self.violations.push(format!("settling twice is not settling once: {after:?}"));
            }
            next_at = [next_at, settled.next_at].into_iter().flatten().min();
            if let Some(member) = settled.member {
                self.members[index] = member;
            }
        }
        next_at
    }

    /// The rows that a decision sees.
    pub(super) fn rollout(&self, next_at: Option<Timestamp>) -> Rollout {
        let mut waves = self.waves.clone();
        for (index, wave) in (0..).zip(&mut waves) {
            self.count(index, wave);
        }
        let open = (0..).zip(&waves).find(|(_, wave)| wave.is_open()).map(|(index, _)| index);
        let is_rolling_back = self.state == RolloutState::RollingBack;
        let waits = |member: &Member| member.state == MemberState::Waiting && !member.overtaken;
        let is_waiting_in_open = |member: &Member| waits(member) && Some(member.wave) == open;
        let next =
            self.sighted(|member| if is_rolling_back { member.is_returnable() } else { is_waiting_in_open(member) });
        let is_passed = |member: &Member| waves[member.wave as usize].state == WaveState::Passed;
        let mut catch_up = self.sighted(|member| waits(member) && is_passed(member));
        catch_up.retain(|(_, presence)| presence.is_connected());
        let mut intents = self.intents.clone();
        for pending in &mut intents {
            if let Intent::Skip { cluster } | Intent::Retry { cluster } = &pending.intent {
                pending.member = self.members.iter().find(|member| member.cluster == *cluster).cloned();
            }
        }
        Rollout {
            id: RolloutId::new(Uuid::nil()),
            state: self.state,
            since: self.since,
            reason: self.reason.clone(),
            failures_max: self.failures_max,
            on_failure: self.strategy.on_failure,
            offline: self.strategy.offline,
            waves,
            next,
            catch_up,
            next_at,
            intents,
        }
    }

    /// The members that are meant, with their presence, the connected ones first.
    fn sighted(&self, is_meant: impl Fn(&Member) -> bool) -> Vec<(Member, Presence)> {
        let meant = self.members.iter().filter(|member| is_meant(member));
        let mut meant: Vec<_> = meant.map(|member| (member.clone(), self.cluster(member.cluster).presence)).collect();
        meant.sort_by_key(|(_, presence)| !presence.is_connected());
        meant
    }

    fn of_wave(&self, wave: u32) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.wave == wave)
    }

    fn count_of(&self, wave: u32, is_meant: impl Fn(&Member) -> bool) -> u32 {
        let counted = self.of_wave(wave).filter(|member| !member.overtaken && is_meant(member)).count();
        u32::try_from(counted).expect("a small fleet")
    }

    fn count(&self, index: u32, wave: &mut Wave) {
        let of = |state: MemberState| self.count_of(index, |member| member.state == state);
        wave.members = self.count_of(index, |_| true);
        let overtaken = self.of_wave(index).filter(|member| member.overtaken).count();
        wave.overtaken = u32::try_from(overtaken).expect("a small fleet");
        wave.waiting = of(MemberState::Waiting);
        wave.in_flight = of(MemberState::Assigned) + of(MemberState::Applied);
        wave.healthy = of(MemberState::Healthy);
        wave.failed = of(MemberState::Failed);
        wave.offline = of(MemberState::Offline);
        wave.skipped = of(MemberState::Skipped);
        wave.rolled_back = of(MemberState::RolledBack);
        wave.silent = self.count_of(index, |member| {
            member.state == MemberState::Healthy && !self.cluster(member.cluster).presence.is_connected()
        });
        wave.returnable = self.count_of(index, Member::is_returnable);
        wave.first_installs = self.count_of(index, Member::is_first_install);
        let healthy = || {
            let members =
                self.of_wave(index).filter(|member| !member.overtaken && member.state == MemberState::Healthy);
            members.map(|member| self.cluster(member.cluster))
        };
        wave.heard_for = wave.soak_from.and_then(|from| {
            let away: Vec<_> = healthy().filter(|cluster| cluster.was_away_after(from)).collect();
            let heard = || away.iter().map(|cluster| cluster.heard().unwrap_or(Heard { from, until: from }));
            let heard_from = heard().map(|heard| heard.from).max()?.max(from);
            let heard_until = heard().map(|heard| heard.until).min()?;
            Some(heard_until.duration_since(heard_from).max(SignedDuration::ZERO))
        });
        let counted = || self.of_wave(index).filter(|member| !member.overtaken);
        let failed = counted().find(|member| member.state == MemberState::Failed);
        let flying = || counted().find(|member| matches!(member.state, MemberState::Assigned | MemberState::Applied));
        wave.notable = failed.or_else(flying).map(|member| Notable {
            cluster_name: self.cluster(member.cluster).name.clone(),
            state: member.state,
            reason: member.reason.clone(),
        });
    }

    fn execute(&mut self, decision: &Decision) {
        let now = self.now;
        match decision.clone() {
            Decision::Answer { .. } => drop(self.intents.remove(0)),
            Decision::Start | Decision::Resume => self.enter(RolloutState::Rolling, String::new()),
            Decision::Pause { reason } => self.enter(RolloutState::Paused, reason),
            Decision::StartRollback { reason } => self.enter(RolloutState::RollingBack, reason),
            Decision::Finish { state, reason } => self.enter(state, reason),
            Decision::Assign { cluster, digest } => self.assign(cluster, digest, false),
            Decision::Return { cluster, digest } => self.assign(cluster, digest, true),
            Decision::Skip { cluster, reason } => {
                let member = self.member_mut(cluster);
                (member.state, member.failing_since, member.reason) = (MemberState::Skipped, None, reason);
            }
            Decision::Retry { cluster } => {
                let member = self.member_mut(cluster);
                let again = Member::waiting(cluster, member.wave, member.digest, member.digest_before);
                *member = Member { assigned_at: member.assigned_at, returning: member.returning, ..again };
            }
            Decision::OpenWave { wave } => {
                (self.soak_ended_by_hand, self.soaks_since) = (false, None);
                self.set_wave(wave, WaveState::Open, None, None);
                self.waves[wave as usize].opened_at = Some(now);
            }
            Decision::StartSoak { wave, until } => {
                self.soaks_since = self.soaks_since.or(Some(now));
                self.set_wave(wave, WaveState::Soaking, Some(until), None);
                self.waves[wave as usize].soak_from = Some(now);
            }
            Decision::HoldSoak { wave, left } => self.set_wave(wave, WaveState::Soaking, None, Some(left)),
            Decision::RestartSoak { wave } => {
                (self.soak_ended_by_hand, self.soaks_since) = (false, None);
                self.set_wave(wave, WaveState::Open, None, None);
            }
            Decision::EndSoak { wave } => {
                self.soak_ended_by_hand = true;
                self.set_wave(wave, WaveState::Soaking, Some(now), None);
            }
            Decision::PassWave { wave, .. } => self.set_wave(wave, WaveState::Passed, None, None),
            Decision::FailWave { wave } => self.set_wave(wave, WaveState::Failed, None, None),
        }
    }

    fn enter(&mut self, state: RolloutState, reason: String) {
        (self.state, self.reason, self.since) = (state, reason, self.now);
    }

    fn set_wave(
        &mut self,
        wave: u32,
        state: WaveState,
        soak_until: Option<Timestamp>,
        soak_left: Option<SignedDuration>,
    ) {
        let wave = &mut self.waves[wave as usize];
        (wave.state, wave.soak_from, wave.soak_until, wave.soak_left) = (state, None, soak_until, soak_left);
    }

    fn assign(&mut self, cluster: ClusterId, digest: Digest, returning: bool) {
        self.generation += 1;
        let (generation, now) = (Generation::new(self.generation), self.now);
        let member = self.member_mut(cluster);
        *member = Member {
            state: MemberState::Assigned,
            generation: Some(generation),
            assigned_at: Some(now),
            returning,
            judged_from: Some(now),
            failing_since: None,
            reason: String::new(),
            ..member.clone()
        };
        let cluster = self.cluster_mut(cluster);
        cluster.assignment = Some((generation, digest));
        cluster.mark_well(now);
    }
}

/// What must never happen.
impl World {
    fn watch(&mut self, decision: &Decision) {
        let wrong = match decision {
            Decision::OpenWave { wave } => self.wrong_to_open(*wave),
            Decision::Assign { cluster, digest } => self.wrong_to_assign(*cluster, *digest),
            Decision::Return { cluster, digest } => self.wrong_to_return(*cluster, *digest),
            Decision::PassWave { wave, overridden: None } => self.wrong_to_pass(*wave),
            Decision::Finish { state, .. } => self.wrong_to_finish(*state),
            Decision::Answer { .. } if self.intents.is_empty() => Some("nobody asked".to_owned()),
            _ if self.state.is_over() && !matches!(decision, Decision::Answer { .. } | Decision::Retry { .. }) => {
                Some("the rollout is over".to_owned())
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.violations.push(format!("{decision:?}: {wrong}"));
        }
    }

    fn wrong_to_open(&self, wave: u32) -> Option<String> {
        if self.state != RolloutState::Rolling {
            return Some(format!("the rollout is {:?}", self.state));
        }
        let earlier = &self.waves[..wave as usize];
        let unfinished = earlier.iter().find(|wave| wave.state != WaveState::Passed);
        unfinished.map(|wave| format!("{} has not passed", wave.name))
    }

    fn wrong_to_assign(&self, id: ClusterId, digest: Digest) -> Option<String> {
        let member = self.members.iter().find(|member| member.cluster == id)?;
        let wave = &self.waves[member.wave as usize];
        let has_failed = |member: &&Member| member.state == MemberState::Failed && !member.overtaken;
        let failed = self.members.iter().filter(has_failed).count();
        let flying =
            self.count_of(member.wave, |member| matches!(member.state, MemberState::Assigned | MemberState::Applied));
        let is_passed = wave.state == WaveState::Passed;
        let may_roll = self.state == RolloutState::Rolling && (wave.is_open() || is_passed);
        let facts = [
            (member.digest == digest, "another digest than planned"),
            (member.state == MemberState::Waiting, "it does not wait"),
            (!member.overtaken, "a later rollout has it"),
            (self.cluster(id).presence.is_connected(), "it is not connected"),
            (may_roll || (self.state == RolloutState::Done && is_passed), "its wave is not open"),
            (flying < wave.concurrent_max, "its wave is full"),
            (
                failed <= self.failures_max as usize || self.strategy.on_failure == OnFailure::Continue,
                "the budget is spent",
            ),
        ];
        facts.into_iter().find(|(is_right, _)| !is_right).map(|(_, wrong)| wrong.to_owned())
    }

    fn wrong_to_return(&self, id: ClusterId, digest: Digest) -> Option<String> {
        let member = self.members.iter().find(|member| member.cluster == id)?;
        let is_right = self.state == RolloutState::RollingBack
            && member.assigned_at.is_some()
            && (!member.returning || member.generation.is_none())
            && !member.overtaken
            && member.digest_before == Some(digest);
        (!is_right).then(|| "there is nothing to give back".to_owned())
    }

    /// From the fleet alone: those who count as healthy said so about their newest assignment, are there, and have been
    /// well for the whole soak.
    fn wrong_to_pass(&self, index: u32) -> Option<String> {
        let wave = &self.waves[index as usize];
        if self.state != RolloutState::Rolling || !wave.is_open() {
            return Some("it is not open".to_owned());
        }
        let soak = if self.soak_ended_by_hand { SignedDuration::ZERO } else { wave.soak };
        let mut healthy = 0;
        for member in self.of_wave(index).filter(|member| !member.overtaken) {
            let cluster = self.cluster(member.cluster);
            match member.state {
                MemberState::Healthy => healthy += 1,
                MemberState::Waiting | MemberState::Assigned | MemberState::Applied => {
                    return Some(format!("{} is not settled", cluster.name));
                }
                _ => continue,
            }
            if member.wanted().is_none() || member.wanted() != cluster.assignment || member.returning {
                return Some(format!("{} counts for another assignment", cluster.name));
            }
            let well_long_enough = cluster.well_since.is_some_and(|since| after(since, soak) <= self.now);
            if !well_long_enough || !cluster.presence.is_connected() {
                return Some(format!("{} has not been seen healthy for the whole soak", cluster.name));
            }
        }
        if self.heard_together(index) < soak {
            return Some("they were not heard together for the whole soak".to_owned());
        }
        (healthy < wave.healthy_min).then(|| format!("{healthy} healthy clusters are too few"))
    }

    /// For how long, of the time in which a wave soaks, none of those who count as healthy was away.
    fn heard_together(&self, index: u32) -> SignedDuration {
        let Some(from) = self.soaks_since else { return SignedDuration::ZERO };
        let healthy = self.of_wave(index).filter(|member| !member.overtaken && member.state == MemberState::Healthy);
        let mut absences: Vec<_> =
            healthy.flat_map(|member| self.cluster(member.cluster).absences.iter().copied()).collect();
        absences.sort_unstable();
        let (mut heard_to, mut heard) = (from, SignedDuration::ZERO);
        for (left_at, back_at) in absences {
            heard += left_at.duration_since(heard_to).max(SignedDuration::ZERO);
            heard_to = heard_to.max(back_at.unwrap_or(self.now));
        }
        heard + self.now.duration_since(heard_to)
    }

    fn wrong_to_finish(&self, state: RolloutState) -> Option<String> {
        let all_passed = self.waves.iter().all(|wave| wave.state == WaveState::Passed);
        if state == RolloutState::Done && !all_passed {
            return Some("a wave has not passed".to_owned());
        }
        let is_left = |member: &&Member| {
            let was_given = member.assigned_at.is_some() && member.digest_before.is_some();
            was_given && !(member.returning && member.generation.is_some()) && !member.overtaken
        };
        if self.state == RolloutState::RollingBack && state == RolloutState::Failed {
            let left = self.members.iter().find(is_left)?;
            return Some(format!("{} was not given back what it ran", self.cluster(left.cluster).name));
        }
        None
    }

    fn watch_rows(&mut self) {
        let open = self.waves.iter().filter(|wave| wave.is_open()).count();
        if open > 1 || (open > 0 && self.state.is_over()) {
            self.violations.push(format!("{open} waves are open in a rollout that is {:?}", self.state));
        }
        if !self.intents.is_empty() {
            self.violations.push("an intent was left unanswered".to_owned());
        }
        if super::why(&self.rollout(None), self.now).is_empty() {
            self.violations.push("no reason is given".to_owned());
        }
    }
}

impl Cluster {
    pub(super) fn candidate(&self) -> Candidate {
        Candidate {
            cluster: self.id,
            name: self.name.parse().expect("a name"),
            labels: self.labels.clone(),
            traits: Traits::default(),
            connected: self.presence.is_connected(),
        }
    }

    fn seen(&self) -> Seen {
        Seen { evidence: self.evidence.clone(), presence: self.presence, heard: self.heard() }
    }

    fn was_away_after(&self, at: Timestamp) -> bool {
        match self.presence {
            Presence::Disconnected { .. } => true,
            Presence::Connected { since } => since > at,
        }
    }

    /// Before its last absence.
    fn heard(&self) -> Option<Heard> {
        let (until, _) = *self.absences.last()?;
        let before = self.absences.len().checked_sub(2).and_then(|before| self.absences[before].1);
        Some(Heard { from: before.unwrap_or(Timestamp::MIN), until })
    }

    fn leave(&mut self, at: Timestamp) {
        if self.presence.is_connected() {
            self.presence = Presence::Disconnected { since: at };
            self.absences.push((at, None));
        }
    }

    fn come(&mut self, at: Timestamp) {
        if !self.presence.is_connected() {
            self.presence = Presence::Connected { since: at };
            if let Some((_, back_at)) = self.absences.last_mut() {
                *back_at = Some(at);
            }
        }
    }

    fn mark_well(&mut self, now: Timestamp) {
        let is_well = self.evidence.as_ref().is_some_and(|evidence| {
            evidence.applied
                && evidence.verdict == Verdict::Healthy
                && self.assignment == Some((evidence.generation, evidence.digest))
        });
        self.well_since = if is_well { self.well_since.or(Some(now)) } else { None };
    }
}
