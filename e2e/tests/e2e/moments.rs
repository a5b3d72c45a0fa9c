//! A hub that is killed at one moment of a push's way, or of a migration, and starts again; and a client that goes away at
//! one of its request. Each test waits until the proxy before the database says that the moment has come; nothing but a
//! webhook tells of a push, as the next poll is hours away.

use anyhow::{Result, bail, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, SceneOptions, eventually};
use bellwether_e2e::held::Held;
use bellwether_e2e::postgres_proxy::Moment;
use reqwest::Method;
use serde_json::json;

use crate::config_map;

/// What the source stage reads before it fetches.
const BEFORE_A_FETCH: &str = "select w.target_id, t.repo_id, t.ref, r.inputs";
const REVISION: &str = "insert into revisions";
const RENDER: &str = "insert into renders";
pub(crate) const ASSIGNMENT: &str = "insert into assignments";
/// What is read of assignments to send them.
const BEFORE_A_SENDING: &str = "select a.cluster_id, a.target_id, a.digest, a.generation, a.rollout_id, a.render_id";
const TOKEN: &str = "insert into api_tokens";
/// What comes after whatever it tells of, in one transaction.
const AUDIT_ENTRY: &str = "insert into audit_outbox";
/// Of three migrations in the middle of all, one table that each makes.
const MIGRATED: [(i64, &str); 3] = [(34, "expected_heads"), (49, "api_sets"), (51, "definition_names")];

fn with_proxy() -> SceneOptions {
    SceneOptions { has_proxy: true, ..SceneOptions::default() }
}

pub(crate) async fn deploy(scene: &mut Scene) -> Result<()> {
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
pub(crate) async fn generations(scene: &Scene) -> Result<u64> {
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

/// Asks for a token, and goes away when the hub's database is there.
async fn ask_and_go(scene: &Scene, name: &str, moment: Moment, words: &str) -> Result<Held> {
    let caught = scene.hold(moment, words)?;
    let body = json!({"name": name, "role": "viewer"});
    tokio::select! {
        held = caught => held,
        answered = scene.request(Method::POST, "/api/v1/tokens", Some(&body)) => bail!("it was answered: {answered:?}"),
    }
}

#[tokio::test]
async fn what_somebody_asked_who_went_away_is_done_with_its_entry_or_not_at_all() -> Result<()> {
    Scene::run_with(&[], with_proxy(), async |scene| {
        for (name, moment, words, is_cut, is_done) in [
            ("before-its-entry", Moment::Statement, AUDIT_ENTRY, false, None),
            ("before-its-entry-cut", Moment::Statement, AUDIT_ENTRY, true, Some(false)),
            ("before-its-commit", Moment::Commit, TOKEN, false, Some(true)),
            ("before-its-commit-cut", Moment::Commit, TOKEN, true, Some(false)),
            ("after-its-commit", Moment::Committed, TOKEN, false, Some(true)),
            ("after-its-commit-cut", Moment::Committed, TOKEN, true, Some(true)),
        ] {
            let held = ask_and_go(scene, name, moment, words).await?;
            if is_cut {
                held.cut();
            } else {
                held.let_go();
            }
            // Whoever asks again waits for what is on its way, and learns what came of it.
            let body = json!({"name": name, "role": "viewer"});
            let again = scene.request(Method::POST, "/api/v1/tokens", Some(&body)).await?;

            ensure!(matches!(again.status, 201 | 409), "{name}: {again:?}");
            assert!(is_done.is_none_or(|is_done| is_done == (again.status == 409)), "{name}: {again:?}");
            assert_eq!(scene.sql(&format!("select from api_tokens where name = '{name}'")).await?, 1, "{name}");
        }
        // In the order in which they committed: once the last one's entry is sealed, so are all.
        scene.api.post("/api/v1/tokens", &json!({"name": "last", "role": "viewer"})).await?;
        let created = eventually(PATIENCE, "the last entry is sealed", async || {
            let entries = scene.audit(&["--action", "token.created"]).await?;
            ensure!(entries.iter().any(|entry| entry["subject"]["name"] == "last"), "it is not");
            Ok(entries)
        })
        .await?;

        let tokens = scene.sql("select from api_tokens").await?;
        assert_eq!(
            u64::try_from(created.len())?,
            tokens,
            "each token has its entry, and there is no other: {created:#?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_hub_that_is_killed_in_the_middle_of_a_migration_ends_it_when_it_starts() -> Result<()> {
    Scene::run_with(&[], with_proxy(), async |scene| {
        scene.hub.kill9().await?;
        scene.empty_database().await?;
        let moments = [(Moment::Statement, 0), (Moment::Commit, 0), (Moment::Committed, 1)];
        for ((moment, is_there), (version, table)) in moments.into_iter().zip(MIGRATED) {
            let caught = scene.hold(moment, &format!("create table {table}"))?;
            scene.hub.begin_again().await?;
            let held = caught.await?;
            scene.hub.kill9().await?;
            held.cut();

            let made = scene.sql(&format!("select from pg_tables where tablename = '{table}'")).await?;
            let noted = scene.sql(&format!("select from _sqlx_migrations where version = {version}")).await?;
            let before = scene.sql(&format!("select from _sqlx_migrations where version < {version}")).await?;
            ensure!(before > 1, "no migration ran");
            assert_eq!((made, noted), (is_there, is_there), "{moment:?}");
        }
        scene.hub.restart().await?;

        assert_eq!(scene.sql("select from _sqlx_migrations where not success").await?, 0);
        scene.meet_hub()?;
        scene.join(&[1]).await?;
        deploy(scene).await
    })
    .await
}
