//! A rollout's rows in memory: what one reconcile reads once, and carries its own decisions into.
//!
//! An executor reads the rows within [`MemberScope`], lets members settle, decides, carries the decisions out here, and
//! writes what changed at the end. The waves' counts are of all members, also of those that were not read, so they are
//! changed with each member and never taken anew. It must never differ from what the same rows, written and read again,
//! say.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::Decision;
use super::rows::{Intent, Member, MemberState, Notable, Presence, Rollout, RolloutState, Wave, WaveState};
use super::settle::{Heard, Limits, Seen, settle};
use crate::{ClusterId, Generation};

/// Members that one round assigns: more are the next round's.
const ROUND_MAX: usize = 500;

/// A member, with what it is judged by. The name is for people only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSnapshot {
    pub member: Member,
    pub seen: Seen,
    pub cluster_name: String,
}

/// The members that decisions about a rollout can be about: all that are in flight, offline or failed, those that
/// wait in waves up to this one, those that are healthy in it, and those that an intent names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberScope {
    /// The first that has not passed; from 0.
    pub wave: u32,
    /// And those that can be given back what they ran, wherever they are.
    pub returnable: bool,
}

impl Rollout {
    /// Of which members the rows have to be read to decide about this rollout as it stands.
    pub fn scope(&self) -> MemberScope {
        let passed = self.waves.iter().take_while(|wave| wave.state == WaveState::Passed).count();
        MemberScope {
            wave: u32::try_from(passed).unwrap_or(u32::MAX),
            returnable: self.state == RolloutState::RollingBack,
        }
    }
}

/// A rollout that is being decided about: rows as they were read, with what was decided since carried into them, and
/// which of them that changed.
#[derive(Debug, Clone)]
pub struct RolloutSnapshot {
    rollout: Rollout,
    /// In the order of their turns.
    entries: Vec<MemberSnapshot>,
    places: BTreeMap<ClusterId, usize>,
    scope: MemberScope,
    is_row_changed: bool,
    changed_waves: BTreeSet<u32>,
    changed_entries: BTreeSet<usize>,
}

impl RolloutSnapshot {
    /// Of a rollout with its waves counted, and its members within scope in the order of their turns.
    pub fn new(rollout: Rollout, entries: Vec<MemberSnapshot>) -> Self {
        Self {
            scope: rollout.scope(),
            rollout,
            places: entries.iter().enumerate().map(|(index, entry)| (entry.member.cluster, index)).collect(),
            entries,
            is_row_changed: false,
            changed_waves: BTreeSet::new(),
            changed_entries: BTreeSet::new(),
        }
    }

    /// Decisions have led to members that were not read: what changed is to be written, and the rest read.
    pub fn lacks_members(&self) -> bool {
        let now = self.rollout.scope();
        let is_further = now.wave > self.scope.wave && (now.wave as usize) < self.rollout.waves.len();
        is_further || (now.returnable && !self.scope.returnable)
    }

    /// The rollout's own row, when it changed.
    pub fn changed_row(&self) -> Option<&Rollout> {
        self.is_row_changed.then_some(&self.rollout)
    }

    /// All of them, from 0, with the counts of now.
    pub fn waves(&self) -> &[Wave] {
        &self.rollout.waves
    }

    /// Those to be written, each with its place.
    pub fn changed_waves(&self) -> impl Iterator<Item = (u32, &Wave)> {
        (0..).zip(&self.rollout.waves).filter(|(place, _)| self.changed_waves.contains(place))
    }

    /// Those to be written.
    pub fn changed_members(&self) -> impl Iterator<Item = &Member> {
        self.changed_entries.iter().map(|&index| &self.entries[index].member)
    }

    /// What is decided from.
    pub fn rollout(&mut self) -> &Rollout {
        self.rollout.next = self.next();
        self.rollout.catch_up = self.catch_up();
        for (place, wave) in (0..).zip(&mut self.rollout.waves) {
            wave.notable = notable(&self.entries, place);
            wave.heard_for = wave.soak_from.and_then(|from| heard_for(&self.entries, place, from));
        }
        for pending in &mut self.rollout.intents {
            if let Intent::Skip { cluster } | Intent::Retry { cluster } = pending.intent {
                pending.member = self.places.get(&cluster).map(|&index| self.entries[index].member.clone());
            }
        }
        &self.rollout
    }

    fn next(&self) -> Vec<(Member, Presence)> {
        if self.rollout.state == RolloutState::RollingBack {
            return self.turns(ROUND_MAX, |entry| entry.member.is_returnable());
        }
        let Some((place, wave)) = self.rollout.open_wave() else { return Vec::new() };
        self.turns(free_slots(wave), |entry| is_waiting_in(entry, place))
    }

