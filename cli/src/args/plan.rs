//! `bellwether plan`: what would change where.

use std::path::PathBuf;

use bellwether_core::Name;
use bellwether_core::api::WrittenRef;
use clap::Args;

use super::values::output_of;

#[derive(Debug, Args)]
#[command(arg = output_of(&["pretty", "markdown", "json"], "How to print the plan; `markdown` is for a comment of a pull request, and has at most 60 kB"))]
#[command(after_long_help = "\
The hub fetches the ref and renders it for every cluster that the target selects. What comes out is compared with what these \
clusters are assigned, and not with what they hold: no cluster is asked. Nothing is written but an audit entry. Needs the \
right to change targets.

Exit codes:
  0  the plan was made; with --exit-code: nothing would change
  1  failed, or the head does not render for some cluster
  2  with --exit-code: something would change; or the command line was wrong
  3  is not used

Examples:
  bellwether plan shop --ref my-branch
  bellwether plan shop --ref my-branch -o markdown --exit-code > comment.md
  bellwether plan shop --file targets/shop.yaml
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
    /// Ends with 2 where something would change, and with 0 where nothing would.
    #[arg(long)]
    pub(crate) exit_code: bool,
}

impl PlanArgs {
    pub(crate) fn reference(&self) -> Option<WrittenRef> {
        let branch = self.branch.clone().map(WrittenRef::Branch);
        let tag = || self.tag.clone().map(WrittenRef::Tag);
        let commit = || self.commit.clone().map(WrittenRef::Commit);
        branch.or_else(tag).or_else(commit)
    }
}
