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

/// Starts an agent whose join token is spoilt by this statement; it ends, and says why and what to do.
async fn expect_refused(scene: &mut Scene, spoil: &str, why: &str) -> Result<()> {
    let registered = scene.register(1).await?;
    ensure!(scene.sql(spoil).await? > 0, "nothing was spoilt");

    let mut agent = scene.start_agent(1, &registered).await?;
    eventually(PATIENCE, "the agent ends", async || {
        ensure!(!agent.is_alive(), "it still runs");
        Ok(())
    })
    .await?;

    let log = agent.log();
    ensure!(log.contains(why) && log.contains("bellwether cluster reenroll"), "{log}");
    let denied = scene.audit(&["--outcome", "denied"]).await?;
    ensure!(denied.iter().any(|entry| entry["action"] == "cluster.enroll.refused"), "{denied:#?}");
    ensure!(scene.audit(&["--action", "cluster.joined"]).await?.is_empty(), "it joined");
    Ok(())
}

#[tokio::test]
async fn a_join_token_that_has_expired_is_refused() -> Result<()> {
    Scene::run(&[], async |scene| {
        let spoil = "update enrollments set expires_at = now() - interval '1 minute'";
        expect_refused(scene, spoil, "the join token has expired").await
    })
    .await
}

#[tokio::test]
async fn a_join_token_that_this_hub_never_gave_is_refused() -> Result<()> {
    Scene::run(&[], async |scene| expect_refused(scene, "delete from enrollments", "the join token is not known").await)
        .await
}
