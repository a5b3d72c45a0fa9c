//! Repos behind a password, on a server that only a private authority vouches for.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::git_server::{GitServerOptions, GitServerTls};
use bellwether_e2e::harness::{HEARTBEAT_FLAGS, Scene, SceneOptions};

use crate::config_map;

/// It looks like nothing else, so that it is found wherever it went.
const TOKEN: &str = "glpat-N0bodyMayReadThis";
const CA_FILE: &str = "git/ca.pem";

/// The hub says all that it has to say.
fn private() -> Result<SceneOptions> {
    let tls = GitServerTls::issue()?;
    let git = GitServerOptions { tls: Some(tls), token: Some(TOKEN.to_owned()), on_push: None };
    let flags = HEARTBEAT_FLAGS.into_iter().chain(["--log=debug"]).collect();
    Ok(SceneOptions { flags, git, ..SceneOptions::default() })
}

fn write_token(scene: &Scene, name: &str, token: &str) -> Result<()> {
    Ok(fs::write(scene.folder.path().join(name), format!("{token}\n"))?)
}

async fn push_greeting(scene: &Scene, text: &str) -> Result<String> {
    scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", text))]).await
}

#[tokio::test]
async fn a_private_repo_is_followed_and_its_token_is_told_to_nobody() -> Result<()> {
    Scene::run_with(&[1], private()?, async |scene| {
        let one = push_greeting(scene, "one").await?;
        write_token(scene, "token", TOKEN)?;
        scene.add_repo_with(&["--ca-file", CA_FILE, "--token-file", "token", "--poll-seconds", "7200"]).await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&one).await?;

        let two = push_greeting(scene, "two").await?;
        scene.wait_until_healthy(&two).await?;
        // The sealed token is read again, by a hub that has never seen it.
        scene.hub.restart().await?;
        scene.wait_until_connected(1).await?;
        let three = push_greeting(scene, "three").await?;
        scene.wait_until_healthy(&three).await?;

        assert_eq!(scene.value(1, "greeting", "text").await?, "three");
        expect_no_token(scene).await
    })
    .await
}

async fn expect_no_token(scene: &Scene) -> Result<()> {
    let log = fs::read_to_string(scene.folder.path().join("hub.log"))?;
    ensure!(log.contains("DEBUG"), "the hub did not say all");
    ensure!(!log.contains(TOKEN), "the token stands in the hub's log");
    for path in ["/api/v1/repos", "/api/v1/repos/apps", "/api/v1/audit", "/api/v1/status"] {
        let document = scene.api.fetch(path).await?.to_string();
        ensure!(!document.contains(TOKEN), "{path} tells the token");
    }
    expect_not_in_files(&scene.folder.path().join("hub"))
}

/// Mirrors, too: Git likes to write down where it fetched from.
fn expect_not_in_files(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            expect_not_in_files(&entry.path())?;
        } else if kind.is_file() {
            let content = fs::read(entry.path())?;
            let has_token = content.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
            ensure!(!has_token, "the token stands in {}", entry.path().display());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_token_is_told_and_a_right_one_fixes_it() -> Result<()> {
    Scene::run_with(&[2], private()?, async |scene| {
        let commit = push_greeting(scene, "one").await?;
        write_token(scene, "wrong", "glpat-NotThisOne")?;
        write_token(scene, "right", TOKEN)?;
        let url = scene.repo.url.clone();
        let add = |token| ["repo", "add", "apps", &url, "--ca-file", CA_FILE, "--token-file", token];

        let refused = scene.cli(&add("wrong")).await?.ended_with(1)?;

        refused.tells(&["hint: store a new token"])?;
        ensure!(!refused.stderr.contains("NotThisOne"), "{}", refused.stderr);
        assert_eq!(condition(scene).await?, "git_unauthorized");
        scene.cli(&add("right")).await?.ended_with(0)?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&commit).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_no_token() -> Result<()> {
    Scene::run_with(&[], private()?, async |scene| {
        push_greeting(scene, "one").await?;
        write_token(scene, "token", TOKEN)?;
        let url = scene.repo.url.clone();

        let refused = scene.cli(&["repo", "add", "apps", &url, "--token-file", "token"]).await?.ended_with(1)?;

        refused.tells(&["hint:", "certificate of the authority"])?;
        assert_eq!(condition(scene).await?, "git_untrusted");
        expect_no_token(scene).await
    })
    .await
}

/// What is wrong with the repo, by its code.
async fn condition(scene: &Scene) -> Result<String> {
    let status = scene.cli(&["status", "-o", "json"]).await?.ended_with(3)?.json()?;
    let code = status["conditions"][0]["code"].as_str();
    code.map(str::to_owned).with_context(|| format!("{status:#}"))
}
