//! What an engine makes of a folder, or the hub of a Target, so that it can be looked at.
//!
//! Where a cluster's values are not known, `${…}` stays as it is.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bellwether_core::Name;
use bellwether_core::labels::Labels;
use bellwether_core::parameters::{
    CLUSTER_ANNOTATIONS_PREFIX, CLUSTER_FACTS_PREFIX, CLUSTER_LABELS_PREFIX, ClusterFacts, ClusterSelector,
    ParameterSet, Parameters, Traits, VERSION_FACT,
};
use bellwether_core::render::{HelmOptions, RenderKind, RenderOptions, RepoFile};
use bellwether_core::target::TargetSpec;
use bellwether_render::yaml::{self, Node};
use bellwether_render::{
    Aspect, EngineError, Engines, Failure as RenderFailure, Frozen, Input, Manifests, Plan, Recipe, RenderError,
    RenderedObject, SEED_BYTES, is_manifest, is_part_of_chart, objects_of,
};
use bellwether_validate::{Finding, FoundFolder, Object, Severity, Source, Version};
use serde_json::Value;

use super::{Place, by_label, kustomization_of};
use crate::failure::Failure;
use crate::folder::RepoFolders;

/// Where nothing says one: kubectl's.
const NAMESPACE: &str = "default";

/// What chart-testing calls the values that a chart is tried with.
const CI_VALUES: &str = "-values.yaml";

/// Something that is rendered.
#[derive(Debug)]
pub(super) struct RenderRequest {
    pub(super) kind: &'static str,
    pub(super) folder: String,
    /// Of a Target, or of a file of values.
    name: Option<String>,
    options: RenderOptions,
    namespace: Option<String>,
    parameters: Vec<ParameterSet>,
    /// Of the clusters that it is rendered for: those that paths are filled in with.
    labels: Labels,
    /// A Target says all of its parameters; of a folder nobody knows any.
    knows_parameters: bool,
}

impl RenderRequest {
    /// A chart that has values to be tried with is rendered with each.
    pub(super) fn of_folder(folder: &FoundFolder, root: &Path) -> Vec<Self> {
        let plain = |kind: &'static str, name: Option<String>, options: RenderOptions| Self {
            kind,
            folder: folder.path().to_owned(),
            name,
            options,
            namespace: None,
            parameters: Vec::new(),
            labels: Labels::new(),
            knows_parameters: false,
        };
        let FoundFolder::Chart(path) = folder else {
            let options = RenderOptions { kind: RenderKind::Kustomize, ..RenderOptions::default() };
            return vec![plain("kustomize", None, options)];
        };
        let helm = |values_files: Vec<String>| RenderOptions {
            kind: RenderKind::Helm,
            helm: Some(HelmOptions {
                values_files: values_files.into_iter().map(Into::into).collect(),
                ..HelmOptions::default()
            }),
            ..RenderOptions::default()
        };
        let values = ci_values(root, path);
        if values.is_empty() {
            return vec![plain("helm", None, helm(Vec::new()))];
        }
        values.into_iter().map(|file| plain("helm", Some(file.clone()), helm(vec![file]))).collect()
    }

    /// Its spec was checked, and its folder is here. Where files are read by labels of clusters, as in
    /// `envs/${cluster.labels.ring}.yaml`, it is rendered for each that there is a file for.
    pub(super) fn of_target(name: &str, spec: &TargetSpec, root: &Path) -> Vec<Self> {
        let one = |labels: Labels| Self {
            kind: "target",
            folder: spec.path.clone(),
            name: Some(name.to_owned()),
            options: spec.render.clone(),
            namespace: spec.namespace.as_ref().map(ToString::to_string),
            parameters: spec.parameters.clone(),
            labels,
            knows_parameters: true,
        };
        by_label::list(root, &spec.render).into_iter().map(one).collect()
    }

    fn is_chart(&self, root: &Path) -> bool {
        match self.options.stated_kind() {
            RenderKind::Helm => true,
            RenderKind::Auto => {
                kustomization_of(root, &self.folder).is_none() && root.join(&self.folder).join("Chart.yaml").is_file()
            }
            RenderKind::Plain | RenderKind::Kustomize => false,
        }
    }

    pub(super) fn shown(&self, place: &Place) -> String {
        let folder = place.shown(&self.folder);
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let named: Vec<String> = self.name.iter().cloned().chain(labels).collect();
        if named.is_empty() { folder } else { format!("{folder} ({})", named.join(", ")) }
    }

    fn plan(&self) -> Plan {
        let mut options = self.options.clone();
        // One that each cluster fills in is anyone that is asked for.
        if let Some(stated) = options.helm.as_mut().and_then(|helm| helm.kube_version.as_mut())
            && stated.contains("${")
        {
            *stated = format!("${{{CLUSTER_FACTS_PREFIX}{VERSION_FACT}}}");
        }
        let last = self.folder.rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or("release");
        let name = self.name.as_ref().filter(|_| self.knows_parameters).cloned();
        Plan {
            folder: self.folder.clone(),
            options,
            name: name.unwrap_or_else(|| last.to_lowercase()),
            namespace: Some(self.namespace().to_owned()),
            has_parameters: !self.parameters.is_empty(),
            project: "local".to_owned(),
        }
    }

    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(NAMESPACE)
    }

    /// Whether a cluster may have a value for it that is not known here.
    fn may_be_set(&self, variable: &str) -> bool {
        !self.knows_parameters
            || variable.starts_with("cluster.")
            || self.parameters.iter().any(|set| set.values.contains_key(variable))
    }
}

