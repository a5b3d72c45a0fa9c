//! Rollouts as the API shows them.

use bellwether_core::api::{RolloutDocument, WaveDocument};
use bellwether_core::rollout::{self, Wave, why};
use jiff::Timestamp;

use crate::http::v1::targets::source_document;
use crate::store::views::rollouts::RolloutView;

/// With its members left out.
pub(in crate::http::v1) fn document_of(view: RolloutView, now: Timestamp) -> RolloutDocument {
    let mut why = why(&view.rollout, now);
    if let Some(commit) = &view.newer {
        let newer = rollout::newer_waits(commit, view.to_commit.as_deref());
        why = format!("{why}; {newer}: `bellwether rollout abort {}` ends it", view.target);
    }
    RolloutDocument {
        id: view.row.id,
        target: view.target,
        state: view.row.state,
        why,
        from_commit: view.from_commit,
        to_commit: view.to_commit.unwrap_or_default(),
        sources: view.sources.iter().map(source_document).collect(),
        started_at: view.row.created_at,
        ended_at: view.row.ended_at,
        failures_allowed: view.row.failures_max,
        waves: view.rollout.waves.into_iter().map(wave_document).collect(),
        members: Vec::new(),
        members_next: None,
    }
}

fn wave_document(wave: Wave) -> WaveDocument {
    WaveDocument {
        name: wave.name,
        state: wave.state,
        opened_at: wave.opened_at,
        soak_until: wave.soak_until,
        members: wave.members,
        waiting: wave.waiting,
        in_flight: wave.in_flight,
        healthy: wave.healthy,
        failed: wave.failed,
        offline: wave.offline,
        skipped: wave.skipped,
        rolled_back: wave.rolled_back,
    }
}
