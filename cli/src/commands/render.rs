//! `render`: the objects of a folder or of a target's spec, as a hub would store them, without one; or as it stores them.

mod known;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bellwether_core::api::{ExplainedParameter, ParameterLayer, RenderedTarget, TargetDocument};
use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::parameters::{ClusterFacts, ClusterSelector, Layer, ParameterSet, Parameters, Strength};
use bellwether_core::render::{LeftOutHook, RenderOptions, RepoFile};
use bellwether_core::target::TargetSpec;
use bellwether_core::{Condition, Digest, Name, ObjectKey, sealed};
use bellwether_render::{
    Confinement, Engines, Failure as RenderFailure, Manifests, Marks, Plan, Recipe, RenderedObject, Settings,
    values_in_files,
};
use serde_json::{Value, json};

pub(super) use self::known::{Known, ask};
use super::Context;
use super::apply::read_yaml;
use crate::args::{Format, RenderArgs, engine};
use crate::client::{Answer, Route};
use crate::failure::{Exit, Failure, condition_text};
use crate::folder::RepoFolders;
use crate::output::{Output, note, print, yaml};

/// Who renders files of their own needs no protection from them: an engine may run with what shuts it in here.
const CONFINEMENT: Confinement = Confinement::AsThereIs;

/// Whose name nobody says.
const CLUSTER: &str = "cluster";

/// What makes a folder a chart.
const CHART: &str = "Chart.yaml";

/// A release needs a name, and a folder's may be none.
const NAME: &str = "release";

pub(super) fn run(output: &Output, arguments: &RenderArgs, known: Known) -> anyhow::Result<Exit> {
    let format = match output.format() {
        Some(Format::Objects) => Format::Objects,
        _ => output.document_format()?,
    };
    if arguments.hub {
        return Err(Failure::usage("with --hub, the name of a target is needed, and no path").into());
    }
    if arguments.show_secrets {
        let hint = "of a folder all is shown as it is";
        return Err(Failure::usage("--show-secrets is for a target of the hub").hint(hint).into());
    }
    let asked = RenderRequest::read(arguments)?;
    asked.check_settings()?;
    asked.options().check().map_err(|error| Failure::usage(error.to_string()).maybe_hint(error.hint()))?;
    let plan = Plan {
        folder: asked.folder.clone(),
        options: asked.options(),
        name: asked.name.clone(),
        namespace: asked.namespace(),
        has_parameters: asked.has_parameters(),
        project: "local".to_owned(),
    };
    let Known { labels, traits } = known.with(arguments)?;
    let facts = ClusterFacts::new(&asked.cluster, &labels).with(&traits);
    let sets = asked.parameters();
    Parameters::check(&sets).map_err(|error| Failure::usage(error.to_string()).maybe_hint(error.hint()))?;
    let values = Parameters::resolve(&sets, facts);
    let files = RepoFolders::new(asked.root.clone(), arguments.sources.iter().cloned().collect());
    if let Some(name) = &arguments.explain {
        let in_files = values_in_files(files, &plan.options.parameter_files, &values, name).map_err(told)?;
        return explain(&asked, in_files, Parameters::explain(&sets, facts, name), name);
    }
    let engines = Engines::new(engine(arguments.engine.as_ref()).as_deref(), CONFINEMENT);
    let mut manifests = Manifests::open(engines, files, plan).map_err(told)?;
    let over = Settings { set: arguments.helm_set.clone(), set_string: arguments.helm_set_string.clone() };
    manifests.set_over(over).map_err(|error| told(RenderFailure::Render(error)))?;
    let marks = arguments.target_id.zip(arguments.owner.clone()).map(|(target, owner)| Marks { target, owner });
    let recipe = Recipe { marks, namespace: asked.namespace(), agents: BTreeSet::new() };
    let objects = manifests.render(&recipe, &values);
    // Also where it fails: this may be why.
    note_unused(arguments, &manifests.variables());
    note_left_out(&manifests.left_out_hooks());
    show(format, &objects.map_err(told)?)
}

/// Who waits for a hook to run is told that it does not.
fn note_left_out<'h>(hooks: impl IntoIterator<Item = &'h LeftOutHook>) {
    let hooks: Vec<_> = hooks.into_iter().map(ToString::to_string).collect();
    if !hooks.is_empty() {
        note(&format!(
            "left out: {}; hooks of a deletion, a rollback, a test or a failure are applied if `bellwether.dev/phase` on them says when",
            hooks.join(", ")
        ));
    }
}

/// What is set and nobody asks for was meant for something else.
fn note_unused(arguments: &RenderArgs, used: &BTreeSet<String>) {
    for (name, _) in arguments.parameters.iter().filter(|(name, _)| !used.contains(name)) {
        note(&format!(
            "warning: `--set {name}=…` changes nothing, as nothing refers to `${{{name}}}`; a value of a chart is set by `--helm-set`"
        ));
    }
}

