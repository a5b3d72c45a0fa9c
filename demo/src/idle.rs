//! The benchmark `idle`: what an agent takes while nothing changes, without targets and with many objects.
//!
//! The floor is the watcher, in the same minute: a client that watches as many kinds, keeps nothing and knows no hub.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bellwether_e2e::process::Background;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, sleep, sleep_until};

use crate::bench::{Outcome, build};
use crate::cpu::CpuTime;
use crate::figures::hundredths;
use crate::load::{Load, Row, Size, table};
use crate::memory::Peaks;
use crate::requests::Asked;

/// After the last request of an agent: what it has freed, its allocator gives back a little later.
const SETTLE: Duration = Duration::from_secs(10);
const HEARTBEAT_SECONDS: f64 = 15.0;

/// What was taken in a while without a change.
#[derive(Debug)]
struct Rest {
    seconds: f64,
    held: Peaks,
    cpu: CpuTime,
    asked: Asked,
    /// In both directions, between the agent and its hub; nobody says where there is no `ss`.
    wire_bytes: Option<f64>,
}

/// Measures on a state folder of its own.
pub async fn idle(state: &Path, size: Size, seconds: u32) -> Result<Outcome> {
    let mut load = Load::start(state, size).await?;
    let without = rest(&mut load, "without targets", seconds).await?;
    load.prepare().await?;
    load.sync(0).await?;
    let with = rest(&mut load, "with all targets", seconds).await?;
    outcome(size, seconds, &without, &with)
}

async fn rest(load: &mut Load, when: &str, seconds: u32) -> Result<Rest> {
    load.take_when_quiet().await?;
    load.show.step(&format!("{when}: nothing happens"), seconds as usize);
    sleep(SETTLE).await;
    load.requests.take()?;
    let agent = load.ground.table.find("agent-1")?;
    let (begun, bytes_before) = (Instant::now(), wire_bytes(&agent).await);
    let before = CpuTime::now(&load.ground.table)?;
    for second in 1..=seconds {
        sleep_until(begun + Duration::from_secs(second.into())).await;
        load.show.reach(second as usize);
    }
    let cpu = CpuTime::now(&load.ground.table)?.since(before);
    let seconds = begun.elapsed().as_secs_f64();
    let bytes_after = wire_bytes(&agent).await;
    let held = Peaks::now(&load.ground.table)?;
    let asked = load.requests.take()?;
    load.show.done(format_args!("{when}, at rest: agent {:.1} MB, {:.1} ms of CPU", held.agent_mb(), cpu.agent));
    // Less than before is another connection.
    let wire_bytes = bytes_after.zip(bytes_before).map(|(after, before)| after - before).filter(|bytes| *bytes >= 0.0);
    Ok(Rest { seconds, held, cpu, asked, wire_bytes })
}

/// Of the agent's connection to its hub so far, as the kernel counts them.
async fn wire_bytes(agent: &Background) -> Option<f64> {
    let args = &agent.launch.args;
    let hub = args.iter().skip_while(|arg| *arg != "--hub").nth(1)?;
    let port = hub.rsplit_once(':')?.1;
    let listed = Command::new("ss").args(["-tinHO", &format!("dport = :{port}")]).output().await.ok()?;
    let text = String::from_utf8(listed.stdout).ok()?;
    let counts = ["bytes_sent:", "bytes_received:"].map(|name| {
        text.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse::<u32>().ok()).map(f64::from)
    });
    counts.into_iter().sum()
}

impl Rest {
    /// Thousandths of a core.
    fn millicores(&self, ms: f64) -> f64 {
        hundredths(ms / self.seconds)
    }

    fn wire_bytes_per(&self, seconds: f64) -> Option<f64> {
        self.wire_bytes.map(|bytes| (bytes * seconds / self.seconds).round())
    }

    fn document(&self) -> Value {
        json!({
            "agent_rss_mb": self.held.agent_mb(), "agent_mcores": self.millicores(self.cpu.agent),
            "floor_rss_mb": self.held.watcher_mb(), "floor_mcores": self.millicores(self.cpu.watcher),
            "hub_rss_mb": self.held.hub_mb(), "hub_mcores": self.millicores(self.cpu.hub),
            "postgres_mcores": self.millicores(self.cpu.postgres),
            "api_requests": self.asked.total(), "watches_renewed": self.asked.watches(), "by_kind": self.asked.kinds,
            "wire_bytes_per_min": self.wire_bytes_per(60.0),
        })
    }

    fn rows(&self, memory_budget: &'static str) -> [Row<'static>; 7] {
        let wire =
            self.wire_bytes_per(HEARTBEAT_SECONDS).map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string());
        let millicores = |ms| format!("{:.2} m", self.millicores(ms));
        let floor = format!("{:.1} MB, {}", self.held.watcher_mb(), millicores(self.cpu.watcher));
        [
            ("… agent's memory (PSS)", format!("{:.1} MB", self.held.agent_mb()), memory_budget),
            ("… agent's CPU, in thousandths of a core", millicores(self.cpu.agent), "≤ 1 m"),
            ("… floor: memory, CPU of a client that only watches", floor, ""),
            ("… agent's requests, watches renewed aside", self.asked.total().to_string(), "0"),
            ("… watches renewed", self.asked.watches().to_string(), ""),
            ("… bytes between agent and hub in 15 s", wire, ""),
            ("… hub's memory, CPU", format!("{:.1} MB, {}", self.held.hub_mb(), millicores(self.cpu.hub)), "≤ 50 MB"),
        ]
    }
}

fn outcome(size: Size, seconds: u32, without: &Rest, with: &Rest) -> Result<Outcome> {
    let title = format!("{} objects in {} targets", size.objects, size.targets);
    let mut rows: Vec<Row<'_>> = vec![("no targets", String::new(), "")];
    rows.extend(without.rows("≤ 10 MB"));
    rows.push((&title, String::new(), ""));
    rows.extend(with.rows("≤ 20 MB"));
    let mut metrics = with.document();
    let members = metrics.as_object_mut().context("it is one")?;
    members.insert("without_targets".to_owned(), without.document());
    let conditions = json!({
        "build": build(), "clusters": 1, "targets": size.targets, "objects": size.objects, "seconds": seconds,
        "fsync": true, "requests_counted_in": "audit log", "cores": std::thread::available_parallelism().map_or(0, usize::from),
    });
    Ok(Outcome {
        table: table(&rows)?,
        document: json!({"bench": "idle", "conditions": conditions, "metrics": metrics}),
    })
}
