//! `bellwether validate`: what is wrong with files, without a hub and without a cluster.

use std::path::PathBuf;

use bellwether_core::Name;
use bellwether_validate::Version;
use clap::Args;
use regex::Regex;

use super::values::output_of;

#[derive(Debug, Args)]
#[command(arg = output_of(&["pretty", "json", "junit", "sarif"], "How to print what was found"))]
#[command(after_long_help = "\
Nothing is asked of a network, unless clusters are named. Kustomizations that no other includes, charts, Bellwether's Targets and plain manifests are \
found below each PATH, rendered as `bellwether render` does, and every object is held against the schemas of Kubernetes \
1.31 to 1.37 that this program carries, and against CustomResourceDefinitions.

Exit codes:
  0  nothing is wrong; warnings may be there
  1  something is wrong
  2  the command line was wrong, or something cannot be read

Examples:
  bellwether validate
  bellwether validate apps/ clusters/ --kubernetes-version 1.33 --kubernetes-version 1.34
  bellwether validate --cluster eu-1 --cluster us-1
  bellwether validate --crds crds/ --strict-schemas -o sarif > findings.sarif
  helm template charts/shop | bellwether validate -
  bellwether validate --kubeconform-compat -strict -summary -output json apps/")]
pub(crate) struct ValidateArgs {
    /// Files and folders, or `-` for standard input; this folder when left out.
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// A version of Kubernetes that it is to run on; the newest that is known when left out. May be repeated.
    #[arg(long = "kubernetes-version", value_name = "VERSION", value_delimiter = ',')]
    pub(crate) versions: Vec<Version>,
    /// A cluster that it is to run on: the hub is asked which version of Kubernetes it has, which kinds it serves, and how its
    /// CustomResourceDefinitions define what nothing here does. May be repeated.
    #[arg(long = "cluster", value_name = "NAME", conflicts_with = "clusters")]
    pub(crate) cluster: Vec<Name>,
    /// All clusters that have joined the hub, in the place of `--cluster` for each.
    #[arg(long)]
    pub(crate) clusters: bool,
    /// A folder or file with CustomResourceDefinitions, besides those among the objects. May be repeated.
    #[arg(long, value_name = "PATH")]
    pub(crate) crds: Vec<PathBuf>,
    /// A custom resource without a schema is wrong, instead of skipped.
    #[arg(long)]
    pub(crate) strict_schemas: bool,
    /// A namespace that is there already. May be repeated.
    #[arg(short, long = "namespace", value_name = "NAME")]
    pub(crate) namespaces: Vec<Name>,
    /// A regular expression: paths that it matches, from the root on, are passed over. May be repeated.
    #[arg(long = "ignore", value_name = "PATTERN")]
    pub(crate) ignored: Vec<Regex>,
    /// The repo that this is, as Targets name it: those of other repos are not rendered. When left out, it is the Repo among
    /// the documents whose URL is that of Git's `origin`, else the one that all name.
    #[arg(long, value_name = "NAME")]
    pub(crate) repo: Option<Name>,
    /// The root of the repo: the nearest folder above each PATH that has `.git`, when left out; without one, the folder
    /// that this was started in.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// The program that renders Kustomize and Helm [env: BELLWETHER_RENDER_ENGINE]; looked for beside this one and in PATH,
    /// when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) engine: Option<PathBuf>,
    /// All that follows is read as kubeconform reads its arguments, and answered as it answers.
    #[arg(long, num_args = 0.., value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub(crate) kubeconform_compat: Option<Vec<String>>,
}

impl ValidateArgs {
    pub(crate) fn asks_hub(&self) -> bool {
        self.clusters || !self.cluster.is_empty()
    }
}
