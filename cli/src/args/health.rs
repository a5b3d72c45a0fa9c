//! `bellwether health`: how well objects are, as an agent would judge them.

use std::path::PathBuf;

use clap::Args;

use super::values::output_of;

#[derive(Debug, Args)]
#[command(arg = output_of(&["pretty", "json"], "How to print the verdicts"))]
#[command(after_long_help = "\
Nothing is asked of a hub or a cluster: an object is judged by what it says of itself, by the rules that agents go by.

Exit codes:
  0  every object is healthy
  1  an object has failed
  2  the command line was wrong, or something cannot be read
  3  no object has failed, and one is progressing, degraded or unknown

Examples:
  kubectl get -n shop deployments,httproutes,certificates -o yaml | bellwether health -f -
  bellwether health -f canary.yaml -f certificate.yaml -o json
  bellwether health -f release.yaml --kstatus-compat")]
pub(crate) struct HealthArgs {
    /// A YAML or JSON file of objects as `kubectl get` prints them, or `-` for standard input. May be repeated.
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// By the rules of kstatus alone, without those for kinds that it does not know.
    #[arg(long)]
    pub(crate) kstatus_compat: bool,
}
