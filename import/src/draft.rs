//! What becomes a target, until all of them have names.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::api::{API_VERSION, TargetDocument};
use bellwether_core::target::TargetSpec;
use bellwether_core::{Labels, Name};
use bellwether_render::Fills;
use serde_json::{Map, Value, json};

use crate::Options;
use crate::kustomization::{Additions, Under, overlay};
use crate::made::RenderRequest;
use crate::paths::{join, last_of};
use crate::report::{Entry, Remark, Unread};
use crate::repos::Repos;
use crate::text::as_name;
use crate::view::Changes;

/// A document of Bellwether's, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub kind: &'static str,
    pub name: String,
    pub spec: Value,
}

impl Written {
    pub fn to_json(&self) -> Value {
        json!({"apiVersion": API_VERSION, "kind": self.kind, "metadata": {"name": self.name}, "spec": self.spec})
    }

    /// What a hub would refuse of a target.
    fn refusal(&self) -> Option<String> {
        match serde_json::from_value::<TargetDocument>(self.to_json()) {
            Ok(document) => TargetSpec::from(document.spec).check().err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// A kustomization that a target names, and that is to be committed to its repo.
#[derive(Debug, Clone, PartialEq)]
pub struct OverlayFile {
    pub repo: String,
    /// From the root of its repo on.
    pub path: String,
    /// The target that names it.
    pub target: String,
    pub content: Value,
}

/// All that comes of what was read.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// Repos, then targets, by their names.
    pub documents: Vec<Written>,
    pub overlays: Vec<OverlayFile>,
    pub report: Vec<Entry>,
    pub unread: Vec<Unread>,
    pub(crate) sides: Vec<Sides>,
    /// The Repo that is the repository which was read.
    pub(crate) own: Option<String>,
}

impl Import {
    /// Whether a Repo is the repository that was read.
    pub fn is_own(&self, repo: &str) -> bool {
        self.own.as_deref() == Some(repo)
    }
}

/// Of one target what both of them deploy.
#[derive(Debug, Clone)]
pub(crate) struct Sides {
    pub(crate) target: String,
    pub(crate) repo: String,
    pub(crate) theirs: Result<Theirs, String>,
}

/// What the manifest says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Theirs {
    pub(crate) asked: RenderRequest,
    /// Of variables; without any, `${…}` stays as it is written.
    pub(crate) values: Option<BTreeMap<String, String>>,
    /// These are not deployed by the target itself.
    pub(crate) without: Vec<&'static str>,
    pub(crate) labels: Map<String, Value>,
    pub(crate) annotations: Map<String, Value>,
}

/// A target without a name.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// As it should be called, and what tells it from others of that name.
    pub(crate) name: String,
    pub(crate) apart: Vec<Option<String>>,
    pub(crate) repo: String,
    pub(crate) reference: Value,
    pub(crate) path: String,
    pub(crate) kind: Option<&'static str>,
    pub(crate) helm: Option<Map<String, Value>>,
    pub(crate) namespace: Option<String>,
    pub(crate) clusters: Value,
    /// `None`: `${…}` is no variable to it, but for what it says of the cluster.
    pub(crate) parameters: Option<BTreeMap<String, Value>>,
    pub(crate) sync: Map<String, Value>,
    pub(crate) overlay: Option<OverlayDraft>,
    /// The line of the report that it belongs to.
    pub(crate) entry: usize,
    pub(crate) theirs: Result<Theirs, String>,
}

#[derive(Debug, Clone)]
pub(crate) struct OverlayDraft {
    pub(crate) under: Under,
    pub(crate) additions: Additions,
    pub(crate) without: Vec<&'static str>,
    /// Where it is committed, if nobody can commit to the target's own repo.
    pub(crate) home: Option<Home>,
}

/// A repo of Git, at a ref.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) repo: String,
    pub(crate) reference: Value,
}

