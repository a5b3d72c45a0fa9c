//! A chart: Helm makes its documents for each set of values, from values of the target in which variables are filled in.
//!
//! What comes back is not filled in again: a chart may write `${…}` for whoever runs what it deploys.

use std::collections::BTreeSet;
use std::sync::Arc;

use bellwether_core::apis::is_name;
use bellwether_core::apply::{APPLY_ANNOTATION, ONCE};
use bellwether_core::parameters::{
    CLUSTER_APIS, CLUSTER_APIS_PREFIX, CLUSTER_FACTS_PREFIX, VERSION_FACT, Values, is_clusters_own,
};
use bellwether_core::render::{Crds, HelmOptions, RenderOptions, RepoFile, SET, SET_STRING, Volatile, sides};
use bellwether_core::source::is_valid_path;
use serde_json::{Map, Value};

use super::fill::Fills;
use super::made::{Maker, below};
use super::variables::{Budget, Part, STEPS_MAX, Template, Unfilled, written};
use crate::error::{Place, RenderError};
use crate::external::wire::{CrdMark, Frozen, HelmRequest, Request, Settings};

/// Of values with their variables: a short text may refer to a long value very often.
const VALUES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Helm's own for whoever names none.
const NAMESPACE: &str = "default";

/// A chart of the repo, and how a target wants it.
pub(crate) struct Chart {
    folder: String,
    options: HelmOptions,
    /// The folder of a kustomization over what it gives.
    over: Option<RepoFile>,
    /// Set over all that the options set.
    last: Settings,
    /// Where the target freezes what the chart makes by itself.
    frozen: Option<Frozen>,
    release: String,
    namespace: String,
    /// Which `${…}` in values is a variable.
    filled: Fills,
    variables: BTreeSet<String>,
}

impl Chart {
    pub(crate) fn new(
        folder: &str,
        options: RenderOptions,
        target: &str,
        namespace: Option<&str>,
        filled: Fills,
    ) -> Result<Self, RenderError> {
        let (over, options) = (options.kustomize, options.helm.unwrap_or_default());
        let release = options.release.as_ref().map_or(target, |release| release.as_str()).to_owned();
        let namespace = namespace.unwrap_or(NAMESPACE).to_owned();
        let mut variables = BTreeSet::new();
        for (key, value) in &options.values {
            collect_names(value, &format!("{VALUES}.{key}"), filled, &mut variables)?;
        }
        for (field, setting) in options.settings() {
            collect_names_of_setting(setting, &field, filled, &mut variables)?;
        }
        for (field, text) in texts(&options, over.as_ref()) {
            collect_names(&Value::from(text), &field, Fills::All, &mut variables)?;
        }
        let (folder, last) = (folder.to_owned(), Settings::default());
        Ok(Self { folder, options, over, last, frozen: None, release, namespace, filled, variables })
    }

    /// What is frozen follows from this.
    pub(crate) fn freeze_with(&mut self, frozen: Frozen) {
        self.frozen = Some(frozen);
    }

    fn frozen(&self) -> Result<Option<Frozen>, RenderError> {
        match &self.options.volatile {
            Volatile::Error => Ok(None),
            Volatile::Freeze { .. } => self.frozen.clone().map(Some).ok_or(RenderError::FrozenElsewhere),
        }
    }

    /// Over all that the options set.
    pub(crate) fn set_over(&mut self, settings: Settings) -> Result<(), RenderError> {
        for (field, lines) in [(OVER_SET, &settings.set), (OVER_SET_STRING, &settings.set_string)] {
            for (index, line) in lines.iter().enumerate() {
                collect_names_of_setting(line, &format!("{field}[{index}]"), self.filled, &mut self.variables)?;
            }
        }
        self.last = settings;
        Ok(())
    }

    /// Every variable that is referenced, also in defaults.
    pub(crate) fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// The variables of a cluster that stand for what was looked at, but for what the target says itself.
    pub(crate) fn variables_of(&self, looked_at: &[String]) -> BTreeSet<String> {
        let HelmOptions { kube_version, api_versions, .. } = &self.options;
        let is_said = |at: &String| if at == VERSION { kube_version.is_some() } else { !api_versions.is_empty() };
        looked_at.iter().filter(|at| !is_said(at)).filter_map(|at| variable_of(at)).collect()
    }

