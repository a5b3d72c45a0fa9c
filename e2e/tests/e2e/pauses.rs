//! Processes that stand still for a while, as on a machine without time for them, and go on as if nothing had been.

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::{FAST_HEARTBEAT_FLAGS, PATIENCE, Scene, SceneOptions, eventually};
use bellwether_e2e::postgres_proxy::Moment;
use bellwether_e2e::stack::is_connected;
use reqwest::Method;
use tokio::time::timeout;

use crate::moments::{ASSIGNMENT, deploy, generations};
use crate::{config_map, expect_steps};

/// Of a rollout over the one wave `all` that nothing stops.
const UNDISTURBED: [&str; 5] = ["planned", "started", "wave.opened all", "wave.passed all", "done"];

/// The one assignment that there is has the newest generation.
async fn is_newest_assigned(scene: &Scene) -> Result<bool> {
    Ok(scene.sql("select from assignments join generations on generation = last_value").await? == 1)
}

#[tokio::test]
async fn a_hub_that_stands_still_inside_a_decision_finds_that_another_has_made_it() -> Result<()> {
    // No hub and no agent is missed for what takes seconds: a hub only after three heartbeats.
    let flags = vec!["--hub-heartbeat-ms=20000"];
    let options = SceneOptions { has_proxy: true, flags, ..SceneOptions::default() };
    Scene::run_with(&[], options, async |scene| {
        let first = scene.api.clone();
        let other = scene.start_other_hub().await?;
        scene.join_through(1, &other.agents).await?;
        deploy(scene).await?;
        let given = generations(scene).await?;

        let pushed = scene.push_quietly(&[("shop/greeting.yaml", &config_map("greeting", "text", "two"))]).await?;
        // While the other one stands, it is known whose decision it is.
        scene.other_hub.as_ref().context("there are two")?.pause().await?;
        let caught = scene.hold(Moment::Commit, ASSIGNMENT)?;
        assert_eq!(scene.send_webhook().await?.status, 202);
        let held = caught.await?;
        scene.hub.pause().await?;
        scene.other_hub.as_ref().context("there are two")?.go_on()?;
        scene.api = first.at(other.api);

        scene.wait_until_healthy(&pushed).await?;
        assert_eq!(scene.value(1, "greeting", "text").await?, "two");
        assert_eq!(generations(scene).await?, given + 2, "each of the two has taken one");
        ensure!(is_newest_assigned(scene).await?, "it was not the other that decided");
        held.let_go();
        scene.hub.go_on()?;
        scene.api = first;
        let next = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "three"))]).await?;
        scene.wait_until_healthy(&next).await?;

        assert_eq!(scene.value(1, "greeting", "text").await?, "three");
        assert_eq!(generations(scene).await?, given + 3, "the one that woke gave another");
        ensure!(is_newest_assigned(scene).await?, "an older one stands in its place");
        let rollouts = scene.cli(&["rollout", "list", "-o", "json"]).await?.ended_with(0)?.json()?;
        for rollout in rollouts["items"].as_array().context("no items")? {
            expect_steps(scene, rollout, &UNDISTURBED).await?;
        }
        scene.cli(&["audit", "verify"]).await?.ended_with(0)?;
        Ok(())
    })
    .await
}

/// How often an agent has said that it takes over what it was assigned.
async fn wait_for_accepted(scene: &mut Scene, times: usize) -> Result<()> {
    let agent = scene.agent(1)?;
    eventually(PATIENCE, &format!("{times} assignments are accepted"), async || {
        let log = agent.log();
        let accepted = log.lines().filter(|line| line.contains("accepted") && line.contains("shop"));
        ensure!(accepted.count() >= times, "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_agent_that_stands_still_while_it_applies_drops_what_is_stale_when_it_goes_on() -> Result<()> {
    let options = SceneOptions { flags: FAST_HEARTBEAT_FLAGS.to_vec(), ..SceneOptions::default() };
    Scene::run_with(&[], options, async |scene| {
        let proxy = scene.join_behind(1).await?;
        let earlier = |text: &str| {
            config_map("earlier", "text", text)
                .replace("{name: earlier}", "{name: earlier, annotations: {bellwether.dev/phase: \"-1\"}}")
        };
        scene
            .push(&[("shop/earlier.yaml", &earlier("one")), ("shop/later.yaml", &config_map("stale", "a", "b"))])
            .await?;
        // Each time that it tries.
        let caught = proxy.hold(Method::PATCH, "/configmaps/earlier");
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        let held = timeout(PATIENCE, caught).await.context("it applies nothing")??;
        scene.agent(1)?.pause().await?;
        eventually(PATIENCE, "the agent is missed", async || {
            ensure!(!is_connected(&scene.api, "c1").await?, "it is not");
            Ok(())
        })
        .await?;

        // What is newer waits for the end of what goes on.
        scene.cli(&["rollout", "abort", "shop", "--reason", "it stands still"]).await?.ended_with(0)?;
        let later = config_map("fresh", "a", "b");
        let pushed = scene.push(&[("shop/earlier.yaml", &earlier("two")), ("shop/later.yaml", &later)]).await?;
        scene.agent(1)?.go_on()?;
        wait_for_accepted(scene, 2).await?;
        held.let_go();

        scene.wait_until_healthy(&pushed).await?;
        assert_eq!(scene.value(1, "earlier", "text").await?, "two");
        assert_eq!(scene.value(1, "fresh", "a").await?, "b");
        assert_eq!(proxy.passed(&Method::PATCH, "/configmaps/stale"), 0, "it went on with what was stale");
        ensure!(proxy.passed(&Method::PATCH, "/configmaps/fresh") > 0, "it speaks to its cluster past the proxy");
        Ok(())
    })
    .await
}
