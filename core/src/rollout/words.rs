//! What rollouts say to people of their members.

use super::rows::{Rollout, Wave};

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

/// One member of a wave by name, with its reason.
pub(super) fn notable(wave: &Wave) -> String {
    match &wave.notable {
        None => String::new(),
        Some(notable) if notable.reason.is_empty() => format!(" ({})", notable.cluster_name),
        Some(notable) => format!(" ({}: {})", notable.cluster_name, notable.reason),
    }
}

/// `, 1 failed, 2 offline`: what is not there is not said.
pub(super) fn counts(counts: &[(u32, &str)]) -> String {
    let said = counts.iter().filter(|(count, _)| *count > 0);
    said.fold(String::new(), |text, (count, what)| text + &format!(", {count} {what}"))
}
