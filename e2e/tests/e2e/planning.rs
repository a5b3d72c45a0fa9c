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

#[tokio::test]
async fn api_servers_are_asked_about_a_branch_and_stay_as_they_are() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let first = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&first).await?;
        let namespace = scene.namespace.clone();
        let theirs = ["create", "configmap", "theirs", "--from-literal=key=swordfish77", "-n", &namespace];
        scene.kubectl(1, &theirs).await?;
        scene.tree.write("shop/greeting.yaml", &config_map("greeting", "text", "good morning"))?;
        scene.tree.write("shop/theirs.yaml", &config_map("theirs", "key", "ours"))?;
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 700077}]}\n";
        scene.tree.write("shop/web.yaml", service)?;
        scene.tree.commit("Greet politely, and go too far").await?;
        let branch = scene.tree.push_to("refs/heads/polite").await?.commit;
        let before = scene.revision(1, "configmap", "greeting").await?;

        let asked = ["plan", "shop", "--ref", "polite"];
        let plan = scene.cli(&[&asked[..], &["-o", "json"]].concat()).await?.ended_with(1)?;
        let shown = scene.cli(&asked).await?.ended_with(1)?.stdout;

        ensure!(!plan.stdout.contains("swordfish") && !shown.contains("swordfish"), "{shown}");
        let plan = plan.json()?;
        assert_eq!((&plan["dryRun"]["answered"], &plan["dryRun"]["refused"]), (&json!(1), &json!(true)), "{plan:#}");
        let objects = plan["groups"][0]["dryRun"]["objects"].as_array().context("objects")?;
        let fates: Vec<_> = objects.iter().map(|object| (&object["name"], &object["fate"])).collect();
        let (refused, changed) = ((&json!("web"), &json!("refused")), (&json!("greeting"), &json!("changed")));
        assert_eq!(fates, [(&json!("theirs"), &json!("exists")), refused, changed], "{plan:#}");
        for words in ["web refused: Service \"web\" is invalid: spec.ports[0].port", "theirs is somebody else's"] {
            ensure!(shown.contains(words), "{words}: {shown}");
        }
        assert_eq!(scene.revision(1, "configmap", "greeting").await?, before);
        assert_eq!(scene.value(1, "theirs", "key").await?, "swordfish77");
        let entry = scene.wait_for_audit("target.dry_run").await?;
        assert_eq!((&entry["commit"], &entry["detail"]["clusters"]), (&json!(branch), &json!(["c1"])));

        let quiet = scene.cli(&[&asked[..], &["--dry-run", "none", "-o", "json"]].concat()).await?.ended_with(0)?;
        assert_eq!(quiet.json()?["dryRun"], json!(null));
        Ok(())
    })
    .await
}