    /// Where its objects come from, as far as can be told of what a kustomization was laid over.
    pub(crate) fn maker<'c>(&'c self, request: &'c Request, is_read: &'c dyn Fn(&str) -> bool) -> Maker<'c> {
        match &request.kustomize {
            Some(folder) => Maker::Release { folder },
            None => Maker::Helm { folder: &self.folder, is_read },
        }
    }

    /// Whether a parameter has this value that chooses a file or a version, which errors are to name.
    fn chooses(&self, value: &str, values: &Values) -> bool {
        let texts = texts(&self.options, self.over.as_ref());
        let templates = texts.iter().filter_map(|(_, text)| Template::parse(text, Fills::All).ok().flatten());
        let mut names =
            templates.flat_map(|template| template.names().into_iter().map(str::to_owned).collect::<Vec<_>>());
        names.any(|name| values.find(&name).is_some_and(|chosen| plain(chosen) == value))
    }

    fn settings(
        &self,
        settings: &[String],
        field: &str,
        filling: &mut Filling<'_>,
    ) -> Result<Vec<String>, RenderError> {
        let settings = settings.iter().enumerate();
        let settings =
            settings.map(|(index, setting)| filling.setting(setting, &format!("{field}[{index}]"), self.filled));
        settings.collect()
    }

    /// What Helm is asked for these values.
    pub(crate) fn request(&self, values: &Values) -> Result<Request, RenderError> {
        let mut filling = Filling::new(values);
        let mut filled = Map::new();
        for (key, value) in &self.options.values {
            filled.insert(key.clone(), filling.value(value, &format!("{VALUES}.{key}"), self.filled)?);
        }
        let set = self.settings(&self.options.set, SET, &mut filling)?;
        let set_string = self.settings(&self.options.set_string, SET_STRING, &mut filling)?;
        let over = Settings {
            set: self.settings(&self.last.set, OVER_SET, &mut filling)?,
            set_string: self.settings(&self.last.set_string, OVER_SET_STRING, &mut filling)?,
        };
        let files = self.options.values_files.iter().enumerate();
        let files = files.map(|(index, file)| filling.file(file, &format!("{FILES}[{index}]")));
        let values_files = files.collect::<Result<_, _>>()?;
        let versions = self.options.api_versions.iter();
        let versions = versions.map(|version| filling.plain(version, API_VERSIONS));
        let api_versions = versions.collect::<Result<_, _>>()?;
        let kube_version = match &self.options.kube_version {
            Some(version) => Some(filling.plain(version, KUBE_VERSION)?),
            None => version_of(values),
        };
        let cluster_api_versions = if self.options.api_versions.is_empty() { served_by(values) } else { Vec::new() };
        let mut helm = HelmRequest {
            release: self.release.clone(),
            namespace: self.namespace.clone(),
            values: filled,
            set,
            set_string,
            over,
            values_files,
            include_crds: self.options.crds != Crds::Skip,
            mark_crds: mark_of(self.options.crds),
            kube_version,
            api_versions,
            cluster_api_versions,
            lookup: self.options.lookup,
            frozen: self.frozen()?,
            hidden: Vec::new(),
        };
        let kustomize = self.over.as_ref().map(|folder| filling.folder(folder, OVER)).transpose()?;
        let kustomize_source = self.over.as_ref().and_then(RepoFile::source).map(|source| source.mount());
        helm.hidden = filling.hidden.into_iter().filter(|text| !self.chooses(text, values)).collect();
        let path = self.folder.clone();
        Ok(Request { kind: "helm", path, helm: Some(helm), kustomize, kustomize_source, again: false })
    }
}

/// As the engine calls it.
const VERSION: &str = "version";

