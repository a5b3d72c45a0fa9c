//! Where an environment is, what it consists of, and which programs it starts.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

#[derive(Debug, Clone)]
pub struct Options {
    /// The state folder, as a whole path.
    pub state: PathBuf,
    pub clusters: usize,
    pub durability: Durability,
    /// With a hub, its agents and a Git server, instead of a Postgres server for tests.
    pub hub: bool,
}

/// What is worth keeping when the machine crashes. Tests kill processes, not machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Synced,
    /// Without fsync.
    ForTests,
}

/// The folder of this program, where the others of its build are too.
pub fn programs_folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().context("a program stands in a folder")?;
    // Tests stand one folder below the programs.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}
