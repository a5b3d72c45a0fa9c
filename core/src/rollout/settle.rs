//! What one cluster's newest report, its presence and the clock make of it.
//!
//! Only evidence for exactly the generation and digest that the cluster was given counts; anything else is no evidence.
//! Offline is a state of its own: a deadline is never judged while a cluster is away. It must never find a cluster
//! healthy that did not say so itself, about this assignment.

use jiff::{SignedDuration, Timestamp};

use super::rows::{Member, MemberState, Presence, WaveState};
use super::{HumanDuration, Offline, after};
use crate::report::Verdict;
use crate::{Digest, Generation};

/// The newest report of a cluster about the rollout's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub generation: Generation,
    pub digest: Digest,
    /// Every object is in place.
    pub applied: bool,
    pub verdict: Verdict,
    /// It failed, and all that failed may get well without another revision.
    pub may_pass: bool,
    /// When the hub recorded it, by the hub's clock.
    pub at: Timestamp,
    /// The worst line of the report, for people; empty when all is well.
    pub message: String,
    /// Somebody of the cluster has stopped what its agent does; who, until when and why.
    pub suspended: Option<String>,
}

/// What the hub sees of a cluster now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `None`: the cluster has said nothing about the target that is still kept.
    pub evidence: Option<Evidence>,
    pub presence: Presence,
    /// The last time in which it was heard and that is over: before its newest absence.
    pub heard: Option<Heard>,
}

/// A time in which a cluster's agent was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub from: Timestamp,
    pub until: Timestamp,
}

/// What a cluster is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From its assignment (or relapse, or return) until it must be healthy.
    pub deadline: SignedDuration,
    /// Disconnected for longer than this is offline.
    pub offline_after: SignedDuration,
    /// No cluster is offline before: a hub that has just started has not given them time to connect.
    pub grace_until: Timestamp,
    pub offline: Offline,
    /// The state of the cluster's wave.
    pub wave: WaveState,
}

/// What becomes of a member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// The member as it is to be written; `None`: it stays as it is.
    pub member: Option<Member>,
    /// When time alone may change it; `None`: only a report or a connection can.
    pub next_at: Option<Timestamp>,
}

/// How long a cluster has been away.
enum Absence {
    Here {
        since: Timestamp,
    },
    /// Not long enough to call it offline before that time.
    Short {
        offline_at: Timestamp,
    },
    Long {
        since: Timestamp,
    },
}

/// The member after what is seen now. Same member, sight and time, same answer; asked again about its answer, it
/// changes nothing more.
pub fn settle(member: &Member, seen: &Seen, limits: &Limits, now: Timestamp) -> Settled {
    let absence = absence(seen.presence, limits, now);
    let is_judged = match member.state {
        _ if member.overtaken => false,
        MemberState::Failed | MemberState::Skipped | MemberState::RolledBack => false,
        // Its turn has not come, or never will.
        MemberState::Waiting => !matches!(limits.wave, WaveState::Waiting | WaveState::Failed),
        // What a wave passed on is not judged again.
        MemberState::Healthy => matches!(limits.wave, WaveState::Open | WaveState::Soaking),
        MemberState::Assigned | MemberState::Applied | MemberState::Offline => true,
    };
    if !is_judged {
        return Settled::default();
    }
    let (after, next_at) = match absence {
        Absence::Long { since } => (gone(member, since, limits.offline), None),
        Absence::Short { offline_at } if member.state == MemberState::Offline => (member.clone(), Some(offline_at)),
        Absence::Short { offline_at } => (judged(member, seen, now), Some(offline_at)),
        Absence::Here { since } => by_time(judged(member, seen, now), since, limits, now),
    };
    Settled { member: (after != *member).then_some(after), next_at }
}

fn absence(presence: Presence, limits: &Limits, now: Timestamp) -> Absence {
    match presence {
        Presence::Connected { since } => Absence::Here { since },
        Presence::Disconnected { since } => {
            let offline_at = offline_from(since, limits.offline_after, limits.grace_until);
            if now < offline_at { Absence::Short { offline_at } } else { Absence::Long { since } }
        }
    }
}

/// From when on a cluster that is away is offline.
pub(super) fn offline_from(since: Timestamp, offline_after: SignedDuration, grace_until: Timestamp) -> Timestamp {
    after(since, offline_after).max(grace_until)
}

