//! `bellwether-recount`: counts a run's figures again, from what the observers wrote and nothing else.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use bellwether_demo::recount;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "bellwether-recount", version)]
struct Arguments {
    /// What `--evidence` left.
    #[arg(value_name = "EVIDENCE_DIR")]
    evidence: PathBuf,
}

fn main() -> Result<()> {
    let recounted = recount::check(&Arguments::parse().evidence)?;
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(&recounted)?)?)
}
