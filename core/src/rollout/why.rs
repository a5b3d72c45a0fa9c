//! What a rollout waits for, in one sentence, from the same rows that decide.
//!
//! It decides nothing, and never says less than what holds the rollout up and since when.

use jiff::Timestamp;

use super::HumanDuration;
use super::rows::{Rollout, RolloutState, Wave, WaveState};

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
    let Some((_, wave)) = rollout.open_wave() else {
        let next = rollout.waves.iter().find(|wave| wave.state == WaveState::Waiting);
        let next = next.map_or("it ends".to_owned(), |wave| format!("{} opens", wave.name));
        return format!("{next} at the next reconcile, rolling {}", since(rollout.since, now));
    };
    let opened = since(wave.opened_at.unwrap_or(rollout.since), now);
    match (wave.state, wave.soak_until) {
        _ if rollout.is_over_budget() => format!("stops at the next reconcile: {}", stop_reason(rollout)),
        _ if wave.holds() => format!("{} holds: {}; open {opened}", wave.name, hold_reason(wave)),
        _ if !wave.is_settled() => format!("{}; open {opened}", flight(rollout, wave)),
        _ if wave.silent > 0 => {
            format!(
                "{} does not pass: {} of {} healthy clusters silent; open {opened}",
                wave.name, wave.silent, wave.healthy
            )
        }
        (WaveState::Soaking, Some(until)) => {
            let left = HumanDuration::clamped(jiff::SignedDuration::from_secs(until.duration_since(now).as_secs()));
            format!("{} soaks until {until:.0} ({left} left); open {opened}", wave.name)
        }
        _ => format!("{} goes on at the next reconcile; open {opened}", wave.name),
    }
}

/// What the members of a wave that are not settled are doing.
fn flight(rollout: &Rollout, wave: &Wave) -> String {
    let done = wave.members.saturating_sub(wave.waiting + wave.in_flight);
    let flying = format!("{}: {done} of {} settled, {} in flight", wave.name, wave.members, wave.in_flight);
    let has_room = wave.in_flight < wave.concurrent_max;
    let none_is_there = !rollout.next.iter().any(|(_, presence)| presence.is_connected());
    let waiting = match wave.waiting {
        0 => String::new(),
        waiting if has_room && none_is_there => format!(", {waiting} waiting and not connected"),
        waiting => format!(", {waiting} waiting for one of {} slots", wave.concurrent_max),
    };
    flying + &waiting + &notable(wave)
}

fn notable(wave: &Wave) -> String {
    match &wave.notable {
        None => String::new(),
        Some(notable) if notable.reason.is_empty() => format!(" ({})", notable.cluster_name),
        Some(notable) => format!(" ({}: {})", notable.cluster_name, notable.reason),
    }
}

/// Why a wave whose members are all settled does not pass.
pub(super) fn hold_reason(wave: &Wave) -> String {
    if wave.members == 0 {
        return "it selects no cluster".to_owned();
    }
    if wave.healthy == 0 && wave.failed == 0 {
        return format!(
            "0 of {} clusters answered{}",
            wave.members,
            counts(&[(wave.offline, "offline"), (wave.skipped, "skipped")])
        );
    }
    let others = counts(&[(wave.failed, "failed"), (wave.offline, "offline"), (wave.skipped, "skipped")]);
    format!(
        "{} of {} clusters healthy, {} needed{others}{}",
        wave.healthy,
        wave.members,
        wave.healthy_min,
        notable(wave)
    )
}

/// Why a rollout stops: how many failed where, and one of them by name.
pub(super) fn stop_reason(rollout: &Rollout) -> String {
    let failed = rollout.failures();
    let clusters = if failed == 1 { "cluster" } else { "clusters" };
    let wave = rollout.waves.iter().rev().find(|wave| wave.failed > 0);
    let at = wave.map_or(String::new(), |wave| format!(" at {}{}", wave.name, notable(wave)));
    format!("{failed} {clusters} failed{at}, {} allowed", rollout.failures_max)
}

/// The members of all waves by state, in words.
pub(super) fn members_text(rollout: &Rollout) -> String {
    let all = [
        (rollout.sum(|wave| wave.healthy), "healthy"),
        (rollout.sum(|wave| wave.rolled_back), "rolled back"),
        (rollout.sum(|wave| wave.failed), "failed"),
        (rollout.sum(|wave| wave.offline), "offline"),
        (rollout.sum(|wave| wave.skipped), "skipped"),
        (rollout.sum(|wave| wave.waiting), "not reached"),
    ];
    counts(&all).strip_prefix(", ").unwrap_or("no clusters").to_owned()
}

/// `, 1 failed, 2 offline`: what is not there is not said.
fn counts(counts: &[(u32, &str)]) -> String {
    let said = counts.iter().filter(|(count, _)| *count > 0);
    said.fold(String::new(), |text, (count, what)| text + &format!(", {count} {what}"))
}