    fn catch_up(&self) -> Vec<(Member, Presence)> {
        let passed = (0..).zip(&self.rollout.waves).filter(|(_, wave)| wave.state == WaveState::Passed);
        let of_wave = |(place, wave): (u32, &Wave)| {
            let is_there = |entry: &MemberSnapshot| is_waiting_in(entry, place) && entry.seen.presence.is_connected();
            if wave.waiting == 0 { Vec::new() } else { self.turns(free_slots(wave), is_there) }
        };
        passed.flat_map(of_wave).collect()
    }

    /// As many members as may be assigned, the connected ones first.
    fn turns(&self, slots: usize, is_meant: impl Fn(&MemberSnapshot) -> bool) -> Vec<(Member, Presence)> {
        let of = |connected: bool| {
            let is_one = move |entry: &&MemberSnapshot| entry.seen.presence.is_connected() == connected;
            self.entries.iter().filter(is_one).filter(|entry| is_meant(entry))
        };
        of(true).chain(of(false)).take(slots).map(|entry| (entry.member.clone(), entry.seen.presence)).collect()
    }

    /// Judges every member by what is seen of it; those of a rollout that is over and not done stay as they are.
    pub fn settle(&mut self, limits: &Limits, now: Timestamp) {
        self.rollout.next_at = None;
        if self.rollout.state.is_over() && self.rollout.state != RolloutState::Done {
            return;
        }
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            let Some(wave) = self.rollout.waves.get(entry.member.wave as usize) else { continue };
            let settled = settle(&entry.member, &entry.seen, &Limits { wave: wave.state, ..*limits }, now);
            self.rollout.next_at = [self.rollout.next_at, settled.next_at].into_iter().flatten().min();
            if let Some(member) = settled.member {
                self.replace(index, member);
            }
        }
    }

    /// Carries a decision out, to the letter; of an assignment [`RolloutSnapshot::assign`] does, once it has its
    /// generation.
    pub fn carry_out(&mut self, decision: &Decision, now: Timestamp) {
        match decision.clone() {
            Decision::Answer { .. } => drop(self.rollout.intents.remove(0)),
            Decision::Start | Decision::Resume => self.enter(RolloutState::Rolling, String::new(), now),
            Decision::Pause { reason } => self.enter(RolloutState::Paused, reason, now),
            Decision::StartRollback { reason } => self.enter(RolloutState::RollingBack, reason, now),
            Decision::Finish { state, reason } => self.enter(state, reason, now),
            Decision::OpenWave { wave } => {
                self.set_wave(wave, WaveState::Open, None, None);
                if let Some(wave) = self.rollout.waves.get_mut(wave as usize) {
                    wave.opened_at = wave.opened_at.or(Some(now));
                }
            }
            Decision::StartSoak { wave, until } => {
                self.set_wave(wave, WaveState::Soaking, Some(until), None);
                if let Some(wave) = self.rollout.waves.get_mut(wave as usize) {
                    wave.soak_from = Some(now);
                }
            }
            Decision::HoldSoak { wave, left } => self.set_wave(wave, WaveState::Soaking, None, Some(left)),
            Decision::EndSoak { wave } => {
                self.set_wave(wave, WaveState::Soaking, Some(now), None);
            }
            Decision::RestartSoak { wave } => self.set_wave(wave, WaveState::Open, None, None),
            Decision::PassWave { wave, .. } => self.set_wave(wave, WaveState::Passed, None, None),
            Decision::FailWave { wave } => self.set_wave(wave, WaveState::Failed, None, None),
            Decision::Skip { cluster, reason } => {
                let skipped = |member| Member { state: MemberState::Skipped, failing_since: None, reason, ..member };
                self.change(cluster, skipped);
            }
            Decision::Retry { cluster } => self.change(cluster, |member| {
                let again = Member::waiting(cluster, member.wave, member.digest, member.digest_before);
                Member { assigned_at: member.assigned_at, returning: member.returning, ..again }
            }),
            Decision::Assign { .. } | Decision::Return { .. } => {}
        }
    }

    /// As it stands by now; `None` when it was not read.
    pub fn member(&self, cluster: ClusterId) -> Option<&Member> {
        self.places.get(&cluster).map(|&index| &self.entries[index].member)
    }

    /// The cluster's assignment is written, under this generation.
    pub fn assign(&mut self, cluster: ClusterId, generation: Generation, returning: bool, now: Timestamp) {
        self.change(cluster, |member| Member {
            state: MemberState::Assigned,
            generation: Some(generation),
            assigned_at: Some(now),
            judged_from: Some(now),
            failing_since: None,
            returning,
            reason: String::new(),
            ..member
        });
    }

    fn enter(&mut self, state: RolloutState, reason: String, now: Timestamp) {
        (self.rollout.state, self.rollout.reason, self.rollout.since) = (state, reason, now);
        self.is_row_changed = true;
    }

    fn set_wave(&mut self, place: u32, state: WaveState, until: Option<Timestamp>, left: Option<SignedDuration>) {
        let Some(wave) = self.rollout.waves.get_mut(place as usize) else { return };
        (wave.state, wave.soak_from, wave.soak_until, wave.soak_left) = (state, None, until, left);
        self.changed_waves.insert(place);
    }

    fn change(&mut self, cluster: ClusterId, into: impl FnOnce(Member) -> Member) {
        let Some(&index) = self.places.get(&cluster) else { return };
        let member = into(self.entries[index].member.clone());
        self.replace(index, member);
    }

    fn replace(&mut self, index: usize, member: Member) {
        let entry = &mut self.entries[index];
        if let Some(wave) = self.rollout.waves.get_mut(member.wave as usize) {
            let is_connected = entry.seen.presence.is_connected();
            count(wave, &entry.member, is_connected, |count| *count = count.saturating_sub(1));
            count(wave, &member, is_connected, |count| *count += 1);
        }
        entry.member = member;
        self.changed_entries.insert(index);
    }
}