/// What an offline cluster is, as the strategy says. Its deadline's clock stands until it is back.
fn gone(member: &Member, since: Timestamp, offline: Offline) -> Member {
    let state = match (offline, member.state) {
        (_, MemberState::Offline) | (Offline::Skip, _) => MemberState::Offline,
        (Offline::Fail, _) => MemberState::Failed,
        // It blocks its wave: a healthy one that nobody hears is healthy no more.
        (Offline::Wait, MemberState::Healthy) => MemberState::Applied,
        (Offline::Wait, state) => state,
    };
    let reason = format!("disconnected since {since:.0}");
    Member { state, judged_from: None, failing_since: None, reason, ..member.clone() }
}

/// What its evidence says, whatever the time.
fn judged(member: &Member, seen: &Seen, now: Timestamp) -> Member {
    let Some(wanted) = member.wanted() else {
        let state = MemberState::Waiting;
        return Member { state, judged_from: None, failing_since: None, reason: String::new(), ..member.clone() };
    };
    let fresh = seen.evidence.as_ref().filter(|evidence| (evidence.generation, evidence.digest) == wanted);
    // Neither healthy nor failed: its wave waits, and its deadline's clock stands until somebody lets it go on.
    if let Some((evidence, words)) = fresh.and_then(|evidence| Some((evidence, evidence.suspended.as_ref()?))) {
        let state = if evidence.applied { MemberState::Applied } else { MemberState::Assigned };
        return Member { state, judged_from: None, failing_since: None, reason: words.clone(), ..member.clone() };
    }
    let (state, reason, at) = match fresh {
        None => (MemberState::Assigned, "", now),
        Some(evidence) => (state_by(evidence, member.returning), evidence.message.as_str(), evidence.at.min(now)),
    };
    let judged_from = match member.state {
        MemberState::Healthy => at,
        _ => member.judged_from.unwrap_or(now),
    };
    let judged_from = if state == MemberState::Healthy { member.judged_from } else { Some(judged_from) };
    let is_failing = fresh.is_some_and(|evidence| evidence.verdict == Verdict::Failed && evidence.may_pass);
    let failing_since = is_failing.then(|| member.failing_since.unwrap_or(at));
    Member { state, judged_from, failing_since, reason: reason.to_owned(), ..member.clone() }
}

fn state_by(evidence: &Evidence, returning: bool) -> MemberState {
    match (evidence.applied, evidence.verdict) {
        (_, Verdict::Failed) if !evidence.may_pass => MemberState::Failed,
        (true, Verdict::Healthy) if returning => MemberState::RolledBack,
        (true, Verdict::Healthy) => MemberState::Healthy,
        (true, _) => MemberState::Applied,
        (false, _) => MemberState::Assigned,
    }
}

/// A failure that may pass, such as that of a webhook that is being restarted or of a Deployment that lacks what has just
/// been added, counts once it has lasted so long: the controllers' own pauses between two tries are about half of it.
const FAILURE_LASTS: SignedDuration = SignedDuration::from_secs(60);

/// A connected member that is not settled fails when its time is over, or when it has failed for long enough.
fn by_time(member: Member, connected_since: Timestamp, limits: &Limits, now: Timestamp) -> (Member, Option<Timestamp>) {
    if !matches!(member.state, MemberState::Assigned | MemberState::Applied) {
        return (member, None);
    }
    let from = member.judged_from.unwrap_or(now);
    let due = due(from, connected_since, limits);
    let lasted = member.failing_since.map(|since| after(since, FAILURE_LASTS));
    if lasted.is_some_and(|lasted| lasted <= now) {
        return (Member { state: MemberState::Failed, ..member }, None);
    }
    if now < due {
        return (member, Some(lasted.map_or(due, |lasted| lasted.min(due))));
    }
    let late = format!("not healthy within {}", HumanDuration::clamped(limits.deadline));
    let reason = if member.reason.is_empty() { late } else { format!("{late}: {}", member.reason) };
    (Member { state: MemberState::Failed, reason, ..member }, None)
}

/// Whoever was cut off for a moment gets time to say what happened meanwhile. The added time is bounded, so that an
/// agent whose connection flaps cannot put its deadline off for ever; two limits cover one absence that ended late.
fn due(from: Timestamp, connected_since: Timestamp, limits: &Limits) -> Timestamp {
    let due = after(from, limits.deadline);
    if connected_since <= from {
        return due;
    }
    let heard_by = after(connected_since, limits.offline_after);
    due.max(heard_by.min(after(due, limits.offline_after * 2)))
}
