//! Agents that are simulated, against a real hub.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, SceneOptions, eventually};
use bellwether_e2e::process::{Child, Launch, Tier};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::config_map;

const AGENTS: &str = "20";

fn start(scene: &Scene) -> Result<Child> {
    Launch::new("simulation", scene.env.programs.join("bellwether-agent"), Tier::Agents, scene.folder.path())
        .args(["simulate", "--count", AGENTS, "--label", "ring=sim", "--every-seconds", "1"])
        .env("BELLWETHER_URL", scene.api.url.as_str())
        .env("BELLWETHER_CA", scene.api.ca.display().to_string())
        .env("BELLWETHER_TOKEN", &scene.api.token)
        .env("NO_PROXY", "127.0.0.1")
        .start_child()
}

/// The last line of figures.
fn figures(simulation: &Child) -> Result<Value> {
    let log = simulation.log();
    let line = log.lines().rfind(|line| line.starts_with('{')).with_context(|| format!("no figures in:\n{log}"))?;
    Ok(serde_json::from_str(line)?)
}

async fn wait_for_figure(simulation: &Child, place: &str, wanted: u64) -> Result<Value> {
    eventually(PATIENCE, &format!("{place} of the simulation is {wanted}"), async || {
        let figures = figures(simulation)?;
        ensure!(figures.pointer(place).is_some_and(|found| found == wanted), "{figures}");
        Ok(figures)
    })
    .await
}

#[tokio::test]
async fn simulated_agents_join_take_part_in_rollouts_and_come_back() -> Result<()> {
    Scene::run(&[], async |scene| {
        let mut simulation = start(scene)?;

        wait_for_figure(&simulation, "/connected", 20).await?;
        let commit = scene.push(&[("shop/cm.yaml", &config_map("shop", "price", "one"))]).await?;
        scene.add_repo().await?;
        let waves = "  rollout: {waves: [{name: few, count: 2}, {name: rest}]}\n";
        scene.apply_target("shop", waves).await?.ended_with(0)?;
        let rollout = scene.wait_for_rollout("shop", &commit, &[("/state", "done")]).await?;
        let members = rollout["members"].as_array().map(Vec::len);
        assert_eq!(members, Some(20), "{rollout:#}");
        let told = wait_for_figure(&simulation, "/newest/agents", 20).await?;
        assert_eq!((&told["joined"], &told["accepted"]), (&20.into(), &20.into()));
        ensure!(told["joinMsP99"].as_u64() >= told["joinMsP50"].as_u64() && told["joinMsP50"].is_u64(), "{told}");

        // The same clusters again, with new keys: they hear of what they are to run.
        simulation.stop().await?;
        let again = start(scene)?;
        wait_for_figure(&again, "/newest/agents", 20).await?;
        let listed = scene.cli(&["cluster", "list", "-o", "json"]).await?.ended_with(0)?.json()?;
        let clusters = listed["items"].as_array().context("no items")?;
        let is_there = |cluster: &&Value| {
            cluster["status"]["phase"] == "connected"
                && cluster["labels"] == json!({"ring": "sim", "simulated": "true"})
        };
        let connected = clusters.iter().filter(is_there).count();
        assert_eq!((clusters.len(), connected), (20, 20));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_simulation_that_may_not_register_says_so_and_ends() -> Result<()> {
    Scene::run(&[], async |scene| {
        scene.api.token = "bw_nobody".to_owned();

        let mut simulation = start(scene)?;

        eventually(PATIENCE, "it has ended", async || {
            ensure!(!simulation.is_alive(), "it runs");
            Ok(())
        })
        .await?;
        let log = simulation.log();
        ensure!(log.contains("401") && log.contains("BELLWETHER_TOKEN"), "{log}");
        Ok(())
    })
    .await
}

/// Who asks for everything all the time.
const IMPATIENT: usize = 8;
/// Of each answer of the database: a decision takes seconds then.
const SLOW: Duration = Duration::from_millis(50);

async fn ask_impatiently(scene: &Scene) {
    loop {
        // Whatever is answered, or whether: they ask again.
        for (method, path) in [
            (Method::GET, "/api/v1/status"),
            (Method::POST, "/api/v1/targets/shop/refresh"),
            (Method::GET, "/api/v1/clusters?limit=100"),
            (Method::POST, "/api/v1/repos/apps/refresh"),
        ] {
            let _ = scene.request(method, path, None).await;
        }
    }
}

/// How many have joined, as the simulation said last: a hub's own figure may still count those of one that is gone.
fn joined(simulation: &Child) -> Result<u64> {
    let log = simulation.log();
    let end = format!(" of {AGENTS} agents have joined");
    let joined = log.lines().rev().find_map(|line| line.split_once(&end)?.0.parse().ok());
    joined.with_context(|| format!("nobody is said to have joined in:\n{log}"))
}

/// All agents go at once, and come back with new keys; three times, before all are there.
async fn come_back_again_and_again(scene: &Scene, simulation: &mut Child) -> Result<()> {
    for _ in 0..3 {
        simulation.kill9().await?;
        *simulation = start(scene)?;
        // They have asked for a second by then; how many the database lets in meanwhile is not said.
        eventually(PATIENCE, "they ask again", async || joined(simulation).map(drop)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_hub_that_had_too_much_to_do_with_too_slow_a_database_recovers_when_that_is_over() -> Result<()> {
    let options = SceneOptions { has_proxy: true, ..SceneOptions::default() };
    Scene::run_with(&[], options, async |scene| {
        let mut simulation = start(scene)?;
        wait_for_figure(&simulation, "/connected", 20).await?;
        let first = scene.push(&[("shop/cm.yaml", &config_map("shop", "price", "one"))]).await?;
        scene.add_repo().await?;
        let waves = "  rollout: {waves: [{name: few, count: 2}, {name: rest}]}\n";
        scene.apply_target("shop", waves).await?.ended_with(0)?;
        scene.wait_for_rollout("shop", &first, &[("/state", "done")]).await?;

        let proxy = scene.proxy.as_ref().context("the hub has a proxy")?;
        proxy.slow_down(SLOW);
        scene.push(&[("shop/cm.yaml", &config_map("shop", "price", "two"))]).await?;
        let ended = tokio::select! {
            ended = come_back_again_and_again(scene, &mut simulation) => ended,
            _ = join_all((0..IMPATIENT).map(|_| ask_impatiently(scene))) => unreachable!("they ask for ever"),
        };
        ended?;
        proxy.slow_down(Duration::ZERO);

        wait_for_figure(&simulation, "/connected", 20).await?;
        let last = scene.push(&[("shop/cm.yaml", &config_map("shop", "price", "three"))]).await?;
        scene.wait_for_rollout("shop", &last, &[("/state", "done")]).await?;
        wait_for_figure(&simulation, "/newest/agents", 20).await?;
        scene.wait_until_healthy(&last).await?;
        scene.cli(&["audit", "verify"]).await?.ended_with(0)?;
        ensure!(scene.hub.is_alive(), "the hub ended");
        Ok(())
    })
    .await
}
