//! What can be typed: the commands, their flags and their help.
//!
//! Whatever can be judged without the hub (names, labels, lengths of time, addresses) is judged here, so that a mistake
//! ends with exit code 2 and nothing sent.

mod cluster;
mod credential;
mod health;
mod import;
mod log;
mod plan;
mod render;
mod repo;
mod rollout;
mod target;
mod token;
mod validate;
mod values;

use std::path::PathBuf;

use bellwether_core::Name;
use clap::{Args, Parser, Subcommand, ValueEnum};
use url::Url;

#[cfg(test)]
pub(crate) use cluster::CHART;
pub(crate) use cluster::{ClusterCommand, RbacArgs, RegisterArgs};
pub(crate) use credential::{CredentialCommand, CredentialSetArgs};
pub(crate) use health::HealthArgs;
pub(crate) use import::{ArgocdArgs, ImportArgs, ImportCommand};
pub(crate) use log::{AuditCommand, AuditListArgs, DriftAcceptArgs, DriftCommand, OutcomeChoice};
pub(crate) use plan::PlanArgs;
pub(crate) use render::RenderArgs;
pub(crate) use repo::{Provider, RepoAddArgs, RepoCommand, RepoWebhookArgs};
pub(crate) use rollout::{Reason, RolloutCommand, SteerArgs, SteerClusterArgs};
pub(crate) use target::{DeleteMode, TargetCommand};
pub(crate) use token::TokenCommand;
pub(crate) use validate::ValidateArgs;
pub(crate) use values::{Label, LabelChange, RolloutChoice, TokenFile, engine, is_loopback, parse_url};

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
    /// How to print what the hub answers.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", help_heading = "Options")]
    pub(crate) output: Option<Format>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which hub, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The hub's address, such as `https://hub.example.org:8443` [env: BELLWETHER_URL].
    // The environment is read where it is needed, here as below: an offline command minds none of it.
    #[arg(long, global = true, value_parser = parse_url)]
    pub(crate) url: Option<Url>,
    /// The API token [env: BELLWETHER_TOKEN]; other users of this machine can read what stands on a command line.
    #[arg(long, global = true)]
    pub(crate) token: Option<String>,
    /// A file with the API token [env: BELLWETHER_TOKEN_FILE]; stands before the command.
    // Not global: `repo add --token-file` is the Git server's, and one must never be sent in place of the other.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A file with the hub's CA certificate (PEM) [env: BELLWETHER_CA]. Only what it signs is trusted; the system's roots
    /// when left out.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[value(alias = "pretty")]
    Table,
    /// The hub's document as it is.
    Json,
    /// The same, as YAML that kubectl would read back unchanged.
    Yaml,
    #[value(hide = true)]
    Markdown,
    #[value(hide = true)]
    Objects,
    #[value(hide = true)]
    Manifest,
    #[value(hide = true)]
    Token,
    #[value(hide = true)]
    Helm,
    #[value(hide = true)]
    Junit,
    #[value(hide = true)]
    Sarif,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Clusters: register them, label them, take them out.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Git repositories that the hub watches.
    #[command(subcommand)]
    Repo(RepoCommand),
    /// What repos are read with: tokens, keys, GitHub Apps.
    #[command(subcommand)]
    Credential(CredentialCommand),
    /// What is deployed where.
    #[command(subcommand)]
    Target(TargetCommand),
    /// Rollouts: watch them, and steer them.
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Create or change repos and targets from files.
    Apply(ApplyArgs),
    /// What a folder or a target's spec renders to; no hub is asked.
    Render(Box<RenderArgs>),
    /// What a commit or another spec would change where, before it is merged.
    Plan(PlanArgs),
    /// What is wrong with manifests, overlays and charts; no hub is asked, and no cluster.
    Validate(ValidateArgs),
    /// How well objects are, as agents judge them, by what they say of themselves; no hub is asked, and no cluster.
    Health(HealthArgs),
    /// Move in: Bellwether's files from what Flux or Argo CD has; no hub is asked.
    #[command(subcommand)]
    Import(ImportCommand),
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

#[derive(Debug, Args)]
#[command(after_long_help = "\
All documents are read before the first is sent; repos are sent before targets. In a Repo's spec, `caFile`, \
`knownHostsFile`, `tokenFile` and `sshKeyFile` name files beside the document, which are read here. A document from \
standard input names none: give its token with `--token-file`. Waits up to 30 s for the first result.

Examples:
  bellwether apply -f shop.yaml
  bellwether apply -f repos/ -f targets/
  cat shop.yaml | bellwether apply -f -
  kustomize build repos | bellwether apply -f - --token-file apps=apps-token --token-file infra=infra-token")]
pub(crate) struct ApplyArgs {
    /// A YAML or JSON file, a folder of such files, or `-` for standard input. May be repeated.
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A file with the token for the Git repository of a Repo among the documents. May be repeated, once for each repo.
    #[arg(long = "token-file", value_name = "NAME=FILE")]
    pub(crate) token_files: Vec<TokenFile>,
    /// Do not wait for what the hub finds out about it.
    #[arg(long)]
    pub(crate) no_wait: bool,
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
    #[expect(clippy::too_many_lines, reason = "it is the list of all commands")]
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
        cluster apis
        cluster rbac
        cluster label
        cluster annotate
        cluster revoke
        cluster reenroll
        cluster delete
        repo add
        repo list
        repo show
        repo refresh
        repo accept
        repo webhook
        repo delete
        credential list
        credential set
        credential make
        credential remove
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
        render
        plan
        validate
        health
        import flux
        import argocd
        get
        describe
        delete
        status
        drift list
        drift show
        drift accept
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
    fn a_command_tells_the_formats_that_it_prints() {
        let help = |path: &[&str]| {
            let mut command = Arguments::command();
            command.build();
            let found =
                path.iter().fold(&mut command, |command, name| command.find_subcommand_mut(name).expect("it is there"));
            found.render_long_help().to_string()
        };

        let validate = help(&["validate"]);
        assert!(validate.contains("sarif") && !validate.contains("yaml]"), "{validate}");
        assert!(help(&["render"]).contains("objects"));
        assert!(help(&["plan"]).contains("pretty, markdown, json]"), "{}", help(&["plan"]));
        assert!(help(&["health"]).contains("pretty, json]"), "{}", help(&["health"]));
        assert!(help(&["cluster", "register"]).contains("manifest"));
        assert!(help(&["status"]).contains("yaml") && !help(&["status"]).contains("manifest"));
        for line in
            ["validate -o yaml", "health -f a -o yaml", "health", "render a -o junit", "cluster list -o sarif -x"]
        {
            let words = std::iter::once("bellwether").chain(line.split(' '));
            assert_eq!(Arguments::try_parse_from(words).expect_err(line).exit_code(), 2, "{line}");
        }
        for line in ["validate -o sarif", "-o sarif validate"] {
            let words = std::iter::once("bellwether").chain(line.split(' '));
            assert_eq!(Arguments::try_parse_from(words).expect(line).output, Some(Format::Sarif), "{line}");
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
            "apply -f - --token-file token",
            "apply -f - --token-file Apps=token",
            "apply -f - --token-file apps=",
            "credential set apps",
            "credential set apps --token-file a --ssh-key-file b",
            "credential set apps --github-key-file a --github-app-id 1",
            "credential set apps --token-file a --github-app-id 1",
        ] {
            let words = std::iter::once("bellwether").chain(line.split(' '));
            let error = Arguments::try_parse_from(words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
