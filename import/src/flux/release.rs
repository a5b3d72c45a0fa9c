//! A HelmRelease: a chart, and the target that deploys it.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::Digest;
use bellwether_render::{Files, Fills, KUSTOMIZATIONS};
use serde_json::{Map, Value, json};

use super::sources::{Origin, Paths, chart_ref};
use super::{Flux, Inherited, SOURCE, fields};
use crate::audit::audit;
use crate::draft::{Draft, Home, OverlayDraft, Theirs, namespace};
use crate::gather::{Object, find};
use crate::kustomization::{Additions, Folder, Under, look_at};
use crate::made::RenderRequest;
use crate::paths::{join, normal};
use crate::report::{Entry, Remark};
use crate::text::{as_template, fill, fill_text, mark, marked, to_template, typed};
use crate::values::Settings;
use crate::view::Changes;

/// Of a release's name, by Helm.
const RELEASE_MAX: usize = 53;

/// A chart's own.
const VALUES: &str = "values.yaml";

/// A folder that no repo has, for the other side of a comparison.
const POST_RENDERERS: &str = "flux-post-renderers";

/// Where a chart is, as a target has it.
struct Chart {
    from: Origin,
    path: String,
    /// Files of values are paths of the repo, and not of the chart.
    is_in_git: bool,
}

/// What Helm is given by a release.
struct Given<'a> {
    values: &'a Value,
    settings: &'a Settings,
}

