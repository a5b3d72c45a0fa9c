//! The benchmark `apply`: one commit that changes every object of a cluster, and an agent that restarts without a change.
//!
//! The same objects are applied by a bare client in turns with that, round by round.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::bare::AT_ONCE;
use crate::bench::{Outcome, build};
use crate::cpu::CpuTime;
use crate::figures::{hundredths, ms_between, nearest_rank};
use crate::ground::{cluster_name, now_unix_ns};
use crate::load::{Lap, Load, PATIENCE, Row, Size, Synced, table};
use crate::memory::Peaks;
use crate::requests::Asked;
use bellwether_e2e::process::wait_until_ready;
use bellwether_e2e::stack;

/// Commits after the first, which brings the objects; of many objects one takes long enough.
const CHANGES: usize = 5;
/// From so many objects on, other budgets hold.
const LARGE: usize = 2_000;

/// What one commit took, and the bare client for the same.
#[derive(Debug)]
struct Round {
    ours: Synced,
    floor: Lap,
    peaks: Peaks,
}

impl Round {
    fn rate_vs_floor(&self) -> f64 {
        self.floor.last_s / self.ours.lap.last_s
    }

    fn document(&self) -> Value {
        let Self { ours, floor, peaks } = self;
        json!({
            "seconds": hundredths(ours.lap.last_s), "first_seen_s": hundredths(ours.lap.first_s),
            "floor_seconds": hundredths(floor.last_s), "rate_vs_floor": hundredths(self.rate_vs_floor()),
            "api_requests": ours.asked.total(), "by_kind": ours.asked.kinds, "agent_rss_mb": peaks.agent_mb(),
        })
    }
}

/// An agent that finds everything as it left it.
#[derive(Debug)]
struct Restart {
    /// Until its last request.
    seconds: f64,
    asked: Asked,
    cpu_ms: f64,
    peaks: Peaks,
}

/// Measures on a state folder of its own.
pub async fn apply(state: &Path, size: Size) -> Result<Outcome> {
    let mut load = Load::start(state, size).await?;
    load.prepare().await?;
    let changes = if is_large(size) { 1 } else { CHANGES };
    let mut rounds = Vec::new();
    for round in 0..=changes {
        load.ground.memory.take_peaks();
        let ours = load.sync(round).await?;
        let peaks = load.ground.memory.take_peaks();
        let floor = load.apply_bare(round).await?;
        // Controllers and the journal have their say before the next.
        load.take_when_quiet().await?;
        rounds.push(Round { ours, floor, peaks });
    }
    let restart = restart(&mut load).await?;
    outcome(size, &rounds, &restart)
}

async fn restart(load: &mut Load) -> Result<Restart> {
    load.show.step("the agent restarts", 1);
    let before = load.ground.table.find("agent-1")?;
    before.stop().await?;
    load.requests.take()?;
    load.ground.memory.take_peaks();
    let begun = now_unix_ns()?;
    let process = load.ground.table.start(&before.launch)?;
    let name = cluster_name(1);
    let connected = async || stack::is_connected(&load.ground.api, &name).await.ok()?.then_some(());
    wait_until_ready(&process, PATIENCE, connected).await?;
    let asked = load.take_when_quiet().await?;
    let commit = load.ground.tree.git(["rev-parse", "HEAD"]).await?;
    load.wait_until_settled(&commit).await?;
    let last = asked.last_unix_ns.context("an agent that starts asks for something")?;
    let cpu_ms = CpuTime::now(&load.ground.table)?.agent;
    Ok(Restart { seconds: ms_between(begun, last) / 1e3, asked, cpu_ms, peaks: load.ground.memory.take_peaks() })
}

/// Medians of the commits after the first.
struct Medians {
    seconds: f64,
    first_seen_s: f64,
    floor_seconds: f64,
    rate_vs_floor: f64,
    hub_cpu_s: f64,
    postgres_cpu_s: f64,
    agent_cpu_s: f64,
    requests: f64,
}

