//! `bellwether credential`.

use std::path::PathBuf;

use bellwether_core::Name;
use clap::{ArgGroup, Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum CredentialCommand {
    /// List what repos are read with: of which kind it is, since when it is there, and what of it is public.
    List,
    /// Give a repo what it is read with, in the place of what was there; then fetch it, and wait for what comes of it.
    #[command(after_long_help = "\
What is given is sealed for the repo's host, and shown to nobody again. With the key of a GitHub App the hub asks GitHub for \
a token to read that one repository, and for another one before it ends.

Examples:
  bellwether credential set apps --token-file git-token
  bellwether credential set apps --ssh-key-file id_hub
  bellwether credential set apps --github-app-id 123456 --github-installation-id 98765432 --github-key-file app.pem")]
    Set(CredentialSetArgs),
    /// Let the hub make a key for a repo that is fetched by ssh, in the place of what was there, and print its public half.
    #[command(after_long_help = "\
The private half never leaves the hub. Until the Git host has the public half, fetches fail, and what runs goes on.

Examples:
  bellwether credential make apps
  bellwether credential make apps > apps.pub")]
    Make {
        /// The repo.
        name: Name,
    },
    /// Take away what a repo is read with; then fetch it without.
    Remove {
        /// The repo.
        name: Name,
    },
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["token_file", "ssh_key_file", "github_key_file"])))]
pub(crate) struct CredentialSetArgs {
    /// The repo.
    pub(crate) name: Name,
    /// A file with a token, or with `USER:PASSWORD`.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// By ssh: a file with the private key, without a passphrase.
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_key_file: Option<PathBuf>,
    /// The number or the client id of a GitHub App.
    #[arg(long, value_name = "ID", requires = "github_key_file")]
    pub(crate) github_app_id: Option<String>,
    /// Where the app is installed: the number at the end of the installation's address.
    #[arg(long, value_name = "ID", requires = "github_key_file")]
    pub(crate) github_installation_id: Option<u64>,
    /// A file with the app's private key, as GitHub made it.
    #[arg(long, value_name = "FILE", requires_all = ["github_app_id", "github_installation_id"])]
    pub(crate) github_key_file: Option<PathBuf>,
    /// Do not wait for the fetch.
    #[arg(long)]
    pub(crate) no_wait: bool,
}
