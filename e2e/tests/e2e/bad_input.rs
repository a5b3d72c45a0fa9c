//! What people get wrong, and what they are told.

use anyhow::{Result, ensure};
use bellwether_core::object::OBJECT_BYTES_MAX;
use bellwether_e2e::harness::{PATIENCE, Scene, eventually};
use serde_json::json;

use crate::config_map;

#[tokio::test]
async fn a_branch_that_does_not_exist_is_answered_with_the_nearest() -> Result<()> {
    Scene::run(&[1], async |scene| {
        scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello"))]).await?;
        scene.tree.push_to("refs/heads/release").await?;
        scene.add_repo().await?;

        let applied = scene.apply_target("shop", "  ref: {branch: relase}\n").await?.ended_with(1)?;

        applied.tells(&["relase", "did you mean `release`"])?;
        scene.cli(&["status"]).await?.ended_with(3)?;
        scene.apply_target("shop", "  ref: {branch: release}\n").await?.ended_with(0)?;
        scene.wait_for_value(1, "greeting", "text", "hello").await
    })
    .await
}

#[tokio::test]
async fn a_repo_url_that_does_not_exist_is_told_with_a_hint() -> Result<()> {
    Scene::run(&[], async |scene| {
        let nowhere = format!("{}/nowhere.git", scene.git.url);

        let added = scene.cli(&["repo", "add", "nowhere", &nowhere]).await?.ended_with(1)?;

        added.tells(&["nowhere", "hint:"])?;
        let status = scene.cli(&["status", "-o", "json"]).await?.ended_with(3)?.json()?;
        assert_eq!(status["conditions"][0]["name"], "nowhere");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_repo_url_with_a_password_in_it_is_refused() -> Result<()> {
    Scene::run(&[], async |scene| {
        let added = scene.cli(&["repo", "add", "apps", "https://user:secret@git.example.org/apps.git"]).await?;

        ensure!(added.code != 0, "{added:?}");
        ensure!(!added.stderr.contains("secret@"), "{}", added.stderr);
        let repos = scene.cli(&["repo", "list", "-o", "json"]).await?.ended_with(0)?.json()?;
        assert_eq!(repos["items"], json!([]));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn yaml_that_does_not_parse_is_told_with_file_and_line() -> Result<()> {
    Scene::run(&[2], async |scene| {
        let bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad\ndata: {}\n";
        scene.push(&[("shop/bad.yaml", bad)]).await?;
        scene.add_repo().await?;

        let applied = scene.apply_target("shop", "").await?.ended_with(1)?;

        applied.tells(&["bad.yaml:"])?;
        let status = scene.cli(&["status", "-o", "json"]).await?.ended_with(3)?.json()?;
        let condition = &status["targets"][0]["status"]["condition"];
        ensure!(condition["file"] == "shop/bad.yaml", "{status:#}");
        // Where the bracket opens, or where it turns out not to close.
        ensure!(condition["line"].as_u64().is_some_and(|line| (3..=5).contains(&line)), "{status:#}");
        let commit = scene.push(&[("shop/bad.yaml", &config_map("bad", "text", "fixed"))]).await?;
        scene.wait_until_healthy(&commit).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_named() -> Result<()> {
    Scene::run(&[1], async |scene| {
        scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello"))]).await?;
        scene.add_repo().await?;

        let text = scene.target("shop", "").replace("path: shop", "path: shpo");
        let applied = scene.apply("shop.yaml", &text).await?.ended_with(1)?;

        applied.tells(&["shpo", "hint:"])
    })
    .await
}

#[tokio::test]
async fn an_object_that_stands_there_twice_is_told_with_both_places() -> Result<()> {
    Scene::run(&[2], async |scene| {
        let (one, other) = (config_map("twice", "text", "one"), config_map("twice", "text", "other"));
        scene.push(&[("shop/one.yaml", &one), ("shop/other.yaml", &other)]).await?;
        scene.add_repo().await?;

        let applied = scene.apply_target("shop", "").await?.ended_with(1)?;

        applied.tells(&["twice", "one.yaml", "other.yaml"])
    })
    .await
}

#[tokio::test]
async fn an_object_that_is_too_large_is_named_with_its_place() -> Result<()> {
    Scene::run(&[2], async |scene| {
        let large = config_map("large", "text", &"x".repeat(OBJECT_BYTES_MAX));
        scene.push(&[("shop/large.yaml", &large)]).await?;
        scene.add_repo().await?;

        let applied = scene.apply_target("shop", "").await?.ended_with(1)?;

        applied.tells(&["large.yaml", "large", "hint: split it"])
    })
    .await
}

#[tokio::test]
async fn an_unknown_field_in_a_target_is_answered_with_the_nearest() -> Result<()> {
    Scene::run(&[], async |scene| {
        scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello"))]).await?;
        scene.add_repo().await?;

        let text = scene.target("shop", "").replace("  path:", "  pth:");
        let applied = scene.apply("shop.yaml", &text).await?.ended_with(1)?;

        applied.tells(&["shop.yaml:6", "pth", "did you mean `path`"])?;
        let targets = scene.cli(&["target", "list", "-o", "json"]).await?.ended_with(0)?.json()?;
        assert_eq!(targets["items"], json!([]));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_target_that_selects_no_cluster_says_so() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let commit = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello"))]).await?;
        scene.add_repo().await?;

        scene.apply_target("shop", "  clusters: {matchLabels: {ring: nowhere}}\n").await?;

        eventually(PATIENCE, "status says that no cluster is selected", async || {
            let status = scene.cli(&["status"]).await?.ended_with(3)?;
            ensure!(status.stdout.contains("selects no cluster"), "{}", status.stdout);
            Ok(())
        })
        .await?;
        scene.cli(&["cluster", "label", "c1", "ring=nowhere"]).await?.ended_with(0)?;
        scene.wait_until_healthy(&commit).await?;
        Ok(())
    })
    .await
}
