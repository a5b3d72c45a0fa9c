//! The main way, end to end: real processes, a real Postgres, real API servers.
//!
//! `./dev test e2e` runs it, and gives it what it needs. A test is a scene of its own (`bellwether_e2e::harness`); nothing
//! is waited for by sleeping, and nothing is believed that an API server, the command line or the API did not say.

mod applying;
mod bad_input;
mod borrowing;
mod crashes;
mod deleting;
mod descriptors;
mod disk;
mod drift;
mod engines;
mod faults;
mod identity;
mod images;
mod installing;
mod joining;
mod moments;
mod pauses;
mod planning;
mod private_repos;
mod rollouts;
mod secrets;
mod seeing;
mod simulation;
mod two_hubs;

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, eventually};
use serde_json::Value;

/// A ConfigMap with one value, as a file of a repo.
fn config_map(name: &str, key: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{{key}: {value:?}}}\n")
}

/// Of a rollout over the waves `canary` and `others` that nothing stops.
const UNDISTURBED: [&str; 7] = [
    "planned",
    "started",
    "wave.opened canary",
    "wave.passed canary",
    "wave.opened others",
    "wave.passed others",
    "done",
];

/// Waits until the audit log has exactly this of a rollout, in this order. What people asked is left out.
async fn expect_steps(scene: &Scene, rollout: &Value, expected: &[&str]) -> Result<()> {
    let id = rollout["id"].as_str().context("a rollout has an id")?;
    eventually(PATIENCE, "the rollout's steps are sealed", async || {
        let entries = scene.audit(&["--action", "rollout", "--rollout", id]).await?;
        let steps: Vec<_> = entries.iter().filter_map(step).filter(|step| !step.ends_with(".asked")).collect();
        ensure!(steps == expected, "{steps:?}");
        Ok(())
    })
    .await
}

/// `wave.opened canary` and the like.
fn step(entry: &Value) -> Option<String> {
    let action = entry["action"].as_str()?.strip_prefix("rollout.")?;
    Some(entry["detail"]["wave"].as_str().map_or_else(|| action.to_owned(), |wave| format!("{action} {wave}")))
}
