//! Gates: what holds a wave before it opens, and before it passes.
//!
//! A gate is a file with one function: it looks at the rows and the time, and says nothing, or what holds the wave. Whoever
//! decides, explains, promotes or sets an alarm asks [`to_open`] and [`to_pass`], and knows no gate by name. A gate must
//! never open on evidence that is old, missing or about something else, and never close without a sentence for people.

mod healthy;
mod heard;
mod settled;
pub(super) mod soak;

use jiff::Timestamp;

use super::rows::{Rollout, RolloutState, Wave, WaveState};

/// What a gate looks at.
#[derive(Clone, Copy)]
struct At<'a> {
    rollout: &'a Rollout,
    wave: &'a Wave,
    now: Timestamp,
}

/// `None`: it is open.
type Gate = fn(&At<'_>) -> Option<Closed>;

/// Before a wave opens, in the order in which they are told.
const TO_OPEN: [Gate; 0] = [];

/// Before an open wave passes, in the order in which they are told. Each may take those before it for open.
const TO_PASS: [Gate; 4] = [settled::gate, healthy::gate, heard::gate, soak::gate];

/// A gate that holds a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    /// For people: the wave by its name, and what it waits for.
    pub(super) why: String,
    /// When it opens if nothing else happens; `None`: time alone does not open it.
    pub(super) until: Option<Timestamp>,
    /// What it leads to when a person promotes the wave; `None`: a person has no say in it.
    pub(super) by_person: Option<Promotion>,
}

/// What a person may do to an open wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Promotion {
    /// Passes it, although this is so.
    Pass { although: String },
    /// Ends its soak; what else holds it goes on to do so.
    EndSoak,
}

/// What holds a wave that waits for its turn, now that it has come.
pub(super) fn to_open(rollout: &Rollout, wave: &Wave, now: Timestamp) -> Option<Closed> {
    first(&TO_OPEN, &At { rollout, wave, now })
}

/// What holds an open wave.
pub(super) fn to_pass(rollout: &Rollout, wave: &Wave, now: Timestamp) -> Option<Closed> {
    first(&TO_PASS, &At { rollout, wave, now })
}

/// When a gate of this rollout opens by itself.
pub(super) fn opens_at(rollout: &Rollout, now: Timestamp) -> Option<Timestamp> {
    let closed = match rollout.open_wave() {
        Some((_, wave)) => to_pass(rollout, wave, now),
        None if rollout.state != RolloutState::Rolling => None,
        None => to_open(rollout, rollout.waves.iter().find(|wave| wave.state == WaveState::Waiting)?, now),
    };
    closed?.until
}

fn first(gates: &[Gate], at: &At<'_>) -> Option<Closed> {
    gates.iter().find_map(|gate| gate(at))
}
