//! What can be typed: the commands, their flags and their help.
//!
//! Whatever can be judged without the hub (names, labels, lengths of time, addresses) is judged here, so that a mistake
//! ends with exit code 2 and nothing sent.

use std::path::PathBuf;
use std::str::FromStr;

use bellwether_core::api::TokenRole;
use bellwether_core::labels::check_labels;
use bellwether_core::rollout::HumanDuration;
use bellwether_core::{Labels, Name};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use url::Url;
use uuid::Uuid;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; standard error says why, and what to do
  2  the command line was wrong
  3  done, and something differs from what is wanted or is not healthy

Examples:
  bellwether cluster register eu-1 --label env=prod | kubectl apply -f -
  bellwether repo add apps https://git.example.org/apps.git
  bellwether apply -f shop.yaml
  bellwether rollout watch shop
  bellwether status";

/// Moves applications through many Kubernetes clusters, in waves, from Git.
#[derive(Debug, Parser)]
#[command(name = "bellwether", version, after_long_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// How to print what the hub answers; `cluster register` also knows `manifest` and `token`.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", help_heading = "Options")]
    pub(crate) output: Option<Format>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which hub, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The hub's address, such as `https://hub.example.org:8443`.
    #[arg(long, global = true, env = "BELLWETHER_URL", hide_env_values = true, value_parser = parse_url)]
    pub(crate) url: Option<Url>,
    /// The API token [env: BELLWETHER_TOKEN]; other users of this machine can read what stands on a command line.
    #[arg(long, global = true)]
    pub(crate) token: Option<String>,
    /// A file with the API token [env: BELLWETHER_TOKEN_FILE]; stands before the command.
    // Not global: `repo add --token-file` is the Git server's, and one must never be sent in place of the other.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A file with the hub's CA certificate (PEM). Only what it signs is trusted; the system's roots when left out.
    #[arg(long, global = true, env = "BELLWETHER_CA", hide_env_values = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// The hub's document as it is.
    Json,
    /// The same, as YAML that kubectl would read back unchanged.
    Yaml,
    #[value(hide = true)]
    Manifest,
    #[value(hide = true)]
    Token,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Clusters: register them, label them, take them out.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Git repositories that the hub watches.
    #[command(subcommand)]
    Repo(RepoCommand),
    /// What is deployed where.
    #[command(subcommand)]
    Target(TargetCommand),
    /// Rollouts: watch them, and steer them.
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Create or change repos and targets from files.
    Apply(ApplyArgs),
    /// List one kind of thing, or show one of it in a line.
    #[command(after_long_help = "Examples:\n  bellwether get targets\n  bellwether get cluster eu-1 -o yaml")]
    Get {
        /// The kind of thing; its plural does as well.
        #[arg(ignore_case = true)]
        kind: Kind,
        /// A name, or the id of a rollout.
        name: Option<String>,
    },
    /// Everything about one thing.
    #[command(after_long_help = "Examples:\n  bellwether describe target shop")]
    Describe {
        /// The kind of thing; its plural does as well.
        #[arg(ignore_case = true)]
        kind: Kind,
        /// A name, or the id of a rollout.
        name: String,
    },
    /// Delete a cluster, a repo or a target.
    #[command(after_long_help = "Examples:\n  bellwether delete repo apps\n  bellwether delete target shop --orphan")]
    Delete {
        /// The kind of thing; its plural does as well.
        #[arg(ignore_case = true)]
        kind: Kind,
        /// Its name.
        name: Name,
        #[command(flatten)]
        mode: DeleteMode,
    },
    /// What runs where: each target in each cluster, with its revision and health.
    #[command(after_long_help = "\
Exit code 3 when a cluster does not hold what it is to run, is not healthy or cannot be asked, or when a repo or target \
has a condition.

Examples:
  bellwether status
  bellwether status shop --watch
  bellwether status -o json | jq '.rows[] | select(.verdict != \"healthy\")'")]
    Status {
        /// Only this target.
        target: Option<Name>,
        /// Show it again whenever it changes, until Ctrl-C.
        #[arg(short, long)]
        watch: bool,
    },
    /// Changes that somebody else made to deployed objects.
    #[command(subcommand)]
    Drift(DriftCommand),
    /// Who did or decided what, when and why.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Tokens of the API: make them, list them, take them back.
    #[command(subcommand)]
    Token(TokenCommand),
    /// As whom the hub knows you.
    Whoami,
    /// Print a script that completes commands in a shell.
    #[command(after_long_help = "Examples:\n  source <(bellwether completions bash)")]
    Completions {
        /// Whose script.
        shell: clap_complete::Shell,
    },
    /// The version of this program.
    Version,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Register a cluster, and print what installs its agent there.
    #[command(after_long_help = "\
Standard output is the manifest alone, so it can be piped. The join token in it works once and expires.

