//! Nobody in the wave is waited for.

use super::{At, Closed};
use crate::rollout::rows::{Rollout, Wave};
use crate::rollout::words::notable;

impl Wave {
    /// Nobody in it is waited for: all are healthy, failed, offline, skipped or rolled back.
    pub const fn is_settled(&self) -> bool {
        self.waiting == 0 && self.in_flight == 0
    }
}

pub(super) fn gate(at: &At<'_>) -> Option<Closed> {
    let closed = || Closed { why: flight(at.rollout, at.wave), until: None, by_person: None };
    (!at.wave.is_settled()).then(closed)
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
