//! `bellwether cluster`.

use bellwether_core::Name;
use bellwether_core::rollout::HumanDuration;
use clap::{Args, Subcommand};

use super::values::{
    Label, LabelChange, output_of, parse_annotation, parse_annotation_change, parse_label, parse_label_change,
    parse_ttl,
};

/// Where the chart of the agent lies in a checkout.
pub(crate) const CHART: &str = "deploy/charts/bellwether-agent";

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Register a cluster, and print what installs its agent there.
    #[command(after_long_help = "\
Standard output is the manifest alone, so it can be piped. The join token in it works once and expires. With `-o helm` it is
a script for `sh`, which installs the same by Helm and shows the token in nobody's arguments.

Examples:
  bellwether cluster register eu-1 --label env=prod --label region=eu | kubectl --context eu-1 apply -f -
  bellwether cluster register eu-1 -o helm >eu-1.sh && KUBECONFIG=eu-1.kubeconfig sh eu-1.sh
  bellwether cluster register eu-1 -o token
  bellwether cluster register eu-1 -o json")]
    Register(RegisterArgs),
    /// List clusters.
    #[command(after_long_help = "Examples:\n  bellwether cluster list --label env=prod")]
    List {
        /// Only those with this label; all that are given must hold.
        #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
        labels: Vec<Label>,
    },
    /// Show a cluster, and what it runs.
    Show {
        /// The cluster.
        name: Name,
    },
    /// Print what a cluster serves, as its agent has seen it: for `bellwether render --cluster-apis FILE`.
    Apis {
        /// The cluster.
        name: Name,
    },
    /// Print the roles that are enough for its agent, by what its targets hold.
    #[command(after_long_help = "\
They take the place of the ClusterRole that the agent was installed with, and are given to the ServiceAccount that the comments \
name. What they do not say by themselves stands in comments, or beside `-o json` on standard error. After a push with another kind \
or namespace they are to be applied anew; those of a namespace that targets have left stay until they are deleted.

Examples:
  bellwether cluster rbac eu-1 | kubectl --context eu-1 apply -f -
  bellwether cluster rbac eu-1 --service-account agents | kubectl --context eu-1 apply -f -")]
    Rbac(RbacArgs),
    /// Set labels (`key=value`) and remove them (`key-`).
    #[command(after_long_help = "Examples:\n  bellwether cluster label eu-1 ring=canary old-")]
    Label {
        /// The cluster.
        name: Name,
        /// `key=value` or `key-`.
        #[arg(required = true, value_name = "CHANGE", value_parser = parse_label_change)]
        changes: Vec<LabelChange>,
    },
    /// Set annotations (`key=value`) and remove them (`key-`): what is rendered may read them, and nothing is chosen by them.
    #[command(after_long_help = "Examples:\n  bellwether cluster annotate eu-1 contact='Ann <ann@example.org>' old-")]
    Annotate {
        /// The cluster.
        name: Name,
        /// `key=value` or `key-`.
        #[arg(required = true, value_name = "CHANGE", value_parser = parse_annotation_change)]
        changes: Vec<LabelChange>,
    },
    /// Refuse its agent from now on, and cut its connection.
    Revoke {
        /// The cluster.
        name: Name,
    },
    /// Make a new join token, as for a cluster whose agent lost its key.
    #[command(after_long_help = "\
Standard output is a manifest with the token, without accounts and roles: what the agent may do is left as it is. An agent that runs \
reads the token when it starts anew, which the script of `-o helm` sees to by itself. The script keeps what the release was told before.

Examples:
  bellwether cluster reenroll eu-1 | kubectl --context eu-1 apply -f -
  kubectl --context eu-1 -n bellwether-system rollout restart deployment bellwether-agent
  bellwether cluster reenroll eu-1 -o helm >eu-1.sh && KUBECONFIG=eu-1.kubeconfig sh eu-1.sh")]
    Reenroll {
        /// The cluster.
        name: Name,
        /// Of `-o helm`: where Helm finds the chart; as it lies in a checkout when left out.
        #[arg(long, default_value = CHART, hide_default_value = true)]
        chart: String,
    },
    /// Forget a cluster. What runs in it goes on running.
    Delete {
        /// The cluster.
        name: Name,
    },
}

#[derive(Debug, Args)]
#[command(arg = output_of(&["yaml", "json"], "How to print the roles"))]
pub(crate) struct RbacArgs {
    /// The cluster.
    pub(crate) name: Name,
    /// As which ServiceAccount its agent runs, where that is another one than `bellwether-agent`.
    #[arg(long, value_name = "NAME")]
    pub(crate) service_account: Option<Name>,
}

#[derive(Debug, Args)]
#[command(arg = output_of(&["manifest", "helm", "token", "table", "json", "yaml"], "How to print what the hub answers"))]
pub(crate) struct RegisterArgs {
    /// What to call it: lower-case letters, digits and `-`.
    pub(crate) name: Name,
    /// A label; targets and waves choose clusters by labels.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<Label>,
    /// An annotation; what is rendered for the cluster may read it.
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = parse_annotation)]
    pub(crate) annotations: Vec<Label>,
    /// Where in the cluster the agent is installed; `bellwether-system` when left out.
    #[arg(short, long)]
    pub(crate) namespace: Option<Name>,
    /// For how long the join token may be used, such as `30m`; an hour when left out, at most 7 days.
    #[arg(long, value_parser = parse_ttl)]
    pub(crate) ttl: Option<HumanDuration>,
    /// Of `-o helm`: where Helm finds the chart; as it lies in a checkout when left out.
    #[arg(long, default_value = CHART, hide_default_value = true)]
    pub(crate) chart: String,
}