fn ci_values(root: &Path, chart: &str) -> Vec<String> {
    let folder = if chart.is_empty() { "ci".to_owned() } else { format!("{chart}/ci") };
    let folder_is_here = std::fs::symlink_metadata(root.join(&folder)).is_ok_and(|found| found.is_dir());
    let entries = folder_is_here.then(|| std::fs::read_dir(root.join(&folder)).ok()).flatten();
    let Some(entries) = entries else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut files: Vec<_> =
        names.filter(|name| name.ends_with(CI_VALUES)).map(|name| format!("{folder}/{name}")).collect();
    files.sort();
    files
}

/// What a render read: its files are not looked at a second time.
#[derive(Debug, Default)]
pub(super) struct Covered {
    files: BTreeSet<String>,
    /// With all that is below.
    folders: Vec<String>,
    /// With all that is part of it.
    charts: Vec<String>,
}

impl Covered {
    pub(super) fn below(folder: String) -> Self {
        Self { folders: vec![folder], ..Self::default() }
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
        self.folders.extend(other.folders);
        self.charts.extend(other.charts);
    }

    /// Helm reads every file of a chart's folder, and makes nothing of those that are no part of it.
    fn narrow_to_chart(&mut self, chart: &str, values: &[RepoFile]) {
        let is_value = |file: &String| values.iter().any(|value| value.source().is_none() && value.path() == file);
        self.files.retain(|file| within(chart, file).is_none_or(is_part_of_chart) || is_value(file));
        if self.folders.iter().any(|folder| folder == chart) {
            self.folders.retain(|folder| folder != chart);
            self.charts.push(chart.to_owned());
        }
    }

    pub(super) fn has(&self, file: &str) -> bool {
        let is_part = |chart: &String| within(chart, file).is_some_and(is_part_of_chart);
        self.files.contains(file)
            || self.folders.iter().any(|folder| within(folder, file).is_some())
            || self.charts.iter().any(is_part)
    }
}

/// The path from a folder on of what is below it.
fn within<'f>(folder: &str, file: &'f str) -> Option<&'f str> {
    if folder.is_empty() { Some(file) } else { file.strip_prefix(folder)?.strip_prefix('/') }
}

/// What became of it.
pub(super) struct Rendering {
    pub(super) objects: Vec<Object>,
    pub(super) findings: Vec<Finding>,
    pub(super) covered: Covered,
    /// What it is made of besides, and is not here.
    pub(super) elsewhere: Option<String>,
    /// Of another version of Kubernetes something else may be made.
    pub(super) minds_version: bool,
}

impl Rendering {
    /// For a hub, and so for whoever looks at it.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let mut pairs = self.objects.iter().zip(&other.objects);
        self.findings == other.findings
            && self.objects.len() == other.objects.len()
            && pairs.all(|(one, other)| one.root == other.root)
    }
}

/// An error only when nothing can be rendered at all, as without an engine.
pub(super) fn render(
    engines: &Engines,
    place: &Place,
    asked: &RenderRequest,
    version: Version,
) -> Result<Rendering, Failure> {
    let Tried { result, mut covered, minds_version } = try_render(engines, place, asked, version);
    if asked.is_chart(&place.root) {
        let values = asked.options.helm.as_ref().map(|helm| helm.values_files.as_slice()).unwrap_or_default();
        covered.narrow_to_chart(&asked.folder, values);
    }
    let mut rendering =
        Rendering { objects: Vec::new(), findings: Vec::new(), covered, elsewhere: None, minds_version };
    match result {
        Ok(objects) => {
            let sources = Sources::read(place, &rendering.covered, asked);
            let made = objects.iter().map(|object| made(object, &sources, place, asked));
            rendering.objects = made.collect::<Result<_, _>>()?;
        }
        Err(RenderFailure::Render(RenderError::Engine(
            error @ (EngineError::Missing { .. } | EngineError::NotStarted { .. } | EngineError::Protocol { .. }),
        ))) => return Err(Failure::new(error.to_string()).maybe_hint(error.hint())),
        Err(RenderFailure::Source { error, .. }) => rendering.elsewhere = Some(error.to_string()),
        Err(error) => {
            let finding = refused(place, asked, error, &rendering.covered);
            rendering.findings.push(finding);
        }
    }
    Ok(rendering)
}

