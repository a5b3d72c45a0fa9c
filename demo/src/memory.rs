//! The most memory that the parts under test ever held, as the kernel counts it (PSS).

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::figures::Rss;
use bellwether_e2e::process::ProcessTable;

const POLL_EVERY: Duration = Duration::from_millis(400);
const KB_PER_MB: u64 = 1024;

/// Peaks in kB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peaks {
    /// The hub with the engines that it starts.
    hub: u64,
    pub postgres: u64,
    agent: u64,
}

impl Peaks {
    /// Whole megabytes, rounded up.
    pub const fn rss(self) -> Rss {
        Rss { hub: self.hub.div_ceil(KB_PER_MB), agent_max: self.agent.div_ceil(KB_PER_MB) }
    }

    pub const fn postgres_mb(self) -> u64 {
        self.postgres.div_ceil(KB_PER_MB)
    }

    fn raise(&mut self, seen: Self) {
        self.hub = self.hub.max(seen.hub);
        self.postgres = self.postgres.max(seen.postgres);
        self.agent = self.agent.max(seen.agent);
    }
}

/// Samples while it lives.
#[derive(Debug)]
pub struct MemoryWatch {
    peaks: Arc<Mutex<Peaks>>,
    _task: JoinSet<()>,
}

impl MemoryWatch {
    pub fn start(table: &ProcessTable) -> Self {
        let peaks = Arc::new(Mutex::new(Peaks::default()));
        let mut task = JoinSet::new();
        let (table, shared) = (table.clone(), Arc::clone(&peaks));
        task.spawn(async move {
            loop {
                // A process that ends while it is measured leaves a sample out.
                if let Ok(seen) = measure(&table) {
                    shared.lock().unwrap_or_else(PoisonError::into_inner).raise(seen);
                }
                sleep(POLL_EVERY).await;
            }
        });
        Self { peaks, _task: task }
    }

    pub fn peaks(&self) -> Peaks {
        *self.peaks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn measure(table: &ProcessTable) -> Result<Peaks> {
    let mut seen = Peaks::default();
    let parents = parents();
    for process in table.list()?.iter().filter(|process| process.is_alive()) {
        let name = process.launch.name.as_str();
        if name == "hub" {
            for pid in family(process.pid, &parents) {
                let is_postgres =
                    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres");
                let place = if is_postgres { &mut seen.postgres } else { &mut seen.hub };
                *place += pss_kb(pid).unwrap_or(0);
            }
        } else if name.starts_with("agent-") {
            seen.agent = seen.agent.max(pss_kb(process.pid).unwrap_or(0));
        }
    }
    Ok(seen)
}

/// Every process with its parent.
fn parents() -> BTreeMap<i32, i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parent = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// A process and all that descend from it.
fn family(root: i32, parents: &BTreeMap<i32, i32>) -> Vec<i32> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|&(_, &of)| of == parent).map(|(&pid, _)| pid));
        next += 1;
    }
    family
}

fn pss_kb(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}
