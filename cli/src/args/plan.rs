//! `bellwether plan`: what would change where.

use std::path::PathBuf;

use bellwether_core::Name;
use bellwether_core::api::{AskDryRun, WrittenRef};
use clap::{Args, ValueEnum};

use super::values::output_of;

#[derive(Debug, Args)]
#[command(arg = output_of(&["pretty", "markdown", "json"], "How to print the plan; `markdown` is for a comment of a pull request, and has at most 60 kB"))]
#[command(after_long_help = "\
The hub fetches the ref and renders it for every cluster that the target selects. What comes out is compared with what these \
clusters are assigned, and not with what they hold. Then the API servers of some of them are asked, by dry runs of their \
agents, what would become of it: what they would refuse, what is somebody else's, and what stands there otherwise than it was \
applied. Nothing is changed, and nothing is written but audit entries. Needs the right to change targets.

Exit codes:
  0  the plan was made; with --exit-code: nothing would change
  1  failed, the head does not render for some cluster, or an object would be refused or left to somebody else in one
  2  with --exit-code: something would change; or the command line was wrong
  3  is not used

Examples:
  bellwether plan shop --ref my-branch
  bellwether plan shop --ref my-branch -o markdown --exit-code > comment.md
  bellwether plan shop --file targets/shop.yaml
  bellwether plan shop --ref my-branch --dry-run none
  bellwether plan shop --tag v1.5.0 -o json | jq '.groups[].counts'")]
pub(crate) struct PlanArgs {
    /// The target.
    pub(crate) target: Name,
    /// A branch of its repo; the ref that its spec names when none is given.
    #[arg(long = "ref", value_name = "BRANCH", conflicts_with_all = ["tag", "commit"])]
    branch: Option<String>,
    /// A tag of its repo.
    #[arg(long, value_name = "TAG", conflicts_with = "commit")]
    tag: Option<String>,
    /// A commit of its repo, as far as the repo's server gives single ones; all 40 digits.
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// A file with the Target as it would be: its spec is taken in the place of the one that stands.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Whether API servers are asked what would become of it, by dry runs.
    #[arg(long, value_name = "WHO", value_enum, default_value_t = DryRun::Server)]
    dry_run: DryRun,
    /// Of how many clusters at most they are asked [default: 20; at most 100].
    #[arg(long, value_name = "N")]
    pub(crate) dry_run_clusters: Option<usize>,
    /// Ends with 2 where something would change, and with 0 where nothing would.
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DryRun {
    /// Those of the clusters.
    Server,
    /// Nobody's.
    None,
}

impl PlanArgs {
    /// Left out where it is what a hub does by itself, as one of before knows no such field.
    pub(crate) fn asks(&self) -> Option<AskDryRun> {
        (self.dry_run == DryRun::None).then_some(AskDryRun::Nobody)
    }

    pub(crate) fn reference(&self) -> Option<WrittenRef> {
        let branch = self.branch.clone().map(WrittenRef::Branch);
        let tag = || self.tag.clone().map(WrittenRef::Tag);
        let commit = || self.commit.clone().map(WrittenRef::Commit);
        branch.or_else(tag).or_else(commit)
    }
}
