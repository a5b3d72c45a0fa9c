//! Rollouts: how a change crosses the fleet.
//!
//! Pure functions, and nothing else, decide: [`start`] says when a rollout begins, [`waves`] plans, [`settle`] judges one
//! cluster by its newest report, [`gates`] say what holds a wave, [`decide`] says what happens next. They see rows, never events: the same rows give the same answer, a repeat after a
//! crash is harmless, and the explanation that people read ([`why`]) comes from the same rows.
//!
//! What must never happen: a gate that opens on evidence that is old, missing or about something else; two waves open
//! at once; more clusters in flight than the wave allows; an assignment after the failure budget is spent.

mod begin;
mod decide;
mod gates;
mod human_duration;
mod plan;
mod prunable;
mod rendered;
mod retire;
mod rows;
mod settle;
mod snapshot;
mod start;
mod strategy;
mod wanted;
mod why;
mod words;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulator;

pub use begin::{Begin, Beginning, begin, changes_fleet, most_common, replacing, strategy_for};
pub use decide::{Decision, decide};
pub use human_duration::{HumanDuration, InvalidDuration};
pub use plan::{Candidate, ORDER_LABEL, PlannedWave, waves};
pub use prunable::{Replaced, left_behind, prunable};
pub use rendered::Rendered;
pub use retire::{Patience, may_retire};
pub use rows::{
    Aside, Intent, Member, MemberState, Notable, OVERTAKEN, PendingIntent, Presence, Rollout, RolloutState, Wave,
    WaveState,
};
pub use settle::{Evidence, Heard, Limits, Seen, Settled, settle};
pub use snapshot::{MemberScope, MemberSnapshot, RolloutSnapshot};
pub use start::{
    Earlier, Kind, LiveChange, Move, Past, Placed, Situation, Start, awaited, awaited_welcome, back, behind,
    busy_until, for_newcomers, former, is_given_up, moves, release, roll_back, start, unrendered, unsigned, waited_for,
    welcome,
};
pub use strategy::{Amount, Offline, OnFailure, Strategy, StrategyError, WAVES_MAX, WaveSpec};
pub use wanted::Wanted;
pub use why::{newer_waits, why};

use jiff::{SignedDuration, Timestamp};

/// That much after a time, and never beyond the end of time.
fn after(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