impl<F: Files> Flux<'_, F> {
    pub(super) fn release(&mut self, object: &Object, inherited: &Inherited) {
        let mut entry = object.entry();
        let spec = object.spec().clone();
        entry.remarks.extend(audit(&spec, fields::RELEASE));
        let chart = self.chart_of(object, inherited, &mut entry);
        let (values, settings) = self.release_values(object, inherited, &mut entry);
        let Some(index) = self.tell_for(entry, object, inherited) else { return };
        let mut entry = self.collected.report[index].clone();
        let chart = match chart {
            Ok(chart) => chart,
            Err(why) => {
                entry.add(Remark::none("spec.chart", why));
                self.collected.report[index] = entry;
                return;
            }
        };
        entry.remarks.extend(chart.from.remark("spec.chart.spec.sourceRef"));
        let is_here = |files: &F| look_at(files, &chart.path) == Folder::Chart;
        if chart.from.is_own && self.collected.own.is_none() && is_here(&self.workspace.files) {
            self.collected.own = Some(chart.from.repo.clone());
        }
        let mut draft = Draft::new(object.name(), index);
        draft.repo.clone_from(&chart.from.repo);
        draft.reference = chart.from.reference.clone();
        draft.path.clone_from(&chart.path);
        self.settle(object, &mut draft, inherited, &mut entry);
        let target_namespace = object.text(&["spec", "targetNamespace"]);
        let release_namespace = target_namespace.or_else(|| object.namespace());
        draft.namespace = namespace(release_namespace, "spec.targetNamespace", &mut entry);
        if draft.namespace.is_none() {
            entry.add(Remark::todo("metadata.namespace", "it names no namespace: write `namespace` into the target"));
        }
        drift(&spec, &mut draft, &mut entry);
        let mut helm = Map::new();
        helm.insert("release".to_owned(), json!(release_name(object)));
        helm.extend(definitions(&spec, &mut entry).map(|crds| ("crds".to_owned(), json!(crds))));
        let paths = values_files(&spec, &chart, &mut entry);
        if !paths.is_empty() {
            let paths: Vec<String> = paths.iter().map(|path| as_template(path, Fills::All)).collect();
            helm.insert("valuesFiles".to_owned(), json!(paths));
        }
        if let Some(test) = find(&spec, &["test"]) {
            entry.add(if test["enable"] == true {
                Remark::none(
                    "spec.test",
                    "tests of a chart are not run: make the Job a part of the chart's objects, and it is waited for",
                )
            } else {
                Remark::note("spec.test", "nothing to do: tests of a chart are not run, as it says")
            });
        }
        self.post_render(&spec, &chart, inherited, &mut draft, &mut entry);
        let values = Value::Object(values);
        let given = Given { values: &values, settings: &settings };
        draft.theirs = self.their_release(object, &chart, &helm, &given, inherited, &entry);
        parameters(&json!([values, settings.values()]), inherited, &mut draft, &mut entry);
        let fills = draft.fills();
        if values != json!({}) {
            helm.insert("values".to_owned(), to_template(&values, fills));
        }
        settings.add_to(&mut helm, |value| as_template(value, fills));
        if let Some(overlay) = &mut draft.overlay {
            overlay.additions.map(&|value| to_template(value, fills));
        }
        draft.helm = Some(helm);
        self.collected.report[index] = entry;
        self.collected.drafts.push(draft);
    }

    /// What is done to what the chart gave, as a kustomization over it: in the chart's repo, or in the one that was read.
    fn post_render(
        &mut self,
        spec: &Value,
        chart: &Chart,
        inherited: &Inherited,
        draft: &mut Draft,
        entry: &mut Entry,
    ) {
        let additions = post_renderers(spec, inherited);
        if additions.is_empty() {
            return;
        }
        let home = if chart.is_in_git { None } else { self.home() };
        let has_place = chart.is_in_git || home.is_some();
        for field in ["postRenderers", "commonMetadata"] {
            if find(spec, &[field]).is_none() {
                continue;
            }
            let field = format!("spec.{field}");
            entry.add(if has_place {
                Remark::note(&field, "it stands in the kustomization that `render.kustomize` of the target names")
            } else {
                Remark::none(&field, "the target can have it as a kustomization over the chart (`render.kustomize`), in a repo of Git: `--repo-url` says which one these files are of")
            });
        }
        if let Some(home) = &home {
            entry.became("Repo", &home.repo);
        }
        if has_place {
            draft.overlay = Some(OverlayDraft { under: Under::Chart, additions, without: Vec::new(), home });
        }
    }

    /// The repository that was read, if it is known where it is.
    fn home(&mut self) -> Option<Home> {
        if self.collected.own.is_none() {
            let url = self.options.url.as_ref()?;
            self.collected.own = Some(self.collected.repos.ensure(url, None));
        }
        let branch = self.options.branch.as_deref().unwrap_or("main");
        Some(Home { repo: self.collected.own.clone()?, reference: json!({ "branch": branch }) })
    }

    fn their_release(
        &self,
        object: &Object,
        chart: &Chart,
        helm: &Map<String, Value>,
        given: &Given<'_>,
        inherited: &Inherited,
        entry: &Entry,
    ) -> Result<Theirs, String> {
        if entry
            .remarks
            .iter()
            .any(|remark| remark.field.starts_with("spec.valuesFrom") && remark.effect == crate::Effect::None)
        {
            return Err("some of its values are not among these files".to_owned());
        }
        if entry
            .remarks
            .iter()
            .any(|remark| remark.field.ends_with("].targetPath") && remark.effect == crate::Effect::Differs)
        {
            return Err("which of its values is over which goes by an order that no target has".to_owned());
        }
        if inherited.is_open {
            return Err("values of variables are not among these files".to_owned());
        }
        let own = chart.from.is_own.then_some(chart.from.repo.as_str());
        let files = self.workspace.checkout(&chart.from.repo, own);
        if files.is_some_and(|files| look_at(&*files, &chart.path) != Folder::Chart) {
            return Err(format!("the chart `{}` is not among these files yet", chart.path));
        }
        let find_value = |name: &str| inherited.values.as_ref().and_then(|values| values.get(name).cloned());
        let mut helm = helm.clone();
        // Of what it has no parameters for nothing is filled in, but for what says something of the cluster.
        given.settings.add_to(&mut helm, |value| as_template(&fill_text(value, &find_value), Fills::ClustersOwn));
        let mut asked = RenderRequest {
            repo: chart.from.repo.clone(),
            folder: chart.path.clone(),
            render: json!({"kind": "helm", "helm": helm}),
            name: object.name().to_owned(),
            namespace: object.text(&["spec", "targetNamespace"]).or_else(|| object.namespace()).map(str::to_owned),
            changes: Changes::default(),
        };
        let own_values = join(&chart.path, VALUES);
        if helm.get("valuesFiles").and_then(Value::as_array).is_some_and(|files| !files.contains(&json!(own_values))) {
            asked.changes.added.insert(own_values, b"{}".to_vec());
        }
        let mut asked = asked.with_values(&fill(given.values, &find_value));
        let Additions { fields, labels, annotations } = post_renderers(object.spec(), inherited);
        if !fields.is_empty() {
            asked.render["kustomize"] = json!(POST_RENDERERS);
            let file = join(POST_RENDERERS, KUSTOMIZATIONS[0]);
            let content = to_template(&Value::Object(fields), Fills::ClustersOwn);
            asked.changes.added.insert(file, content.to_string().into_bytes());
        }
        Ok(Theirs { asked, labels, annotations, ..Theirs::default() })
    }

    fn chart_of(&mut self, object: &Object, inherited: &Inherited, entry: &mut Entry) -> Result<Chart, String> {
        let spec = object.spec();
        if let Some(reference) = find(spec, &["chartRef"]).cloned() {
            let (kind, name) =
                (reference["kind"].as_str().unwrap_or_default(), reference["name"].as_str().unwrap_or_default());
            if kind == "HelmChart" {
                let namespace = reference["namespace"].as_str().or_else(|| object.namespace());
                let chart = self.find((SOURCE, kind), name, namespace, object, &inherited.scope);
                let chart = chart.ok_or_else(|| format!("HelmChart `{name}` is not among the files"))?;
                return self.chart_of_spec(&chart, &chart.spec().clone(), inherited, entry);
            }
            let from = self.source_of(object, &reference, inherited)?;
            return Ok(Chart { from, path: String::new(), is_in_git: false });
        }
        match find(spec, &["chart", "spec"]).cloned() {
            Some(chart) if chart["chart"].is_string() => self.chart_of_spec(object, &chart, inherited, entry),
            _ => Err("it names no chart: it is a patch of another file, or it is not whole".to_owned()),
        }
    }

    fn chart_of_spec(
        &mut self,
        object: &Object,
        chart: &Value,
        inherited: &Inherited,
        entry: &mut Entry,
    ) -> Result<Chart, String> {
        let reference = &chart["sourceRef"];
        let name = chart["chart"].as_str().unwrap_or_default();
        let version = chart["version"].as_str().filter(|version| !version.is_empty());
        if reference["kind"] != "HelmRepository" {
            let from = self.source_of(object, reference, inherited)?;
            let path = from.paths.find(name).ok_or_else(|| format!("`{name}` leads out of the repo"))?;
            if version.is_some_and(|version| version != "*") {
                entry.add(Remark::note(
                    "spec.chart.spec.version",
                    "of a chart in Git it is what its Chart.yaml says, in Flux too",
                ));
            }
            return Ok(Chart { from, path, is_in_git: true });
        }
        let source_name = reference["name"].as_str().unwrap_or_default();
        let namespace = reference["namespace"].as_str().or_else(|| object.namespace());
        let source = self.find((SOURCE, "HelmRepository"), source_name, namespace, object, &inherited.scope);
        let source = source.ok_or_else(|| {
            format!("HelmRepository `{source_name}` is not among the files: read the folder that has it, too")
        })?;
        self.source(&source);
        let url = source.text(&["spec", "url"]).unwrap_or_default().trim_end_matches('/').to_owned();
        let repo = if url.starts_with("oci://") {
            self.collected.repos.ensure(&format!("{url}/{name}"), None)
        } else {
            self.collected.repos.ensure_chart(&url, name)
        };
        entry.became("Repo", &repo);
        let from =
            Origin { repo, reference: chart_ref(version), is_own: false, paths: Paths::AsTheyAre, is_assumed: false };
        Ok(Chart { from, path: String::new(), is_in_git: false })
    }
}

