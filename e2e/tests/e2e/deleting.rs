//! The end of a target: what becomes of its objects, and who is waited for.

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::{FAST_HEARTBEAT_FLAGS, PATIENCE, Scene, SceneOptions, eventually};
use serde_json::json;

use crate::config_map;

async fn install(scene: &mut Scene) -> Result<()> {
    let files = [
        ("shop/greeting.yaml", config_map("greeting", "text", "one")),
        ("shop/other.yaml", config_map("other", "text", "two")),
    ];
    let commit = scene.push(&files.each_ref().map(|(path, text)| (*path, text.as_str()))).await?;
    scene.add_repo().await?;
    scene.apply_target("shop", "").await?.ended_with(0)?;
    scene.wait_until_healthy(&commit).await?;
    Ok(())
}

async fn wait_until_gone(scene: &Scene) -> Result<()> {
    eventually(PATIENCE, "the target is gone", async || {
        let shown = scene.cli(&["target", "show", "shop"]).await?;
        ensure!(shown.stderr.contains("there is no target `shop`"), "{}{}", shown.stdout, shown.stderr);
        Ok(())
    })
    .await
}

async fn wait_until_no_tombstone_is_left(scene: &Scene) -> Result<()> {
    eventually(PATIENCE, "every tombstone was carried out", async || {
        let left = scene.sql("select from assignments").await?;
        ensure!(left == 0, "{left} are left");
        Ok(())
    })
    .await
}

/// The names of the config maps of the target that are there.
async fn there(scene: &Scene, cluster: usize) -> Result<Vec<String>> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {end}";
    let listed = scene.kubectl(cluster, &["get", "configmaps", "-n", &scene.namespace, "-o", path]).await?;
    let ours = listed.split_whitespace().filter(|name| ["greeting", "other"].contains(name));
    Ok(ours.map(str::to_owned).collect())
}

/// Whom the target waits for, as its document says.
async fn wait_until_it_waits_for(scene: &Scene, clusters: &[&str]) -> Result<()> {
    eventually(PATIENCE, &format!("the deletion waits for {clusters:?}"), async || {
        let target = scene.cli(&["target", "show", "shop", "-o", "json"]).await?.ended_with(0)?.json()?;
        ensure!(target["status"]["deletion"]["waitsFor"] == json!(clusters), "{target:#}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pruned_target_takes_its_objects_along_and_an_absent_cluster_follows() -> Result<()> {
    let options = SceneOptions { flags: FAST_HEARTBEAT_FLAGS.to_vec(), ..SceneOptions::default() };
    Scene::run_with(&[1, 2], options, async |scene| {
        install(scene).await?;
        scene.agent(2)?.kill9().await?;

        scene.cli(&["target", "delete", "shop", "--prune"]).await?.ended_with(0)?;
        scene.hub.kill9().await?;
        scene.hub.restart().await?;

        wait_until_gone(scene).await?;
        assert_eq!(there(scene, 1).await?, Vec::<String>::new());
        assert_eq!(there(scene, 2).await?, ["greeting", "other"]);
        let asked = scene.wait_for_audit("target.deleted").await?;
        assert_eq!((&asked["actor"]["name"], &asked["detail"]["mode"]), (&json!("admin"), &json!("prune")));
        let gone = scene.wait_for_audit("target.gone").await?;
        assert_eq!((&gone["detail"]["by"], &gone["detail"]["unanswered"]), (&json!("admin"), &json!(["c2"])));
        // Its name is free, whoever is still to follow.
        scene.apply_target("shop", "  clusters: {matchLabels: {ring: canary}}\n").await?.ended_with(0)?;
        scene.wait_for_value(1, "greeting", "text", "one").await?;

        scene.agent(2)?.restart().await?;
        eventually(PATIENCE, "the objects of c2 are gone", async || {
            let left = there(scene, 2).await?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await?;
        eventually(PATIENCE, "only the new target is assigned", async || {
            let left = scene.sql("select from assignments").await?;
            ensure!(left == 1, "{left} are left");
            Ok(())
        })
        .await?;
        assert_eq!(there(scene, 1).await?, ["greeting", "other"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_orphaned_target_leaves_its_objects_without_our_label() -> Result<()> {
    Scene::run(&[1], async |scene| {
        install(scene).await?;
        let before = scene.uid(1, "configmap", "greeting").await?;

        scene.cli(&["target", "delete", "shop", "--orphan"]).await?.ended_with(0)?;

        wait_until_gone(scene).await?;
        wait_until_no_tombstone_is_left(scene).await?;
        assert_eq!(scene.uid(1, "configmap", "greeting").await?, before);
        let args = ["get", "configmap", "greeting", "-n", &scene.namespace, "-o", "jsonpath={.metadata.labels}"];
        assert_eq!(scene.kubectl(1, &args).await?, "");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deletion_waits_for_a_connected_cluster_unless_it_is_forced() -> Result<()> {
    Scene::run(&[1], async |scene| {
        install(scene).await?;
        let hold = |value: &str| format!("{{\"metadata\": {{\"finalizers\": {value}}}}}");
        let namespace = scene.namespace.clone();
        let patch = async |scene: &Scene, value: &str| {
            let args = ["patch", "configmap", "greeting", "-n", &namespace, "--type=merge", "-p", &hold(value)];
            scene.kubectl(1, &args).await.map(|_| ())
        };
        patch(scene, "[\"example.org/hold\"]").await?;

        scene.cli(&["target", "delete", "shop", "--prune"]).await?.ended_with(0)?;
        eventually(PATIENCE, "the other object is gone", async || {
            let left = there(scene, 1).await?;
            ensure!(left == ["greeting"], "{left:?}");
            Ok(())
        })
        .await?;
        wait_until_it_waits_for(scene, &["c1"]).await?;
        let refused = scene.apply_target("shop", "").await?.ended_with(1)?;
        refused.tells(&["target `shop` is being deleted", "bellwether target show shop"])?;
        let listed = scene.cli(&["target", "list"]).await?.ended_with(0)?.stdout;
        ensure!(listed.contains("deleting"), "{listed}");

        scene.hub.kill9().await?;
        scene.hub.restart().await?;
        scene.wait_until_connected(1).await?;
        wait_until_it_waits_for(scene, &["c1"]).await?;
        scene.cli(&["target", "delete", "shop", "--prune", "--force"]).await?.ended_with(0)?;

        wait_until_gone(scene).await?;
        patch(scene, "null").await?;
        wait_until_no_tombstone_is_left(scene).await?;
        assert_eq!(there(scene, 1).await?, Vec::<String>::new());
        let gone = scene.wait_for_audit("target.gone").await?;
        assert_eq!(gone["detail"]["forced"], true);
        let refused = scene.audit(&["--action", "report.refused"]).await?;
        ensure!(refused.is_empty(), "{refused:?}");
        let verified = scene.cli(&["audit", "verify", "-o", "json"]).await?.ended_with(0)?.json()?;
        assert_eq!(verified["verified"], true);
        Ok(())
    })
    .await
    .context("a finalizer holds an object")
}
