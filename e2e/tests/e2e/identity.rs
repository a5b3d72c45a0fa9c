//! How an agent stays who it is, and how it ceases to be.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::agent::Registered;
use bellwether_e2e::harness::{HEARTBEAT_FLAGS, PATIENCE, Scene, SceneOptions, eventually};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::faults::enroll_fake;

/// How long a revoked agent may go on.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

fn with_flags(flags: &[&'static str]) -> SceneOptions {
    SceneOptions { flags: flags.to_vec(), ..SceneOptions::default() }
}

/// When the certificate ends that this cluster's newest session came with.
async fn certificate_end(scene: &Scene, cluster: &str) -> Result<Timestamp> {
    let shown = scene.api.fetch(&format!("/api/v1/clusters/{cluster}")).await?;
    Ok(serde_json::from_value(shown["status"]["certificateExpiresAt"].clone())?)
}

/// `serial` and the like, of entries of one action.
async fn details(scene: &Scene, action: &str, field: &str) -> Result<Vec<Value>> {
    Ok(scene.audit(&["--action", action]).await?.iter().map(|entry| entry["detail"][field].clone()).collect())
}

#[tokio::test]
async fn an_agent_outlives_its_certificate_by_renewing_it() -> Result<()> {
    // Half of that is time enough to renew on a machine that does seven other tests.
    let flags = [&HEARTBEAT_FLAGS[..], &["--certificate-seconds=30"]].concat();
    Scene::run_with(&[1], with_flags(&flags), async |scene| {
        let first_end = certificate_end(scene, "c1").await?;

        scene.wait_for_audit("cluster.renewed").await?;
        eventually(PATIENCE, "its session is one of the next certificate", async || {
            ensure!(certificate_end(scene, "c1").await? > first_end, "it is not");
            Ok(())
        })
        .await?;
        eventually(PATIENCE, "the first certificate has ended", async || {
            ensure!(Timestamp::now() > first_end, "it ends at {first_end}");
            Ok(())
        })
        .await?;

        scene.wait_until_connected(1).await?;
        let before = details(scene, "cluster.renewed", "before").await?;
        assert_eq!(before.first(), details(scene, "cluster.enrolled", "serial").await?.first());
        // What it starts with now is what stands in its Secret.
        scene.agent(1)?.restart().await?;
        eventually(PATIENCE, "it is connected anew", async || {
            ensure!(scene.agents[&1].log().contains("connected"), "it is not");
            Ok(())
        })
        .await?;
        scene.wait_until_connected(1).await?;
        assert_eq!(details(scene, "cluster.enrolled", "serial").await?.len(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stream_does_not_outlast_the_certificate_that_it_came_with() -> Result<()> {
    // Silence ends no stream before the test's own patience is over.
    Scene::run_with(&[], with_flags(&["--certificate-seconds=10", "--deadline-ms=300000"]), async |scene| {
        let agent = enroll_fake(scene, "old").await?;
        let mut session = agent.open().await?;

        let ended = timeout(PATIENCE, async {
            while session.next().await?.is_some() {}
            Ok(Timestamp::now()) as Result<Timestamp>
        });

        let ended_at = ended.await.context("its stream goes on")??;
        ensure!(ended_at >= certificate_end(scene, "old").await?, "it was cut before");
        // Certificates end with a whole second, through which handshakes let them in.
        eventually(PATIENCE, "its certificate is refused", async || {
            ensure!(agent.open().await.is_err(), "it came back");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_revoked_agent_is_cut_off_and_told_what_to_do_until_it_is_enrolled_again() -> Result<()> {
    // Short, so that it wants to renew while the test looks.
    let flags = [&HEARTBEAT_FLAGS[..], &["--certificate-seconds=20"]].concat();
    Scene::run_with(&[1], with_flags(&flags), async |scene| {
        scene.cli(&["cluster", "revoke", "c1"]).await?.ended_with(0)?;

        eventually(REVOKED_WITHIN, "its stream is cut", async || {
            let open = scene.sql("select from sessions where ended_at is null").await?;
            ensure!(open == 0 && scene.agents[&1].log().contains("not connected"), "it goes on");
            Ok(())
        })
        .await?;
        eventually(PATIENCE, "the agent says what to do, and that it cannot renew", async || {
            let log = scene.agents[&1].log();
            for words in ["was revoked", "bellwether cluster reenroll", "could not renew the certificate"] {
                ensure!(log.contains(words), "it does not say `{words}`");
            }
            Ok(())
        })
        .await?;
        ensure!(scene.agent(1)?.is_alive(), "what it applied is kept by nobody");
        let revoked = scene.wait_for_audit("cluster.revoked").await?;
        for entry in scene.audit(&["--action", "cluster.renewed"]).await? {
            ensure!(entry["seq"].as_i64() < revoked["seq"].as_i64(), "renewed after all: {entry:#}");
        }
        assert_eq!(scene.sql("select from sessions where ended_at is null").await?, 0);
        let shown = scene.cli(&["cluster", "show", "c1", "-o", "json"]).await?.ended_with(0)?.json()?;
        assert_eq!(shown["status"]["phase"], "revoked");

        let again = scene.api.post("/api/v1/clusters/c1/reenroll", &json!({})).await?;
        let text = |field: &str| again[field].as_str().map(str::to_owned).context("no such field");
        scene.agent(1)?.kill9().await?;
        let registered = Registered { manifest: text("manifest")?, hub: text("hub")? };
        let agent = scene.start_agent(1, &registered).await?;
        scene.agents.insert(1, agent);
        scene.wait_until_connected(1).await
    })
    .await
}
