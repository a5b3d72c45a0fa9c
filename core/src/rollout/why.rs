//! What a rollout waits for, in one sentence, from the same rows that decide.
//!
//! It decides nothing, and never says less than what holds the rollout up and since when.

use jiff::Timestamp;

use super::rows::{Rollout, RolloutState, WaveState};
use super::words::stop_reason;
use super::{HumanDuration, gates};

/// What the rollout waits for, and since when.
pub fn why(rollout: &Rollout, now: Timestamp) -> String {
    let since = since(rollout.since, now);
    match rollout.state {
        RolloutState::Planned => format!("planned, waits to be started, {since}"),
        RolloutState::Rolling => rolling(rollout, now),
        RolloutState::Paused => with_flight(rollout, format!("{}, {since}", or(&rollout.reason, "paused"))),
        RolloutState::RollingBack => {
            let left = rollout.sum(|wave| wave.returnable);
            with_flight(rollout, format!("rolling back, {since}: {}; {left} to be returned", rollout.reason))
        }
        RolloutState::Done => ended(rollout, "done", &since),
        RolloutState::Failed => ended(rollout, "failed", &since),
        RolloutState::Superseded => ended(rollout, "superseded", &since),
        RolloutState::Cancelled => ended(rollout, "cancelled", &since),
    }
}

/// What comes after a rollout that goes on, of which commit.
pub fn newer_waits(commit: &str, rolling: Option<&str>) -> String {
    if rolling == Some(commit) {
        return "a newer spec waits until this ends".to_owned();
    }
    format!("commit {} waits until this ends", commit.get(..8).unwrap_or(commit))
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn since(at: Timestamp, now: Timestamp) -> String {
    let whole_seconds = jiff::SignedDuration::from_secs(now.duration_since(at).as_secs());
    format!("since {at:.0} ({} ago)", HumanDuration::clamped(whole_seconds))
}

fn with_flight(rollout: &Rollout, text: String) -> String {
    match rollout.sum(|wave| wave.in_flight) {
        0 => text,
        1 => format!("{text}; 1 cluster that was assigned is still finishing"),
        flying => format!("{text}; {flying} clusters that were assigned are still finishing"),
    }
}

fn ended(rollout: &Rollout, how: &str, since: &str) -> String {
    let offline = rollout.sum(|wave| wave.offline + wave.waiting);
    let reason = if rollout.reason.is_empty() { String::new() } else { format!(": {}", rollout.reason) };
    match (rollout.state, offline) {
        (RolloutState::Done, 1..) if rollout.is_over_budget() => {
            format!("{how}, {since}{reason}; no more clusters catch up, because {}", stop_reason(rollout))
        }
        (RolloutState::Done, 1) => format!("{how}, {since}{reason}; 1 cluster catches up when it is back"),
        (RolloutState::Done, 2..) => format!("{how}, {since}{reason}; {offline} clusters catch up when they are back"),
        _ => format!("{how}, {since}{reason}"),
    }
}

fn rolling(rollout: &Rollout, now: Timestamp) -> String {
    let Some((_, wave)) = rollout.open_wave() else { return opening(rollout, now) };
    let opened = since(wave.opened_at.unwrap_or(rollout.since), now);
    if rollout.is_over_budget() {
        return format!("stops at the next reconcile: {}", stop_reason(rollout));
    }
    match gates::to_pass(rollout, wave, now) {
        Some(closed) => format!("{}; open {opened}", closed.why),
        None => format!("{} goes on at the next reconcile; open {opened}", wave.name),
    }
}

/// What is to come while no wave is open.
fn opening(rollout: &Rollout, now: Timestamp) -> String {
    let rolling = since(rollout.since, now);
    let next = rollout.waves.iter().find(|wave| wave.state == WaveState::Waiting);
    match next.map(|wave| (wave, gates::to_open(rollout, wave, now))) {
        Some((_, Some(closed))) => format!("{}; rolling {rolling}", closed.why),
        Some((wave, None)) => format!("{} opens at the next reconcile, rolling {rolling}", wave.name),
        None => format!("it ends at the next reconcile, rolling {rolling}"),
    }
}
