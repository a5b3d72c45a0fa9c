//! What files make, by the same engines that a hub has.

use std::collections::BTreeSet;
use std::sync::Arc;

use bellwether_core::Labels;
use bellwether_core::parameters::{ClusterFacts, ParameterSet, Parameters, Values};
use bellwether_render::{Engines, Failure, Files, Manifests, Plan, Recipe, RenderError};
use serde_json::Value;

use crate::view::{Changes, View};

/// The name of a cluster that nobody named.
const CLUSTER: &str = "cluster";

/// What is to be rendered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
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

/// Renders, or says why not, as a condition of a target says it.
pub(crate) fn render<F: Files>(
    engines: &Engines,
    files: &Arc<F>,
    asked: &Asked,
    given: &Given<'_>,
) -> Result<Made, String> {
    let options = match &asked.render {
        Value::Null => serde_json::from_value(Value::Object(serde_json::Map::new())),
        render => serde_json::from_value(render.clone()),
    };
    let plan = Plan {
        folder: asked.folder.clone(),
        options: options.map_err(|error| error.to_string())?,
        name: asked.name.clone(),
        namespace: asked.namespace.clone(),
        has_parameters: given.has_any(),
        project: "local".to_owned(),
    };
    let view = View { files: files.clone(), changes: asked.changes.clone() };
    let manifests = Manifests::open(engines.clone(), view, plan).map_err(|failure| failure.to_string())?;
    let recipe = Recipe { marks: None, namespace: asked.namespace.clone(), agents: BTreeSet::new() };
    let mut made = Made { variables: manifests.variables().clone(), ..Made::default() };
    let objects = loop {
        let values = given.values(&made)?.restricted_to(&made.variables);
        match manifests.render(&recipe, &values) {
            // Each time it is another, so this ends.
            Err(Failure::Render(RenderError::VariableUnset { name, .. }))
                if matches!(given, Given::Flux(_)) && made.unset.insert(name.clone()) => {}
            rendered => break rendered.map_err(|failure| failure.to_string())?,
        }
    };
    let bodies = objects.iter().map(|object| serde_json::from_slice(&object.body));
    made.objects = bodies.collect::<Result<_, _>>().map_err(|error: serde_json::Error| error.to_string())?;
    made.inputs = manifests.inputs().paths();
    Ok(made)
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
        Ok(Parameters::resolve(&sets, ClusterFacts { name: &name, labels }))
    }
}
