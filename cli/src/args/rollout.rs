//! `bellwether rollout`.

use bellwether_core::Name;
use clap::{Args, Subcommand};

use super::values::{RolloutChoice, parse_commit, parse_limit};

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// List rollouts, newest first.
    List {
        /// Only of this target.
        target: Option<Name>,
        /// At most so many.
        #[arg(long, default_value_t = 20, value_parser = parse_limit)]
        limit: usize,
    },
    /// Show a rollout with its waves and clusters.
    Show {
        /// A target (its newest rollout) or a rollout's id.
        rollout: RolloutChoice,
    },
    /// Follow a rollout until it ends or needs a person.
    #[command(after_long_help = "\
Exit code 0 when it is done, 1 when it failed or was stopped, 3 when it is paused and waits for a person.

Examples:
  bellwether rollout watch           # the newest of all
  bellwether rollout watch shop")]
    Watch {
        /// A target (its newest rollout) or a rollout's id; the newest of all when left out.
        rollout: Option<RolloutChoice>,
    },
    /// Assign nothing more until it is resumed; clusters that have their assignment finish.
    Pause(SteerArgs),
    /// Go on with a paused rollout.
    Resume(SteerArgs),
    /// Bring every cluster of a target back to an earlier commit, at once. The target is then held until it is released.
    #[command(after_long_help = "\
Examples:
  bellwether rollout rollback shop --reason 'checkout is broken'
  bellwether rollout rollback shop --to 4f2a91c")]
    Rollback {
        /// The target.
        target: Name,
        /// The commit to go back to; what ran before the newest rollout when left out.
        #[arg(long, value_name = "COMMIT", value_parser = parse_commit)]
        to: Option<String>,
        #[command(flatten)]
        reason: Reason,
    },
    /// Let a target that was rolled back follow Git again.
    Release {
        /// The target.
        target: Name,
        #[command(flatten)]
        reason: Reason,
    },
    /// Stop a rollout for good; clusters keep what they run.
    Abort(SteerArgs),
    /// Take a cluster out of a rollout: it blocks nothing, and counts as neither healthy nor failed.
    Skip(SteerClusterArgs),
    /// Give a failed cluster its assignment again.
    Retry(SteerClusterArgs),
    /// End the soak of the open wave now.
    Promote(SteerArgs),
    /// Say what a rollout waits for, or why it ended.
    Why {
        /// A target (its newest rollout) or a rollout's id.
        rollout: RolloutChoice,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SteerArgs {
    /// A target (its newest rollout) or a rollout's id.
    pub(crate) rollout: RolloutChoice,
    #[command(flatten)]
    pub(crate) reason: Reason,
}

#[derive(Debug, Args)]
pub(crate) struct SteerClusterArgs {
    /// A target (its newest rollout) or a rollout's id.
    pub(crate) rollout: RolloutChoice,
    /// The cluster.
    pub(crate) cluster: Name,
    #[command(flatten)]
    pub(crate) reason: Reason,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Reason {
    /// Why; kept in the audit log.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}
