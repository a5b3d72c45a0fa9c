//! `bellwether-bench NAME`: one benchmark; a table, and last one JSON object with what was measured.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bellwether_demo::run_dir::{Ended, run_in};
use bellwether_demo::{bench, monorepo, renders};
use clap::{Parser, ValueEnum};

#[derive(Debug, Parser)]
#[command(name = "bellwether-bench", version)]
struct Arguments {
    /// Which.
    name: Name,
    /// The JSON object only.
    #[arg(long)]
    json: bool,
    /// Where it keeps everything while it runs [default: a new folder].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Of `push`: leave what was observed in this folder.
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// From a push to five objects in one cluster.
    Push,
    /// A chart and an overlay in a warm engine, beside the commands; a thousand targets of one chart in a hub.
    Render,
    /// One commit of a repo of 50,000 files and 2,000 targets.
    Monorepo,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    bellwether_e2e::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(run_in(arguments.state.as_deref(), async |state| match arguments.name {
        Name::Push => bench::push(state, arguments.evidence.as_deref()).await,
        Name::Render => renders::renders(state).await,
        Name::Monorepo => monorepo::monorepo(state).await,
    }))?;
    let outcome = match ended {
        Ended::Done(outcome) => outcome,
        Ended::Interrupted(code) => return Ok(ExitCode::from(code)),
    };
    let mut stdout = std::io::stdout().lock();
    if !arguments.json {
        writeln!(stdout, "{}", outcome.table)?;
    }
    writeln!(stdout, "{}", outcome.document)?;
    Ok(ExitCode::SUCCESS)
}
