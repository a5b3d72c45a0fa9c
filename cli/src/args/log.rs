//! `bellwether drift` and `bellwether audit`.

use std::path::PathBuf;

use bellwether_core::Name;
use clap::{Args, Subcommand, ValueEnum};
use uuid::Uuid;

use super::values::{Since, parse_limit};

#[derive(Debug, Subcommand)]
pub(crate) enum DriftCommand {
    /// List what was changed by others and what was done about it, newest first.
    List {
        /// Only in this cluster.
        #[arg(long)]
        cluster: Option<Name>,
        /// Only of this target.
        #[arg(long)]
        target: Option<Name>,
        /// At most so many.
        #[arg(long, default_value_t = 100, value_parser = parse_limit)]
        limit: usize,
    },
    /// Show what somebody changed: each field as it was found and as the target wants it.
    Show {
        /// As `drift list` names it.
        id: Uuid,
    },
    /// Make what somebody changed a change of the files in Git: prints a patch.
    ///
    /// In a checkout of the target's repo, the values that were changed are written into the file that has the object, and all
    /// else of it stays as it is. `git apply` takes the patch.
    Accept(DriftAcceptArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DriftAcceptArgs {
    /// As `drift list` names it.
    pub(crate) id: Uuid,
    /// The root of a checkout of the target's repo.
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Look in the whole checkout: for a base beside the target's folder, which other targets may read too.
    #[arg(long)]
    pub(crate) anywhere: bool,
    /// Change the file there, too.
    #[arg(long)]
    pub(crate) write: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List entries; all filters that are given must hold.
    #[command(after_long_help = "\
Examples:
  bellwether audit list --since 1h
  bellwether audit list --action rollout --target shop
  bellwether audit list --outcome denied -o json")]
    List(AuditListArgs),
    /// Let the hub prove that no entry was changed or removed.
    Verify,
}

#[derive(Debug, Args)]
pub(crate) struct AuditListArgs {
    /// By whom: the name of a token or a cluster, or `hub`.
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// What was done, by its first words: `rollout` finds `rollout.wave.opened`.
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// About this cluster.
    #[arg(long)]
    pub(crate) cluster: Option<Name>,
    /// About this target.
    #[arg(long)]
    pub(crate) target: Option<Name>,
    /// About the rollout with this id.
    #[arg(long, value_name = "ID")]
    pub(crate) rollout: Option<Uuid>,
    /// How it ended.
    #[arg(long, value_enum)]
    pub(crate) outcome: Option<OutcomeChoice>,
    /// From then on: `1h` for the last hour, or a time such as `2026-11-23T20:00:00Z`.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = parse_limit)]
    pub(crate) limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutcomeChoice {
    Done,
    Failed,
    Denied,
}