/// The variable of a cluster that stands for what was looked at.
pub(crate) fn variable_of(looked_at: &str) -> Option<String> {
    match (looked_at, looked_at.strip_prefix("api:")) {
        (VERSION, _) => Some(format!("{CLUSTER_FACTS_PREFIX}{VERSION_FACT}")),
        ("apis", _) => Some(CLUSTER_APIS.to_owned()),
        // What is no name is served by none.
        (_, Some(api)) if is_name(api) => Some(format!("{CLUSTER_APIS_PREFIX}{api}")),
        _ => None,
    }
}

/// What the charts of a kustomization see of a cluster.
pub(crate) fn seen_of(values: &Values) -> HelmRequest {
    HelmRequest { kube_version: version_of(values), cluster_api_versions: served_by(values), ..HelmRequest::default() }
}

/// All that is known to be served by the cluster.
fn served_by(values: &Values) -> Vec<String> {
    values.apis().map(|apis| apis.names().map(str::to_owned).collect()).unwrap_or_default()
}

/// What definitions are annotated with, so that an agent knows them.
fn mark_of(crds: Crds) -> Option<CrdMark> {
    (crds == Crds::Install).then_some(CrdMark { annotation: APPLY_ANNOTATION, value: ONCE })
}

/// Of the cluster, as far as it is one: an agent could say anything.
fn version_of(values: &Values) -> Option<String> {
    let version = values.find(&format!("{CLUSTER_FACTS_PREFIX}{VERSION_FACT}"))?.as_str()?;
    let mut parts = version.strip_prefix('v')?.splitn(3, '.');
    let is_number = |part: Option<&str>| {
        part.is_some_and(|part| (1..=5).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_patch = |part: &str| part.starts_with(|first: char| first.is_ascii_digit());
    let is_version = is_number(parts.next()) && is_number(parts.next()) && parts.next().is_some_and(is_patch);
    is_version.then(|| version.to_owned())
}

const VALUES: &str = "render.helm.values";
const FILES: &str = "render.helm.valuesFiles";
const KUBE_VERSION: &str = "render.helm.kubeVersion";
const API_VERSIONS: &str = "render.helm.apiVersions";
const OVER: &str = "render.kustomize";
/// Of whoever renders by hand: they are named as the flags are.
const OVER_SET: &str = "--helm-set";
const OVER_SET_STRING: &str = "--helm-set-string";

/// The values that Helm reads in the value side of a setting, which may go on with other settings.
fn as_charts_see(settings: &str) -> Vec<String> {
    let (mut seen, mut value, mut characters) = (Vec::new(), String::new(), settings.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => value.extend(characters.next()),
            ',' | '=' | '{' | '}' => seen.push(std::mem::take(&mut value)),
            plain => value.push(plain),
        }
    }
    seen.push(value);
    seen
}

/// As a part of a setting that Helm takes for itself: nothing in it ends a value, or begins another or a list.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if "\\,{}[].=".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// What may have variables besides the values, by where it stands. It is for Bellwether alone: each `${…}` is one.
fn texts<'o>(options: &'o HelmOptions, over: Option<&'o RepoFile>) -> Vec<(String, &'o str)> {
    let files = options.values_files.iter().enumerate();
    let files = files.map(|(index, file)| (format!("{FILES}[{index}]"), file.path()));
    let versions = options.api_versions.iter().map(|version| (API_VERSIONS, version.as_str()));
    let kube = options.kube_version.iter().map(|version| (KUBE_VERSION, version.as_str()));
    let texts = versions.chain(kube).chain(over.map(|folder| (OVER, folder.path())));
    files.chain(texts.map(|(field, text)| (field.to_owned(), text))).collect()
}

/// Also finds every reference that is malformed.
pub(super) fn collect_names(
    value: &Value,
    field: &str,
    fills: Fills,
    names: &mut BTreeSet<String>,
) -> Result<(), RenderError> {
    match value {
        Value::String(text) => {
            if let Some(template) = parse(text, field, fills)? {
                names.extend(template.names().into_iter().map(str::to_owned));
            }
            Ok(())
        }
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.try_for_each(|(index, item)| collect_names(item, &format!("{field}[{index}]"), fills, names))
        }
        Value::Object(fields) => {
            let mut fields = fields.iter();
            fields.try_for_each(|(key, value)| collect_names(value, &format!("{field}.{key}"), fills, names))
        }
        _ => Ok(()),
    }
}