type Rendered = Result<Vec<RenderedObject>, RenderFailure<Failure>>;

struct Tried {
    result: Rendered,
    covered: Covered,
    minds_version: bool,
}

fn try_render(engines: &Engines, place: &Place, asked: &RenderRequest, version: Version) -> Tried {
    // What nobody can say the inputs of has at least all that is below it.
    let whole = || Covered::below(asked.folder.clone());
    let files = RepoFolders::new(place.root.clone(), BTreeMap::new());
    let mut manifests = match Manifests::open(engines.clone(), files, asked.plan()) {
        Ok(manifests) => manifests,
        Err(error) => return Tried { result: Err(error), covered: whole(), minds_version: false },
    };
    // What a hub has frozen looks the same.
    manifests.freeze_with(Frozen::new(&[0; SEED_BYTES], "1970-01-01T00:00:00Z"));
    let facts = facts_of(version);
    let result = fill(&manifests, asked, &facts);
    let mut covered = if result.is_ok() { Covered::default() } else { whole() };
    for input in manifests.inputs().paths() {
        let Input { path, aspect } = Input::parse(&input);
        if aspect == Aspect::Content && place.root.join(&path).is_dir() {
            covered.folders.push(path);
        } else if aspect == Aspect::Content {
            covered.files.insert(path);
        }
    }
    // Charts look at it as at a variable.
    let is_of_version =
        |name: &String| name.strip_prefix(CLUSTER_FACTS_PREFIX).is_some_and(|of| facts.contains_key(of));
    Tried { result, covered, minds_version: manifests.variables().iter().any(is_of_version) }
}

/// What an agent says of a cluster of this version.
fn facts_of(version: Version) -> BTreeMap<String, String> {
    let facts = [(VERSION_FACT, format!("v{version}.0")), ("kubernetes.minor", version.to_string())];
    facts.map(|(name, fact)| (name.to_owned(), fact)).into()
}

/// Each variable that may have a value elsewhere stands for itself.
fn fill(manifests: &Manifests<RepoFolders>, asked: &RenderRequest, facts: &BTreeMap<String, String>) -> Rendered {
    let recipe = Recipe { marks: None, namespace: Some(asked.namespace().to_owned()), agents: BTreeSet::new() };
    let name: Name = "cluster".parse().expect("it is a name");
    let (mut labels, mut unknown) = (asked.labels.clone(), BTreeMap::new());
    let mut traits = Traits { facts: facts.clone(), ..Traits::default() };
    for variable in manifests.variables().iter().filter(|variable| asked.may_be_set(variable)) {
        if let Some(label) = variable.strip_prefix(CLUSTER_LABELS_PREFIX) {
            labels.entry(label.to_owned()).or_insert_with(|| format!("${{{variable}}}"));
        } else if let Some(annotation) = variable.strip_prefix(CLUSTER_ANNOTATIONS_PREFIX) {
            traits.annotations.insert(annotation.to_owned(), format!("${{{variable}}}"));
        }
    }
    loop {
        let mut sets = asked.parameters.clone();
        // The weakest, so that what is known stays.
        sets.insert(0, ParameterSet { clusters: None, values: unknown.clone() });
        for set in &mut sets {
            set.clusters.take_if(|clusters| *clusters == ClusterSelector::default());
        }
        let values = Parameters::resolve(&sets, ClusterFacts::new(&name, &labels).with(&traits));
        match manifests.render(&recipe, &values) {
            Err(RenderFailure::Render(RenderError::FactUnknown { fact, .. })) if !traits.facts.contains_key(&fact) => {
                traits.facts.insert(fact, "fact".to_owned());
            }
            Err(RenderFailure::Render(RenderError::VariableUnset { name, .. }))
                if asked.may_be_set(&name) && !unknown.contains_key(&name) =>
            {
                let itself = Value::from(format!("${{{name}}}"));
                unknown.insert(name, itself);
            }
            rendered => return rendered,
        }
    }
}

/// What people wrote, by kind and name.
struct Sources {
    written: BTreeMap<(String, String), Vec<Written>>,
}

/// A file, a line of it, and what stands there.
type Written = (String, usize, Arc<Node>);

