//! What goes wrong while a change crosses the fleet. Each test fails if its fault was not hit.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bellwether_core::report::{Counts, Report, Verdict};
use bellwether_core::session::{AgentMessage, HubMessage};
use bellwether_core::{Generation, ReportSequence, TargetId};
use bellwether_e2e::fake_agent::FakeAgent;
use bellwether_e2e::harness::{FAST_HEARTBEAT_FLAGS, PATIENCE, Scene, SceneOptions, eventually};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{UNDISTURBED, config_map, expect_steps};

const ALL: [usize; 3] = [1, 2, 3];
const CANARY_FIRST: &str = "  rollout:
    waves:
    - {name: canary, clusters: {matchLabels: {ring: canary}}}
    - {name: others}
";
/// More than an agent applies between two calls of kubectl.
const MANY: usize = 1000;

fn hasty() -> SceneOptions {
    SceneOptions { flags: FAST_HEARTBEAT_FLAGS.to_vec(), ..SceneOptions::default() }
}

/// Healthy in a cluster as soon as its node has this label.
fn deployment(node_label: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  selector: {{matchLabels: {{app: \
         web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      nodeSelector: {{{node_label}: \
         \"yes\"}}\n      containers: [{{name: web, image: registry.example.org/web}}]\n"
    )
}

pub(crate) async fn make_room(scene: &Scene, cluster: usize) -> Result<()> {
    let label = format!("{}=yes", scene.own("room"));
    scene.kubectl(cluster, &["label", "node", "--all", &label]).await.map(|_| ())
}

/// A rollout whose canary has passed, and whose other two clusters wait for room in their second wave.
pub(crate) async fn stop_in_second_wave(scene: &mut Scene) -> Result<(String, Value)> {
    let commit = scene.push(&[("shop/web.yaml", &deployment(&scene.own("room")))]).await?;
    make_room(scene, 1).await?;
    scene.add_repo().await?;
    scene.apply_target("shop", CANARY_FIRST).await?.ended_with(0)?;
    let places = [("/waves/1/state", "open"), ("/members/1/state", "applied"), ("/members/2/state", "applied")];
    let rollout = scene.wait_for_rollout("shop", &commit, &places).await?;
    Ok((commit, rollout))
}

pub(crate) async fn expect_it_went_on(scene: &Scene, commit: &str, rollout: &Value) -> Result<()> {
    scene.wait_until_healthy(commit).await?;
    let ended = scene.wait_for_rollout("shop", commit, &[("/state", "done")]).await?;
    ensure!(ended["id"] == rollout["id"], "another rollout took its place: {ended:#}");
    // Nobody was assigned a second time.
    for member in 0..ALL.len() {
        assert_eq!(ended["members"][member]["generation"], rollout["members"][member]["generation"]);
    }
    expect_steps(scene, rollout, &UNDISTURBED).await?;
    let path = "jsonpath={.metadata.generation}";
    for cluster in ALL {
        let args = ["get", "deployment", "web", "-n", &scene.namespace, "-o", path];
        assert_eq!(scene.kubectl(cluster, &args).await?, "1");
    }
    let verified = scene.cli(&["audit", "verify", "-o", "json"]).await?.ended_with(0)?.json()?;
    assert_eq!(verified["verified"], true);
    Ok(())
}

#[tokio::test]
async fn a_hub_that_is_killed_in_the_second_wave_goes_on_there() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        let (commit, rollout) = stop_in_second_wave(scene).await?;

        scene.hub.kill9().await?;
        make_room(scene, 2).await?;
        scene.hub.restart().await?;
        make_room(scene, 3).await?;

        expect_it_went_on(scene, &commit, &rollout).await
    })
    .await
}

#[tokio::test]
async fn a_database_that_stops_in_the_second_wave_is_waited_for() -> Result<()> {
    let options = SceneOptions { has_own_postgres: true, ..SceneOptions::default() };
    Scene::run_with(&ALL, options, async |scene| {
        let (commit, rollout) = stop_in_second_wave(scene).await?;

        let postgres = scene.postgres.as_ref().context("it has its own")?;
        postgres.stop_immediately().await?;
        make_room(scene, 2).await?;
        let refused = scene.cli(&["status"]).await?;
        scene.postgres.as_mut().context("it has its own")?.start_again().await?;
        make_room(scene, 3).await?;

        refused.ended_with(1)?;
        expect_it_went_on(scene, &commit, &rollout).await?;
        ensure!(scene.hub.is_alive(), "the hub ended with its database");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_agent_that_is_killed_while_it_applies_goes_on_with_the_rest() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let all: Vec<_> = (0..MANY).map(|number| config_map(&format!("many-{number}"), "text", "hello")).collect();
        let commit = scene.push(&[("shop/many.yaml", &all.join("---\n"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;

        eventually(PATIENCE, "the first object is there", async || {
            ensure!(!many(scene).await?.is_empty(), "there is none");
            Ok(())
        })
        .await?;
        scene.agent(1)?.kill9().await?;
        let before = many(scene).await?;
        scene.agent(1)?.restart().await?;

        ensure!(before.len() < MANY, "all were there before the agent was killed");
        let status = scene.wait_until_healthy(&commit).await?;
        let after = many(scene).await?;
        assert_eq!(after.len(), MANY);
        assert_eq!(status["rows"][0]["objects"], json!({"total": MANY, "inPlace": MANY, "healthy": MANY}));
        // What was there was not written again.
        for (name, revision) in before {
            assert_eq!(after.get(&name), Some(&revision), "{name}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_agent_that_is_killed_while_it_prunes_goes_on_with_the_rest() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let all: Vec<_> = (0..MANY).map(|number| config_map(&format!("many-{number}"), "text", "hello")).collect();
        let first = scene.push(&[("shop/many.yaml", &all.join("---\n"))]).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&first).await?;
        let kept = many(scene).await?.remove("many-0");

        let commit = scene.push(&[("shop/many.yaml", &all[0])]).await?;
        eventually(PATIENCE, "the first object is gone", async || {
            ensure!(many(scene).await?.len() < MANY, "all are there");
            Ok(())
        })
        .await?;
        scene.agent(1)?.kill9().await?;
        let before = many(scene).await?;
        scene.agent(1)?.restart().await?;

        ensure!(before.len() > 1, "all were gone before the agent was killed");
        scene.wait_until_healthy(&commit).await?;
        let after = many(scene).await?;
        assert_eq!(after.len(), 1);
        assert_eq!(after.get("many-0"), kept.as_ref(), "what stays was not written again");
        Ok(())
    })
    .await
}

/// The resource versions of the many, by their names.
async fn many(scene: &Scene) -> Result<BTreeMap<String, String>> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
    let listed = scene.kubectl(1, &["get", "configmaps", "-n", &scene.namespace, "-o", path]).await?;
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    let ours = pairs.filter(|(name, _)| name.starts_with("many-"));
    Ok(ours.map(|(name, revision)| (name.to_owned(), revision.to_owned())).collect())
}

async fn install_greeting(scene: &mut Scene, strategy: &str) -> Result<()> {
    let commit = push_greeting(scene, "one").await?;
    scene.add_repo().await?;
    scene.apply_target("shop", "").await?.ended_with(0)?;
    scene.wait_until_healthy(&commit).await?;
    scene.apply_target("shop", strategy).await?.ended_with(0)?;
    Ok(())
}

async fn push_greeting(scene: &Scene, text: &str) -> Result<String> {
    scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", text))]).await
}

#[tokio::test]
async fn assignments_that_vanish_from_the_database_delete_nothing() -> Result<()> {
    Scene::run(&ALL, async |scene| {
        let commit = push_greeting(scene, "one").await?;
        scene.add_repo().await?;
        scene.apply_target("shop", CANARY_FIRST).await?.ended_with(0)?;
        scene.wait_until_healthy(&commit).await?;
        scene.wait_for_rollout("shop", &commit, &[("/state", "done")]).await?;
        let before = [uid(scene, 1).await?, uid(scene, 2).await?, uid(scene, 3).await?];

        scene.hub.kill9().await?;
        let vanished = scene.sql("delete from assignments").await?;
        scene.hub.restart().await?;
        // New processes as well: they ask for everything, and there is nothing.
        for cluster in ALL {
            scene.agent(cluster)?.restart().await?;
            scene.wait_until_connected(cluster).await?;
        }
        for cluster in ALL {
            assert_eq!(scene.value(cluster, "greeting", "text").await?, "one");
        }

        assert_eq!(vanished, 3);
        // They come back, since their clusters differ from what the last revision gave them.
        eventually(PATIENCE, "all assignments are back", async || {
            let status = scene.wait_until_healthy(&commit).await?;
            ensure!(status["rows"].as_array().map(Vec::len) == Some(ALL.len()), "{status:#}");
            Ok(())
        })
        .await?;
        let commit = push_greeting(scene, "two").await?;
        scene.wait_until_healthy(&commit).await?;
        for cluster in ALL {
            assert_eq!(scene.value(cluster, "greeting", "text").await?, "two");
        }
        assert_eq!([uid(scene, 1).await?, uid(scene, 2).await?, uid(scene, 3).await?], before);
        Ok(())
    })
    .await
}

async fn uid(scene: &Scene, cluster: usize) -> Result<String> {
    scene.uid(cluster, "configmap", "greeting").await
}

#[tokio::test]
async fn a_cluster_that_is_cut_off_holds_up_nobody_and_catches_up() -> Result<()> {
    Scene::run_with(&ALL, hasty(), async |scene| {
        install_greeting(scene, &CANARY_FIRST.replace("canary}}}", "canary}}, soak: 1h}")).await?;
        let commit = push_greeting(scene, "two").await?;
        scene.wait_for_rollout("shop", &commit, &[("/waves/0/state", "soaking")]).await?;

        scene.agent(3)?.kill9().await?;
        scene.cli(&["rollout", "promote", "shop", "--reason", "enough"]).await?.ended_with(0)?;

        let places = [("/state", "done"), ("/members/1/state", "healthy"), ("/members/2/state", "offline")];
        let rollout = scene.wait_for_rollout("shop", &commit, &places).await?;
        ensure!(rollout["why"].as_str().is_some_and(|why| why.contains("1 cluster catches up")), "{rollout:#}");
        assert_eq!(scene.value(2, "greeting", "text").await?, "two");
        assert_eq!(scene.value(3, "greeting", "text").await?, "one");
        scene.agent(3)?.restart().await?;
        scene.wait_for_value(3, "greeting", "text", "two").await?;
        scene.wait_for_rollout("shop", &commit, &[("/state", "done"), ("/members/2/state", "healthy")]).await?;
        scene.wait_until_healthy(&commit).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_wave_whose_only_cluster_is_cut_off_holds() -> Result<()> {
    Scene::run_with(&ALL, hasty(), async |scene| {
        install_greeting(scene, CANARY_FIRST).await?;
        scene.agent(1)?.kill9().await?;

        let commit = push_greeting(scene, "two").await?;
        scene.wait_for_rollout("shop", &commit, &[("/state", "rolling"), ("/members/0/state", "offline")]).await?;
        let told = scene.cli(&["rollout", "why", "shop"]).await?.ended_with(0)?.stdout;
        let held = scene.now().await?;
        scene.agent(1)?.restart().await?;

        ensure!(told.contains("canary holds: 0 of 1 clusters answered, 1 offline"), "{told}");
        ensure!(told.contains("c1"), "{told}");
        scene.wait_until_healthy(&commit).await?;
        let canary = scene.revision(1, "configmap", "greeting").await?;
        for other in [2, 3] {
            let revision = scene.revision(other, "configmap", "greeting").await?;
            assert!(held < canary && canary < revision, "{held} {canary} {revision}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_row_that_somebody_locks_for_a_while_holds_up_a_rollout_and_nobody_is_told_of_a_failure() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let first = push_greeting(scene, "one").await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&first).await?;

        let locks = scene.lock("select from assignments for update").await?;
        let commit = push_greeting(scene, "two").await?;
        eventually(PATIENCE, "the decision was given up twice", async || {
            let log = scene.hub.log();
            ensure!(log.matches("could not finish a reconcile").count() >= 2, "{log}");
            Ok(())
        })
        .await?;
        let during = scene.cli(&["status", "-o", "json"]).await?.json()?;
        locks.release().await?;

        ensure!(during["conditions"].as_array().is_none_or(Vec::is_empty), "{during:#}");
        scene.wait_until_healthy(&commit).await?;
        assert_eq!(scene.value(1, "greeting", "text").await?, "two");
        let rollout = scene.wait_for_rollout("shop", &commit, &[("/state", "done")]).await?;
        let steps = ["planned", "started", "wave.opened all", "wave.passed all", "done"];
        expect_steps(scene, &rollout, &steps).await
    })
    .await
}

/// A cluster whose agent is ours to speak for.
pub(crate) async fn enroll_fake(scene: &Scene, name: &str) -> Result<FakeAgent> {
    let body = json!({"name": name, "labels": {"ring": "fake"}, "namespace": scene.install_namespace});
    let answer = scene.api.post("/api/v1/clusters", &body).await?;
    let text = |field: &str| answer[field].as_str().with_context(|| format!("no `{field}` in {answer}"));
    FakeAgent::enroll(text("hub")?, &scene.api.ca, text("token")?).await
}

#[tokio::test]
async fn a_report_about_the_assignment_of_another_is_dropped_and_audited() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let commit = push_greeting(scene, "one").await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "  clusters: {matchLabels: {ring: canary}}\n").await?.ended_with(0)?;
        let before = scene.wait_until_healthy(&commit).await?;
        let rollout = scene.wait_for_rollout("shop", &commit, &[("/state", "done")]).await?;
        let target = scene.cli(&["target", "show", "shop", "-o", "json"]).await?.ended_with(0)?.json()?;
        let id = target["metadata"]["id"].as_str().context("a target has an id")?;
        let member = &rollout["members"][0];
        let forged = Report {
            target: TargetId::new(id.parse()?),
            generation: Generation::new(member["generation"].as_i64().context("it was assigned")?),
            digest: serde_json::from_value(member["digest"].clone())?,
            applied: true,
            verdict: Verdict::Failed,
            objects: Counts::default(),
            lines: Vec::new(),
            suspended: None,
        };

        let mut session = enroll_fake(scene, "liar").await?.open().await?;
        session.send(AgentMessage::Report(ReportSequence::new(1), forged)).await?;
        session.send(AgentMessage::Heartbeat).await?;
        let acknowledged = timeout(PATIENCE, async {
            while let Some(message) = session.next().await? {
                if message == HubMessage::Ack(ReportSequence::new(1)) {
                    return Ok(true);
                }
            }
            Ok::<_, anyhow::Error>(false)
        });
        let acknowledged = acknowledged.await??;

        ensure!(acknowledged, "the hub ended the stream");
        let refused = scene.wait_for_audit("report.refused").await?;
        assert_eq!((&refused["cluster"], &refused["outcome"]), (&json!("liar"), &json!("denied")));
        assert_eq!(refused["subject"]["name"], id);
        let after = scene.cli(&["status", "-o", "json"]).await?.ended_with(0)?.json()?;
        assert_eq!(after["rows"], before["rows"]);
        Ok(())
    })
    .await
}

/// How long a revoked agent may go on.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_revoked_cluster_is_cut_off_and_cannot_come_back() -> Result<()> {
    Scene::run(&[], async |scene| {
        let agent = enroll_fake(scene, "gone").await?;
        let mut session = agent.open().await?;

        scene.cli(&["cluster", "revoke", "gone"]).await?.ended_with(0)?;
        let cut = timeout(REVOKED_WITHIN, async {
            while let Some(_message) = session.next().await? {}
            Ok(()) as Result<()>
        });

        cut.await.context("its stream goes on")??;
        ensure!(agent.open().await.is_err(), "it came back with its certificate");
        let revoked = scene.wait_for_audit("cluster.revoked").await?;
        assert_eq!(revoked["cluster"], "gone");
        let shown = scene.cli(&["cluster", "show", "gone", "-o", "json"]).await?.ended_with(0)?.json()?;
        assert_eq!(shown["status"]["phase"], "revoked");
        Ok(())
    })
    .await
}