/// All of them together, with values in place of variables where they are known.
fn post_renderers(spec: &Value, inherited: &Inherited) -> Additions {
    let known = |name: &str| inherited.values.as_ref().and_then(|values| values.get(name).cloned());
    let find_value = |name: &str| known(name).or_else(|| Some(mark(name)));
    let filled = fill(spec, &find_value);
    let mut additions = Additions::default();
    for field in ["patches", "patchesStrategicMerge", "patchesJson6902", "images"] {
        let renderers = filled["postRenderers"].as_array().into_iter().flatten();
        let all = renderers.filter_map(|one| find(one, &["kustomize", field])?.as_array());
        additions.set(field, Some(&Value::Array(all.flatten().cloned().collect())));
    }
    let additions = additions.with_patches();
    let texts = |field: &str| find(&filled, &["commonMetadata", field]).and_then(Value::as_object).cloned();
    Additions {
        labels: texts("labels").unwrap_or_default(),
        annotations: texts("annotations").unwrap_or_default(),
        ..additions
    }
}

/// Those that something of it has a variable for.
fn parameters(values: &Value, inherited: &Inherited, draft: &mut Draft, entry: &mut Entry) {
    let overlaid = draft.overlay.iter().flat_map(|overlay| marked(&overlay.additions.to_json()));
    let used: BTreeSet<String> = marked(values).into_iter().chain(overlaid).collect();
    if used.is_empty() {
        return;
    }
    let given = inherited.values.iter().flatten().filter(|(name, _)| used.contains(*name));
    let given: BTreeMap<String, Value> = given.map(|(name, value)| (name.clone(), typed(value))).collect();
    let lacking: Vec<String> =
        used.iter().filter(|name| !given.contains_key(*name)).map(|name| format!("`{name}`")).collect();
    if !lacking.is_empty() {
        entry.add(Remark::todo(
            "spec.values",
            format!(
                "nothing that was read gives {} a value: write it under `parameters` of the target, which does not render without, or give the variable its default, if it had one",
                lacking.join(", ")
            ),
        ));
    }
    draft.parameters = Some(given);
}

