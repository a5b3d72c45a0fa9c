//! Processes that end without a word, and come back.

use anyhow::Result;
use bellwether_e2e::harness::Scene;

use crate::config_map;

#[tokio::test]
async fn a_hub_that_was_killed_goes_on_where_it_was() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let first = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "one"))]).await?;
        scene.add_repo_polled(5).await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&first).await?;

        scene.hub.kill9().await?;
        let missed = scene.push_quietly(&[("shop/greeting.yaml", &config_map("greeting", "text", "two"))]).await?;
        scene.hub.restart().await?;

        // Nobody tells it what came while it was away: it reconciles by itself.
        scene.wait_until_healthy(&missed).await?;
        assert_eq!(scene.value(1, "greeting", "text").await?, "two");
        let next = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "three"))]).await?;
        scene.wait_until_healthy(&next).await?;
        assert_eq!(scene.value(1, "greeting", "text").await?, "three");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_agent_that_was_killed_catches_up_without_its_token() -> Result<()> {
    Scene::run(&[2], async |scene| {
        let first = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "one"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&first).await?;

        scene.agent(2)?.kill9().await?;
        let namespace = scene.install_namespace.clone();
        // It has used its token; its key and certificate are what it comes back with.
        scene.kubectl(2, &["delete", "secret", "bellwether-agent-join", "-n", &namespace]).await?;
        let next = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "two"))]).await?;
        scene.agent(2)?.restart().await?;

        scene.wait_until_healthy(&next).await?;
        assert_eq!(scene.value(2, "greeting", "text").await?, "two");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_api_server_that_was_away_is_caught_up_with() -> Result<()> {
    Scene::run_alone_on_third(&[3], async |scene| {
        let first = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "one"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&first).await?;
        let mut api_server = scene.env.api_server(3).await?;

        api_server.stop().await?;
        let pushed = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "two"))]).await;
        // Whatever came of the push: the others need their cluster.
        api_server.start().await?;

        scene.wait_until_healthy(&pushed?).await?;
        assert_eq!(scene.value(3, "greeting", "text").await?, "two");
        Ok(())
    })
    .await
}