/// What the hub stores for a cluster.
pub(super) async fn of_hub(context: &Context, arguments: &RenderArgs) -> anyhow::Result<Exit> {
    let Some((target, cluster)) = arguments.of_hub() else { return Ok(Exit::Done) };
    if let Some(flag) = arguments.stated().first() {
        let hint = "the hub knows it; or name a folder, to render without a hub";
        return Err(Failure::usage(format!("{flag} is not for a target of the hub")).hint(hint).into());
    }
    let route = Route::named("targets", &target);
    if let Some(parameter) = &arguments.explain {
        let route = route.then("explain").with("cluster", cluster.as_str()).with("parameter", parameter.as_str());
        let answer: Answer<ExplainedParameter> = context.client.fetch(&route).await?;
        if context.output.format().is_some_and(|format| matches!(format, Format::Json | Format::Yaml)) {
            context.output.answer(&answer, |_, _| String::new())?;
            return Ok(Exit::Done);
        }
        let lines: Vec<_> = answer.document.layers.iter().map(layer_line).collect();
        return print_layers(&lines, parameter);
    }
    let format = match context.output.format() {
        Some(Format::Objects) => Format::Objects,
        _ => context.output.document_format()?,
    };
    let mut route = route.then("render").with("cluster", cluster.as_str());
    if arguments.show_secrets {
        route = route.with("secrets", "true");
    }
    let answer: Answer<RenderedTarget> = context.client.fetch(&route).await?;
    let rendered = answer.document;
    let objects = rendered.objects.into_iter().map(|object| {
        let key = ObjectKey::of(&object.body).map(|key| key.to_string()).unwrap_or_default();
        (object.digest, key, object.body)
    });
    let count = print_objects(format, objects.collect())?;
    let short: String = rendered.commit.chars().take(12).collect();
    note(&format!("{count}, bundle {}, of commit {short}", rendered.digest));
    note_left_out(&rendered.left_out_hooks);
    if rendered.hidden_secrets > 0 && format != Format::Objects {
        note(&format!("what {} of them hold is hidden: --show-secrets", rendered.hidden_secrets));
    }
    match rendered.runs {
        Some(runs) if runs == rendered.digest => note(&format!("{cluster} is assigned it")),
        Some(runs) => note(&format!("{cluster} is assigned bundle {runs} as yet: see `bellwether status {target}`")),
        None => note(&format!("{cluster} is assigned nothing of it as yet: see `bellwether status {target}`")),
    }
    Ok(Exit::Done)
}

fn layer_line(layer: &ParameterLayer) -> String {
    let strength = match (layer.named, layer.selected) {
        (true, _) => Strength::ByName,
        (false, true) => Strength::ByLabels,
        (false, false) => Strength::ForAll,
    };
    let place = match (&layer.file, layer.set) {
        (Some(file), _) => file_text(file),
        (None, set) => set_text(set.map(|set| set as usize), strength),
    };
    format!("{}\t{place}", layer.value)
}

fn file_text(file: &str) -> String {
    format!("{file}, of render.parameterFiles")
}

fn set_text(number: Option<usize>, strength: Strength) -> String {
    let Some(number) = number else { return "the cluster itself".to_owned() };
    let which = match strength {
        Strength::ForAll => "is for all",
        Strength::ByLabels | Strength::Own => "selects the cluster",
        Strength::ByName => "names the cluster",
    };
    format!("parameters[{}], which {which}", number.saturating_sub(1))
}

/// The last line is what the cluster has; each goes over the one before.
fn print_layers(lines: &[String], name: &str) -> anyhow::Result<Exit> {
    if lines.is_empty() {
        return Err(Failure::new(format!("nothing gives `{name}` a value for this cluster")).into());
    }
    print(&lines.join("\n"))?;
    Ok(Exit::Done)
}

fn explain(
    asked: &RenderRequest<'_>,
    in_files: Vec<(String, Value)>,
    layers: Vec<Layer>,
    name: &str,
) -> anyhow::Result<Exit> {
    let number_set_here = asked.spec.as_ref().map_or(0, |spec| spec.parameters.len()) + 1;
    let in_files = in_files.into_iter().map(|(file, value)| (value, file_text(&file)));
    let given = layers.into_iter().map(|layer| match layer.set {
        Some(number) if number == number_set_here => (layer.value, "--set".to_owned()),
        set => (layer.value, set_text(set, layer.strength)),
    });
    let lines: Vec<_> = in_files.chain(given).map(|(value, place)| format!("{value}\t{place}")).collect();
    print_layers(&lines, name)
}

