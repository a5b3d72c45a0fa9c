//! From a push to the objects in a cluster.

use anyhow::{Result, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, eventually};
use serde_json::json;

use crate::config_map;

#[tokio::test]
async fn a_push_is_applied_and_status_says_healthy() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let first = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;

        scene.wait_for_value(1, "greeting", "text", "hello").await?;
        let status = scene.wait_until_healthy(&first).await?;

        let row = &status["rows"][0];
        let seen = json!([row["cluster"], row["target"], row["connected"], row["applied"], row["verdict"]]);
        assert_eq!(seen, json!(["c1", "shop", true, true, "healthy"]));
        let second = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "good evening"))]).await?;
        scene.wait_for_value(1, "greeting", "text", "good evening").await?;
        scene.wait_until_healthy(&second).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn only_a_webhook_with_the_right_signature_wakes_the_hub() -> Result<()> {
    Scene::run(&[2], async |scene| {
        scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "before"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_for_value(2, "greeting", "text", "before").await?;
        let commit = scene.push_quietly(&[("shop/greeting.yaml", &config_map("greeting", "text", "after"))]).await?;

        let zeros = format!("sha256={}", "0".repeat(64));
        for wrong in [zeros.as_str(), "sha256=", "sha1=00", ""] {
            let reply = scene.send_webhook_signed(wrong).await?;
            assert_eq!((reply.status, &reply.body["code"]), (401, &json!("signature_invalid")), "{wrong}");
        }
        let refused =
            scene.cli(&["audit", "list", "--outcome", "denied", "-o", "json"]).await?.ended_with(0)?.json()?;
        let right = scene.send_webhook().await?;

        ensure!(refused["items"][0]["action"] == "webhook.refused", "{refused:#}");
        assert_eq!(right.status, 202);
        scene.wait_until_healthy(&commit).await?;
        assert_eq!(scene.value(2, "greeting", "text").await?, "after");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_object_that_is_there_and_not_ours_is_left_alone() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let namespace = scene.namespace.clone();
        scene.kubectl(1, &["create", "configmap", "taken", "-n", &namespace, "--from-literal=owner=somebody"]).await?;
        let taken = config_map("taken", "owner", "bellwether");
        let free = config_map("free", "owner", "bellwether");
        scene.push(&[("shop/taken.yaml", &taken), ("shop/free.yaml", &free)]).await?;
        scene.add_repo().await?;

        scene.apply_target("shop", "").await?.ended_with(0)?;

        scene.wait_for_outcome(1, "taken", "exists").await?;
        scene.wait_for_value(1, "free", "owner", "bellwether").await?;
        assert_eq!(scene.value(1, "taken", "owner").await?, "somebody");
        scene.cli(&["status"]).await?.ended_with(3)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_missing_namespace_is_named_and_heals_when_it_is_there() -> Result<()> {
    Scene::run(&[2], async |scene| {
        let later = scene.own("later");
        let object = config_map("greeting", "text", "hello")
            .replace("metadata: {", &format!("metadata: {{namespace: {later}, "));
        let commit = scene.push(&[("shop/greeting.yaml", &object)]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;

        let line = scene.wait_for_outcome(2, "greeting", "retrying").await?;
        scene.create_namespace(2, &later).await?;

        ensure!(line["hint"].as_str().is_some_and(|hint| hint.contains(&later)), "{line:#}");
        scene.wait_until_healthy(&commit).await?;
        let text = scene.kubectl(2, &["get", "cm", "greeting", "-n", &later, "-o", "jsonpath={.data.text}"]).await?;
        assert_eq!(text, "hello");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_object_that_the_api_server_rejects_is_named_and_the_others_go_on() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let broken = "apiVersion: v1\nkind: Service\nmetadata: {name: broken}\nspec: {ports: [{port: 70000}]}\n";
        let good = config_map("good", "text", "hello");
        scene.push(&[("shop/broken.yaml", broken), ("shop/good.yaml", &good)]).await?;
        scene.add_repo().await?;

        scene.apply_target("shop", "").await?.ended_with(0)?;

        let line = scene.wait_for_outcome(1, "broken", "rejected").await?;
        ensure!(
            line["message"].as_str().is_some_and(|message| message.contains("must be between 1 and 65535")),
            "{line:#}"
        );
        scene.wait_for_value(1, "good", "text", "hello").await?;
        let status = scene.cli(&["status"]).await?.ended_with(3)?;
        ensure!(status.stdout.contains("broken"), "{}", status.stdout);
        let fixed = broken.replace("70000", "80");
        let commit = scene.push(&[("shop/broken.yaml", &fixed)]).await?;
        scene.wait_until_healthy(&commit).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_happened_stands_in_the_audit_log() -> Result<()> {
    Scene::run(&[2], async |scene| {
        let commit = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "hello"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&commit).await?;

        let listed = eventually(PATIENCE, "the rollout's end is sealed", async || {
            let listed = scene.cli(&["audit", "list", "-o", "json"]).await?.ended_with(0)?.json()?;
            let entries = listed["items"].as_array().cloned().unwrap_or_default();
            ensure!(entries.iter().any(|entry| entry["action"] == "rollout.done"), "{listed:#}");
            Ok(entries)
        })
        .await?;

        let has = |action: &str| listed.iter().any(|entry| entry["action"] == action);
        assert!(has("cluster.joined"), "{listed:#?}");
        let mut numbers: Vec<_> = listed.iter().filter_map(|entry| entry["seq"].as_i64()).collect();
        numbers.sort_unstable();
        let gapless = numbers.iter().zip(1..).all(|(&number, expected)| number == expected);
        assert!(gapless, "{numbers:?}");
        Ok(())
    })
    .await
}
