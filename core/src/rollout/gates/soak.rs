//! A wave stays as it is for a while before it passes.
//!
//! The clock runs only while everybody is settled, enough are healthy and all of those are heard. What nobody saw is no
//! evidence: a cluster that was silent in between takes that time off what has run.

use jiff::{SignedDuration, Timestamp};

use super::heard::was_interrupted;
use super::{At, Closed, Promotion};
use crate::rollout::after;
use crate::rollout::decide::Decision;
use crate::rollout::human_duration::HumanDuration;
use crate::rollout::rows::{Rollout, Wave, WaveState};

pub(super) fn gate(at: &At<'_>) -> Option<Closed> {
    let At { wave, now, .. } = *at;
    let by_person = (wave.state == WaveState::Soaking).then_some(Promotion::EndSoak);
    match (wave.state, wave.soak_until) {
        (WaveState::Open, _) if wave.soak.is_zero() => None,
        (WaveState::Soaking, Some(until)) if until <= now => None,
        (WaveState::Soaking, Some(until)) => {
            let left = HumanDuration::clamped(SignedDuration::from_secs(until.duration_since(now).as_secs()));
            let why = format!("{} soaks until {until:.0} ({left} left)", wave.name);
            Some(Closed { why, until: Some(until), by_person })
        }
        _ => Some(Closed { why: format!("{} goes on at the next reconcile", wave.name), until: None, by_person }),
    }
}

/// What the open wave's members do to its soak; also while the rollout is paused.
pub(crate) fn clock(rollout: &Rollout, now: Timestamp) -> Option<Decision> {
    let (index, wave) = rollout.open_wave()?;
    let is_well = wave.is_settled() && !wave.holds();
    match ((wave.state, is_well, wave.silent > 0), wave.soak_until) {
        ((WaveState::Soaking, false, _), _) => Some(Decision::RestartSoak { wave: index }),
        ((WaveState::Soaking, true, true), Some(until)) => {
            Some(Decision::HoldSoak { wave: index, left: left(wave, until, now) })
        }
        ((WaveState::Soaking, true, false), Some(until)) if was_interrupted(wave, now) => {
            Some(Decision::StartSoak { wave: index, until: after(now, left(wave, until, now)) })
        }
        ((WaveState::Soaking, true, false), None) => {
            let left = wave.soak_left.unwrap_or(wave.soak);
            Some(Decision::StartSoak { wave: index, until: after(now, left) })
        }
        ((WaveState::Open, true, false), _) if !wave.soak.is_zero() => {
            Some(Decision::StartSoak { wave: index, until: after(now, wave.soak) })
        }
        _ => None,
    }
}

/// What is left of a soak that ends then: what nobody saw is no evidence.
pub(super) fn left(wave: &Wave, until: Timestamp, now: Timestamp) -> SignedDuration {
    let from = wave.soak_from.unwrap_or(now);
    let ran_for = now.duration_since(from).max(SignedDuration::ZERO);
    let counts = wave.heard_for.map_or(ran_for, |heard_for| heard_for.min(ran_for));
    (until.duration_since(from) - counts).max(SignedDuration::ZERO)
}
