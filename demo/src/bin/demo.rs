//! `bellwether-demo`: the whole way, from a push to a healthy fleet, shown and measured on real parts.
//!
//! Standard output is for what was measured; what is going on is told on standard error.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bellwether_demo::ground::Ground;
use bellwether_demo::recount;
use bellwether_demo::run_dir::{Ended, run_in};
use bellwether_demo::sample::WATCHED;
use bellwether_demo::show::Show;
use bellwether_demo::steps::{Demo, invitation};
use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "bellwether-demo", version)]
struct Arguments {
    /// End after the last step, instead of staying until Ctrl-C.
    #[arg(long)]
    once: bool,
    /// Where it keeps everything while it runs [default: a new folder].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Leave what was observed in this folder, and count it again from there.
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
    /// How many clusters; waves need two.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=20))]
    clusters: u8,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    bellwether_e2e::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(run_in(arguments.state.as_deref(), async |state| run(&arguments, state).await))?;
    Ok(match ended {
        Ended::Done(code) => code,
        Ended::Interrupted(code) => ExitCode::from(code),
    })
}

async fn run(arguments: &Arguments, state: &Path) -> Result<ExitCode> {
    let mut show = Show::begin();
    let mut ground = Ground::start(state, arguments.clusters.into(), &WATCHED, &mut show).await?;
    let mut demo = Demo::new(&mut ground, &mut show);
    demo.run().await;
    if let Some(folder) = &arguments.evidence {
        demo.write_evidence(folder).await?;
        if let Err(error) = recount::check(folder) {
            demo.failures.push(format!("{error:#}"));
        }
    }
    let (figures, failures) = (demo.figures.clone(), demo.failures.clone());
    for failure in &failures {
        show.done(format_args!("did not hold: {failure}"));
    }
    show.done(format_args!("{:.0} s in all", show.seconds()));
    if !arguments.once {
        show.done("it stays up until Ctrl-C. In another terminal:");
        write_all(&mut std::io::stderr(), &invitation(&ground))?;
    }
    write_all(&mut std::io::stdout(), &format!("{}\n", serde_json::to_string(&figures)?))?;
    if !arguments.once {
        std::future::pending::<()>().await;
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_all(stream: &mut impl std::io::Write, text: &str) -> Result<()> {
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).context("cannot write")
}
