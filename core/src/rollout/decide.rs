//! What a rollout does next.
//!
//! Reads one rollout's rows and the time, and answers with decisions that an executor carries out to the letter, in one
//! transaction, before it asks again; when nothing comes back, nothing is to be done before the time that came with it.
//! It must never assign past a spent budget or a full wave, nor pass a wave on members that are not healthy now.

use jiff::{SignedDuration, Timestamp};

use super::OnFailure;
use super::gates::{self, Promotion};
use super::rows::{Intent, Member, MemberState, PendingIntent, Presence, Rollout, RolloutState, Wave, WaveState};
use super::words::{members_text, stop_reason};
use crate::{ClusterId, Digest};

/// What the executor does. Waves are named by their place, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The oldest intent is answered and must not come again. Refused: with this reason, and nothing else happens.
    Answer { refused: Option<String> },
    /// The rollout is rolling.
    Start,
    /// The wave is open, from now.
    OpenWave { wave: u32 },
    /// The cluster gets this bundle under a new generation: its member is assigned, now, and judged from now.
    Assign { cluster: ClusterId, digest: Digest },
    /// The wave is soaking; its clock runs until then. What was left of it is forgotten.
    StartSoak { wave: u32, until: Timestamp },
    /// The soak's clock stands with so much left; the wave stays soaking and has no end of it.
    HoldSoak { wave: u32, left: SignedDuration },
    /// The wave is open again; the whole soak is yet to come.
    RestartSoak { wave: u32 },
    /// A person ends the soak: it is over now.
    EndSoak { wave: u32 },
    /// The wave has passed. With a reason when a person passed it although too few were healthy.
    PassWave { wave: u32, overridden: Option<String> },
    /// The wave has failed for good.
    FailWave { wave: u32 },
    /// The rollout is paused: nothing new is assigned.
    Pause { reason: String },
    /// The rollout is rolling again.
    Resume,
    /// The rollout is rolling back.
    StartRollback { reason: String },
    /// The cluster gets back what it ran, under a new generation: its member is returning, assigned, now, and judged
    /// from now.
    Return { cluster: ClusterId, digest: Digest },
    /// The member is skipped.
    Skip { cluster: ClusterId, reason: String },
    /// The member waits for another try: without generation, reason and clock. When it was last assigned is
    /// kept, and whether it was going back.
    Retry { cluster: ClusterId },
    /// The rollout is over.
    Finish { state: RolloutState, reason: String },
}

/// What this rollout does next, and when to reconcile again if nothing else happens. Same rows, same answer.
pub fn decide(rollout: &Rollout, now: Timestamp) -> (Vec<Decision>, Option<Timestamp>) {
    let decisions = match (rollout.intents.first(), rollout.state) {
        (Some(pending), _) => answer(rollout, pending, now),
        _ if rollout.is_overtaken() => give_way(rollout),
        (None, RolloutState::Planned) => vec![Decision::Start],
        (None, RolloutState::Rolling) => roll(rollout, now),
        (None, RolloutState::Paused) => gates::soak::clock(rollout, now).into_iter().collect(),
        (None, RolloutState::RollingBack) => roll_back(rollout),
        (None, RolloutState::Done) => catch_up(rollout),
        (None, RolloutState::Failed | RolloutState::Superseded | RolloutState::Cancelled) => Vec::new(),
    };
    (decisions, next_at(rollout, now))
}

fn next_at(rollout: &Rollout, now: Timestamp) -> Option<Timestamp> {
    if rollout.state.is_over() && rollout.state != RolloutState::Done {
        return None;
    }
    [rollout.next_at, gates::opens_at(rollout, now)].into_iter().flatten().min()
}

fn roll(rollout: &Rollout, now: Timestamp) -> Vec<Decision> {
    if rollout.is_over_budget() {
        return stop(rollout);
    }
    let mut decisions = catch_up(rollout);
    match rollout.open_wave() {
        None => decisions.extend(open_next(rollout, now)),
        Some((index, wave)) if gates::to_pass(rollout, wave, now).is_none() => {
            decisions.push(Decision::PassWave { wave: index, overridden: None });
        }
        Some((index, wave)) => match gates::soak::clock(rollout, now) {
            Some(decision) => decisions.push(decision),
            None => decisions.extend(fill(index, wave, &rollout.next)),
        },
    }
    decisions
}

