//! `bellwether-demo`: the whole way, from a push to a healthy fleet, shown and measured on real parts.
//!
//! Standard output is for what was measured; what is going on is told on standard error.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use bellwether_demo::ground::{Ground, Place, now_unix_ns};
use bellwether_demo::recount;
use bellwether_demo::run_dir::{Ended, run_in};
use bellwether_demo::sample::{self, Sample, WATCHED};
use bellwether_demo::show::Show;
use bellwether_demo::steps::{Demo, invitation};
use bellwether_e2e::borrowed::{self, Request};
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
    /// Run on these clusters of yours instead, by the contexts of your kubeconfig; two at least, the first is the canary.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', conflicts_with_all = ["clusters", "evidence"])]
    contexts: Vec<String>,
    /// The kubeconfig that has them [default: where kubectl looks].
    #[arg(long, value_name = "FILE", requires = "contexts")]
    kubeconfig: Option<PathBuf>,
    /// What the sample's pods run there: an image that needs no command.
    #[arg(long, value_name = "IMAGE", requires = "contexts", default_value = "registry.k8s.io/pause:3.10")]
    image: String,
    /// Do not ask before something is made in your clusters.
    #[arg(long, requires = "contexts")]
    yes: bool,
}

impl Arguments {
    /// Where to run, with what. Nobody's clusters are touched before they agreed.
    fn choose(&self) -> Result<(Place, Sample)> {
        if self.contexts.is_empty() {
            return Ok((Place::Own(self.clusters.into()), Sample::played()));
        }
        ensure!(self.contexts.len() > 1, "waves need two clusters: --contexts A,B");
        let sample = Sample::real(format!("run-{:x}", now_unix_ns()?), self.image.clone());
        let (kubeconfig, contexts) = (self.kubeconfig.clone(), self.contexts.clone());
        let request = Request { kubectl: borrowed::find_kubectl()?, kubeconfig, contexts };
        write_all(&mut std::io::stderr(), &borrowed::explain(&request, &sample::footprint(&sample.run))?)?;
        if !self.yes {
            ask()?;
        }
        Ok((Place::Borrowed(request), sample))
    }
}

fn ask() -> Result<()> {
    ensure!(std::io::stdin().is_terminal(), "nobody is there to ask; `--yes` agrees");
    write_all(&mut std::io::stderr(), "Go on? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was done");
    Ok(())
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let (place, sample) = arguments.choose()?;
    bellwether_e2e::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime
        .block_on(run_in(arguments.state.as_deref(), async |state| run(&arguments, &place, sample, state).await))?;
    Ok(match ended {
        Ended::Done(code) => code,
        Ended::Interrupted(code) => ExitCode::from(code),
    })
}

async fn run(arguments: &Arguments, place: &Place, sample: Sample, state: &Path) -> Result<ExitCode> {
    let mut show = Show::begin();
    let mut ground = Ground::start(state, place, sample, &WATCHED, &mut show).await?;
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
