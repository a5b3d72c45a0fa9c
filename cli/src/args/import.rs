//! `bellwether import`: from what other tools keep to Bellwether's files.

use std::path::PathBuf;
use std::str::FromStr;

use bellwether_core::labels::check_labels;
use bellwether_core::{Labels, Name};
use clap::{Args, Subcommand};

use super::Label;
use super::values::parse_label;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; the report says what is to be done by hand
  1  with --strict something has no counterpart; with --check something differs
  2  the command line was wrong, or something cannot be read
";

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// From Kustomizations, HelmReleases and the sources of Flux.
    #[command(after_long_help = format!("\
Without --into the documents go to standard output, ready for `bellwether apply -f -`, and the report to standard error. \
Nothing is changed in a cluster and nothing is fetched: folders are built as Flux builds them, from the files that are here.

{EXIT_CODES}
Examples:
  bellwether import flux clusters/production --cluster-labels env=production --into bellwether
  bellwether import flux . --check
  kubectl get -A -o yaml kustomizations,helmreleases,gitrepositories | bellwether import flux - -o json"))]
    Flux(ImportArgs),
    /// From Applications, ApplicationSets and AppProjects of Argo CD.
    #[command(after_long_help = format!("\
Without --into the documents go to standard output, ready for `bellwether apply -f -`, and the report to standard error. \
Nothing is changed in a cluster and nothing is fetched: generators look into the files that are here.

{EXIT_CODES}
Examples:
  bellwether import argocd apps --into bellwether
  bellwether import argocd apps --destination https://10.0.0.1:6443=env=prod,region=eu --check
  kubectl get -n argocd -o yaml applications,applicationsets,appprojects | bellwether import argocd - -o json"))]
    Argocd(ArgocdArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Folders and files of a repository, or `-` for standard input.
    #[arg(required = true, value_name = "DIR")]
    pub(crate) paths: Vec<PathBuf>,
    /// A folder to write into: `repos/`, `targets/`, `overlays/`, and `other-repos/` for what is to be committed elsewhere. One
    /// in the repository itself is best.
    #[arg(long, value_name = "DIR")]
    pub(crate) into: Option<PathBuf>,
    /// Write over files that are there and say something else.
    #[arg(long, requires = "into")]
    pub(crate) overwrite: bool,
    /// The labels of the clusters that this is for. May be repeated, or have several with `,` between them.
    #[arg(long = "cluster-labels", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = parse_label)]
    pub(crate) labels: Vec<Label>,
    /// Before the name of every target, as in `PREFIX-NAME`.
    #[arg(long, value_name = "NAME")]
    pub(crate) prefix: Option<Name>,
    /// Where the repository that is read is fetched from; its remote `origin` when left out.
    #[arg(long = "repo-url", value_name = "URL")]
    pub(crate) repo_url: Option<String>,
    /// The branch of the repository that is read, where nothing else says so; the one that is checked out when left out.
    #[arg(long, value_name = "NAME")]
    pub(crate) branch: Option<String>,
    /// A checkout of another Repo, by its name in what is written. May be repeated.
    #[arg(long = "checkout", value_name = "REPO=DIR")]
    pub(crate) checkouts: Vec<Checkout>,
    /// Render both what the manifests say and what the targets say, and compare.
    #[arg(long)]
    pub(crate) check: bool,
    /// Exit with 1 when something has no counterpart.
    #[arg(long)]
    pub(crate) strict: bool,
    /// The root of the repository: the nearest folder above that has `.git`, when left out; without one, the folder that this
    /// was started in.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// The program that renders Kustomize and Helm; looked for beside this one and in PATH, when left out.
    #[arg(long, env = "BELLWETHER_RENDER_ENGINE", hide_env_values = true, value_name = "FILE")]
    pub(crate) engine: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ArgocdArgs {
    #[command(flatten)]
    pub(crate) common: ImportArgs,
    /// The labels of the cluster that is a destination by this name or server. May be repeated.
    #[arg(long = "destination", value_name = "NAME=KEY=VALUE,…")]
    pub(crate) destinations: Vec<Destination>,
}

/// A repo's files on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    pub(crate) repo: String,
    pub(crate) folder: PathBuf,
}

impl FromStr for Checkout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((repo, folder)) if !repo.is_empty() && !folder.is_empty() => {
                Ok(Self { repo: repo.to_owned(), folder: folder.into() })
            }
            _ => Err(format!("`{text}` is not of the form REPO=DIR, such as `charts=../charts`")),
        }
    }
}

/// What Argo CD calls a cluster, and how it is labelled here.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) name: String,
    pub(crate) labels: Labels,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not of the form NAME=KEY=VALUE, such as `prod-eu=env=prod,region=eu`");
        let (name, pairs) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(form)?;
        let mut labels = Labels::new();
        for pair in pairs.split(',') {
            let (key, value) = pair.split_once('=').ok_or_else(form)?;
            labels.insert(key.to_owned(), value.to_owned());
        }
        check_labels(&labels).map_err(|error| error.to_string())?;
        Ok(Self { name: name.to_owned(), labels })
    }
}