/// Of the value of a setting, which is all that may have variables.
fn collect_names_of_setting(
    setting: &str,
    field: &str,
    fills: Fills,
    names: &mut BTreeSet<String>,
) -> Result<(), RenderError> {
    let Some((_, value)) = sides(setting) else { return Ok(()) };
    let Some(template) = parse(value, field, fills)? else { return Ok(()) };
    if let Some((name, problem)) = misplaced(&template) {
        return Err(RenderError::VariableMisplaced { at: at(field), name: name.to_owned(), problem });
    }
    names.extend(template.names().into_iter().map(str::to_owned));
    Ok(())
}

/// What Helm reads at a place of the value of a setting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// The start of a value, where a `{` begins a list.
    Begin,
    Value,
    List,
    /// Of another value: after a `,` a setting goes on with it.
    Name,
}

impl Reads {
    fn after(self, character: char) -> Self {
        match (self, character) {
            (Self::Begin, '{') => Self::List,
            (Self::Begin | Self::Value, ',') => Self::Name,
            (Self::Name, '=') => Self::Begin,
            (Self::List, '}') | (Self::Begin, _) => Self::Value,
            (reads, _) => reads,
        }
    }
}

/// The first variable of the value of a setting that would be something else to Helm than one value, or a part of one.
fn misplaced<'t>(template: &Template<'t>) -> Option<(&'t str, &'static str)> {
    /// Which is read as itself wherever it stands.
    const PLAIN: char = 'x';
    let (mut reads, mut is_escaped) = (Reads::Begin, false);
    for part in template.parts() {
        match part {
            Part::Text(text) => {
                for character in text.chars() {
                    reads = reads.after(if is_escaped { PLAIN } else { character });
                    is_escaped = character == '\\' && !is_escaped;
                }
            }
            Part::Reference(name) if is_escaped => return Some((name, "behind a `\\` of Helm's")),
            Part::Reference(name) if reads == Reads::Name => return Some((name, "in a name")),
            Part::Reference(_) => reads = reads.after(PLAIN),
        }
    }
    None
}

fn parse<'t>(text: &'t str, field: &str, fills: Fills) -> Result<Option<Template<'t>>, RenderError> {
    Template::parse(text, fills)
        .map_err(|malformed| RenderError::VariableMalformed { at: at(field), name: malformed.name.to_owned() })
}

fn at(field: &str) -> Place {
    Place::Field { path: Arc::from(field) }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| written(value), str::to_owned)
}

pub(super) struct Filling<'v> {
    values: &'v Values,
    budget: Budget,
    /// What parameters gave to values: it may be secret.
    hidden: BTreeSet<String>,
}

impl<'v> Filling<'v> {
    pub(super) fn new(values: &'v Values) -> Self {
        Self { values, budget: Budget { bytes: VALUES_BYTES_MAX, steps: STEPS_MAX }, hidden: BTreeSet::new() }
    }

    /// A text that is nothing but a reference takes the type of its value.
    fn value(&mut self, value: &Value, field: &str, fills: Fills) -> Result<Value, RenderError> {
        match value {
            Value::String(text) => {
                let filled = self.text(text, field, fills)?;
                self.note_hidden(text, field, fills, &filled)?;
                Ok(filled)
            }
            Value::Array(items) => {
                let items = items.iter().enumerate();
                let items = items.map(|(index, item)| self.value(item, &format!("{field}[{index}]"), fills));
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            }
            Value::Object(fields) => {
                let fields = fields.iter();
                let fields =
                    fields.map(|(key, value)| Ok((key.clone(), self.value(value, &format!("{field}.{key}"), fills)?)));
                Ok(Value::Object(fields.collect::<Result<_, RenderError>>()?))
            }
            other => Ok(other.clone()),
        }
    }

