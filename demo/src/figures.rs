//! What a run of the demo measured: the JSON object of its last line.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is null is not there yet, or could not be seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub clusters: usize,
    pub join_ms: Vec<u64>,
    pub push_to_applied_ms: Option<Spread>,
    pub push_to_healthy_ms: Option<Spread>,
    pub wave_order_held: Option<bool>,
    pub bad_change: Option<BadChange>,
    pub drift_ms: Option<Spread>,
    pub hub_down_heal_ms: Option<u64>,
    pub pruned: Option<usize>,
    pub audit: Option<Audit>,
    pub noop_requests: Option<usize>,
    pub rss_mb: Option<Rss>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    pub n: usize,
    pub p50: u64,
    pub p99: u64,
}

impl Spread {
    /// Of milliseconds.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let rank = |percent| nearest_rank(samples, percent).map(whole);
        Some(Self { n: samples.len(), p50: rank(50)?, p99: rank(99)? })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadChange {
    /// Counted from 1.
    pub stopped_in_wave: usize,
    pub clusters_touched: usize,
    pub rolled_back: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    pub entries: u64,
    pub verified: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rss {
    pub hub: u64,
    pub agent_max: u64,
}

/// The smallest sample that so many percent of all are not above.
pub fn nearest_rank(samples: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent * sorted.len()).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

pub fn whole(milliseconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times of a run, rounded")]
    let rounded = milliseconds.max(0.0).round() as u64;
    rounded
}

/// To be read by people.
pub fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// From one stamp to a later one; negative when it came before.
pub fn ms_between(from_unix_ns: u128, to_unix_ns: u128) -> f64 {
    let distance = Duration::from_nanos(u64::try_from(from_unix_ns.abs_diff(to_unix_ns)).unwrap_or(u64::MAX));
    let sign = if to_unix_ns < from_unix_ns { -1.0 } else { 1.0 };
    sign * distance.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let samples: Vec<f64> = (1..=20).rev().map(f64::from).collect();

        assert_eq!(nearest_rank(&samples, 50), Some(10.0));
        assert_eq!(nearest_rank(&samples, 99), Some(20.0));
        assert_eq!(nearest_rank(&[], 50), None);
    }
}
