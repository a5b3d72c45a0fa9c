//! `bellwether-e2e-env`: starts and ends the environments that tests, `./dev up` and people use.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bellwether_e2e::environment;
use bellwether_e2e::options::{Durability, Options};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(name = "bellwether-e2e-env", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything in the background, and write DIR/env.
    Up {
        /// Where it keeps everything.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
        clusters: usize,
        /// Faster, and lost when the machine crashes.
        #[arg(long)]
        test: bool,
        /// With a hub, its agents and a Git server.
        #[arg(long)]
        hub: bool,
    },
    /// End what runs there, and remove the folder.
    Down {
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Serve the Git repositories of a folder until told to stop.
    #[command(hide = true)]
    ServeGit {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// Write the statuses of Deployments, until told to stop.
    #[command(hide = true)]
    PlayDeployments {
        #[arg(long, value_name = "FILE")]
        kubeconfig: PathBuf,
    },
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "a number from 1".to_owned())
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    bellwether_e2e::install_crypto();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(arguments.command))
}

/// What is interrupted stays half made, for `down` to end; that one is not interrupted.
async fn run(command: Command) -> Result<ExitCode> {
    let is_down = matches!(command, Command::Down { .. });
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = carry_out(command) => done.map(|()| ExitCode::SUCCESS),
        _ = interrupt.recv(), if !is_down => Ok(ExitCode::from(130)),
        _ = terminate.recv(), if !is_down => Ok(ExitCode::from(143)),
    }
}

async fn carry_out(command: Command) -> Result<()> {
    match command {
        Command::Up { state, clusters, test, hub } => {
            let durability = if test { Durability::ForTests } else { Durability::Synced };
            environment::up(&Options { state: whole(&state)?, clusters, durability, hub }).await
        }
        Command::Down { state } => environment::down(&whole(&state)?).await,
        Command::PlayDeployments { kubeconfig } => bellwether_e2e::deployments::play(&whole(&kubeconfig)?).await,
        Command::ServeGit { root } => bellwether_e2e::stack::serve_git(&whole(&root)?).await,
    }
}

/// What runs in the background has another working folder.
fn whole(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
}
