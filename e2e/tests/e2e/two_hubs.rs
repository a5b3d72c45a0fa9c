//! Two hubs on one database, behind a balancer: none is the leader, and one is enough.

use anyhow::{Result, ensure};
use bellwether_e2e::api::Api;
use bellwether_e2e::balancer::Balancer;
use bellwether_e2e::harness::{FAST_HEARTBEAT_FLAGS, PATIENCE, Scene, SceneOptions, eventually};

use crate::config_map;
use crate::faults::{expect_it_went_on, make_room, stop_in_second_wave};

/// The scene's hub, to which the first cluster is connected while it lives, beside one that has the second cluster. People
/// speak to that other one.
struct Pair {
    first: Api,
    prefers_first: Balancer,
    /// Its connections end with it.
    _prefers_other: Balancer,
}

async fn start_pair(scene: &mut Scene) -> Result<Pair> {
    let first = scene.api.clone();
    let other = scene.start_other_hub().await?;
    let agents = scene.hub.agents_address();
    let prefers_first = Balancer::start(&[&agents, &other.agents]).await?;
    let prefers_other = Balancer::start(&[&other.agents, &agents]).await?;
    scene.join_through(1, &prefers_first.address).await?;
    scene.join_through(2, &prefers_other.address).await?;
    scene.api = first.at(other.api);
    expect_sessions(&first, 1).await?;
    expect_sessions(&scene.api, 1).await?;
    Ok(Pair { first, prefers_first, _prefers_other: prefers_other })
}

async fn expect_sessions(hub: &Api, sessions: u64) -> Result<()> {
    eventually(PATIENCE, &format!("{} has {sessions} sessions", hub.url), async || {
        let there = hub.metric("bellwether_sessions").await?;
        ensure!(there == sessions, "it has {there}");
        Ok(())
    })
    .await
}

/// A hub's figures are as old as a second.
async fn expect_more_heard(hub: &Api, heard: u64) -> Result<()> {
    eventually(PATIENCE, &format!("{} has heard signals", hub.url), async || {
        let now = hub.metric("bellwether_signals_heard_total").await?;
        ensure!(now > heard, "it has heard {now}, as before");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_rollout_goes_on_at_the_other_hub_when_one_is_killed_in_the_second_wave() -> Result<()> {
    Scene::run(&[], async |scene| {
        let pair = start_pair(scene).await?;
        scene.join_through(3, &pair.prefers_first.address).await?;
        let heard = pair.first.metric("bellwether_signals_heard_total").await?;
        let (commit, rollout) = stop_in_second_wave(scene).await?;
        // What was asked of one hub reached the clusters of the other, and that one was told to reconcile.
        expect_more_heard(&pair.first, heard).await?;

        scene.hub.kill9().await?;
        make_room(scene, 2).await?;
        make_room(scene, 3).await?;

        expect_it_went_on(scene, &commit, &rollout).await?;
        expect_sessions(&scene.api, 3).await?;
        let next = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "one"))]).await?;
        scene.wait_until_healthy(&next).await?;
        assert_eq!(scene.value(1, "greeting", "text").await?, "one");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cluster_that_is_lost_with_its_hub_is_missed_by_the_other() -> Result<()> {
    let options = SceneOptions { flags: FAST_HEARTBEAT_FLAGS.to_vec(), ..SceneOptions::default() };
    Scene::run_with(&[], options, async |scene| {
        let _pair = start_pair(scene).await?;
        // No balancer: it has no other way.
        scene.join_through(3, &scene.hub.agents_address()).await?;
        let (commit, _) = stop_in_second_wave(scene).await?;

        scene.hub.kill9().await?;
        make_room(scene, 2).await?;

        // The rollout's own deadline would reconcile after ten minutes.
        let places = [("/state", "done"), ("/members/1/state", "healthy"), ("/members/2/state", "offline")];
        scene.wait_for_rollout("shop", &commit, &places).await?;
        make_room(scene, 3).await?;
        scene.hub.restart().await?;
        scene.wait_until_healthy(&commit).await?;
        Ok(())
    })
    .await
}
