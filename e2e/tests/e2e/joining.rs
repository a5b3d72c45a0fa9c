//! How an agent joins, and who does not.

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, eventually};
use serde_json::json;

#[tokio::test]
async fn of_two_agents_with_one_join_token_one_wins() -> Result<()> {
    Scene::run(&[], async |scene| {
        let registered = scene.register(1).await?;

        let (one, other) = tokio::try_join!(scene.start_agent(1, &registered), scene.start_agent(2, &registered))?;
        scene.agents.extend([(1, one), (2, other)]);

        scene.wait_until_connected(1).await?;
        eventually(PATIENCE, "the other is refused", async || {
            let refused =
                scene.cli(&["audit", "list", "--outcome", "denied", "-o", "json"]).await?.ended_with(0)?.json()?;
            let entries = refused["items"].as_array().context("no list")?;
            ensure!(
                entries.iter().any(|entry| entry["action"].as_str().is_some_and(|action| action.contains("enroll"))),
                "{refused:#}"
            );
            Ok(())
        })
        .await?;
        let joined =
            scene.cli(&["audit", "list", "--action", "cluster.joined", "-o", "json"]).await?.ended_with(0)?.json()?;
        assert_eq!(joined["items"].as_array().map(Vec::len), Some(1), "{joined:#}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cluster_cannot_be_registered_twice() -> Result<()> {
    Scene::run(&[], async |scene| {
        scene.register(1).await?;

        let again = scene.cli(&["cluster", "register", "c1"]).await?.ended_with(1)?;

        again.tells(&["c1", "hint:"])?;
        ensure!(again.stdout.is_empty(), "{}", again.stdout);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn whoever_has_no_token_learns_nothing() -> Result<()> {
    Scene::run(&[], async |scene| {
        let mut stranger = scene.api.clone();
        stranger.token = "bw_nobody".to_owned();

        let reply = stranger.send(reqwest::Method::GET, "/api/v1/clusters", None).await?;

        assert_eq!(reply.status, 401);
        ensure!(reply.body["items"] == json!(null) && reply.body["code"].is_string(), "{reply:?}");
        Ok(())
    })
    .await
}
