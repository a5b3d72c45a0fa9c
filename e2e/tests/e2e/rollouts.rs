//! A change on its way through three clusters: waves, gates, and what people say on the way.
//!
//! Order is never taken from a clock: the clusters' etcd is one, so that the resource versions of all their objects are
//! of one sequence ([`Scene::now`]).

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, eventually};
use serde_json::json;

use crate::{UNDISTURBED, config_map, expect_steps};

const ALL: [usize; 3] = [1, 2, 3];
/// Nobody waits for the end of this soak.
const CANARY_SOAKS: &str = "  rollout:
    waves:
    - {name: canary, clusters: {matchLabels: {ring: canary}}, soak: 1h}
    - {name: others}
";
/// Enough for a pod whose node is there, on a busy machine.
const ROOMY_SECONDS: u32 = 20;
const NEVER_SECONDS: u32 = 3600;
const CANARY_FIRST: &str = "  rollout:
    waves:
    - {name: canary, clusters: {matchLabels: {ring: canary}}}
    - {name: others}
";

fn greeting(text: &str) -> String {
    config_map("greeting", "text", text)
}

/// One pod, on any node.
fn web() -> String {
    web_with("", "")
}

/// One pod, on a node with this label; failed when there is none so many seconds later.
fn web_on(node_label: &str, deadline_seconds: u32) -> String {
    let deadline = format!("  progressDeadlineSeconds: {deadline_seconds}\n");
    web_with(&deadline, &format!("      nodeSelector: {{{node_label}: \"yes\"}}\n"))
}

fn web_with(deadline: &str, selector: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 1\n{deadline}  selector: \
         {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
         spec:\n{selector}      containers: [{{name: web, image: registry.example.org/web}}]\n"
    )
}

/// Has the text `one` in all three clusters, and the strategy from then on.
async fn install(scene: &mut Scene, strategy: &str, first: &[(&str, &str)]) -> Result<()> {
    let commit = scene.push(first).await?;
    scene.add_repo().await?;
    scene.apply_target("shop", "").await?.ended_with(0)?;
    scene.wait_until_healthy(&commit).await?;
    scene.apply_target("shop", strategy).await?.ended_with(0)?;
    Ok(())
}

async fn install_greeting(scene: &mut Scene, strategy: &str) -> Result<()> {
    install(scene, strategy, &[("shop/greeting.yaml", &greeting("one"))]).await
}

async fn push_greeting(scene: &Scene, text: &str) -> Result<String> {
    scene.push(&[("shop/greeting.yaml", &greeting(text))]).await
}

async fn texts(scene: &Scene) -> Result<[String; 3]> {
    let text = |cluster| scene.value(cluster, "greeting", "text");
    Ok([text(1).await?, text(2).await?, text(3).await?])
}

async fn why(scene: &Scene) -> Result<String> {
    Ok(scene.cli(&["rollout", "why", "shop"]).await?.ended_with(0)?.stdout)
}

async fn ask(scene: &Scene, words: &[&str]) -> Result<()> {
    scene.cli(&[&["rollout"], words].concat()).await?.ended_with(0)?;
    Ok(())
}

#[tokio::test]
async fn the_canary_is_healthy_before_the_others_are_written_to() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        install_greeting(scene, CANARY_FIRST).await?;
        let before = scene.now().await?;

        let commit = push_greeting(scene, "two").await?;
        scene.wait_until_healthy(&commit).await?;

        let rollout = scene.wait_for_rollout("shop", &commit, &[("/state", "done")]).await?;
        let canary = scene.revision(1, "configmap", "greeting").await?;
        for other in [2, 3] {
            let revision = scene.revision(other, "configmap", "greeting").await?;
            assert!(before < canary && canary < revision, "{before} {canary} {revision}");
        }
        expect_steps(scene, &rollout, &UNDISTURBED).await
    })
    .await
}

