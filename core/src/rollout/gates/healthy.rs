//! Enough of a wave are healthy, or a person says that it passes without.

use super::{At, Closed, Promotion};
use crate::rollout::rows::Wave;
use crate::rollout::words::{counts, notable};

impl Wave {
    /// All are settled and too few are healthy: it holds until one answers or a person decides.
    pub const fn holds(&self) -> bool {
        self.is_settled() && self.healthy < self.healthy_min
    }
}

pub(super) fn gate(at: &At<'_>) -> Option<Closed> {
    if !at.wave.holds() {
        return None;
    }
    let although = reason(at.wave);
    let why = format!("{} holds: {although}", at.wave.name);
    Some(Closed { why, until: None, by_person: Some(Promotion::Pass { although }) })
}

/// Why a wave whose members are all settled does not pass.
fn reason(wave: &Wave) -> String {
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
