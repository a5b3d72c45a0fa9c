//! All of the healthy are heard, and were for the whole of the soak.

use jiff::{SignedDuration, Timestamp};

use super::{At, Closed, Promotion, soak};
use crate::rollout::human_duration::HumanDuration;
use crate::rollout::rows::{Wave, WaveState};
use crate::rollout::settle::Heard;

pub(super) fn gate(at: &At<'_>) -> Option<Closed> {
    let At { wave, now, .. } = *at;
    let why = if wave.silent > 0 {
        format!("{} does not pass: {} of {} healthy clusters silent", wave.name, wave.silent, wave.healthy)
    } else if was_interrupted(wave, now) {
        let left = HumanDuration::clamped(soak::left(wave, wave.soak_until?, now));
        format!("{} soaks on, because a healthy cluster was silent: {left} left at the next reconcile", wave.name)
    } else {
        return None;
    };
    // To end the soak is a person's to say; that who is silent is well is nobody's.
    let by_person = (wave.state == WaveState::Soaking).then_some(Promotion::EndSoak);
    Some(Closed { why, until: None, by_person })
}

/// Somebody went since the soak's clock runs, and nobody reconciled in between.
pub(super) fn was_interrupted(wave: &Wave, now: Timestamp) -> bool {
    wave.heard_for.is_some() && wave.soak_from.is_some_and(|from| from < now)
}

impl Heard {
    /// The time in which both were heard; it may end before it begins.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }

    /// How much of it is after that.
    pub fn duration_since(self, from: Timestamp) -> SignedDuration {
        self.until.duration_since(self.from.max(from)).max(SignedDuration::ZERO)
    }
}
