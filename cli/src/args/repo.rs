//! `bellwether repo`.

use std::path::PathBuf;

use bellwether_core::Name;
use bellwether_core::repo::{ForcePush, GitHost};
use bellwether_core::signature::VerifyMode;
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Let the hub watch a Git repository.
    #[command(after_long_help = "\
The webhook's secret is printed once, when the repo is new.

Examples:
  bellwether repo add apps https://git.example.org/apps.git
  bellwether repo add apps https://git.example.org/apps.git --token-file git-token --ca-file git-ca.pem
  bellwether repo add apps git@git.example.org:apps.git --ssh-key-file id_hub --known-hosts-file known_hosts
  bellwether repo add shop oci://registry.example.org/team/shop
  bellwether repo add podinfo https://stefanprodan.github.io/podinfo --chart podinfo")]
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
    /// Let a commit in that waits because it does not build on the one before.
    #[command(after_long_help = "\
Repos with `forcePush: block` keep what runs when a branch was rewritten or a tag moved. The target's condition names the \
commit, and it is exactly that one which is let in.

Examples:
  bellwether repo accept apps 1f0b7f9c2a6d4e8b9c3a5d7e1f0b7f9c2a6d4e8b")]
    Accept {
        /// The repo.
        name: Name,
        /// All 40 digits of the commit.
        commit: String,
        /// The ref that it waits at, such as `refs/heads/main`; needed where it waits at several.
        #[arg(long = "ref", value_name = "REF")]
        reference: Option<String>,
        /// Do not wait for the fetch.
        #[arg(long)]
        no_wait: bool,
    },
    /// Where the repo's webhook is sent, and how a Git host is told to send it; with `--rotate` under a new secret.
    #[command(after_long_help = "\
The secret was printed when the repo was added, and is not shown again. `--rotate` makes a new one and prints it: the one \
before is good for nothing from then on, so put the new one into the Git host at once. Until then its webhooks are refused, \
and the hub fetches by polling.

Examples:
  bellwether repo webhook apps
  bellwether repo webhook apps --rotate --provider gitlab")]
    Webhook(RepoWebhookArgs),
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
    /// `https://host/path`, without a user or password in it; or `ssh://user@host:port/path`, or `user@host:path`; or
    /// `oci://host/path` of an artifact in a registry.
    #[arg(value_name = "URL")]
    pub(crate) git_url: String,
    /// Of an artifact: a file with a public key of cosign, such as `cosign.pub`. What no key given signed is not deployed.
    #[arg(long = "cosign-key", value_name = "FILE")]
    pub(crate) cosign_keys: Vec<PathBuf>,
    /// Of Git: a file with public keys of OpenPGP or SSH. What none of the keys given signed is shown and not rolled out.
    #[arg(long = "verify-key", value_name = "FILE")]
    pub(crate) verify_keys: Vec<PathBuf>,
    /// What has to be signed by one of those keys; commits when left out.
    #[arg(long, value_name = "WHAT", value_parser = parse_verify_mode)]
    pub(crate) verify_mode: Option<VerifyMode>,
    /// Of a Helm repository at the URL, the chart that is meant.
    #[arg(long, value_name = "NAME")]
    pub(crate) chart: Option<String>,
    /// A file with the token for the Git repository or the registry, or with `USER:PASSWORD` where it has users.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// By ssh: a file with the private key, without a passphrase.
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    pub(crate) ssh_key_file: Option<PathBuf>,
    /// By ssh: a file with the keys of the Git server, as `ssh-keyscan` prints them. No other server is trusted.
    #[arg(long, value_name = "FILE")]
    pub(crate) known_hosts_file: Option<PathBuf>,
    /// A file with the certificates (PEM) of a private authority that signs the Git server's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// What happens to a commit that does not build on the one before, of a branch that was rewritten or a tag that was moved:
    /// `allow`, which holds when nothing is said of a new repo, or `block`.
    #[arg(long, value_name = "POLICY", value_parser = parse_force_push)]
    pub(crate) force_push: Option<ForcePush>,
    /// Seconds between two fetches without a webhook; 60 when left out, at least 5.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(5..))]
    pub(crate) poll_seconds: Option<u32>,
    /// Tell its host how rollouts of its commits go, by the API of `github`, `gitlab` or `gitea`, which Forgejo's is too. The
    /// repo's token, or its GitHub App, needs the right to write statuses of commits.
    #[arg(long, value_name = "PROVIDER", value_parser = parse_git_host)]
    pub(crate) commit_status: Option<GitHost>,
    /// What this installation is called there, when two follow one repo; `bellwether` when left out.
    #[arg(long, value_name = "NAME")]
    pub(crate) commit_status_context: Option<String>,
    /// Do not wait for the first fetch of the repository.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

fn parse_git_host(text: &str) -> Result<GitHost, String> {
    match text {
        "github" => Ok(GitHost::Github),
        "gitlab" => Ok(GitHost::Gitlab),
        "gitea" | "forgejo" => Ok(GitHost::Gitea),
        _ => Err("give `github`, `gitlab` or `gitea`".to_owned()),
    }
}

fn parse_force_push(text: &str) -> Result<ForcePush, String> {
    match text {
        "allow" => Ok(ForcePush::Allow),
        "block" => Ok(ForcePush::Block),
        _ => Err("give `allow` or `block`".to_owned()),
    }
}

fn parse_verify_mode(text: &str) -> Result<VerifyMode, String> {
    match text {
        "commit" => Ok(VerifyMode::Commit),
        "tag" => Ok(VerifyMode::Tag),
        "tagAndCommit" => Ok(VerifyMode::TagAndCommit),
        _ => Err("give `commit`, `tag` or `tagAndCommit`".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct RepoWebhookArgs {
    /// The repo.
    pub(crate) name: Name,
    /// Make a new secret.
    #[arg(long)]
    pub(crate) rotate: bool,
    /// Whose steps to print; guessed from the repo's URL when left out.
    #[arg(long, value_enum)]
    pub(crate) provider: Option<Provider>,
}

/// A kind of Git host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Provider {
    Github,
    Gitlab,
    Gitea,
    Forgejo,
    BitbucketCloud,
    BitbucketServer,
    AzureDevops,
    /// Anything that can sign a request: a step of your CI, a hook of your Git server.
    Generic,
}
