//! The processor time that the parts under test have taken, as the kernel counts it.

use std::fs;

use anyhow::Result;

use crate::memory::{Part, parts};
use bellwether_e2e::process::ProcessTable;

/// What Linux tells times of processes in, on every machine that we know.
const MS_PER_TICK: f64 = 10.0;

/// In milliseconds since each began, those that its children took and that have ended included.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CpuTime {
    pub(crate) hub: f64,
    pub(crate) postgres: f64,
    pub(crate) agent: f64,
    pub(crate) watcher: f64,
}

impl CpuTime {
    pub(crate) fn now(table: &ProcessTable) -> Result<Self> {
        let mut taken = Self::default();
        for (part, pid) in parts(table)? {
            let place = match part {
                Part::Hub => &mut taken.hub,
                Part::Postgres => &mut taken.postgres,
                Part::Agent => &mut taken.agent,
                Part::Watcher => &mut taken.watcher,
            };
            *place += ticks(pid).unwrap_or(0.0) * MS_PER_TICK;
        }
        Ok(taken)
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            hub: self.hub - before.hub,
            postgres: self.postgres - before.postgres,
            agent: self.agent - before.agent,
            watcher: self.watcher - before.watcher,
        }
    }
}

/// In user mode and in the kernel's, of the process and of its children that ended.
fn ticks(pid: i32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold some itself. The state is field 3, the times are 14 to 17.
    let times = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4);
    times.map(|ticks| ticks.parse::<u32>().ok().map(f64::from)).sum()
}