    /// What parameters gave; the cluster's own is no secret.
    fn note_hidden(&mut self, text: &str, field: &str, fills: Fills, filled: &Value) -> Result<(), RenderError> {
        let names = parse(text, field, fills)?.map(|template| template.names()).unwrap_or_default();
        let given: Vec<_> = names.into_iter().filter(|name| !is_clusters_own(name)).collect();
        if !given.is_empty() {
            self.hidden.insert(plain(filled));
            self.hidden.extend(given.into_iter().filter_map(|name| self.values.find(name)).map(plain));
        }
        Ok(())
    }

    fn text(&mut self, text: &str, field: &str, fills: Fills) -> Result<Value, RenderError> {
        let Some(template) = parse(text, field, fills)? else { return Ok(Value::from(text)) };
        let filled = match template.value(self.values, &mut self.budget) {
            Ok(None) => template.fill(self.values, &mut self.budget).map(Value::from),
            whole => whole.map(Option::unwrap_or_default),
        };
        filled.map_err(|unfilled| self.explain(&unfilled, field))
    }

    /// What a variable gives is one value, or a part of one: it sets nothing else. Of which type it is, Helm says.
    fn setting(&mut self, setting: &str, field: &str, fills: Fills) -> Result<String, RenderError> {
        let Some((name, value)) = sides(setting) else { return Ok(setting.to_owned()) };
        let Some(template) = parse(value, field, fills)? else { return Ok(setting.to_owned()) };
        let filled = template.fill_each(self.values, &mut self.budget, escaped);
        let filled = filled.map_err(|unfilled| self.explain(&unfilled, field))?;
        self.note_hidden(value, field, fills, &Value::from(filled.as_str()))?;
        let given = template.names().into_iter().filter(|name| !is_clusters_own(name));
        let given: Vec<_> = given.filter_map(|name| self.values.find(name)).map(plain).collect();
        if !given.is_empty() {
            self.hidden.extend(given.iter().map(|given| escaped(given)));
            self.hidden.extend(as_charts_see(&filled));
        }
        Ok(format!("{name}{filled}"))
    }

    fn plain(&mut self, text: &str, field: &str) -> Result<String, RenderError> {
        Ok(plain(&self.text(text, field, Fills::All)?))
    }

    pub(super) fn path(&mut self, path: &str, field: &str) -> Result<String, RenderError> {
        let filled = self.plain(path, field)?;
        if filled.is_empty() || !is_valid_path(&filled) {
            return Err(RenderError::ValuesFile { at: at(field), text: path.to_owned() });
        }
        Ok(filled)
    }

    /// One of another repo is below the folder that stands for that.
    pub(super) fn file(&mut self, file: &RepoFile, field: &str) -> Result<String, RenderError> {
        let path = self.path(file.path(), field)?;
        Ok(file.source().map_or_else(|| path.clone(), |source| below(&source.mount(), &path)))
    }

    /// As a file, and the root of a repo is one, too.
    fn folder(&mut self, folder: &RepoFile, field: &str) -> Result<String, RenderError> {
        if folder.path().is_empty() {
            return Ok(folder.source().map_or_else(String::new, |source| source.mount()));
        }
        self.file(folder, field)
    }