/// What a hub says of such a target, and where.
fn told(failure: RenderFailure<Failure>) -> Failure {
    let error = match failure {
        RenderFailure::Files(error) | RenderFailure::Source { error, .. } => return error,
        RenderFailure::Render(error) => error,
    };
    let condition = Condition::new(error.code(), &error.to_string(), None, None).at(error.file(), error.line());
    Failure::new(condition_text(&condition)).maybe_hint(error.hint())
}

fn show(format: Format, objects: &[RenderedObject]) -> anyhow::Result<Exit> {
    let entries = objects.iter().map(|object| Entry { key: object.key.clone(), digest: object.digest }).collect();
    let manifest = Manifest::new(entries)?;
    let read = |object: &RenderedObject| {
        let body = serde_json::from_slice(&object.body).context("an object is not JSON")?;
        anyhow::Ok((object.digest, object.key.to_string(), body))
    };
    let read: Vec<_> = objects.iter().map(read).collect::<Result<_, _>>()?;
    let sealed = read.iter().filter(|(.., body)| sealed::text_of(body).is_some()).map(|(_, key, _)| key.as_str());
    let sealed = sealed.collect::<Vec<_>>().join(", ");
    let count = print_objects(format, read)?;
    if !sealed.is_empty() {
        note(&format!("sealed by SOPS, and opened by the cluster's agent: {sealed}"));
    }
    note(&format!("{count}, bundle {}", manifest.digest()));
    Ok(Exit::Done)
}

/// Says how many they are.
fn print_objects(format: Format, objects: Vec<(Digest, String, Value)>) -> anyhow::Result<String> {
    let noun = if objects.len() == 1 { "object" } else { "objects" };
    let count = format!("{} {noun}", objects.len());
    if format == Format::Objects {
        let line = |(digest, key, _): &(Digest, String, Value)| format!("{digest} {key}");
        print(&objects.iter().map(line).collect::<Vec<_>>().join("\n"))?;
        return Ok(count);
    }
    let bodies: Vec<_> = objects.into_iter().map(|(.., body)| body).collect();
    if format == Format::Json {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": bodies});
        print(&serde_json::to_string_pretty(&list)?)?;
    } else {
        let documents = bodies.iter().map(yaml::text).collect::<Result<Vec<_>, _>>()?;
        print(&documents.join("---\n"))?;
    }
    Ok(count)
}

/// What is to be rendered, from a file with a target or from flags.
struct RenderRequest<'a> {
    arguments: &'a RenderArgs,
    spec: Option<TargetSpec>,
    root: PathBuf,
    /// From the root on, with `/`.
    folder: String,
    name: String,
    cluster: Name,
}

impl<'a> RenderRequest<'a> {
    fn read(arguments: &'a RenderArgs) -> anyhow::Result<Self> {
        let document = arguments.target.as_deref().map(read_target).transpose()?;
        let beside = arguments.target.as_deref().and_then(Path::parent);
        let start = arguments.path.as_deref().or(beside).unwrap_or(Path::new("."));
        let start = if start.as_os_str().is_empty() { Path::new(".") } else { start };
        let start = start
            .canonicalize()
            .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", start.display())))?;
        let root = root_of(arguments.root.as_deref(), &start)?;
        let (name, spec) = document.map_or((None, None), |document| {
            (Some(document.metadata.name.to_string()), Some(TargetSpec::from(document.spec)))
        });
        if let (Some(file), Some(spec)) = (&arguments.target, &spec) {
            spec.check().map_err(|error| {
                Failure::new(bellwether_core::chain(&error)).at(file.display()).maybe_hint(error.hint())
            })?;
        }
        let folder = match (&arguments.path, &spec) {
            (None, Some(spec)) => spec.path.clone(),
            _ => below(&root, &start)?,
        };
        let last = folder.rsplit('/').next().filter(|last| !last.is_empty());
        let name = name.or_else(|| last.map(str::to_lowercase)).unwrap_or_else(|| NAME.to_owned());
        let cluster = arguments.cluster.clone().map_or_else(|| CLUSTER.parse(), Ok)?;
        Ok(Self { arguments, spec, root, folder, name, cluster })
    }

    /// They mean something to a chart alone.
    fn check_settings(&self) -> Result<(), Failure> {
        let RenderArgs { helm_set, helm_set_string, .. } = self.arguments;
        let flag = match (helm_set.is_empty(), helm_set_string.is_empty()) {
            (true, true) => return Ok(()),
            (false, _) => "--helm-set",
            (true, false) => "--helm-set-string",
        };
        if self.root.join(&self.folder).join(CHART).is_file() {
            return Ok(());
        }
        Err(Failure::usage(format!("{flag} is for charts, and there is no `{CHART}` in `{}`", self.folder)).hint(
            "`--set` gives parameters their values, and of a chart in a kustomization the kustomization has the values",
        ))
    }