impl Draft {
    pub(crate) fn new(name: &str, entry: usize) -> Self {
        Self {
            name: name.to_owned(),
            apart: Vec::new(),
            repo: String::new(),
            reference: json!({"branch": "main"}),
            path: String::new(),
            kind: None,
            helm: None,
            namespace: None,
            clusters: json!({}),
            parameters: None,
            sync: Map::new(),
            overlay: None,
            entry,
            theirs: Err("nothing of it is in these files".to_owned()),
        }
    }

    /// What the target fills in.
    pub(crate) fn fills(&self) -> Fills {
        if self.parameters.is_some() { Fills::All } else { Fills::ClustersOwn }
    }

    /// What is to be done about a folder that nobody has here.
    pub(crate) fn not_looked_into(&self) -> String {
        let folder = if self.path.is_empty() { "./" } else { &self.path };
        format!(
            "nobody looked into `{folder}`, which is not among these files: `bellwether import` in a checkout of repo `{}`, or `bellwether render` there, says what is in it",
            self.repo
        )
    }

    /// With its overlay in a folder.
    fn spec(&self, overlay: Option<&str>) -> Value {
        let is_over_chart = self.overlay.as_ref().is_some_and(|overlay| overlay.under == Under::Chart);
        let path = overlay.filter(|_| !is_over_chart).unwrap_or(&self.path);
        let mut spec = Map::new();
        let mut set = |key: &str, value: Value| spec.insert(key.to_owned(), value);
        set("repo", json!(self.repo));
        set("ref", self.reference.clone());
        if !path.is_empty() {
            set("path", json!(path));
        }
        let mut render = Map::new();
        if let Some(kind) = self.kind.filter(|_| overlay.is_none()) {
            render.insert("kind".to_owned(), json!(kind));
        }
        if let Some(helm) = &self.helm {
            render.insert("helm".to_owned(), Value::Object(helm.clone()));
        }
        if let Some(folder) = overlay.filter(|_| is_over_chart) {
            let home = self.overlay.as_ref().and_then(|overlay| overlay.home.as_ref());
            let over = home.map(|home| json!({"repo": home.repo, "ref": home.reference, "path": folder}));
            render.insert("kustomize".to_owned(), over.unwrap_or_else(|| json!(folder)));
        }
        if !render.is_empty() {
            set("render", Value::Object(render));
        }
        if let Some(namespace) = &self.namespace {
            set("namespace", json!(namespace));
        }
        set("clusters", self.clusters.clone());
        if let Some(parameters) = &self.parameters {
            set("parameters", json!([{ "values": parameters }]));
        }
        if !self.sync.is_empty() {
            set("sync", Value::Object(self.sync.clone()));
        }
        Value::Object(spec)
    }
}

/// All that was collected.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) repos: Repos,
    /// Which of them is the repository that was read.
    pub(crate) own: Option<String>,
    pub(crate) drafts: Vec<Draft>,
    pub(crate) report: Vec<Entry>,
    pub(crate) unread: Vec<Unread>,
}

/// Gives names, and writes all down.
pub(crate) fn finish(options: &Options, collected: Collected) -> Import {
    let Collected { repos, own, mut drafts, mut report, unread } = collected;
    let mut import = Import { unread, own, ..Import::default() };
    for (name, spec) in repos.documents() {
        import.documents.push(Written { kind: "Repo", name, spec });
    }
    name_all(options, &mut drafts, &mut report);
    drafts.sort_by(|a, b| a.name.cmp(&b.name));
    for draft in drafts {
        let entry = &mut report[draft.entry];
        entry.became("Target", &draft.name);
        let mut overlay_folder = None;
        if let Some(over) = &draft.overlay {
            let folder = join(&options.overlays, &draft.name);
            let content = overlay(&folder, &draft.path, &over.under, &over.additions, &over.without);
            let file = join(&folder, "kustomization.yaml");
            let repo = over.home.as_ref().map_or(&draft.repo, |home| &home.repo).clone();
            let sentence = format!("commit `{file}` to repo `{repo}`: it takes what a target cannot say itself");
            entry.add(Remark::todo("", sentence));
            import.overlays.push(OverlayFile { repo, path: file, target: draft.name.clone(), content });
            overlay_folder = Some(folder);
        }
        let spec = draft.spec(overlay_folder.as_deref());
        let written = Written { kind: "Target", name: draft.name.clone(), spec };
        if let Some(refusal) = written.refusal() {
            entry.add(Remark::none(
                "",
                format!("this version of Bellwether refuses target `{}`: {refusal}", draft.name),
            ));
        }
        import.documents.push(written);
        import.sides.push(Sides { target: draft.name, repo: draft.repo, theirs: draft.theirs });
    }
    for entry in &mut report {
        entry.remarks.sort_by_key(|remark| std::cmp::Reverse(remark.effect));
    }
    import.report = report;
    import
}

