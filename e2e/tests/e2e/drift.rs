//! What people change in the clusters by hand, and how it is put right and told.

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, eventually};
use serde_json::Value;

use crate::config_map;

/// Two objects in place in cluster 1.
async fn install(scene: &mut Scene, more: &str) -> Result<()> {
    let files = [
        ("shop/greeting.yaml", config_map("greeting", "text", "hello")),
        ("shop/farewell.yaml", config_map("farewell", "text", "bye")),
    ];
    let commit = scene.push(&files.each_ref().map(|(path, text)| (*path, text.as_str()))).await?;
    scene.add_repo().await?;
    scene.apply_target("shop", more).await?.ended_with(0)?;
    scene.wait_until_healthy(&commit).await.map(|_| ())
}

async fn edit(scene: &Scene, name: &str, text: &str) -> Result<()> {
    let patch = format!(r#"{{"data": {{"text": "{text}"}}}}"#);
    let args = ["patch", "configmap", name, "-n", &scene.namespace, "--type", "merge", "-p", &patch];
    scene.kubectl(1, &args).await.map(|_| ())
}

async fn delete(scene: &Scene, name: &str) -> Result<()> {
    scene.kubectl(1, &["delete", "configmap", name, "-n", &scene.namespace]).await.map(|_| ())
}

/// What `drift list` says, once it says so much.
async fn drifts(scene: &Scene, count: usize) -> Result<Vec<Value>> {
    eventually(PATIENCE, "the drifts are listed", async || {
        let listed = scene.cli(&["drift", "list", "--target", "shop", "-o", "json"]).await?.ended_with(0)?.json()?;
        let listed = listed["items"].as_array().or_else(|| listed.as_array()).context("no list")?.clone();
        ensure!(listed.len() >= count, "{} of {count}: {listed:?}", listed.len());
        Ok(listed)
    })
    .await
}

#[tokio::test]
async fn an_edit_and_a_delete_are_put_right_listed_and_audited() -> Result<()> {
    Scene::run(&[1], async |scene| {
        install(scene, "").await?;

        edit(scene, "greeting", "theirs").await?;
        scene.wait_for_value(1, "greeting", "text", "hello").await?;
        let edited = drifts(scene, 1).await?.remove(0);
        delete(scene, "farewell").await?;
        let deleted = drifts(scene, 2).await?.remove(0);

        assert_eq!(scene.value(1, "farewell", "text").await?, "bye");
        assert_eq!([&edited["name"], &edited["manager"], &edited["change"]], ["greeting", "kubectl-patch", "modified"]);
        assert_eq!(edited["fields"][0], ".data.text");
        let id = edited["id"].as_str().context("a drift has an id")?;
        let shown = scene.cli(&["drift", "show", id]).await?.ended_with(0)?.stdout;
        assert!(shown.ends_with(".data.text\n  - \"hello\"\n  + \"theirs\"\n"), "{shown}");
        assert_eq!([&deleted["name"], &deleted["change"], &deleted["action"]], ["farewell", "deleted", "corrected"]);
        let audited = scene.wait_for_audit("drift.corrected").await?;
        assert_eq!(audited["target"], "shop");
        let next = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello again"))]).await?;
        scene.wait_until_healthy(&next).await?;
        assert_eq!(scene.value(1, "greeting", "text").await?, "hello again", "the field is still the target's");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_somebody_changed_by_hand_becomes_a_patch_of_the_file_that_git_takes() -> Result<()> {
    Scene::run(&[1], async |scene| {
        install(scene, "  sync: {drift: warn}\n").await?;
        edit(scene, "greeting", "theirs").await?;
        let drift = drifts(scene, 1).await?.remove(0);
        let id = drift["id"].as_str().context("a drift has an id")?;
        let checkout = tempfile::tempdir()?;
        let file = checkout.path().join("shop/greeting.yaml");
        std::fs::create_dir(checkout.path().join("shop"))?;
        let text = format!("# Says hello.\n{}", config_map("greeting", "text", "hello"));
        std::fs::write(&file, &text)?;
        let dir = checkout.path().to_str().context("it is UTF-8")?;

        let patch = scene.cli(&["drift", "accept", id, "--dir", dir]).await?.ended_with(0)?.stdout;
        assert_eq!(std::fs::read_to_string(&file)?, text, "nothing is written that was not asked for");
        std::fs::write(checkout.path().join("it.patch"), &patch)?;
        let applies = tokio::process::Command::new("git").args(["apply", "it.patch"]).current_dir(dir).status().await?;

        assert!(applies.success(), "{patch}");
        let accepted = std::fs::read_to_string(&file)?;
        assert_eq!(accepted, text.replace("\"hello\"", "\"theirs\""));
        let refused = scene.cli(&["drift", "accept", id, "--dir", dir, "--write"]).await?;
        assert!(refused.ended_with(1)?.stderr.contains("and not \"hello\""), "it says so by now");
        let commit = scene.push(&[("shop/greeting.yaml", &accepted)]).await?;
        scene.wait_until_healthy(&commit).await?;
        assert_eq!(scene.value(1, "greeting", "text").await?, "theirs");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_target_that_only_warns_says_what_differs_and_leaves_it() -> Result<()> {
    Scene::run(&[1], async |scene| {
        install(scene, "  sync: {drift: warn}\n").await?;

        edit(scene, "greeting", "theirs").await?;

        let warned = drifts(scene, 1).await?.remove(0);
        assert_eq!(warned["action"], "warned");
        let object = scene.wait_for_outcome(1, "greeting", "drifted").await?;
        assert_eq!(object["message"], "modified by kubectl-patch: .data.text");
        assert_eq!(scene.value(1, "greeting", "text").await?, "theirs");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_the_hub_edits_and_deletes_are_healed_and_by_a_new_agent_too() -> Result<()> {
    Scene::run(&[1], async |scene| {
        install(scene, "").await?;
        wait_for_inventory(scene).await?;

        scene.hub.kill9().await?;
        edit(scene, "greeting", "theirs").await?;
        delete(scene, "farewell").await?;
        scene.wait_for_value(1, "greeting", "text", "hello").await?;
        scene.wait_for_value(1, "farewell", "text", "bye").await?;
        wait_for_inventory(scene).await?;
        scene.agent(1)?.kill9().await?;
        edit(scene, "farewell", "theirs").await?;
        delete(scene, "greeting").await?;
        scene.agent(1)?.restart().await?;
        scene.wait_for_value(1, "greeting", "text", "hello").await?;
        scene.wait_for_value(1, "farewell", "text", "bye").await?;
        scene.hub.restart().await?;

        // What the first agent had found and not told went with it.
        let told = drifts(scene, 2).await?;
        let is_it = |name: &str, change: &str| told.iter().any(|it| it["name"] == name && it["change"] == change);
        ensure!(is_it("farewell", "modified") && is_it("greeting", "deleted"), "{told:#?}");
        Ok(())
    })
    .await
}

/// Until the agent has written down which objects it applied: the newest entry of its journal stays the newest.
async fn wait_for_inventory(scene: &Scene) -> Result<()> {
    let namespace = scene.install_namespace.clone();
    let selector = ["-l", "bellwether.dev/journal", "-o", "jsonpath={.items[-1:].metadata.creationTimestamp}"];
    eventually(PATIENCE, "the journal is written", async || {
        let args = [&["get", "secrets", "-n", namespace.as_str()][..], &selector[..]].concat();
        let newest: jiff::Timestamp = scene.kubectl(1, &args).await?.parse()?;
        let age = jiff::Timestamp::now().duration_since(newest);
        ensure!(age > jiff::SignedDuration::from_secs(6), "the newest entry is {age:#} old");
        Ok(())
    })
    .await
}
