//! `bellwether target`, and what becomes of a deleted one.

use bellwether_core::Name;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum TargetCommand {
    /// List targets.
    List,
    /// Show a target: its spec, its newest rollout, and what is wrong with it.
    Show {
        /// The target.
        name: Name,
    },
    /// Fetch its repo and render it now, with the clusters and labels of now; waits until a rollout is begun, if one is
    /// needed.
    #[command(after_long_help = "\
Examples:
  git push && bellwether target refresh shop && bellwether rollout watch shop")]
    Refresh {
        /// The target.
        name: Name,
        /// Do not wait for what comes of it.
        #[arg(long)]
        no_wait: bool,
    },
    /// Delete a target. What becomes of its objects has to be said.
    #[command(after_long_help = "\
It is shown as deleting until every connected cluster has answered; `bellwether target show` names those that have not. \
Clusters that are away do it when they are back.

Examples:
  bellwether target delete shop --orphan           # its objects stay
  bellwether target delete shop --prune            # its objects are deleted in every cluster
  bellwether target delete shop --prune --force    # and a cluster that cannot is not waited for")]
    Delete {
        /// The target.
        name: Name,
        #[command(flatten)]
        mode: DeleteMode,
    },
}

/// What becomes of the objects of a deleted target.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DeleteMode {
    /// Of a target: its objects stay in the clusters, and are no longer ours.
    #[arg(long, conflicts_with = "prune")]
    pub(crate) orphan: bool,
    /// Of a target: its objects are deleted in every cluster.
    #[arg(long)]
    pub(crate) prune: bool,
    /// Of a target: clusters that have not answered are not waited for; they do it when they can.
    #[arg(long)]
    pub(crate) force: bool,
}