#[tokio::test]
async fn a_soak_holds_the_next_wave_until_it_is_over() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        install_greeting(scene, CANARY_SOAKS).await?;
        let commit = push_greeting(scene, "two").await?;

        scene
            .wait_for_rollout("shop", &commit, &[("/waves/0/state", "soaking"), ("/waves/1/state", "waiting")])
            .await?;
        let soaking = scene.now().await?;
        let told = why(scene).await?;
        ask(scene, &["promote", "shop", "--reason", "seen enough"]).await?;
        scene.wait_until_healthy(&commit).await?;

        ensure!(told.contains("canary soaks until"), "{told}");
        for other in [2, 3] {
            assert!(scene.revision(other, "configmap", "greeting").await? > soaking);
        }
        let asked = scene.wait_for_audit("rollout.promote.asked").await?;
        assert_eq!((&asked["reason"], &asked["actor"]["kind"]), (&json!("seen enough"), &json!("token")));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_soak_that_is_over_opens_the_next_wave_by_itself() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        install_greeting(scene, &CANARY_SOAKS.replace("1h", "1s")).await?;

        let commit = push_greeting(scene, "two").await?;

        scene.wait_for_rollout("shop", &commit, &[("/state", "done")]).await?;
        let canary = scene.revision(1, "configmap", "greeting").await?;
        assert!(canary < scene.revision(2, "configmap", "greeting").await?);
        assert_eq!(texts(scene).await?, ["two", "two", "two"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn no_more_clusters_are_in_flight_than_the_wave_allows() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        let room = scene.own("room");
        let one_by_one = "  rollout: {waves: [{name: all, maxConcurrent: 1}]}\n";
        install_greeting(scene, one_by_one).await?;

        // A cluster is in flight until its pod has a node, and that is up to us.
        let web = web_on(&room, NEVER_SECONDS);
        let files = [("shop/greeting.yaml", greeting("two")), ("shop/web.yaml", web)];
        let mut last = scene.now().await?;
        let commit = scene.push(&files.each_ref().map(|(path, text)| (*path, text.as_str()))).await?;
        for cluster in ALL {
            scene.wait_for_value(cluster, "greeting", "text", "two").await?;
            let revision = scene.revision(cluster, "configmap", "greeting").await?;
            assert!(revision > last, "c{cluster} was written to at {revision}, before {last}");
            let told = why(scene).await?;
            ensure!(told.contains("all: "), "{told}");
            last = scene.now().await?;
            scene.kubectl(cluster, &["label", "node", "--all", &format!("{room}=yes")]).await?;
        }

        scene.wait_until_healthy(&commit).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_bad_change_stops_at_the_canary() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        install(scene, CANARY_FIRST, &[("shop/web.yaml", &web())]).await?;

        let bad = scene.push(&[("shop/web.yaml", &web_on("nowhere", 5))]).await?;

        let rollout = scene.wait_for_rollout("shop", &bad, &[("/state", "paused")]).await?;
        assert_eq!(generations(scene).await?, ["2", "1", "1"]);
        let told = why(scene).await?;
        ensure!(told.contains("canary") && told.contains("c1") && told.contains("1 cluster failed"), "{told}");
        expect_steps(scene, &rollout, &["planned", "started", "wave.opened canary", "paused"]).await?;
        scene.cli(&["status"]).await?.ended_with(3)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_good_change_takes_the_place_of_a_bad_one() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        install(scene, CANARY_FIRST, &[("shop/web.yaml", &web())]).await?;
        let bad = scene.push(&[("shop/web.yaml", &web_on("nowhere", 5))]).await?;
        let rollout = scene.wait_for_rollout("shop", &bad, &[("/state", "paused")]).await?;

        let good = scene.push(&[("shop/web.yaml", &web().replace("replicas: 1", "replicas: 2"))]).await?;

        scene.wait_until_healthy(&good).await?;
        assert_eq!(generations(scene).await?, ["3", "2", "2"]);
        let superseded = scene.wait_for_audit("rollout.superseded").await?;
        assert_eq!(superseded["rollout"], rollout["id"]);
        Ok(())
    })
    .await
}

/// How often the spec of the Deployment was written, in each cluster.
async fn generations(scene: &Scene) -> Result<[String; 3]> {
    let path = "jsonpath={.metadata.generation}";
    let args = ["get", "deployment", "web", "-n", &scene.namespace, "-o", path];
    Ok([scene.kubectl(1, &args).await?, scene.kubectl(2, &args).await?, scene.kubectl(3, &args).await?])
}