impl Sources {
    fn read(place: &Place, covered: &Covered, asked: &RenderRequest) -> Self {
        let mut written: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut files: Vec<String> = covered.files.iter().cloned().collect();
        if asked.kind != "helm" {
            let below = covered.folders.clone();
            let found = bellwether_validate::find(&place.root, &below, &[]).map(|found| found.files);
            files.extend(found.unwrap_or_default());
        }
        for file in files.iter().filter(|file| is_manifest(file)) {
            let documents = place.read(file).ok().and_then(|bytes| yaml::read(file, &bytes).ok());
            for (index, document) in documents.into_iter().flatten().enumerate() {
                for item in objects_of(document.root) {
                    let named = bellwether_validate::named(&item);
                    let one = (file.clone(), index + 1, Arc::new(item));
                    written.entry((named.kind, named.name)).or_default().push(one);
                }
            }
        }
        Self { written }
    }

    /// Where it stands itself, else where one of its kind and name does: what an overlay made of it.
    fn find(&self, object: &RenderedObject) -> Option<&(String, usize, Arc<Node>)> {
        let all = self.written.get(&(object.key.kind.clone(), object.key.name.clone()))?;
        let (file, line) = (object.place.file(), object.place.line());
        let itself = all.iter().find(|(of, _, root)| Some(of.as_str()) == file && Some(root.line()) == line);
        itself.or_else(|| all.first())
    }
}

fn made(object: &RenderedObject, sources: &Sources, place: &Place, asked: &RenderRequest) -> Result<Object, Failure> {
    let unread = |error: yaml::YamlError| Failure::new(format!("what was rendered cannot be read: {error}"));
    let documents = yaml::read(&object.key.to_string(), &object.body).map_err(unread)?;
    let Some(document) = documents.into_iter().next() else {
        return Err(Failure::new(format!("{} was rendered to nothing", object.key)));
    };
    let (file, document_number, written) = match sources.find(object) {
        Some((file, number, written)) => (place.shown(file), Some(*number), Some(written.clone())),
        None => (
            object.place.file().map_or_else(|| place.shown(&file_of(place, asked)), |file| place.shown(file)),
            None,
            None,
        ),
    };
    let source = Source { file, document: document_number };
    Ok(Object { source, root: document.root, written, may_have_variables: asked.kind != "helm" })
}

/// What to look at when no file of its own is known.
pub(super) fn file_of(place: &Place, asked: &RenderRequest) -> String {
    let chart = if asked.folder.is_empty() { "Chart.yaml".to_owned() } else { format!("{}/Chart.yaml", asked.folder) };
    kustomization_of(&place.root, &asked.folder)
        .or_else(|| place.root.join(&chart).is_file().then_some(chart))
        .unwrap_or_else(|| asked.folder.clone())
}

/// What is wrong, without the place that stands before it already. An object that an engine made was written somewhere else.
fn sentence(place: &Place, asked: &RenderRequest, error: &RenderError, covered: &Covered) -> String {
    let message = error.to_string();
    let Some(rest) = error.file().and_then(|file| message.strip_prefix(file)) else { return message };
    let Some(object) = error.object() else {
        let line = error.line().map(|line| format!(":{line}: "));
        return line.and_then(|line| rest.strip_prefix(&line)).map_or_else(|| message.clone(), str::to_owned);
    };
    // Where the line is known, it is of the file that was written.
    if let Some(rest) = error.line().and_then(|line| rest.strip_prefix(&format!(":{line} ({object})"))) {
        return format!("{object}{rest}");
    }
    let Some(rest) = rest.strip_prefix(&format!(" ({object})")) else { return message };
    let sources = Sources::read(place, covered, asked);
    let written = object.split_once(' ').map(|(kind, name)| (kind.to_owned(), name.to_owned()));
    let files: BTreeSet<&String> =
        written.and_then(|key| sources.written.get(&key)).into_iter().flatten().map(|(file, ..)| file).collect();
    match files.first() {
        Some(file) if files.len() == 1 => format!("{object}, which is written in `{}`{rest}", place.shown(file)),
        _ => format!("{object}{rest}"),
    }
}

fn refused(place: &Place, asked: &RenderRequest, error: RenderFailure<Failure>, covered: &Covered) -> Finding {
    let whole = |message: String| Finding {
        severity: Severity::Error,
        code: "file_unreadable".to_owned(),
        message,
        hint: None,
        file: place.shown(&file_of(place, asked)),
        line: None,
        document: None,
        object: None,
        field: None,
        versions: Vec::new(),
        target: asked.shown(place),
    };
    match error {
        RenderFailure::Files(error) | RenderFailure::Source { error, .. } => whole(error.to_string()),
        RenderFailure::Render(error) => {
            let mut finding = whole(sentence(place, asked, &error, covered));
            error.code().clone_into(&mut finding.code);
            finding.hint = error.hint().map(Cow::into_owned);
            finding.line = error.line();
            if let Some(file) = error.file() {
                finding.file = place.shown(file);
            }
            finding
        }
    }
}
