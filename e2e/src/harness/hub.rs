//! A hub under test.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep};

use super::wait::POLL_SOON;
use crate::hub::{self, HubOptions, Ports};
use crate::ports;
use crate::process::Child;

/// A test's own hub, as a process.
#[derive(Debug)]
pub struct Hub {
    process: Child,
    options: HubOptions,
}

impl Hub {
    pub(super) async fn start(mut options: HubOptions) -> Result<(Self, hub::Endpoints)> {
        for _ in 1..ports::STARTS {
            match Self::start_once(options.clone()).await {
                Err(error) if ports::was_taken(&error.to_string()) => {
                    options.ports = Ports { api: ports::free()?, agents: ports::free()? };
                }
                started => return started,
            }
        }
        Self::start_once(options).await
    }

    async fn start_once(options: HubOptions) -> Result<(Self, hub::Endpoints)> {
        let mut hub = Self { process: hub::launch(&options).start_child()?, options };
        let endpoints = hub.wait_until_ready().await?;
        Ok((hub, endpoints))
    }

    /// Another hub on the same database, with this one's seal key, and a folder and ports of its own.
    pub(super) async fn start_beside(&self, state: PathBuf, database: hub::Database) -> Result<(Self, hub::Endpoints)> {
        fs::create_dir(&state)?;
        let mut flags = self.options.flags.clone();
        flags.push(format!("--seal-key-file={}", self.options.data.join("seal-key").display()));
        let ports = Ports { api: ports::free()?, agents: ports::free()? };
        let data = state.join("hub");
        let database = Some(database);
        Self::start(HubOptions { state, data, database, ports, flags, ..self.options.clone() }).await
    }

    async fn wait_until_ready(&mut self) -> Result<hub::Endpoints> {
        let deadline = Instant::now() + hub::START_DEADLINE;
        loop {
            if let Some(endpoints) = hub::find_endpoints(&self.options.data) {
                return Ok(endpoints);
            }
            ensure!(self.process.is_alive(), "the hub ended:\n{}", self.process.log());
            ensure!(Instant::now() < deadline, "the hub is not ready:\n{}", self.process.log());
            sleep(POLL_SOON).await;
        }
    }

    pub async fn kill9(&mut self) -> Result<()> {
        self.process.kill9().await
    }

    /// Stops it where it is; see [`Child::pause`].
    pub async fn pause(&self) -> Result<()> {
        self.process.pause().await
    }

    pub fn go_on(&self) -> Result<()> {
        self.process.go_on()
    }

    /// It may open nothing from now on that would have this number, or a greater one; what it has open it keeps.
    pub fn limit_descriptors(&self, limit: u64) -> Result<()> {
        let id = self.process.id().context("the hub has ended")?.to_string();
        let limited = Command::new("prlimit").args(["--pid", &id, &format!("--nofile={limit}:")]).status()?;
        ensure!(limited.success(), "the hub's descriptors cannot be limited");
        Ok(())
    }

    pub fn is_alive(&mut self) -> bool {
        self.process.is_alive()
    }

    /// Where agents find it.
    pub fn agents_address(&self) -> String {
        format!("127.0.0.1:{}", self.options.ports.agents)
    }

    /// Starts it again on its data and its ports, and waits until it serves.
    pub async fn restart(&mut self) -> Result<()> {
        self.begin_again().await?;
        self.wait_until_ready().await.map(|_| ())
    }

    /// Starts it again, and waits for nothing.
    pub async fn begin_again(&mut self) -> Result<()> {
        self.process.kill9().await?;
        hub::forget_endpoints(&self.options.data)?;
        self.process.restart().await
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}
