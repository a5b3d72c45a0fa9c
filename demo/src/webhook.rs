//! The Git host's side of a webhook: a push makes Git's hook write a line into a pipe, and this sends the request.
//!
//! As a Git host does it: from a process that runs anyway, over a connection that is kept.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bellwether_e2e::api::Api;
use bellwether_e2e::harness::hmac_sha256;
use nix::sys::stat::Mode;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::task::JoinSet;

const BODY: &str = "{}";

/// Where Git's hook tells of pushes.
#[derive(Debug)]
pub struct Bell {
    path: PathBuf,
    receiver: pipe::Receiver,
}

impl Bell {
    pub fn hang(path: &Path) -> Result<Self> {
        nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).context("cannot make a pipe")?;
        // Open at both ends, so that a hook never waits for a reader.
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(path)?;
        Ok(Self { path: path.to_owned(), receiver })
    }

    /// For [`GitServerOptions::on_push`](bellwether_e2e::git_server::GitServerOptions).
    pub fn command(&self) -> String {
        format!("echo push >'{}'", self.path.display())
    }

    /// Sends a webhook for each push while the set lives.
    pub fn answer(self, api: Api, repo: &str, secret: &str) -> JoinSet<()> {
        let signature = format!("sha256={}", hex::encode(hmac_sha256(secret.as_bytes(), BODY.as_bytes())));
        let path = format!("/hooks/v1/{repo}");
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut lines = BufReader::new(self.receiver).lines();
            while let Ok(Some(_)) = lines.next_line().await {
                // A hub that is away reconciles by itself when it is back.
                let _ = api.send_webhook(&path, BODY, &signature).await;
            }
        });
        task
    }
}
