//! A hub as a process: how it is started, and how it says that it is ready.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use url::Url;

use crate::process::{Launch, Tier};

/// With its private Postgres server made and every migration run, beside a busy machine.
pub const START_DEADLINE: Duration = Duration::from_mins(2);

/// Names the program that renders Kustomize and Helm; without it a hub looks beside itself. `./dev` builds it.
pub const RENDER_ENGINE: &str = "BELLWETHER_RENDER_ENGINE";

/// A database, as each of its two roles.
#[derive(Debug, Clone)]
pub struct Database {
    /// As the role that the hub runs as, which owns nothing.
    pub url: Url,
    pub owner_url: Url,
}

/// How one hub differs from another.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Where its log goes.
    pub state: PathBuf,
    pub programs: PathBuf,
    pub data: PathBuf,
    /// Without it the hub uses `DATABASE_URL`, or starts a server of its own.
    pub database: Option<Database>,
    pub ports: Ports,
    /// Other flags.
    pub flags: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub api: u16,
    pub agents: u16,
}

/// Where a hub listens, as it writes it into its data folder when it is ready.
#[derive(Debug, Clone, Deserialize)]
pub struct Endpoints {
    pub api: Url,
    pub agents: String,
}

pub fn launch(options: &HubOptions) -> Launch {
    let launch = Launch::new("hub", options.programs.join("bellwether-hub"), Tier::Hub, &options.state)
        .args(["--data".to_owned(), options.data.display().to_string()])
        .args(["--listen-api".to_owned(), format!("127.0.0.1:{}", options.ports.api)])
        .args(["--listen-agents".to_owned(), format!("127.0.0.1:{}", options.ports.agents)])
        .args(["--insecure-git"])
        .args(options.flags.iter().cloned());
    let launch = match std::env::var(RENDER_ENGINE) {
        Ok(engine) => launch.env(RENDER_ENGINE, engine),
        Err(_) => launch,
    };
    match &options.database {
        // Not as a flag: it may hold a password, and arguments are there for all to read.
        Some(database) => {
            launch.env("DATABASE_URL", database.url.as_str()).env("DATABASE_ADMIN_URL", database.owner_url.as_str())
        }
        None => launch,
    }
}

/// Forgets what an earlier start wrote, so that only the next one's word counts.
pub fn forget_endpoints(data: &Path) -> Result<()> {
    match fs::remove_file(endpoints_file(data)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("cannot remove the endpoints"),
        _ => Ok(()),
    }
}

/// `None` until the hub serves.
pub fn find_endpoints(data: &Path) -> Option<Endpoints> {
    serde_json::from_slice(&fs::read(endpoints_file(data)).ok()?).ok()
}

fn endpoints_file(data: &Path) -> PathBuf {
    data.join("endpoints.json")
}
