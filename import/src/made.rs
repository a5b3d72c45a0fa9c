//! What files make, by the same engines that a hub has.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::Labels;
use bellwether_core::parameters::{ClusterFacts, ParameterSet, Parameters, Values, is_clusters_own};
use bellwether_core::render::{RenderOptions, RepoFile};
use bellwether_render::{Failure, Files, Found, Manifests, Plan, Recipe, RenderError};
use serde_json::Value;

use crate::Workspace;
use crate::paths::folder_of;
use crate::view::{Changes, View};

/// The name of a cluster that nobody named.
const CLUSTER: &str = "cluster";

/// What is to be rendered.
#[derive(Debug, Clone, Default)]
pub(crate) struct RenderRequest {
    pub(crate) repo: String,
    pub(crate) folder: String,
    /// `render:` of a target.
    pub(crate) render: Value,
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) changes: Changes,
}

/// What values it has.
pub(crate) enum Given<'a> {
    /// A target's, from its parameters and the labels of a cluster.
    Target { parameters: &'a Value, labels: &'a Labels },
    /// What Flux has for each variable: one without is an empty text, if it has no default either.
    Flux(&'a dyn Fn(&str) -> Option<Value>),
    /// Nobody fills anything in.
    Nothing,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Made {
    pub(crate) objects: Vec<Value>,
    pub(crate) variables: BTreeSet<String>,
    /// Those that have neither a value nor a default.
    pub(crate) unset: BTreeSet<String>,
    /// As [`Inputs::paths`](bellwether_render::Inputs::paths) writes them.
    pub(crate) inputs: BTreeSet<String>,
}

impl Made {
    /// What was text to those who filled nothing in, and is what a target says of its cluster.
    pub(crate) fn taken_for_the_clusters(&self) -> Option<String> {
        let names: Vec<String> =
            self.variables.iter().filter(|name| is_clusters_own(name)).map(|name| format!("`${{{name}}}`")).collect();
        (!names.is_empty()).then(|| {
            let names = names.join(", ");
            format!("{names} in its files is filled in here, and was no variable before: put another `$` before it if it is to stay text")
        })
    }
}

/// No file of a repository has this name.
const VALUES: &str = "values-of-the-manifest.json";

impl RenderRequest {
    /// With values as another tool gives them to Helm: in a file, of which nothing is filled in.
    pub(crate) fn with_values(mut self, values: &Value) -> Self {
        let files = &mut self.render["helm"]["valuesFiles"];
        let listed = files.as_array().cloned().unwrap_or_default();
        *files = Value::Array([listed, vec![Value::from(VALUES)]].concat());
        self.changes.added.insert(VALUES.to_owned(), values.to_string().into_bytes());
        self
    }
}

/// Why nothing was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotMade {
    /// Nobody said where a checkout of this repo is.
    NotHere { repo: String },
    /// As a condition of a target says it.
    Failed(String),
}

