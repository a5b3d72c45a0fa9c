//! What a simulation saw, and how it is told: progress on standard error, figures as JSON on standard output.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bellwether_core::session::Assignment;
use bellwether_core::{Digest, Name, TargetId};
use serde::Serialize;
use tokio::sync::watch;

use crate::config::Simulation;

/// What the agents of a simulation tell it.
#[derive(Default)]
pub(super) struct Fleet {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    present: Vec<watch::Receiver<bool>>,
    /// From the first byte to the hub until the stream was open.
    joins: Vec<Duration>,
    joined_last: Option<Instant>,
    /// Why somebody still waits to join, in the words of the last who was told.
    trouble: Option<String>,
    accepted: u64,
    newest: Option<Newest>,
}

/// The bundle that was accepted last of all, agent by agent.
struct Newest {
    name: String,
    target: TargetId,
    digest: Digest,
    agents: BTreeSet<Name>,
    first: Instant,
    last: Instant,
}

impl Fleet {
    pub(super) fn mark_joined(&self, present: watch::Receiver<bool>, took: Duration) {
        let mut seen = self.lock();
        seen.present.push(present);
        seen.joins.push(took);
        seen.joined_last = Some(Instant::now());
    }

    pub(super) fn mark_trouble(&self, reason: String) {
        self.lock().trouble = Some(reason);
    }

    pub(super) fn mark_accepted(&self, agent: &Name, assignment: &Assignment) {
        let mut seen = self.lock();
        let (target, digest, now) = (assignment.target, assignment.manifest.digest(), Instant::now());
        seen.accepted += 1;
        let newest = seen.newest.take().filter(|newest| (newest.target, newest.digest) == (target, digest));
        let mut newest = newest.unwrap_or_else(|| Newest {
            name: assignment.name.to_string(),
            target,
            digest,
            agents: BTreeSet::new(),
            first: now,
            last: now,
        });
        newest.agents.insert(agent.clone());
        newest.last = now;
        seen.newest = Some(newest);
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder of this lock panics")
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    agents: u32,
    joined: usize,
    connected: usize,
    /// From the first registration until all had joined; absent before.
    joined_after_seconds: Option<f64>,
    join_ms_p50: Option<u128>,
    join_ms_p99: Option<u128>,
    /// Assignments, of all agents together.
    accepted: u64,
    newest: Option<NewestFigures>,
    rss_mb: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NewestFigures {
    target: String,
    digest: Digest,
    agents: usize,
    /// Between the first agent that accepted it and the last.
    spread_ms: u128,
}

/// Tells progress at each tick while agents join, then figures at its own pace.
pub(super) struct Teller {
    agents: u32,
    every: Duration,
    fleet: Arc<Fleet>,
    began: Instant,
    all_joined: bool,
    told_at: Instant,
}

impl Teller {
    pub(super) fn new(simulation: &Simulation, fleet: Arc<Fleet>) -> Self {
        let every = Duration::from_secs(simulation.every_seconds.into());
        let began = Instant::now();
        Self { agents: simulation.count, every, fleet, began, all_joined: false, told_at: began }
    }

    pub(super) fn tick(&mut self) -> io::Result<()> {
        if !self.all_joined {
            self.tell_progress()?;
            self.all_joined = self.fleet.lock().joins.len() == self.agents as usize;
            return if self.all_joined { self.tell() } else { Ok(()) };
        }
        if self.told_at.elapsed() >= self.every { self.tell() } else { Ok(()) }
    }

    pub(super) fn tell(&mut self) -> io::Result<()> {
        self.told_at = Instant::now();
        let line = serde_json::to_string(&self.figures())?;
        writeln!(io::stdout(), "{line}")
    }

    fn tell_progress(&self) -> io::Result<()> {
        let (joined, trouble) = {
            let mut seen = self.fleet.lock();
            (seen.joins.len(), seen.trouble.take())
        };
        let trouble = trouble.map_or_else(String::new, |reason| format!("; some wait: {reason}"));
        writeln!(io::stderr(), "{joined} of {} agents have joined{trouble}", self.agents)
    }

    fn figures(&self) -> Figures {
        let mut seen = self.fleet.lock();
        seen.joins.sort_unstable();
        let joined_after = seen.joined_last.filter(|_| self.all_joined).map(|last| last.duration_since(self.began));
        Figures {
            agents: self.agents,
            joined: seen.joins.len(),
            connected: seen.present.iter().filter(|present| *present.borrow()).count(),
            joined_after_seconds: joined_after.map(|after| after.as_secs_f64()),
            join_ms_p50: percentile(&seen.joins, 50).map(|took| took.as_millis()),
            join_ms_p99: percentile(&seen.joins, 99).map(|took| took.as_millis()),
            accepted: seen.accepted,
            newest: seen.newest.as_ref().map(|newest| NewestFigures {
                target: newest.name.clone(),
                digest: newest.digest,
                agents: newest.agents.len(),
                spread_ms: newest.last.duration_since(newest.first).as_millis(),
            }),
            rss_mb: rss_mb(),
        }
    }
}

/// The least of the sorted that as many percent are not above.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Of this process; `None` where the kernel does not say.
fn rss_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_what_was_seen() {
        let sorted: Vec<_> = (1..=200).map(Duration::from_millis).collect();

        assert_eq!(percentile(&sorted, 50), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&sorted, 99), Some(Duration::from_millis(198)));
        assert_eq!(percentile(&sorted[..1], 99), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&[], 50), None);
    }
}
