//! The memory that the parts under test hold, as the kernel counts it (PSS); and which processes those parts are.

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
    /// The largest.
    agent: u64,
    watcher: u64,
}

/// Whose a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Hub,
    Postgres,
    Agent,
    /// A client that watches and does nothing else.
    Watcher,
}

impl Peaks {
    /// Whole megabytes, rounded up.
    pub const fn rss(self) -> Rss {
        Rss { hub: self.hub.div_ceil(KB_PER_MB), agent_max: self.agent.div_ceil(KB_PER_MB) }
    }

    pub const fn postgres_mb(self) -> u64 {
        self.postgres.div_ceil(KB_PER_MB)
    }

    /// Megabytes, to a tenth.
    pub fn hub_mb(self) -> f64 {
        mb(self.hub)
    }

    pub fn agent_mb(self) -> f64 {
        mb(self.agent)
    }

    pub fn watcher_mb(self) -> f64 {
        mb(self.watcher)
    }

    /// What is held just now.
    pub(crate) fn now(table: &ProcessTable) -> Result<Self> {
        let mut seen = Self::default();
        for (part, pid) in parts(table)? {
            let kb = pss_kb(pid).unwrap_or(0);
            match part {
                Part::Hub => seen.hub += kb,
                Part::Postgres => seen.postgres += kb,
                Part::Agent => seen.agent = seen.agent.max(kb),
                Part::Watcher => seen.watcher = kb,
            }
        }
        Ok(seen)
    }

    fn raise(&mut self, seen: Self) {
        self.hub = self.hub.max(seen.hub);
        self.postgres = self.postgres.max(seen.postgres);
        self.agent = self.agent.max(seen.agent);
        self.watcher = self.watcher.max(seen.watcher);
    }
}

fn mb(kb: u64) -> f64 {
    let tenths = (kb * 10).div_ceil(KB_PER_MB);
    f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0
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
                if let Ok(seen) = Peaks::now(&table) {
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

    /// Those since the last time.
    pub(crate) fn take_peaks(&self) -> Peaks {
        std::mem::take(&mut self.peaks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The processes that run and are measured.
pub(crate) fn parts(table: &ProcessTable) -> Result<Vec<(Part, i32)>> {
    let parents = parents();
    let mut parts = Vec::new();
    for process in table.list()?.iter().filter(|process| process.is_alive()) {
        match process.launch.name.as_str() {
            "hub" => parts.extend(family(process.pid, &parents).into_iter().map(|pid| (part_of_hub(pid), pid))),
            "watch" => parts.push((Part::Watcher, process.pid)),
            name if name.starts_with("agent-") => parts.push((Part::Agent, process.pid)),
            _ => {}
        }
    }
    Ok(parts)
}

fn part_of_hub(pid: i32) -> Part {
    let is_postgres = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres");
    if is_postgres { Part::Postgres } else { Part::Hub }
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