impl Medians {
    fn of(changes: &[Round]) -> Result<Self> {
        let median = |value: fn(&Round) -> f64| {
            let samples: Vec<f64> = changes.iter().map(value).collect();
            nearest_rank(&samples, 50).map(hundredths).context("nothing was measured")
        };
        Ok(Self {
            seconds: median(|round| round.ours.lap.last_s)?,
            first_seen_s: median(|round| round.ours.lap.first_s)?,
            floor_seconds: median(|round| round.floor.last_s)?,
            rate_vs_floor: median(Round::rate_vs_floor)?,
            hub_cpu_s: median(|round| round.ours.cpu.hub / 1e3)?,
            postgres_cpu_s: median(|round| round.ours.cpu.postgres / 1e3)?,
            agent_cpu_s: median(|round| round.ours.cpu.agent / 1e3)?,
            requests: median(|round| count(round.ours.asked.total()))?,
        })
    }
}

fn outcome(size: Size, rounds: &[Round], restart: &Restart) -> Result<Outcome> {
    let [first, changes @ ..] = rounds else { bail!("nothing was measured") };
    let medians = Medians::of(changes)?;
    let most = |value: fn(Peaks) -> f64| {
        rounds.iter().map(|round| round.peaks).chain([restart.peaks]).map(value).fold(0.0, f64::max)
    };
    let (agent_mb, hub_mb) = (most(Peaks::agent_mb), most(Peaks::hub_mb));
    let metrics = json!({
        "objects": size.objects, "seconds": medians.seconds, "floor_seconds": medians.floor_seconds,
        "rate_vs_floor": medians.rate_vs_floor, "hub_cpu_s": medians.hub_cpu_s,
        "postgres_cpu_s": medians.postgres_cpu_s, "agent_cpu_s": medians.agent_cpu_s, "api_requests": medians.requests,
        "first_sync": first.document(),
        "rounds": changes.iter().map(Round::document).collect::<Vec<_>>(),
        "restart": {
            "seconds": hundredths(restart.seconds), "api_requests": restart.asked.total(),
            "by_kind": restart.asked.kinds, "agent_cpu_s": hundredths(restart.cpu_ms / 1e3),
            "agent_rss_mb": restart.peaks.agent_mb(),
        },
        "hub_rss_mb": hub_mb, "agent_rss_mb": agent_mb,
    });
    let conditions = json!({
        "build": build(), "clusters": 1, "targets": size.targets, "objects": size.objects, "changes": changes.len(),
        "trigger": "webhook", "fsync": true, "floor_at_once": AT_ONCE, "requests_counted_in": "audit log",
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
    });
    let mut rows = rows_of_syncs(size, first, &medians);
    rows.extend([
        ("restart without a change: until the last request", seconds(restart.seconds), ""),
        ("… the agent's requests", restart.asked.total().to_string(), "none per object"),
        ("agent, at most (PSS)", format!("{agent_mb:.1} MB"), if is_large(size) { "≤ 60 MB" } else { "" }),
        ("hub, at most (PSS)", format!("{hub_mb:.1} MB"), ""),
    ]);
    let table = format!("{}the restart's requests: {:?}\n", table(&rows)?, restart.asked.kinds);
    Ok(Outcome { table, document: json!({"bench": "apply", "conditions": conditions, "metrics": metrics}) })
}

fn rows_of_syncs(size: Size, first: &Round, medians: &Medians) -> Vec<Row<'static>> {
    let of_large = |budget| if is_large(size) { budget } else { "" };
    let of_small = |budget| if is_large(size) { "" } else { budget };
    let cpu = [medians.hub_cpu_s, medians.postgres_cpu_s, medians.agent_cpu_s].map(|s| format!("{s:.2}")).join(", ");
    vec![
        ("first sync: ref update → last object seen", seconds(first.ours.lap.last_s), ""),
        ("… by the bare client", seconds(first.floor.last_s), ""),
        ("… rate, of the bare client's", format!("{:.2}", first.rate_vs_floor()), of_large("≥ 0.8")),
        ("… the agent's requests", first.ours.asked.total().to_string(), ""),
        ("a commit changes all: ref update → last object seen", seconds(medians.seconds), of_small("≤ 2.0 s")),
        ("… until the first was seen", seconds(medians.first_seen_s), ""),
        ("… by the bare client", seconds(medians.floor_seconds), ""),
        ("… rate, of the bare client's", format!("{:.2}", medians.rate_vs_floor), of_large("≥ 0.8")),
        ("… CPU of hub, Postgres, agent", format!("{cpu} s"), of_small("≤ 2 s in all")),
        ("… the agent's requests", medians.requests.to_string(), ""),
    ]
}

const fn is_large(size: Size) -> bool {
    size.objects >= LARGE
}

fn seconds(value: f64) -> String {
    format!("{value:.2} s")
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}
