//! `bellwether token`.

use bellwether_core::Name;
use bellwether_core::access::Role;
use bellwether_core::rollout::HumanDuration;
use clap::Subcommand;

use super::values::{parse_role, parse_ttl};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print it: the only time that it is shown.
    #[command(after_long_help = "\
Standard output is the token alone.

Examples:
  bellwether token create ci --role admin --ttl 90d > ci-token
  bellwether token create wallboard")]
    Create {
        /// Whose it is: the audit log knows its holder by this name.
        name: Name,
        /// What its holder may do: a viewer only reads.
        #[arg(long, value_name = "ROLE", default_value = "viewer", value_parser = parse_role)]
        role: Role,
        /// For how long it is good, such as `90d`; for ever when left out.
        #[arg(long, value_parser = parse_ttl)]
        ttl: Option<HumanDuration>,
    },
    /// List tokens, with when each was last used.
    List,
    /// Refuse a token from now on.
    Revoke {
        /// The token's name.
        name: Name,
    },
}