Examples:
  bellwether cluster register eu-1 --label env=prod --label region=eu | kubectl --context eu-1 apply -f -
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
    /// Set labels (`key=value`) and remove them (`key-`).
    #[command(after_long_help = "Examples:\n  bellwether cluster label eu-1 ring=canary old-")]
    Label {
        /// The cluster.
        name: Name,
        /// `key=value` or `key-`.
        #[arg(required = true, value_name = "CHANGE", value_parser = parse_label_change)]
        changes: Vec<LabelChange>,
    },
    /// Refuse its agent from now on, and cut its connection.
    Revoke {
        /// The cluster.
        name: Name,
    },
    /// Make a new join token, as for a cluster whose agent lost its key.
    Reenroll {
        /// The cluster.
        name: Name,
    },
    /// Forget a cluster. What runs in it goes on running.
    Delete {
        /// The cluster.
        name: Name,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// What to call it: lower-case letters, digits and `-`.
    pub(crate) name: Name,
    /// A label; targets and waves choose clusters by labels.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<Label>,
    /// Where in the cluster the agent is installed; `bellwether-system` when left out.
    #[arg(short, long)]
    pub(crate) namespace: Option<Name>,
    /// For how long the join token may be used, such as `30m`; an hour when left out, at most 7 days.
    #[arg(long, value_parser = parse_ttl)]
    pub(crate) ttl: Option<HumanDuration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Let the hub watch a Git repository.
    #[command(after_long_help = "\
The webhook's secret is printed once, when the repo is new.

Examples:
  bellwether repo add apps https://git.example.org/apps.git
  bellwether repo add apps https://git.example.org/apps.git --token-file git-token --ca-file git-ca.pem")]
    Add(RepoAddArgs),
    /// List repos.
    List,
    /// Show a repo: its refs, and what is wrong with it.
    Show {
        /// The repo.
        name: Name,
    },
    /// Fetch the repository now, and wait for what comes of it.
    Refresh {
        /// The repo.
        name: Name,
        /// Do not wait for the fetch.
        #[arg(long)]
        no_wait: bool,
    },
    /// Stop watching a repo that no target uses.
    Delete {
        /// The repo.
        name: Name,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RepoAddArgs {
    /// What targets are to call it: lower-case letters, digits and `-`.
    pub(crate) name: Name,
    /// `https://host/path`, without a user or password in it.
    #[arg(value_name = "URL")]
    pub(crate) git_url: String,
    /// A file with the token for the Git repository.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A file with the certificates (PEM) of a private authority that signs the Git server's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Seconds between two fetches without a webhook; 60 when left out, at least 5.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(5..))]
    pub(crate) poll_seconds: Option<u32>,
    /// Do not wait for the first fetch of the repository.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
All documents are read before the first is sent; repos are sent before targets. In a Repo's spec, `caFile` and \
`tokenFile` name files beside the document, which are read here. Waits up to 30 s for the first result.

Examples:
  bellwether apply -f shop.yaml
  bellwether apply -f repos/ -f targets/
  cat shop.yaml | bellwether apply -f -")]
pub(crate) struct ApplyArgs {
    /// A YAML or JSON file, a folder of such files, or `-` for standard input. May be repeated.
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Do not wait for what the hub finds out about it.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

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
        role: TokenRole,
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

/// The kinds that `get`, `describe` and `delete` know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    #[value(alias = "clusters")]
    Cluster,
    #[value(alias = "repos")]
    Repo,
    #[value(alias = "targets")]
    Target,
    #[value(alias = "rollouts")]
    Rollout,
}

/// A label as it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LabelChange {
    Set(Label),
    Remove(String),
}

/// Which rollout: by its id, or the newest of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RolloutChoice {
    Id(Uuid),
    NewestOf(Name),
}

impl FromStr for RolloutChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        text.parse().map(Self::NewestOf).map_err(|_| format!("`{text}` is neither a target's name nor a rollout's id"))
    }
}

/// A moment, as it was typed: how long ago, or when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    Ago(HumanDuration),
    At(Timestamp),
}

impl Since {
    pub(crate) fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            // Later than the oldest time there is by far: a span is at most a year.
            Self::Ago(span) => now - span.duration(),
            Self::At(at) => at,
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(span) = text.parse() {
            return Ok(Self::Ago(span));
        }
        text.parse().map(Self::At).map_err(|_| {
            format!("`{text}` is neither a length of time such as `1h` nor a time such as `2026-11-23T20:00:00Z`")
        })
    }
}

fn parse_label(text: &str) -> Result<Label, String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(format!("`{text}` is not of the form KEY=VALUE, such as `env=prod`"));
    };
    let label = Label { key: key.to_owned(), value: value.to_owned() };
    let labels = Labels::from([(label.key.clone(), label.value.clone())]);
    check_labels(&labels).map_err(|error| error.to_string())?;
    Ok(label)
}

fn parse_label_change(text: &str) -> Result<LabelChange, String> {
    if text.contains('=') {
        return parse_label(text).map(LabelChange::Set);
    }
    match text.strip_suffix('-') {
        Some(key) if !key.is_empty() => Ok(LabelChange::Remove(key.to_owned())),
        _ => Err(format!("`{text}` neither sets a label (`key=value`) nor removes one (`key-`)")),
    }
}

