//! `bellwether render`: what a target's files make, without a hub; or what a hub gives a cluster.

use std::path::PathBuf;

use bellwether_core::render::{Crds, RenderKind};
use bellwether_core::{Name, TargetId};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::Label;
use super::values::{output_of, parse_annotation, parse_label, parse_parameter, parse_setting};

#[derive(Debug, Args)]
#[command(arg = output_of(&["yaml", "json", "objects"], "How to print the objects; `objects` are their digests and names"))]
#[command(after_long_help = "\
With a folder no hub is asked. What is printed is what a hub stores for a commit with these files; with --target-id and --owner, which \
`bellwether target show NAME -o yaml` and every object of the target name, it is the same bytes. Files are read as they \
are, committed or not; links are not followed.

What charts ask about the APIs of a cluster is known with --ask-hub, or from a file (--cluster-apis).

With the name of a target and --cluster, the hub is asked: what is printed is what it stores for that very cluster, with its \
labels, annotations and facts. A folder of that name is taken first, unless --hub is said.

Examples:
  bellwether render apps/shop/overlays/eu --namespace shop | kubectl diff -f -
  bellwether render charts/shop --values envs/eu.yaml --helm-set image.tag=1.4.2
  bellwether render --target targets/shop.yaml --cluster eu-1 --cluster-labels region=eu,env=prod
  bellwether render --target targets/shop.yaml --cluster-labels env=prod --explain replicas
  bellwether render --target targets/shop.yaml --cluster eu-1 --ask-hub
  bellwether render --target targets/shop.yaml --source env=../env
  bellwether render charts/shop -o objects
  bellwether render shop --cluster eu-1
  bellwether render shop --cluster eu-1 --explain replicas")]
pub(crate) struct RenderArgs {
    /// The folder of the manifests, the kustomization or the chart; that of the target's spec when left out. Or the name of a
    /// target of the hub.
    #[arg(value_name = "PATH|TARGET", required_unless_present = "target")]
    pub(crate) path: Option<PathBuf>,
    /// Asks the hub, also where there is a folder of that name.
    #[arg(long, requires = "cluster", conflicts_with = "target")]
    pub(crate) hub: bool,
    /// Asks the hub for the labels, annotations, facts and APIs of the cluster, and for nothing else; what flags say is over
    /// them.
    #[arg(long, requires = "cluster", conflicts_with = "hub")]
    pub(crate) ask_hub: bool,
    /// Of a target of the hub: with what its Secrets hold. Who asked for it stands in the audit log.
    #[arg(long, requires = "cluster", conflicts_with_all = ["target", "ask_hub", "explain"])]
    pub(crate) show_secrets: bool,
    /// The root of the repo, from which paths are read: the nearest folder above that has `.git`, when left out; without
    /// one, the folder that this was started in.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// A file with a Target, whose spec is taken.
    #[arg(long, value_name = "FILE")]
    pub(crate) target: Option<PathBuf>,
    /// A parameter, over those of the spec: what `${NAME}` in files stands for. `true`, numbers and JSON strings are what they
    /// are, all else is text. A value of a chart is set by --helm-set. May be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_parameter)]
    pub(crate) parameters: Vec<(String, Value)>,
    /// The cluster's name: what `${cluster.name}` is; `cluster` when left out.
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<Name>,
    /// Labels of the cluster, with `,` between them: they select parameters, and are what `${cluster.labels.KEY}` is. May be
    /// repeated.
    #[arg(long = "cluster-labels", alias = "cluster-label", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = parse_label)]
    pub(crate) labels: Vec<Label>,
    /// An annotation of the cluster: what `${cluster.annotations.KEY}` is. May be repeated.
    #[arg(long = "cluster-annotation", value_name = "KEY=VALUE", value_parser = parse_annotation)]
    pub(crate) annotations: Vec<Label>,
    /// What the cluster's agent says of it, with `,` between them: what `${cluster.facts.NAME}` is. May be repeated.
    #[arg(long = "cluster-facts", alias = "cluster-fact", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = parse_fact)]
    pub(crate) facts: Vec<(String, String)>,
    /// A file with what the cluster serves, one a line, as `bellwether cluster apis NAME` and `kubectl api-versions` print it.
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_apis: Option<PathBuf>,
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
    /// Values for a chart, over all that files and the target set, as `helm --set` reads them. May be repeated.
    #[arg(long = "helm-set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub(crate) helm_set: Vec<String>,
    /// Texts for a chart, over all others and those of `--helm-set`, as `helm --set-string` reads them. May be repeated.
    #[arg(long = "helm-set-string", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub(crate) helm_set_string: Vec<String>,
    /// What becomes of what a chart has in `crds/`: `install` when left out.
    #[arg(long, value_enum)]
    pub(crate) crds: Option<CrdsChoice>,
    /// A folder with the files of another repo that the target names, or of a chart that one depends on, by its name or, where
    /// two have the same, its URL; no hub is asked. May be repeated.
    #[arg(long = "source", value_name = "NAME=DIR", value_parser = parse_source)]
    pub(crate) sources: Vec<(String, PathBuf)>,
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

fn parse_source(text: &str) -> Result<(String, PathBuf), &'static str> {
    let (name, folder) = text.split_once('=').ok_or("write it as NAME=DIR")?;
    Ok((name.to_owned(), PathBuf::from(folder)))
}

fn parse_fact(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE, such as kubernetes.minor=1.33")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl RenderArgs {
    /// The target of a hub that is meant, and the cluster.
    pub(crate) fn of_hub(&self) -> Option<(Name, Name)> {
        let (path, cluster) = (self.path.as_ref()?, self.cluster.clone()?);
        let is_folder = self.ask_hub || !self.hub && path.exists();
        let name = path.to_str().filter(|_| !is_folder && self.target.is_none())?.parse().ok()?;
        Some((name, cluster))
    }

    /// The flags that say what a hub knows by itself.
    pub(crate) fn stated(&self) -> Vec<&'static str> {
        let stated = [
            ("--root", self.root.is_some()),
            ("--set", !self.parameters.is_empty()),
            ("--cluster-labels", !self.labels.is_empty()),
            ("--cluster-annotation", !self.annotations.is_empty()),
            ("--cluster-facts", !self.facts.is_empty()),
            ("--cluster-apis", self.cluster_apis.is_some()),
            ("--kind", self.kind.is_some()),
            ("--namespace", self.namespace.is_some()),
            ("--release", self.release.is_some()),
            ("--values", !self.values_files.is_empty()),
            ("--helm-set", !self.helm_set.is_empty()),
            ("--helm-set-string", !self.helm_set_string.is_empty()),
            ("--crds", self.crds.is_some()),
            ("--source", !self.sources.is_empty()),
            ("--target-id", self.target_id.is_some()),
        ];
        stated.into_iter().filter(|(_, is_stated)| *is_stated).map(|(flag, _)| flag).collect()
    }
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

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CrdsChoice {
    /// Made where they are absent, and never changed.
    Install,
    /// Applied as all else is.
    Upgrade,
    /// Left out.
    Skip,
}

impl From<CrdsChoice> for Crds {
    fn from(choice: CrdsChoice) -> Self {
        match choice {
            CrdsChoice::Install => Self::Install,
            CrdsChoice::Upgrade => Self::Upgrade,
            CrdsChoice::Skip => Self::Skip,
        }
    }
}
