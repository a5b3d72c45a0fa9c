//! What a run leaves for others to count again: what was done, and what each observer wrote about it.
//!
//! `run.json` says what was pushed and when windows were open, `figures.json` what the run claims; the rest are the
//! observers' own files: `watch.stamps`, `refs.stamps`, `audit.json`, `api-audit/CLUSTER.log`. The logs of the
//! hub and the agents are there for people; nothing is counted from them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::figures::Figures;
use crate::ground::{Ground, cluster_name, stamps_file, timestamp};
use bellwether_e2e::process::Tier;

/// What was done.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Run {
    pub clusters: usize,
    pub pushes: Vec<Pushed>,
    pub waves: Option<Waves>,
    pub edits: Vec<Edit>,
    pub noop: Option<Window>,
}

/// A commit with a value that every cluster was to show.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pushed {
    pub commit: String,
    pub value: String,
}

/// A value that crossed the fleet in waves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waves {
    pub value: String,
    pub canary: String,
    pub rollout: String,
}

/// A value that somebody else wrote, in one cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Edit {
    pub cluster: String,
    pub note: String,
    pub value: String,
    /// When we began to ask for it, by our clock.
    pub asked_unix_ns: u128,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Window {
    pub from_unix_ns: u128,
    pub to_unix_ns: u128,
}

/// One request, as an API server logged its end.
#[derive(Debug, Clone)]
pub struct ApiRequest {
    pub received_unix_ns: u128,
    pub verb: String,
    pub user: String,
    pub resource: String,
    pub name: String,
}

/// Every request that has ended, or began to be answered and has no end.
pub fn read_api_audit(path: &Path) -> Result<Vec<ApiRequest>> {
    let log = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut requests = Vec::new();
    // What stands behind the last line's end is still being written.
    for line in log.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let event: Value = serde_json::from_str(line)?;
        if event["stage"] != "ResponseComplete" && event["stage"] != "Panic" {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        requests.push(ApiRequest {
            received_unix_ns: timestamp(&event["requestReceivedTimestamp"])?,
            verb: text(&event["verb"]),
            user: text(&event["user"]["username"]),
            resource: text(&event["objectRef"]["resource"]),
            name: text(&event["objectRef"]["name"]),
        });
    }
    Ok(requests)
}

/// Copies everything into a folder.
pub async fn write(folder: &Path, ground: &Ground, run: &Run, figures: &Figures) -> Result<()> {
    let copy = |from: &Path, to: &str| -> Result<()> {
        let to = folder.join(to);
        fs::copy(from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        Ok(())
    };
    fs::create_dir_all(folder.join("api-audit"))?;
    for cluster in &ground.clusters {
        let log = cluster.audit_log.as_deref().context("a borrowed cluster's API server leaves us no audit log")?;
        copy(log, &format!("api-audit/{}.log", cluster_name(cluster.number)))?;
    }
    copy(&stamps_file(&ground.state), "watch.stamps")?;
    copy(&ground.repo.folder.join("stamps"), "refs.stamps")?;
    fs::create_dir_all(folder.join("logs"))?;
    for process in ground.table.list()?.iter().filter(|process| process.launch.tier >= Tier::Hub) {
        copy(&process.launch.log, &format!("logs/{}.log", process.launch.name))?;
    }
    let entries = ground.audit("").await?;
    fs::write(folder.join("audit.json"), serde_json::to_vec_pretty(&entries)?)?;
    fs::write(folder.join("run.json"), serde_json::to_vec_pretty(run)?)?;
    Ok(fs::write(folder.join("figures.json"), serde_json::to_vec(figures)?)?)
}
