//! A hub that may open nothing more: it keeps what it has, and takes everybody when it may again.

use anyhow::{Result, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, eventually};

use crate::config_map;

/// All that it has open have greater numbers.
const NONE: u64 = 3;
const ENOUGH: u64 = 4096;

#[tokio::test]
async fn a_hub_that_ran_out_of_descriptors_takes_connections_again_when_it_has_some() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let first = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "one"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&first).await?;

        // At both ports somebody comes who is not taken.
        scene.hub.limit_descriptors(NONE)?;
        scene.agent(1)?.restart().await?;
        let asks = scene.cli(&["repo", "list"]);
        let is_short = async {
            eventually(PATIENCE, "the hub is out of descriptors", async || {
                let log = scene.hub.log();
                ensure!(log.contains("cannot accept connections"), "{log}");
                Ok(())
            })
            .await?;
            scene.hub.limit_descriptors(ENOUGH)
        };
        let (answered, was_short) = tokio::join!(asks, is_short);

        was_short?;
        answered?.ended_with(0)?;
        let second = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "two"))]).await?;
        scene.wait_until_healthy(&second).await?;
        assert_eq!(scene.value(1, "greeting", "text").await?, "two");
        ensure!(scene.hub.is_alive(), "the hub ended");
        Ok(())
    })
    .await
}
