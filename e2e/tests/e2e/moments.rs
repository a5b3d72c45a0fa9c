//! A hub that is killed at one moment of a push's way, and starts again. Each test waits until the proxy before the database
//! says that the moment has come; nothing but a webhook tells of a push, as the next poll is hours away.

use anyhow::{Result, ensure};
use bellwether_e2e::harness::{Scene, SceneOptions};
use bellwether_e2e::postgres_proxy::Moment;

use crate::config_map;

/// What the source stage reads before it fetches.
const BEFORE_A_FETCH: &str = "select w.target_id, t.repo_id, t.ref, r.inputs";
const REVISION: &str = "insert into revisions";
const RENDER: &str = "insert into renders";
const ASSIGNMENT: &str = "insert into assignments";
/// What is read of assignments to send them.
const BEFORE_A_SENDING: &str = "select a.cluster_id, a.target_id, a.digest, a.generation, a.rollout_id, a.render_id";

fn with_proxy() -> SceneOptions {
    SceneOptions { has_proxy: true, ..SceneOptions::default() }
}

async fn deploy(scene: &mut Scene) -> Result<()> {
    let first = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "one"))]).await?;
    scene.add_repo().await?;
    scene.apply_target("shop", "").await?.ended_with(0)?;
    scene.wait_until_healthy(&first).await.map(|_| ())
}

/// Pushes, with a webhook that is answered, and kills the hub when its database is there.
async fn kill_at(scene: &mut Scene, moment: Moment, words: &str) -> Result<String> {
    let caught = scene.hold(moment, words)?;
    let pushed = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "two"))]).await?;
    let held = caught.await?;
    scene.hub.kill9().await?;
    held.cut();
    Ok(pushed)
}

async fn expect_it_arrives(scene: &mut Scene, commit: &str) -> Result<()> {
    scene.hub.restart().await?;
    scene.wait_until_healthy(commit).await?;
    assert_eq!(scene.value(1, "greeting", "text").await?, "two");
    assert_eq!(revisions(scene, commit).await?, 1, "revisions of one commit");
    assert_eq!(renders(scene, commit).await?, 1, "renders of one revision");
    let verified = scene.cli(&["audit", "verify", "-o", "json"]).await?.ended_with(0)?.json()?;
    assert_eq!(verified["verified"], true);
    Ok(())
}

async fn revisions(scene: &Scene, commit: &str) -> Result<u64> {
    scene.sql(&format!("select from revisions where commit_id = '{commit}'")).await
}

async fn renders(scene: &Scene, commit: &str) -> Result<u64> {
    scene.sql(&format!("select from renders join revisions using (revision_id) where commit_id = '{commit}'")).await
}

/// How many were ever given.
async fn generations(scene: &Scene) -> Result<u64> {
    scene.sql("select generate_series(1, last_value) from generations").await
}

#[tokio::test]
async fn a_hub_that_is_killed_between_a_webhook_and_its_fetch_fetches_when_it_starts() -> Result<()> {
    Scene::run_with(&[1], with_proxy(), async |scene| {
        deploy(scene).await?;

        let pushed = kill_at(scene, Moment::Statement, BEFORE_A_FETCH).await?;

        ensure!(revisions(scene, &pushed).await? == 0, "it was fetched already");
        let told = scene.sql("select from work where stage = 'source' and trace_id is not null").await?;
        assert_eq!(told, 1, "what the webhook left");
        expect_it_arrives(scene, &pushed).await
    })
    .await
}

#[tokio::test]
async fn a_hub_that_is_killed_between_a_fetch_and_its_revision_makes_that_revision_once() -> Result<()> {
    for (moment, there) in [(Moment::Commit, 0), (Moment::Committed, 1)] {
        Scene::run_with(&[1], with_proxy(), async |scene| {
            deploy(scene).await?;

            let pushed = kill_at(scene, moment, REVISION).await?;

            assert_eq!(revisions(scene, &pushed).await?, there, "{moment:?}");
            expect_it_arrives(scene, &pushed).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_hub_that_is_killed_while_it_renders_leaves_all_of_a_render_or_nothing() -> Result<()> {
    for (moment, more) in [(Moment::Commit, 0), (Moment::Committed, 1)] {
        Scene::run_with(&[1], with_proxy(), async |scene| {
            deploy(scene).await?;
            let bundles = scene.sql("select from bundles").await?;

            let pushed = kill_at(scene, moment, RENDER).await?;

            assert_eq!(renders(scene, &pushed).await?, more, "{moment:?}");
            assert_eq!(scene.sql("select from bundles").await?, bundles + more, "{moment:?}");
            let without = "select from renders left join render_variants using (render_id) where digest is null";
            assert_eq!(scene.sql(without).await?, 0, "renders without what they made");
            expect_it_arrives(scene, &pushed).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_hub_that_is_killed_after_it_assigned_and_before_it_sent_sends_when_its_agent_comes_back() -> Result<()> {
    Scene::run_with(&[1], with_proxy(), async |scene| {
        deploy(scene).await?;
        let given = generations(scene).await?;
        // Whatever another part of the hub hears of the commit, it reads no assignment to send.
        let unread = scene.hold(Moment::Statement, BEFORE_A_SENDING)?;

        let pushed = kill_at(scene, Moment::Committed, ASSIGNMENT).await?;
        drop(unread);

        assert_eq!(scene.value(1, "greeting", "text").await?, "one");
        assert_eq!(generations(scene).await?, given + 1);
        expect_it_arrives(scene, &pushed).await?;
        assert_eq!(generations(scene).await?, given + 1, "it was assigned again");
        Ok(())
    })
    .await
}