    fn explain(&self, unfilled: &Unfilled<'_>, field: &str) -> RenderError {
        match unfilled {
            Unfilled::TooLong => RenderError::TooLarge { at: at(field), key: "a value".to_owned() },
            Unfilled::Misused { name, problem, .. } => {
                RenderError::VariableMisused { at: at(field), name: (*name).to_owned(), problem }
            }
            Unfilled::Unset { name, .. } => RenderError::unset(at(field), name, self.values),
        }
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::parameters::{ClusterFacts, ParameterSet, Parameters};
    use serde_json::json;

    use super::*;

    fn chart(options: Value) -> Result<Chart, RenderError> {
        let helm = Some(serde_json::from_value(options).expect("options"));
        let options = RenderOptions { helm, ..RenderOptions::default() };
        Chart::new("charts/shop", options, "web", None, Fills::All)
    }

    fn values(values: Value) -> Values {
        let labels = [("env".to_owned(), "prod".to_owned())].into();
        let sets = [ParameterSet { clusters: None, values: serde_json::from_value(values).expect("values") }];
        Parameters::resolve(&sets, ClusterFacts::new(&"berlin".parse().expect("a name"), &labels))
    }

    fn asked(options: Value, parameters: Value) -> Result<HelmRequest, RenderError> {
        Ok(chart(options)?.request(&values(parameters))?.helm.expect("it is for Helm"))
    }

    #[test]
    fn values_take_the_type_of_a_parameter_and_files_are_chosen_by_it() {
        let options = json!({
            "values": {
                "replicas": "${n}", "flag": "${on}", "tag": "${tag}", "host": "${cluster.name}.example.org",
                "list": [{"name": "${tag}"}], "port": 80, "raw": "$${x}", "${key}": 1,
            },
            "valuesFiles": [
                "shop/common.yaml", "shop/${cluster.labels.env}.yaml",
                {"repo": "env", "ref": {"tag": "v1"}, "path": "shop/${cluster.labels.env}.yaml"},
            ],
        });

        let helm = asked(options, json!({"n": 3, "on": true, "tag": "1.10"})).expect("it is filled");

        assert_eq!(
            Value::Object(helm.values),
            json!({
                "replicas": 3, "flag": true, "tag": "1.10", "host": "berlin.example.org",
                "list": [{"name": "1.10"}], "port": 80, "raw": "${x}", "${key}": 1,
            })
        );
        assert_eq!(helm.values_files, ["shop/common.yaml", "shop/prod.yaml", "env@refs/tags/v1:/shop/prod.yaml"]);
        assert_eq!((helm.release.as_str(), helm.namespace.as_str(), helm.include_crds), ("web", "default", true));
    }

    #[test]
    fn without_parameters_only_references_to_the_cluster_are_filled_into_values() {
        let options = json!({"values": {
            "shell": "echo ${HOME}", "endpoint": "${env:MY_POD_IP}:4317", "escaped": "$${x}",
            "host": "${cluster.name}.example.org ${HOME}",
        }});
        let options =
            RenderOptions { helm: Some(serde_json::from_value(options).expect("options")), ..RenderOptions::default() };
        let chart = Chart::new("charts/shop", options, "web", None, Fills::ClustersOwn).expect("a chart");

        let names: Vec<_> = chart.variables().iter().map(String::as_str).collect();
        assert_eq!(names, ["cluster.name"]);
        let helm = chart.request(&values(json!({}))).expect("it is filled").helm.expect("it is for Helm");
        assert_eq!(
            Value::Object(helm.values),
            json!({
                "shell": "echo ${HOME}", "endpoint": "${env:MY_POD_IP}:4317", "escaped": "$${x}",
                "host": "berlin.example.org ${HOME}",
            })
        );
    }

    #[test]
    fn what_parameters_give_to_values_is_hidden_and_what_chooses_a_file_is_not() {
        let options = json!({
            "values": {"a": "${pw}", "b": "x-${pw}", "c": "plain", "d": "${cluster.name}", "e": "${stage}", "f": "${n}"},
            "valuesFiles": ["envs/${stage}.yaml"],
        });

        let helm = asked(options, json!({"pw": "hunter2", "stage": "prod", "n": 5432})).expect("it is filled");

        assert_eq!(helm.hidden, ["5432", "hunter2", "x-hunter2"]);
    }

    #[test]
    fn a_variable_in_a_setting_is_one_value_and_sets_nothing_else() {
        let options = json!({
            "set": ["image.tag=${tag}", "list={${a},b}", "${tag}=$${x}", "n=${n},on=${on},none=${x:-q}"],
            "setString": ["port=${n}"],
        });

        let given = json!({"tag": "1,admin=true", "a": "x}[0].y=\\z", "n": 1.5, "on": true});
        let helm = asked(options, given).expect("it is filled");

        assert_eq!(
            helm.set,
            [r"image.tag=1\,admin\=true", r"list={x\}\[0\]\.y\=\\z,b}", "${tag}=${x}", r"n=1\.5,on=true,none=q"]
        );
        assert_eq!(helm.set_string, [r"port=1\.5"]);
        assert!(helm.hidden.contains(&r"1\,admin\=true".to_owned()), "{:?}", helm.hidden);
        let chart = chart(json!({"set": ["a=${x},b=${y}"], "setString": ["${z}=${w}"]})).expect("a chart");
        assert_eq!(chart.variables().iter().collect::<Vec<_>>(), ["w", "x", "y"]);
    }

    #[test]
    fn a_variable_in_a_setting_is_no_name_and_takes_no_escape_away() {
        for (setting, problem) in [
            (r"a=\${x}=on", "behind"),
            (r"list={\${x},b}", "behind"),
            (r"a=1,${k}=true", "in a name"),
            (r"a={1,2},b.${k}=true", "in a name"),
            (r"a=\\\${x}", "behind"),
        ] {
            let refused = chart(json!({"set": ["b=1", setting]})).map(drop).expect_err(setting);
            assert_eq!(refused.code(), "variable_misplaced", "{setting}");
            let told = refused.to_string();
            assert!(told.starts_with("render.helm.set[1]: ") && told.contains(problem), "{told}");
        }
        for setting in [r"a=\\${x}", r"a={${x},${y}}", r"a=1,b=${x}", r"a=\,${x}", r"a=\$${x}", r"a=x{,b=${x}"] {
            assert!(chart(json!({"set": [setting]})).is_ok(), "{setting}");
        }
    }

    #[test]
    fn every_variable_is_known_before_anything_is_rendered() {
        let chart = chart(json!({"values": {"a": ["${x:-${y}}"], "b": {"c": "${z}"}}, "valuesFiles": ["${env}.yaml"]}));

        let names: Vec<_> = chart.expect("a chart").variables().iter().cloned().collect();

        assert_eq!(names, ["env", "x", "y", "z"]);
    }

    #[test]
    fn what_a_setting_gives_a_chart_is_hidden_as_the_chart_sees_it() {
        let set = json!({"set": ["auth.password=x${pw},auth.user=${pw:0:4}-y,on=true"]});

        let helm = asked(set, json!({"pw": "hun,ter2"})).expect("it is filled");

        for seen in ["xhun,ter2", "hun,-y", "hun,ter2"] {
            assert!(helm.hidden.iter().any(|hidden| hidden == seen), "{seen}: {:?}", helm.hidden);
        }
    }

    #[test]
    fn what_a_chart_asks_about_that_is_no_name_of_an_api_is_no_variable() {
        let chart = chart(json!({})).expect("a chart");
        let variables = |api: &str| chart.variables_of(&[format!("api:{api}")]).into_iter().collect::<Vec<_>>();

        assert_eq!(variables("apps/v1"), [format!("{CLUSTER_APIS_PREFIX}apps/v1")]);
        for no_name in ["", "apps/v1\nv1", &"a".repeat(10_000)] {
            assert!(variables(no_name).is_empty(), "{no_name:.20}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_named_by_its_field() {
        let unset =
            asked(json!({"values": {"image": {"tag": "${tga}"}}}), json!({"tag": "1"})).map(drop).expect_err("refused");
        assert_eq!(unset.to_string(), "render.helm.values.image.tag: variable `tga` has no value and no default");
        assert_eq!((unset.file(), unset.code()), (None, "variable_unset"));

        let malformed = chart(json!({"values": {"a": ["${x^^^}"]}})).map(drop).expect_err("refused");
        assert!(malformed.to_string().starts_with("render.helm.values.a[0]: "), "{malformed}");

        let outside =
            asked(json!({"valuesFiles": ["${f}/values.yaml"]}), json!({"f": ".."})).map(drop).expect_err("refused");
        assert_eq!(outside.code(), "values_file_invalid");

        let bomb = json!({"values": {"a": "${x}".repeat(200)}});
        let large = asked(bomb, json!({"x": "x".repeat(60_000)})).map(drop).expect_err("refused");
        assert_eq!(large.code(), "object_too_large");
    }
}