/// More clusters failed than the rollout stands.
fn stop(rollout: &Rollout) -> Vec<Decision> {
    let reason = stop_reason(rollout);
    if rollout.on_failure != OnFailure::Rollback {
        return vec![Decision::Pause { reason }];
    }
    if rollout.sum(|wave| wave.returnable) == 0 {
        // A first install that fails keeps what was applied, for people to look at.
        return vec![Decision::Pause {
            reason: format!("{reason}; nothing ran here before that could be returned to"),
        }];
    }
    fail_current(rollout).into_iter().chain([Decision::StartRollback { reason }]).collect()
}

/// The wave at which a rollout ends that ends early.
fn fail_current(rollout: &Rollout) -> Option<Decision> {
    let current = (0..).zip(&rollout.waves).find(|(_, wave)| wave.state != WaveState::Passed);
    let (wave, _) = current.filter(|(_, wave)| wave.state != WaveState::Failed)?;
    Some(Decision::FailWave { wave })
}

fn open_next(rollout: &Rollout, now: Timestamp) -> Option<Decision> {
    let next = (0..).zip(&rollout.waves).find(|(_, wave)| wave.state != WaveState::Passed);
    let Some((place, wave)) = next else { return Some(finish(rollout)) };
    let may_open = wave.state == WaveState::Waiting && gates::to_open(rollout, wave, now).is_none();
    may_open.then_some(Decision::OpenWave { wave: place })
}

/// All waves have passed. Whether clusters failed on the way or not: it is for everybody, also for who comes later.
fn finish(rollout: &Rollout) -> Decision {
    Decision::Finish { state: RolloutState::Done, reason: members_text(rollout) }
}

fn give_way(rollout: &Rollout) -> Vec<Decision> {
    let reason = "later rollouts go on with all of its clusters".to_owned();
    let end = Decision::Finish { state: RolloutState::Superseded, reason };
    fail_current(rollout).into_iter().chain([end]).collect()
}

/// Free slots of the open wave go to the next waiting clusters that are there.
fn fill<'a>(index: u32, wave: &Wave, next: &'a [(Member, Presence)]) -> impl Iterator<Item = Decision> + 'a + use<'a> {
    let slots = wave.concurrent_max.saturating_sub(wave.in_flight) as usize;
    next.iter()
        .filter(move |(member, presence)| may_assign(member, *presence) && member.wave == index)
        .take(slots)
        .map(assign)
}

fn may_assign(member: &Member, presence: Presence) -> bool {
    member.state == MemberState::Waiting && presence.is_connected()
}

fn assign((member, _): &(Member, Presence)) -> Decision {
    Decision::Assign { cluster: member.cluster, digest: member.digest }
}

/// Clusters of passed waves that are there now get what their wave passed with.
fn catch_up(rollout: &Rollout) -> Vec<Decision> {
    if rollout.is_over_budget() {
        return Vec::new();
    }
    let passed = (0..).zip(&rollout.waves).filter(|(_, wave)| wave.state == WaveState::Passed);
    passed.flat_map(|(index, wave)| fill(index, wave, &rollout.catch_up)).collect()
}

fn roll_back(rollout: &Rollout) -> Vec<Decision> {
    let returns = rollout.next.iter().filter(|(member, _)| member.is_returnable());
    let returns: Vec<_> = returns
        .filter_map(|(member, _)| Some(Decision::Return { cluster: member.cluster, digest: member.digest_before? }))
        .collect();
    let is_under_way = rollout.sum(|wave| wave.returnable + wave.in_flight) > 0;
    if !returns.is_empty() || is_under_way {
        return returns;
    }
    let reason = format!("{} ({})", rollout.reason, members_text(rollout));
    match rollout.sum(|wave| wave.first_installs) {
        0 => vec![Decision::Finish { state: RolloutState::Failed, reason }],
        1 => vec![Decision::Pause {
            reason: format!("{reason}; 1 cluster ran nothing before and keeps what was applied"),
        }],
        kept => vec![Decision::Pause {
            reason: format!("{reason}; {kept} clusters ran nothing before and keep what was applied"),
        }],
    }
}

/// The oldest intent is answered alone, so that each is consumed once, on the rows as they are by then.
fn answer(rollout: &Rollout, pending: &PendingIntent, now: Timestamp) -> Vec<Decision> {
    match answered(rollout, pending, now) {
        Ok(decisions) => [Decision::Answer { refused: None }].into_iter().chain(decisions).collect(),
        Err(refused) => vec![Decision::Answer { refused: Some(refused) }],
    }
}