fn parse_limit(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&limit| limit > 0).ok_or_else(|| "a number from 1".to_owned())
}

fn parse_ttl(text: &str) -> Result<HumanDuration, String> {
    let ttl: HumanDuration = text.parse().map_err(|error: <HumanDuration as FromStr>::Err| error.to_string())?;
    if ttl.duration().as_secs() < 1 {
        return Err("a token that expires at once is of no use: write at least `1s`".to_owned());
    }
    Ok(ttl)
}

fn parse_role(text: &str) -> Result<TokenRole, String> {
    text.parse()
}

fn parse_commit(text: &str) -> Result<String, String> {
    let is_commit = (7..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit { Ok(text.to_owned()) } else { Err(format!("`{text}` is not a commit: 7 to 40 hexadecimal digits")) }
}

/// The token must not travel in the clear, except inside this machine.
fn parse_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}; write it as `https://host:port`"))?;
    if url.host().is_none() || url.cannot_be_a_base() {
        return Err("it names no host; write it as `https://host:port`".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("the token would travel in the clear; write `https://`".to_owned()),
        other => Err(format!("`{other}` is not https")),
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_says_what_it_is() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path} {}", argument.get_id());
            }
            command.get_subcommands().for_each(|command| check(command, &path));
        }

        check(&Arguments::command(), "");
    }

    #[test]
    fn the_commands_are_those_that_are_documented() {
        fn list(command: &clap::Command, path: &str, lines: &mut Vec<String>) {
            for command in command.get_subcommands() {
                let path = format!("{path}{} ", command.get_name());
                if command.has_subcommands() {
                    list(command, &path, lines);
                } else {
                    lines.push(path.trim_end().to_owned());
                }
            }
        }
        let mut lines = Vec::new();
        list(&Arguments::command(), "", &mut lines);

        insta::assert_snapshot!(lines.join("\n"), @r"
        cluster register
        cluster list
        cluster show
        cluster label
        cluster revoke
        cluster reenroll
        cluster delete
        repo add
        repo list
        repo show
        repo refresh
        repo delete
        target list
        target show
        target refresh
        target delete
        rollout list
        rollout show
        rollout watch
        rollout pause
        rollout resume
        rollout rollback
        rollout release
        rollout abort
        rollout skip
        rollout retry
        rollout promote
        rollout why
        apply
        get
        describe
        delete
        status
        drift list
        audit list
        audit verify
        token create
        token list
        token revoke
        whoami
        completions
        version
        ");
    }

    #[test]
    fn labels_follow_the_rules_of_kubernetes() {
        let label = Label { key: "env".to_owned(), value: "prod".to_owned() };

        assert_eq!(parse_label("env=prod"), Ok(label.clone()));
        assert_eq!(parse_label_change("env=prod"), Ok(LabelChange::Set(label)));
        assert_eq!(parse_label_change("example.org/ring-"), Ok(LabelChange::Remove("example.org/ring".to_owned())));
        for bad in ["env", "=prod", "a b=c", "env=${x}", "env=a b"] {
            assert!(parse_label(bad).is_err(), "{bad}");
        }
        for bad in ["-", "env", ""] {
            assert!(parse_label_change(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_a_length_of_time_or_a_time() {
        let now: Timestamp = "2026-11-23T20:00:00Z".parse().expect("a time");

        let hour_ago = "1h".parse::<Since>().expect("a moment").moment(now);
        let given = "2026-11-01T00:00:00Z".parse::<Since>().expect("a moment").moment(now);

        assert_eq!(hour_ago.to_string(), "2026-11-23T19:00:00Z");
        assert_eq!(given.to_string(), "2026-11-01T00:00:00Z");
        assert!("yesterday".parse::<Since>().is_err());
    }

    #[test]
    fn a_rollout_is_named_by_its_id_or_by_its_target() {
        let id = "019a0000-0000-7000-8000-000000000000";

        assert!(matches!(id.parse(), Ok(RolloutChoice::Id(_))));
        assert!(matches!("shop".parse(), Ok(RolloutChoice::NewestOf(_))));
        assert!("Shop!".parse::<RolloutChoice>().is_err());
    }

    #[test]
    fn a_token_never_travels_in_the_clear() {
        for good in ["https://hub.example.org:8443", "https://[::1]:1", "http://127.0.0.1:80", "http://localhost"] {
            assert!(parse_url(good).is_ok(), "{good}");
        }
        for bad in ["http://hub.example.org", "hub:8443", "ftp://hub", "https://", ""] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wrong_arguments_end_before_anything_is_sent() {
        for line in [
            "cluster register UPPER",
            "cluster register a --label env",
            "cluster register a --ttl soon",
            "cluster register a --ttl 0s",
            "cluster label a",
            "rollout rollback shop --to main",
            "target delete shop --orphan --prune",
            "get pods",
        ] {
            let words = std::iter::once("bellwether").chain(line.split(' '));
            let error = Arguments::try_parse_from(words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
