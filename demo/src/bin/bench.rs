//! `bellwether-bench NAME`: one benchmark; a table, and last one JSON object with what was measured.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bellwether_demo::load::Size;
use bellwether_demo::run_dir::{Ended, run_in};
use bellwether_demo::{applies, bench, drifts, idle, monorepo, renders};
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
    /// Of `apply`: 10,000 objects in 500 targets, and one change of all.
    #[arg(long)]
    large: bool,
    /// Of `apply`, `drift` and `idle`: so many objects [default: 300 for `apply`, 1,000 for the others].
    #[arg(long, value_name = "N")]
    objects: Option<usize>,
    /// … in so many targets [default: 100 for `apply`, 50 for the others].
    #[arg(long, value_name = "N")]
    targets: Option<usize>,
    /// Of `idle`: for how long it looks, twice.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

impl Arguments {
    fn size(&self) -> Result<Size> {
        let (targets, objects) = match self.name {
            Name::Apply if self.large => (500, 10_000),
            Name::Apply => (100, 300),
            _ => (50, 1_000),
        };
        Size::new(self.targets.unwrap_or(targets), self.objects.unwrap_or(objects))
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// From a push to five objects in one cluster.
    Push,
    /// A chart and an overlay in a warm engine, beside the commands; a thousand targets of one chart in a hub.
    Render,
    /// One commit of a repo of 50,000 files and 2,000 targets.
    Monorepo,
    /// One commit that changes every object of a cluster, and a restart of its agent, beside a bare client.
    Apply,
    /// Objects that somebody else edits, one after another and all at once.
    Drift,
    /// An agent while nothing changes.
    Idle,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    bellwether_e2e::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(run_in(arguments.state.as_deref(), async |state| match arguments.name {
        Name::Push => bench::push(state, arguments.evidence.as_deref()).await,
        Name::Render => renders::renders(state).await,
        Name::Monorepo => monorepo::monorepo(state).await,
        Name::Apply => applies::apply(state, arguments.size()?).await,
        Name::Drift => drifts::drift(state, arguments.size()?).await,
        Name::Idle => idle::idle(state, arguments.size()?, arguments.seconds).await,
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