fn answered(rollout: &Rollout, pending: &PendingIntent, now: Timestamp) -> Result<Vec<Decision>, String> {
    if !rollout.state.takes(&pending.intent) {
        return Err("the rollout is over".to_owned());
    }
    match pending.intent {
        Intent::Pause => pause(rollout, pending),
        Intent::Resume => resume(rollout),
        Intent::Abort => {
            let end = Decision::Finish { state: RolloutState::Cancelled, reason: words("aborted", pending) };
            Ok(fail_current(rollout).into_iter().chain([end]).collect())
        }
        Intent::Skip { cluster } => skip(cluster, pending),
        Intent::Retry { cluster } => retry(rollout, cluster, pending),
        Intent::Promote => promote(rollout, pending, now),
    }
}

fn words(what: &str, pending: &PendingIntent) -> String {
    match pending.reason.trim() {
        "" => format!("{what} by {}", pending.by),
        reason => format!("{what} by {}: {reason}", pending.by),
    }
}

fn pause(rollout: &Rollout, pending: &PendingIntent) -> Result<Vec<Decision>, String> {
    match rollout.state {
        RolloutState::Paused => Err("it is paused already".to_owned()),
        RolloutState::RollingBack => Err("it is rolling back; abort stops that".to_owned()),
        _ => Ok(vec![Decision::Pause { reason: words("paused", pending) }]),
    }
}

fn resume(rollout: &Rollout) -> Result<Vec<Decision>, String> {
    if rollout.state != RolloutState::Paused {
        return Err("it is not paused".to_owned());
    }
    if rollout.waves.iter().any(|wave| wave.state == WaveState::Failed) {
        return Err("it has rolled back; roll out another revision, or abort it".to_owned());
    }
    let rolls_back = rollout.on_failure == OnFailure::Rollback && rollout.sum(|wave| wave.returnable) > 0;
    if rollout.is_over_budget() && !rolls_back {
        return Err(format!("{}; skip or retry failed clusters first, or abort", stop_reason(rollout)));
    }
    Ok(vec![Decision::Resume])
}

fn named(cluster: ClusterId, pending: &PendingIntent) -> Result<&Member, String> {
    match pending.member.as_ref().filter(|member| member.cluster == cluster) {
        Some(member) if member.overtaken => Err("a later rollout goes on with this cluster".to_owned()),
        Some(member) => Ok(member),
        None => Err("the cluster is not part of this rollout".to_owned()),
    }
}

fn skip(cluster: ClusterId, pending: &PendingIntent) -> Result<Vec<Decision>, String> {
    match named(cluster, pending)?.state {
        MemberState::Healthy => Err("it is healthy already".to_owned()),
        MemberState::Skipped => Err("it is skipped already".to_owned()),
        MemberState::RolledBack => Err("it is rolled back already".to_owned()),
        MemberState::Waiting
        | MemberState::Assigned
        | MemberState::Applied
        | MemberState::Failed
        | MemberState::Offline => Ok(vec![Decision::Skip { cluster, reason: words("skipped", pending) }]),
    }
}

fn retry(rollout: &Rollout, cluster: ClusterId, pending: &PendingIntent) -> Result<Vec<Decision>, String> {
    let member = named(cluster, pending)?;
    if !matches!(member.state, MemberState::Failed | MemberState::Skipped) {
        return Err("only a cluster that failed or was skipped can be tried again".to_owned());
    }
    let wave = rollout.waves.get(member.wave as usize);
    let may_try = match rollout.state {
        RolloutState::RollingBack => member.returning,
        _ => wave.is_some_and(|wave| wave.state != WaveState::Failed),
    };
    if !may_try {
        return Err("its rollout goes back, not forward".to_owned());
    }
    Ok(vec![Decision::Retry { cluster }])
}

fn promote(rollout: &Rollout, pending: &PendingIntent, now: Timestamp) -> Result<Vec<Decision>, String> {
    if rollout.state != RolloutState::Rolling {
        return Err("only a rollout that is rolling can be promoted".to_owned());
    }
    if pending.reason.trim().is_empty() {
        return Err("promoting needs a reason".to_owned());
    }
    let Some((wave, open)) = rollout.open_wave() else { return Err("no wave is open".to_owned()) };
    // What nothing holds passes by itself.
    let Some(closed) = gates::to_pass(rollout, open, now) else { return Ok(Vec::new()) };
    match closed.by_person {
        None => Err(format!("this cannot be promoted: {}", closed.why)),
        Some(Promotion::EndSoak) => Ok(vec![Decision::EndSoak { wave }]),
        Some(Promotion::Pass { although }) => {
            let overridden = format!("{} ({although})", words("passed", pending));
            Ok(vec![Decision::PassWave { wave, overridden: Some(overridden) }])
        }
    }
}