fn drift(spec: &Value, draft: &mut Draft, entry: &mut Entry) {
    let mode = find(spec, &["driftDetection", "mode"]).and_then(Value::as_str);
    let (ours, sentence) = match mode {
        Some("enabled") => (None, "what others change is taken back, as before"),
        Some("warn") => {
            (Some("warn"), "`sync.drift: warn`: what others change is told, and stays until the next revision")
        }
        Some("disabled") => (Some("ignore"), "`sync.drift: ignore`: nobody looks at what others change"),
        _ => {
            entry.add(Remark::differs("spec.driftDetection", "Flux does not look at what others change unless it is asked to; here it is taken back: `sync.drift: ignore` of the target would be as before"));
            return;
        }
    };
    draft.sync.extend(ours.map(|ours| ("drift".to_owned(), json!(ours))));
    entry.add(Remark::note("spec.driftDetection.mode", sentence));
}

fn values_files(spec: &Value, chart: &Chart, entry: &mut Entry) -> Vec<String> {
    let list = find(spec, &["chart", "spec", "valuesFiles"]).and_then(Value::as_array);
    let one = find(spec, &["chart", "spec", "valuesFile"]).and_then(Value::as_str);
    let files: Vec<&str> = match list {
        Some(files) => files.iter().filter_map(Value::as_str).collect(),
        None => one.into_iter().collect(),
    };
    let path = |file: &&str| {
        let file = if chart.is_in_git { chart.from.paths.find(file) } else { normal(&join(&chart.path, file)) };
        file.filter(|file| !file.is_empty())
    };
    let files: Vec<String> = files.iter().filter_map(path).collect();
    if !files.is_empty() && !files.contains(&join(&chart.path, VALUES)) {
        entry.add(Remark::differs(
            "spec.chart.spec.valuesFiles",
            "the chart's own values.yaml is under them; Flux leaves it out, as it is not listed",
        ));
    }
    files
}

/// What Flux calls the release: cut, and made distinct, when it is too long.
/// What is written of what the chart has in `crds/`; `None`: it is installed, as with Flux.
fn definitions(spec: &Value, entry: &mut Entry) -> Option<&'static str> {
    let is_left_out = spec["install"]["crds"] == "Skip" || spec["install"]["skipCRDs"] == true;
    match spec["upgrade"]["crds"].as_str() {
        Some("CreateReplace") if is_left_out => {
            entry.add(Remark::differs(
                "spec.install.crds",
                "`crds: upgrade` makes definitions with the first revision, too",
            ));
            Some("upgrade")
        }
        Some("CreateReplace") => Some("upgrade"),
        Some("Create") => None,
        _ if is_left_out => Some("skip"),
        _ => {
            if spec["install"]["crds"] == "CreateReplace" {
                entry.add(Remark::differs("spec.install.crds", "a definition that is there is left as it is, at the first revision too: `render.helm.crds: upgrade` changes it"));
            }
            None
        }
    }
}

fn release_name(object: &Object) -> String {
    let name = object.text(&["spec", "releaseName"]).map(str::to_owned);
    let name = name.unwrap_or_else(|| match object.text(&["spec", "targetNamespace"]) {
        Some(namespace) => format!("{namespace}-{}", object.name()),
        None => object.name().to_owned(),
    });
    if name.len() <= RELEASE_MAX {
        return name;
    }
    let start: String = name.chars().take(40).collect();
    format!("{start}-{}", Digest::of(name.as_bytes()).short())
}