/// Several that would be called the same get what tells them apart behind it, else numbers.
fn name_all(options: &Options, drafts: &mut [Draft], report: &mut [Entry]) {
    let prefix = options.prefix.as_deref().map(|prefix| format!("{prefix}-")).unwrap_or_default();
    for draft in drafts.iter_mut() {
        draft.name = as_name(&format!("{prefix}{}", draft.name));
    }
    let levels = drafts.iter().map(|draft| draft.apart.len()).max().unwrap_or_default();
    for level in 0..levels {
        let mut named: BTreeMap<&str, BTreeSet<Option<&String>>> = BTreeMap::new();
        for draft in drafts.iter() {
            named.entry(&draft.name).or_default().insert(draft.apart.get(level).and_then(Option::as_ref));
        }
        let several = named.into_iter().filter(|(_, apart)| apart.len() > 1);
        let several: BTreeSet<String> = several.map(|(name, _)| name.to_owned()).collect();
        for draft in drafts.iter_mut().filter(|draft| several.contains(&draft.name)) {
            if let Some(Some(apart)) = draft.apart.get(level) {
                draft.name = as_name(&format!("{}-{apart}", draft.name));
            }
        }
    }
    let mut taken = BTreeSet::new();
    for draft in drafts {
        let wanted = draft.name.clone();
        for number in 2.. {
            if taken.insert(draft.name.clone()) {
                break;
            }
            draft.name = as_name(&format!("{}-{number}", wanted.chars().take(58).collect::<String>()));
        }
        if draft.name != wanted {
            let sentence = format!("several would be called `{wanted}`: this one is `{}`", draft.name);
            report[draft.entry].add(Remark::note("metadata.name", sentence));
        }
    }
}

/// `clusters:` for these labels.
pub(crate) fn selector(labels: &Labels) -> Value {
    if labels.is_empty() { json!({}) } else { json!({ "matchLabels": labels }) }
}

/// The label that stands for a cluster that had a name, or an address.
pub(crate) fn named_cluster(name: &str) -> Labels {
    let name = name.trim_start_matches("https://").trim_start_matches("http://");
    Labels::from([("cluster".to_owned(), as_name(name))])
}

/// How a person gives a cluster these labels.
pub(crate) fn how_to_label(labels: &Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("`bellwether cluster label NAME {}`", labels.join(" "))
}

/// A namespace that a target can have.
pub(crate) fn namespace(text: Option<&str>, field: &str, entry: &mut Entry) -> Option<String> {
    let text = text.filter(|text| !text.is_empty())?;
    if text.parse::<Name>().is_ok() {
        return Some(text.to_owned());
    }
    let sentence = format!("`{}` is no namespace that a target can have: write it into the objects", last_of(text));
    entry.add(Remark::none(field, sentence));
    None
}

impl Changes {
    pub(crate) fn with(path: &str, content: &Value) -> Self {
        let bytes = content.to_string().into_bytes();
        Self { added: BTreeMap::from([(path.to_owned(), bytes)]), only: None }
    }
}