#[tokio::test]
async fn a_bad_change_is_rolled_back_at_the_canary() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        let strategy = format!("{CANARY_FIRST}    onFailure: rollback\n");
        install(scene, &strategy, &[("shop/web.yaml", &web())]).await?;

        let bad = scene.push(&[("shop/web.yaml", &web_on("nowhere", 5))]).await?;

        let rollout = scene.wait_for_rollout("shop", &bad, &[("/state", "failed")]).await?;
        assert_eq!(generations(scene).await?, ["3", "1", "1"]);
        let path = "jsonpath={.spec.template.spec.nodeSelector}";
        let selector = scene.kubectl(1, &["get", "deployment", "web", "-n", &scene.namespace, "-o", path]).await?;
        assert_eq!(selector, "");
        let steps = ["planned", "started", "wave.opened canary", "wave.failed canary", "rolling_back", "failed"];
        expect_steps(scene, &rollout, &steps).await
    })
    .await
}

#[tokio::test]
async fn a_commit_elsewhere_does_not_try_a_failed_change_again() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        let strategy = format!("{CANARY_FIRST}    onFailure: rollback\n");
        install(scene, &strategy, &[("shop/web.yaml", &web())]).await?;
        let bad = scene.push(&[("shop/web.yaml", &web_on("nowhere", 5))]).await?;
        scene.wait_for_rollout("shop", &bad, &[("/state", "failed")]).await?;

        let elsewhere = scene.push(&[("elsewhere/note.yaml", "a: 1\n")]).await?;
        eventually(PATIENCE, "the commit elsewhere is seen", async || {
            let target = scene.cli(&["target", "show", "shop", "-o", "json"]).await?.json()?;
            ensure!(target["status"]["commit"] == elsewhere.as_str(), "{target:#}");
            Ok(())
        })
        .await?;
        let good = scene.push(&[("shop/web.yaml", &web_with("", "      terminationGracePeriodSeconds: 5\n"))]).await?;
        scene.wait_for_rollout("shop", &good, &[("/state", "done")]).await?;

        let rollouts = scene.cli(&["rollout", "list", "shop", "-o", "json"]).await?.ended_with(0)?.json()?;
        let rollouts = rollouts["items"].as_array().context("is a list")?;
        let commits: Vec<_> = rollouts.iter().filter_map(|rollout| rollout["toCommit"].as_str()).take(2).collect();
        assert_eq!(commits, [good.as_str(), bad.as_str()], "none of {elsewhere}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cluster_that_was_returned_counts_as_rolled_back() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        let strategy = format!("{CANARY_FIRST}    onFailure: rollback\n");
        install(scene, &strategy, &[("shop/web.yaml", &web())]).await?;

        let bad = scene.push(&[("shop/web.yaml", &web_on("nowhere", 5))]).await?;

        let rollout = scene.wait_for_rollout("shop", &bad, &[("/state", "failed")]).await?;
        assert_eq!(rollout["waves"][0]["rolledBack"], 1, "{rollout:#}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_failed_cluster_is_tried_again_when_asked() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        let room = scene.own("room");
        install(scene, CANARY_FIRST, &[("shop/web.yaml", &web())]).await?;
        for other in [2, 3] {
            scene.kubectl(other, &["label", "node", "--all", &format!("{room}=yes")]).await?;
        }
        let commit = scene.push(&[("shop/web.yaml", &web_on(&room, ROOMY_SECONDS))]).await?;
        scene.wait_for_rollout("shop", &commit, &[("/state", "paused"), ("/members/0/state", "failed")]).await?;

        scene.kubectl(1, &["label", "node", "--all", &format!("{room}=yes")]).await?;
        eventually(PATIENCE, "c1 is healthy", async || {
            let status = scene.cli(&["status", "-o", "json"]).await?.json()?;
            ensure!(status["rows"][0]["verdict"] == "healthy", "{status:#}");
            Ok(())
        })
        .await?;
        ask(scene, &["retry", "shop", "c1", "--reason", "it has room now"]).await?;
        ask(scene, &["resume", "shop"]).await?;

        scene.wait_until_healthy(&commit).await?;
        scene.wait_for_rollout("shop", &commit, &[("/state", "done"), ("/members/0/state", "healthy")]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_skipped_cluster_counts_as_nothing_and_a_wave_without_others_holds() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        install(scene, CANARY_FIRST, &[("shop/web.yaml", &web())]).await?;
        let room = scene.own("room");
        for other in [2, 3] {
            scene.kubectl(other, &["label", "node", "--all", &format!("{room}=yes")]).await?;
        }
        let commit = scene.push(&[("shop/web.yaml", &web_on(&room, ROOMY_SECONDS))]).await?;
        scene.wait_for_rollout("shop", &commit, &[("/state", "paused")]).await?;

        ask(scene, &["skip", "shop", "c1", "--reason", "it is being replaced"]).await?;
        ask(scene, &["resume", "shop"]).await?;
        let places = [("/state", "rolling"), ("/members/0/state", "skipped")];
        scene.wait_for_rollout("shop", &commit, &places).await?;
        let held = scene.now().await?;
        let told = why(scene).await?;
        ask(scene, &["promote", "shop", "--reason", "the others know it"]).await?;

        ensure!(told.contains("canary holds: 0 of 1 clusters answered, 1 skipped"), "{told}");
        scene.wait_for_rollout("shop", &commit, &[("/state", "done")]).await?;
        assert_eq!(generations(scene).await?, ["2", "2", "2"]);
        for other in [2, 3] {
            assert!(scene.revision(other, "deployment", "web").await? > held);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_paused_rollout_goes_on_when_it_is_resumed() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        install_greeting(scene, CANARY_SOAKS).await?;
        let commit = push_greeting(scene, "two").await?;
        scene.wait_for_rollout("shop", &commit, &[("/waves/0/state", "soaking")]).await?;

        ask(scene, &["pause", "shop", "--reason", "the shop is full"]).await?;
        scene.wait_for_rollout("shop", &commit, &[("/state", "paused")]).await?;
        let told = why(scene).await?;
        let paused = scene.now().await?;
        ask(scene, &["resume", "shop", "--reason", "it is empty"]).await?;
        scene.wait_for_rollout("shop", &commit, &[("/state", "rolling")]).await?;
        ask(scene, &["promote", "shop", "--reason", "enough"]).await?;

        scene.wait_until_healthy(&commit).await?;
        ensure!(told.contains("the shop is full"), "{told}");
        assert!(scene.revision(2, "configmap", "greeting").await? > paused);
        let who = scene.cli(&["whoami", "-o", "json"]).await?.ended_with(0)?.json()?;
        let asked = scene.wait_for_audit("rollout.pause.asked").await?;
        assert_eq!((&asked["reason"], &asked["actor"]["name"]), (&json!("the shop is full"), &who["name"]));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_newer_revision_takes_the_place_of_a_paused_rollout() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        install_greeting(scene, CANARY_SOAKS).await?;
        let stopped = push_greeting(scene, "two").await?;
        scene.wait_for_rollout("shop", &stopped, &[("/waves/0/state", "soaking")]).await?;
        ask(scene, &["pause", "shop"]).await?;
        let paused = scene.wait_for_rollout("shop", &stopped, &[("/state", "paused")]).await?;

        let newer = push_greeting(scene, "three").await?;

        scene.wait_for_rollout("shop", &newer, &[("/state", "rolling"), ("/waves/0/state", "soaking")]).await?;
        assert_eq!(texts(scene).await?, ["three", "one", "one"]);
        let id = paused["id"].as_str().context("a rollout has an id")?;
        let old = scene.cli(&["rollout", "show", id, "-o", "json"]).await?.ended_with(0)?.json()?;
        assert_eq!(old["state"], "superseded");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_aborted_rollout_ends_where_it_stands() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        install_greeting(scene, CANARY_SOAKS).await?;
        let stopped = push_greeting(scene, "two").await?;
        scene.wait_for_rollout("shop", &stopped, &[("/waves/0/state", "soaking")]).await?;

        ask(scene, &["abort", "shop", "--reason", "a bad idea"]).await?;

        let rollout = scene.wait_for_rollout("shop", &stopped, &[("/state", "cancelled")]).await?;
        assert_eq!(texts(scene).await?, ["two", "one", "one"]);
        ensure!(rollout["why"].as_str().is_some_and(|why| why.contains("a bad idea")), "{rollout:#}");
        scene.cli(&["rollout", "resume", "shop"]).await?.ended_with(1)?.tells(&["over"])?;
        let newer = push_greeting(scene, "three").await?;
        scene.wait_for_rollout("shop", &newer, &[("/waves/0/state", "soaking")]).await?;
        ask(scene, &["promote", "shop", "--reason", "a good one"]).await?;
        scene.wait_until_healthy(&newer).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_target_that_was_rolled_back_is_held_until_it_is_released() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        // Neither waves nor soak stand in the way of a person's rollback.
        install_greeting(scene, CANARY_FIRST).await?;
        let two = push_greeting(scene, "two").await?;
        scene.wait_until_healthy(&two).await?;
        scene.wait_for_rollout("shop", &two, &[("/state", "done")]).await?;
        scene.apply_target("shop", CANARY_SOAKS).await?.ended_with(0)?;

        ask(scene, &["rollback", "shop", "--reason", "two is wrong"]).await?;
        for cluster in ALL {
            scene.wait_for_value(cluster, "greeting", "text", "one").await?;
        }
        let three = push_greeting(scene, "three").await?;
        eventually(PATIENCE, "the hub has rendered what was pushed", async || {
            let repo = scene.cli(&["repo", "show", "apps", "-o", "json"]).await?.ended_with(0)?;
            ensure!(repo.stdout.contains(&three), "{}", repo.stdout);
            Ok(())
        })
        .await?;
        let shown = scene.cli(&["target", "show", "shop", "-o", "json"]).await?.ended_with(0)?.json()?;
        assert_eq!(shown["status"]["held"], true, "{shown:#}");
        let held = scene.now().await?;
        assert_eq!(texts(scene).await?, ["one", "one", "one"]);
        ask(scene, &["release", "shop", "--reason", "three is right"]).await?;

        scene.wait_for_rollout("shop", &three, &[("/waves/0/state", "soaking")]).await?;
        ask(scene, &["promote", "shop", "--reason", "hurry"]).await?;
        scene.wait_until_healthy(&three).await?;
        for cluster in ALL {
            assert!(scene.revision(cluster, "configmap", "greeting").await? > held);
        }
        assert_eq!(scene.wait_for_audit("target.rolled_back").await?["reason"], "two is wrong");
        assert_eq!(scene.wait_for_audit("target.released").await?["reason"], "three is right");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_rollback_goes_to_the_commit_that_is_named() -> Result<()> {
    Scene::run(&[1, 2], async |scene| {
        let one = scene.push(&[("shop/greeting.yaml", &greeting("one"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&one).await?;
        for text in ["two", "three"] {
            let commit = push_greeting(scene, text).await?;
            scene.wait_for_rollout("shop", &commit, &[("/state", "done")]).await?;
        }

        let unknown = scene.cli(&["rollout", "rollback", "shop", "--to", "0123456789ab"]).await?;
        ask(scene, &["rollback", "shop", "--to", &one[..12]]).await?;

        unknown.ended_with(1)?;
        scene.wait_until_healthy(&one).await?;
        for cluster in [1, 2] {
            assert_eq!(scene.value(cluster, "greeting", "text").await?, "one");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn parameters_make_the_objects_of_clusters_differ() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        let text = "${cluster.name} is ${cluster.labels.ring}: ${size}";
        let commit = scene.push(&[("shop/greeting.yaml", &greeting(text))]).await?;
        scene.add_repo().await?;
        let parameters = "  parameters:
  - values: {size: small}
  - clusters: {matchLabels: {ring: canary}}
    values: {size: large}
";

        scene.apply_target("shop", parameters).await?.ended_with(0)?;

        scene.wait_until_healthy(&commit).await?;
        assert_eq!(texts(scene).await?, ["c1 is canary: large", "c2 is stable: small", "c3 is stable: small"]);
        let untouched = scene.revision(3, "configmap", "greeting").await?;
        scene.cli(&["cluster", "label", "c2", "ring=canary"]).await?.ended_with(0)?;
        scene.wait_for_value(2, "greeting", "text", "c2 is canary: large").await?;
        scene.wait_until_healthy(&commit).await?;
        assert_eq!(scene.revision(3, "configmap", "greeting").await?, untouched);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_parameter_that_is_not_set_is_told_with_file_and_line() -> Result<()> {
    Scene::run(&[1], async |scene| {
        scene.push(&[("shop/greeting.yaml", &greeting("${sizee}"))]).await?;
        scene.add_repo().await?;

        let applied = scene.apply_target("shop", "  parameters: [{values: {size: small}}]\n").await?.ended_with(1)?;

        applied.tells(&["sizee", "shop/greeting.yaml:4", "`size`"])?;
        let status = scene.cli(&["status", "-o", "json"]).await?.ended_with(3)?.json()?;
        let condition = &status["targets"][0]["status"]["condition"];
        assert_eq!((&condition["file"], &condition["line"]), (&json!("shop/greeting.yaml"), &json!(4)));
        let there = scene.kubectl(1, &["get", "configmap", "-n", &scene.namespace, "-o", "name"]).await?;
        ensure!(!there.contains("greeting"), "{there}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_target_that_renders_to_nothing_pauses_and_deletes_nothing() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        install_greeting(scene, CANARY_FIRST).await?;
        let before = revisions(scene).await?;

        let empty = scene.push(&[("shop/greeting.yaml", "# Nothing is left.\n")]).await?;

        let rollout = scene.wait_for_rollout("shop", &empty, &[("/state", "paused")]).await?;
        let told = why(scene).await?;
        ensure!(told.contains("renders to nothing"), "{told}");
        expect_steps(scene, &rollout, &["planned", "paused"]).await?;
        let fixed = scene.push(&[("shop/greeting.yaml", &greeting("one"))]).await?;
        eventually(PATIENCE, "what was fixed runs", async || {
            let rollout = scene.rollout("shop").await?;
            ensure!(rollout["state"] != "paused", "{rollout:#}");
            Ok(())
        })
        .await?;
        assert_eq!(revisions(scene).await?, before, "{fixed}");
        Ok(())
    })
    .await
}

async fn revisions(scene: &Scene) -> Result<[u64; 3]> {
    let revision = |cluster| scene.revision(cluster, "configmap", "greeting");
    Ok([revision(1).await?, revision(2).await?, revision(3).await?])
}

/// A kind of its own, and one of it.
fn database(group: &str, version: u32) -> [(&'static str, String); 2] {
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("databases.{group}")}, "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": "databases", "singular": "database", "kind": "Database"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let orders = json!({"apiVersion": format!("{group}/v1"), "kind": "Database", "metadata": {"name": "orders"},
        "spec": {"version": version}});
    [("shop/definition.json", definition.to_string()), ("shop/orders.json", orders.to_string())]
}

/// As its controller does.
async fn say_ready(scene: &Scene, cluster: usize, kind: &str, generation: u32) -> Result<()> {
    let ready =
        json!({"status": {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": generation}]}});
    let patch = ready.to_string();
    let of = ["patch", kind, "orders", "-n", &scene.namespace, "--subresource=status", "--type=merge", "-p", &patch];
    scene.kubectl(cluster, &of).await.map(|_| ())
}

#[tokio::test]
async fn a_custom_resource_holds_the_next_wave_until_its_controller_has_spoken_of_what_it_is_now() -> Result<()> {
    Scene::run(&[1, 2], async |scene| {
        let group = format!("{}.example.org", scene.own("db"));
        let kind = format!("databases.{group}");
        let push = async |scene: &Scene, version| {
            let files = database(&group, version);
            scene.push(&[(files[0].0, &files[0].1), (files[1].0, &files[1].1)]).await
        };
        let made = push(scene, 16).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", CANARY_FIRST).await?.ended_with(0)?;

        let silent = scene.wait_for_outcome(1, "orders", "applied").await?;
        assert_eq!(silent["message"], "its controller has written no status yet");
        let before = scene.now().await?;
        say_ready(scene, 1, &kind, 1).await?;
        let theirs =
            eventually(PATIENCE, "the other cluster has it", async || scene.revision(2, &kind, "orders").await);
        assert!(theirs.await? > before);
        say_ready(scene, 2, &kind, 1).await?;
        scene.wait_until_healthy(&made).await?;

        let changed = push(scene, 17).await?;
        let outdated = eventually(PATIENCE, "what it says is about the one before", async || {
            let line = scene.wait_for_outcome(1, "orders", "applied").await?;
            ensure!(line["message"] == "Ready is about generation 1, the object is at 2", "{line:#}");
            Ok(())
        });
        outdated.await?;
        let before = scene.now().await?;
        say_ready(scene, 1, &kind, 2).await?;
        let version = ["get", &kind, "orders", "-n", &scene.namespace, "-o", "jsonpath={.spec.version}"];
        eventually(PATIENCE, "the other cluster has the change", async || {
            ensure!(scene.kubectl(2, &version).await? == "17");
            Ok(())
        })
        .await?;
        assert!(scene.revision(2, &kind, "orders").await? > before);
        say_ready(scene, 2, &kind, 2).await?;
        scene.wait_until_healthy(&changed).await?;
        Ok(())
    })
    .await
}