impl From<String> for NotMade {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl<F: Files> Workspace<F> {
    /// What a render reads.
    fn view(&self, asked: &RenderRequest, options: &RenderOptions, own: Option<&str>) -> Result<View<F>, NotMade> {
        let find = |repo: &str| self.checkout(repo, own).ok_or_else(|| NotMade::NotHere { repo: repo.to_owned() });
        let mut mounted = BTreeMap::new();
        for file in options.files() {
            if let (RepoFile::Other { repo, .. }, Some(source)) = (file, file.source()) {
                mounted.insert(source.mount(), find(repo.as_str())?);
            }
        }
        Ok(View { files: find(&asked.repo)?, changes: asked.changes.clone(), mounted })
    }
}

/// Renders, with one of the repos that is the repository which was read.
pub(crate) fn render<F: Files>(
    workspace: &Workspace<F>,
    own: Option<&str>,
    asked: &RenderRequest,
    given: &Given<'_>,
) -> Result<Made, NotMade> {
    let options = match &asked.render {
        Value::Null => RenderOptions::default(),
        render => serde_json::from_value(render.clone()).map_err(|error| error.to_string())?,
    };
    let view = workspace.view(asked, &options, own)?;
    let invented = invented(&view);
    let told = |error: &dyn std::fmt::Display| NotMade::Failed(without_invented(&error.to_string(), &invented));
    let plan = Plan {
        folder: asked.folder.clone(),
        options,
        name: asked.name.clone(),
        namespace: asked.namespace.clone(),
        has_parameters: given.has_any(),
        project: "local".to_owned(),
    };
    let manifests = Manifests::open(workspace.engines.clone(), view, plan).map_err(|failure| told(&failure))?;
    let recipe = Recipe { marks: None, namespace: asked.namespace.clone(), agents: BTreeSet::new() };
    let mut made = Made { variables: manifests.variables().clone(), ..Made::default() };
    let objects = loop {
        let values = given.values(&made)?;
        match manifests.render(&recipe, &values) {
            // Each time it is another, so this ends.
            Err(Failure::Render(RenderError::VariableUnset { name, .. }))
                if matches!(given, Given::Flux(_)) && made.unset.insert(name.clone()) => {}
            rendered => break rendered.map_err(|failure| told(&failure))?,
        }
    };
    let bodies = objects.iter().map(|object| serde_json::from_slice(&object.body));
    made.objects = bodies.collect::<Result<_, _>>().map_err(|error: serde_json::Error| error.to_string())?;
    made.inputs = manifests.inputs().paths();
    Ok(made)
}

/// Files that are only there for the render.
fn invented<F: Files>(view: &View<F>) -> Vec<String> {
    let is_there = |path: &String| matches!(view.files.read(path, 0), Ok(Found::File(_) | Found::TooLarge));
    view.changes.added.keys().filter(|path| !is_there(path)).cloned().collect()
}

/// Their folders in place of them: nobody could look into them.
fn without_invented(message: &str, invented: &[String]) -> String {
    invented.iter().fold(message.to_owned(), |message, path| {
        let folder = folder_of(path);
        let shown = format!("`{}`", if folder.is_empty() { "./" } else { folder });
        replace_path(&message.replace(&format!("`{path}`"), path), path, &shown)
    })
}

/// Where it is not the end of a longer one.
fn replace_path(message: &str, path: &str, shown: &str) -> String {
    let (mut replaced, mut rest) = (String::new(), message);
    while let Some((before, after)) = rest.split_once(path) {
        let is_longer = before.ends_with(|before: char| before.is_alphanumeric() || "/._-".contains(before));
        replaced.extend([before, if is_longer { path } else { shown }]);
        rest = after;
    }
    replaced + rest
}

impl Given<'_> {
    fn has_any(&self) -> bool {
        match self {
            Self::Target { parameters, .. } => !parameters.is_null(),
            Self::Flux(_) => true,
            Self::Nothing => false,
        }
    }

    fn values(&self, made: &Made) -> Result<Values, String> {
        let name = CLUSTER.parse().map_err(|_| "the cluster has no name".to_owned())?;
        let none = Labels::new();
        let (sets, labels): (Vec<ParameterSet>, &Labels) = match self {
            Self::Target { parameters, labels } if !parameters.is_null() => {
                (serde_json::from_value((*parameters).clone()).map_err(|error| error.to_string())?, labels)
            }
            Self::Target { labels, .. } => (Vec::new(), labels),
            Self::Flux(find) => {
                let value = |name: &String| find(name).or_else(|| made.unset.contains(name).then(|| Value::from("")));
                let values = made.variables.iter().filter_map(|name| Some((name.clone(), value(name)?)));
                (vec![ParameterSet { clusters: None, values: values.collect() }], &none)
            }
            Self::Nothing => (Vec::new(), &none),
        };
        Ok(Parameters::resolve(&sets, ClusterFacts::new(&name, labels)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_nobody_wrote_is_its_folder_in_an_error() {
        let invented = ["kustomization.yaml".to_owned(), "apps/kustomization.yaml".to_owned()];
        for (message, told) in [
            ("apps/kustomization.yaml (ConfigMap a): it is wrong", "`apps` (ConfigMap a): it is wrong"),
            ("what `kustomization.yaml` makes is wrong", "what `./` makes is wrong"),
            ("`base/kustomization.yaml`: it is wrong", "`base/kustomization.yaml`: it is wrong"),
        ] {
            assert_eq!(without_invented(message, &invented), told);
        }
    }
}