fn free_slots(wave: &Wave) -> usize {
    (wave.concurrent_max.saturating_sub(wave.in_flight) as usize).min(ROUND_MAX)
}

fn is_waiting_in(entry: &MemberSnapshot, place: u32) -> bool {
    entry.member.wave == place && entry.member.state == MemberState::Waiting && !entry.member.overtaken
}

/// Changes every count of a wave that a member stands in.
fn count(wave: &mut Wave, member: &Member, is_connected: bool, change: impl Fn(&mut u32)) {
    if member.overtaken {
        return;
    }
    change(match member.state {
        MemberState::Waiting => &mut wave.waiting,
        MemberState::Assigned | MemberState::Applied => &mut wave.in_flight,
        MemberState::Healthy => &mut wave.healthy,
        MemberState::Failed => &mut wave.failed,
        MemberState::Offline => &mut wave.offline,
        MemberState::Skipped => &mut wave.skipped,
        MemberState::RolledBack => &mut wave.rolled_back,
    });
    if member.state == MemberState::Healthy && !is_connected {
        change(&mut wave.silent);
    }
    if member.is_returnable() {
        change(&mut wave.returnable);
    }
    if member.is_first_install() {
        change(&mut wave.first_installs);
    }
}

impl Wave {
    /// The same wave with these members and no others, as counted one by one.
    #[must_use]
    pub fn recounted<'a>(&self, members: impl IntoIterator<Item = &'a MemberSnapshot>) -> Self {
        let mut wave =
            Self { members: 0, overtaken: 0, waiting: 0, in_flight: 0, healthy: 0, failed: 0, ..self.clone() };
        (wave.offline, wave.skipped, wave.rolled_back) = (0, 0, 0);
        (wave.silent, wave.returnable, wave.first_installs) = (0, 0, 0);
        for entry in members {
            let of = if entry.member.overtaken { &mut wave.overtaken } else { &mut wave.members };
            *of += 1;
            count(&mut wave, &entry.member, entry.seen.presence.is_connected(), |count| *count += 1);
        }
        wave
    }
}

/// How long, from then on, all of the healthy are known to have been heard before one of them went away; `None`: none of
/// them did. Of one that went more than once, only what was before the last time is known.
fn heard_for(entries: &[MemberSnapshot], place: u32, from: Timestamp) -> Option<SignedDuration> {
    let is_meant = |entry: &&MemberSnapshot| {
        let member = &entry.member;
        member.wave == place && member.state == MemberState::Healthy && !member.overtaken
    };
    let was_away = |seen: &&Seen| match seen.presence {
        Presence::Disconnected { .. } => true,
        Presence::Connected { since } => since > from,
    };
    let gone = entries.iter().filter(is_meant).map(|entry| &entry.seen).filter(was_away);
    let heard = gone.map(|seen| seen.heard.unwrap_or(Heard { from, until: from }));
    Some(heard.reduce(Heard::and)?.duration_since(from))
}

/// The first of a wave that failed, or else the first in flight.
fn notable(entries: &[MemberSnapshot], place: u32) -> Option<Notable> {
    let find = |is_meant: fn(MemberState) -> bool| {
        let is_here = |entry: &&MemberSnapshot| entry.member.wave == place && !entry.member.overtaken;
        entries.iter().filter(is_here).find(|entry| is_meant(entry.member.state))
    };
    let entry = find(|state| state == MemberState::Failed)
        .or_else(|| find(|state| matches!(state, MemberState::Assigned | MemberState::Applied)))?;
    Some(Notable {
        cluster_name: entry.cluster_name.clone(),
        state: entry.member.state,
        reason: entry.member.reason.clone(),
    })
}
