//! What a branch would change, before it is merged.

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::Scene;
use serde_json::json;

use crate::config_map;

#[tokio::test]
async fn a_branch_is_planned_the_clusters_stay_as_they_are_and_what_was_planned_arrives_with_the_merge() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let first = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&first).await?;
        let before = scene.revision(1, "configmap", "greeting").await?;
        scene.tree.write("shop/greeting.yaml", &config_map("greeting", "text", "good morning"))?;
        scene.tree.write("shop/new.yaml", &config_map("new", "text", "here"))?;
        scene.tree.commit("Greet politely").await?;
        let branch = scene.tree.push_to("refs/heads/polite").await?.commit;

        let asked = ["plan", "shop", "--ref", "polite", "--exit-code"];
        let plan = scene.cli(&[&asked[..], &["-o", "json"]].concat()).await?.ended_with(2)?.json()?;
        assert_eq!((&plan["head"]["commit"], &plan["base"][0]["commit"]), (&json!(branch), &json!(first)));
        let objects = plan["groups"][0]["objects"].as_array().context("objects")?;
        let told: Vec<_> = objects.iter().map(|object| (&object["name"], &object["change"])).collect();
        assert_eq!(told, [(&json!("greeting"), &json!("changed")), (&json!("new"), &json!("created"))]);
        let shown = scene.cli(&[&asked[..], &["-o", "markdown"]].concat()).await?.ended_with(2)?.stdout;
        ensure!(shown.contains("-\"hello\"\n+\"good morning\"\n"), "{shown}");

        // Whatever a plan might set off would have come with a rollout of another commit.
        let rollout = scene.rollout("shop").await?;
        assert_eq!((&rollout["toCommit"], &rollout["state"]), (&json!(first), &json!("done")));
        assert_eq!(scene.revision(1, "configmap", "greeting").await?, before);
        ensure!(scene.value(1, "new", "text").await.is_err(), "what is only planned is nowhere");
        assert_eq!(scene.wait_for_audit("target.planned").await?["commit"], json!(branch));

        let merged = scene.push(&[]).await?;
        scene.wait_until_healthy(&merged).await?;
        assert_eq!(scene.value(1, "greeting", "text").await?, "good morning");
        assert_eq!(scene.value(1, "new", "text").await?, "here");
        scene.cli(&asked).await?.ended_with(0)?;
        Ok(())
    })
    .await
}