    fn options(&self) -> RenderOptions {
        let RenderArgs { kind, release, values_files, helm_set, helm_set_string, .. } = self.arguments;
        let mut options = self.spec.as_ref().map(|spec| spec.render.clone()).unwrap_or_default();
        if let Some(kind) = kind {
            options.kind = (*kind).into();
        }
        let is_for_helm =
            release.is_some() || !values_files.is_empty() || !helm_set.is_empty() || !helm_set_string.is_empty();
        if is_for_helm {
            let helm = options.helm.get_or_insert_default();
            helm.release = release.clone().or(helm.release.take());
            helm.values_files.extend(values_files.iter().cloned().map(RepoFile::Own));
        }
        if let Some(crds) = self.arguments.crds {
            options.helm.get_or_insert_default().crds = crds.into();
        }
        options
    }

    fn namespace(&self) -> Option<String> {
        let of_spec = || self.spec.as_ref().and_then(|spec| spec.namespace.as_ref());
        self.arguments.namespace.as_ref().or_else(of_spec).map(ToString::to_string)
    }

    fn has_parameters(&self) -> bool {
        !self.arguments.parameters.is_empty() || self.spec.as_ref().is_some_and(|spec| !spec.parameters.is_empty())
    }

    /// What is set here is over all that the spec has.
    fn parameters(&self) -> Vec<ParameterSet> {
        let mut sets = self.spec.as_ref().map(|spec| spec.parameters.clone()).unwrap_or_default();
        let values = self.arguments.parameters.iter().cloned().collect();
        sets.push(ParameterSet { clusters: Some(ClusterSelector::named(self.cluster.clone())), values });
        sets
    }
}

pub(super) fn read_target(file: &Path) -> anyhow::Result<TargetDocument> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    Ok(parse_target(&file.display().to_string(), &text)?)
}

/// By the same reader as what is applied: a hub gets the same values.
fn parse_target(name: &str, text: &str) -> Result<TargetDocument, Failure> {
    let refused =
        |reason: &str| Failure::new(reason.to_owned()).at(name).hint("it has to be one document of kind Target");
    let mut documents = read_yaml(name, text)?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => {
            serde_json::from_value(document.to_json()).map_err(|error| refused(&error.to_string()))
        }
        (None, _) => Err(refused("it is empty")),
        (Some(_), false) => Err(refused("it has several documents")),
    }
}

/// The repo, or what is taken for one.
pub(super) fn root_of(stated: Option<&Path>, start: &Path) -> anyhow::Result<PathBuf> {
    if let Some(stated) = stated {
        return stated.canonicalize().with_context(|| format!("cannot read `{}`", stated.display()));
    }
    if let Some(root) = start.ancestors().find(|folder| folder.join(".git").exists()) {
        return Ok(root.to_owned());
    }
    let here =
        std::env::current_dir().and_then(|here| here.canonicalize()).context("cannot tell where this was started")?;
    Ok(if start.starts_with(&here) { here } else { start.to_owned() })
}

pub(super) fn below(root: &Path, folder: &Path) -> Result<String, Failure> {
    let below = folder.strip_prefix(root).map_err(|_| {
        Failure::usage(format!("`{}` is not below `{}`", folder.display(), root.display()))
            .hint("`--root` is a folder above it")
    })?;
    let parts = below.iter().map(|part| part.to_str());
    let parts: Option<Vec<_>> = parts.collect();
    parts.map(|parts| parts.join("/")).ok_or_else(|| Failure::new(format!("`{}` is not UTF-8", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_as_it_is_when_it_is_applied() {
        let text = "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {name: vn}\nspec:\n  repo: r\n  path: vn\n  \
                    render: {helm: {values: {q: 012, z: 0700, n: 0x1F, f: 1e3, d: 2001-01-01, b: off, k: ~, big: 12345678901234567890}}}\n  \
                    parameters: [{values: {mode: 0755, f: 1e3, e: 1.50}}]\n";

        let rendered = parse_target("a.yaml", text).expect("it is read");

        let applied = read_yaml("a.yaml", text).expect("it is read").remove(0).to_json();
        let applied: TargetDocument = serde_json::from_value(applied).expect("a target");
        let (rendered, applied) = (TargetSpec::from(rendered.spec), TargetSpec::from(applied.spec));
        assert_eq!(serde_json::to_value(&rendered).expect("JSON"), serde_json::to_value(&applied).expect("JSON"));
        assert_eq!(rendered.render.helm.expect("it is for Helm").values["z"], 0o700);
        assert_eq!(rendered.parameters[0].values["mode"], 0o755);
    }

    #[test]
    fn a_key_that_stands_twice_and_a_second_document_are_refused() {
        for text in ["kind: Target\nkind: Target\n", "kind: Target\n---\nkind: Target\n", ""] {
            assert!(parse_target("a.yaml", text).is_err(), "{text}");
        }
    }
}
