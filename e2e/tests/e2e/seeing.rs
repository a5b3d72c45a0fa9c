//! What can be seen from outside: logs, figures, and whether a hub says that it serves.

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, eventually};
use reqwest::Method;
use serde_json::json;

use crate::config_map;

/// What the hub and an agent say of one change, in this order.
const HUB_SAYS: [&str; 6] =
    ["a webhook", "saw a new revision", "rendered", "rollout.started", "a cluster has settled", "rollout.done"];
const AGENT_SAYS: [&str; 2] = ["accepted", "reported"];

#[tokio::test]
async fn one_id_follows_a_change_from_the_webhook_to_the_report() -> Result<()> {
    Scene::run(&[2], async |scene| {
        let first = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&first).await?;

        let trace = follow_a_webhook(&scene).await?;
        let trace = trace.as_str();
        eventually(PATIENCE, "both ends have logged the change", async || {
            says_in_order(&scene.hub.log(), trace, &HUB_SAYS)?;
            says_in_order(&scene.agent(2)?.log(), trace, &AGENT_SAYS)
        })
        .await?;
        // The one before it has such an entry, too.
        eventually(PATIENCE, "the end of the change is in the log", async || {
            let done = scene.wait_for_audit("rollout.done").await?;
            ensure!(done["traceId"] == trace, "{done}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_watch_after_a_push_tells_what_becomes_of_that_push() -> Result<()> {
    Scene::run(&[2], async |scene| {
        scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.cli(&["rollout", "watch", "shop"]).await?.ended_with(0)?;

        for text in ["again", "and again"] {
            let commit = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", text))]).await?;
            let watched = scene.cli(&["rollout", "watch", "shop", "-o", "json"]).await?.ended_with(0)?.json()?;
            assert_eq!((&watched["toCommit"], &watched["state"]), (&json!(commit), &json!("done")));
        }
        let same = format!("# Nothing else.\n{}", config_map("greeting", "text", "and again"));
        scene.push(&[("shop/greeting.yaml", &same)]).await?;
        scene.cli(&["rollout", "watch", "shop"]).await?.ended_with(0)?.tells(&["needs no rollout"])?;
        scene.push(&[("shop/greeting.yaml", "kind: [")]).await?;
        scene.cli(&["rollout", "watch", "shop"]).await?.ended_with(1)?.tells(&["shop/greeting.yaml"])?;
        scene.cli(&["target", "refresh", "shop"]).await?.ended_with(1)?.tells(&["shop/greeting.yaml"])?;
        Ok(())
    })
    .await
}

/// The id of a change that its webhook brought. For some seconds after a person or a webhook asked for what was not there
/// yet, the hub looks again by itself, and may see a push before its webhook comes: that push has an id of its own.
async fn follow_a_webhook(scene: &Scene) -> Result<String> {
    const TRIES: usize = 5;
    for text in 0..TRIES {
        let commit =
            scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", &format!("again {text}")))]).await?;
        scene.wait_until_healthy(&commit).await?;
        let seen = scene.wait_for_audit("revision.seen").await?;
        let trace = seen["traceId"].as_str().context("it has an id")?;
        if says_in_order(&scene.hub.log(), trace, &HUB_SAYS[..1]).is_ok() {
            return Ok(trace.to_owned());
        }
    }
    anyhow::bail!("of {TRIES} webhooks none brought what was pushed before it")
}

fn says_in_order(log: &str, trace: &str, words: &[&str]) -> Result<()> {
    let mut lines = log.lines().filter(|line| line.contains(trace));
    for word in words {
        ensure!(lines.any(|line| line.contains(word)), "no `{word}` about {trace}, or not in its place, in:\n{log}");
    }
    Ok(())
}

/// Of a hub with one cluster, after its first rollout.
const FIGURES: [(&str, u64); 6] = [
    ("bellwether_sessions", 1),
    ("bellwether_clusters", 1),
    ("bellwether_assignments_total", 1),
    ("bellwether_cluster_settled_seconds_count{state=\"healthy\"}", 1),
    ("bellwether_rollout_seconds_count{state=\"done\"}", 1),
    ("bellwether_rollouts{state=\"rolling\"}", 0),
];

#[tokio::test]
async fn a_hub_tells_its_figures_and_is_not_ready_without_its_database() -> Result<()> {
    let options = bellwether_e2e::harness::SceneOptions { has_own_postgres: true, ..Default::default() };
    Scene::run_with(&[1], options, async |scene| {
        let commit = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_for_rollout("shop", &commit, &[("/state", "done")]).await?;
        for (name, value) in FIGURES {
            assert_eq!(scene.api.metric(name).await?, value, "{name}");
        }
        for path in ["/livez", "/readyz"] {
            assert_eq!(scene.request(Method::GET, path, None).await?.status, 200, "{path}");
        }

        scene.postgres.as_ref().context("it has its own")?.stop_immediately().await?;
        // What it says is kept for a moment, so that strangers cost nothing.
        eventually(PATIENCE, "the hub says that it is not ready", async || {
            let ready = scene.request(Method::GET, "/readyz", None).await?;
            ensure!(ready.status == 503, "{ready:?}");
            Ok(())
        })
        .await?;
        let live = scene.request(Method::GET, "/livez", None).await?;
        scene.postgres.as_mut().context("it has its own")?.start_again().await?;

        assert_eq!(live.status, 200);
        eventually(PATIENCE, "the hub is ready again", async || {
            let ready = scene.request(Method::GET, "/readyz", None).await?;
            ensure!(ready.status == 200, "{ready:?}");
            Ok(())
        })
        .await
    })
    .await
}
