//! `bellwether render`: what a target's files make, without a hub.

use std::path::PathBuf;

use bellwether_core::render::RenderKind;
use bellwether_core::{Name, TargetId};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::Label;
use super::values::{offline, output_of, parse_label, parse_parameter};

#[derive(Debug, Args)]
#[command(args = offline(), arg = output_of(&["yaml", "json", "objects"], "How to print the objects; `objects` are their digests and names"))]
#[command(after_long_help = "\
No hub is asked. What is printed is what a hub stores for a commit with these files; with --target-id and --owner, which \
`bellwether target show NAME -o yaml` and every object of the target name, it is the same bytes. Files are read as they \
are, committed or not; links are not followed.

Examples:
  bellwether render apps/shop/overlays/eu --namespace shop | kubectl diff -f -
  bellwether render charts/shop --values envs/eu.yaml --set tag=1.4.2
  bellwether render --target targets/shop.yaml --cluster eu-1 --cluster-labels region=eu,env=prod
  bellwether render --target targets/shop.yaml --cluster-labels env=prod --explain replicas
  bellwether render --target targets/shop.yaml --source env=../env
  bellwether render charts/shop -o objects")]
pub(crate) struct RenderArgs {
    /// The folder of the manifests, the kustomization or the chart; that of the target's spec when left out.
    #[arg(required_unless_present = "target")]
    pub(crate) path: Option<PathBuf>,
    /// The root of the repo, from which paths are read: the nearest folder above that has `.git`, when left out; without
    /// one, the folder that this was started in.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// A file with a Target, whose spec is taken.
    #[arg(long, value_name = "FILE")]
    pub(crate) target: Option<PathBuf>,
    /// A parameter, over those of the spec; `true`, numbers and JSON strings are what they are, all else is text. May be
    /// repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_parameter)]
    pub(crate) parameters: Vec<(String, Value)>,
    /// The cluster's name: what `${cluster.name}` is.
    #[arg(long, value_name = "NAME", default_value = "cluster")]
    pub(crate) cluster: Name,
    /// Labels of the cluster, with `,` between them: they select parameters, and are what `${cluster.labels.KEY}` is. May be
    /// repeated.
    #[arg(long = "cluster-labels", alias = "cluster-label", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = parse_label)]
    pub(crate) labels: Vec<Label>,
    /// Says where the value of a parameter comes from, and renders nothing.
    #[arg(long, value_name = "PARAMETER")]
    pub(crate) explain: Option<String>,
    /// What makes objects of the files; what the folder is says so, when left out.
    #[arg(long, value_enum)]
    pub(crate) kind: Option<KindChoice>,
    /// For objects that name none.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<Name>,
    /// The name of the Helm release: the target's name when left out, else the folder's.
    #[arg(long, value_name = "NAME")]
    pub(crate) release: Option<Name>,
    /// A file of values for Helm, from the repo's root on. May be repeated; a later one is over an earlier.
    #[arg(long = "values", value_name = "FILE")]
    pub(crate) values_files: Vec<String>,
    /// A folder with the files of another repo that the target names, as they are at the ref that it is to be rendered for;
    /// no hub is asked. May be repeated.
    #[arg(long = "source", value_name = "REPO=DIR", value_parser = parse_source)]
    pub(crate) sources: Vec<(Name, PathBuf)>,
    /// The target's id, to mark objects as its own.
    #[arg(long, value_name = "ID", requires = "owner", value_parser = parse_target)]
    pub(crate) target_id: Option<TargetId>,
    /// The owner that its objects name: `INSTALLATION/PROJECT/TARGET`.
    #[arg(long, requires = "target_id")]
    pub(crate) owner: Option<String>,
    /// The program that renders Kustomize and Helm [env: BELLWETHER_RENDER_ENGINE]; looked for beside this one and in PATH,
    /// when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) engine: Option<PathBuf>,
}

fn parse_source(text: &str) -> Result<(Name, PathBuf), String> {
    let (name, folder) = text.split_once('=').ok_or("write it as REPO=DIR")?;
    Ok((name.parse::<Name>().map_err(|error| format!("{error}"))?, PathBuf::from(folder)))
}

fn parse_target(text: &str) -> Result<TargetId, uuid::Error> {
    text.parse().map(TargetId::new)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindChoice {
    /// Every YAML and JSON file below the folder.
    Plain,
    Kustomize,
    Helm,
}

impl From<KindChoice> for RenderKind {
    fn from(choice: KindChoice) -> Self {
        match choice {
            KindChoice::Plain => Self::Plain,
            KindChoice::Kustomize => Self::Kustomize,
            KindChoice::Helm => Self::Helm,
        }
    }
}
