//! Parameters: what a target's manifests may vary by cluster.
//!
//! Decides which values one cluster has. It never decides where something runs: selectors read labels that people set,
//! and what an agent reports about its cluster is no label. Neighbours: `render` puts the values into manifests.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::labels::{InvalidLabel, LabelSelector, Labels};
use crate::object::digest_of;
use crate::{Digest, Name};

/// The longest value, as text. A value is a setting, not a file; half a Kubernetes object is more than enough.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Names that start so are the cluster's own, and cannot be set.
const CLUSTER_PREFIX: &str = "cluster.";
const CLUSTER_LABELS_PREFIX: &str = "cluster.labels.";

/// One entry of `parameters:` in a Target: values for the clusters that it selects, or for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterSet {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<LabelSelector>,
    /// Strings, numbers and booleans by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Value>,
}

/// Why a parameter set is refused. No variant holds a value: it could be a secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidParameter {
    #[error("`{name}` is not a parameter's name: a letter or `_`, then letters, digits, `_`, `.` and `-`")]
    Name { name: String },
    #[error("`{name}` is the cluster's own and cannot be set")]
    Reserved { name: String },
    #[error("the value of `{name}` is {found}, not a string, number or boolean")]
    NotScalar { name: String, found: &'static str },
    #[error("the value of `{name}` has {bytes} bytes, more than {VALUE_BYTES_MAX}")]
    TooLong { name: String, bytes: usize },
    #[error("the selector of parameter set {number} is invalid")]
    Selector {
        /// From 1, as people count.
        number: usize,
        #[source]
        source: InvalidLabel,
    },
}

impl InvalidParameter {
    /// Stable, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name { .. } => "parameter_name_invalid",
            Self::Reserved { .. } => "parameter_name_reserved",
            Self::NotScalar { .. } => "parameter_not_scalar",
            Self::TooLong { .. } => "parameter_too_long",
            Self::Selector { .. } => "selector_invalid",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Name { .. } => "choose a name such as `replicas` or `image.tag`",
            Self::Reserved { .. } => "`cluster.name` and `cluster.labels.KEY` are always there; choose another prefix",
            Self::NotScalar { .. } => "write one parameter for each value",
            Self::TooLong { .. } => "keep files in the repo, and choose between them by a short parameter",
            Self::Selector { .. } => "write it as a Kubernetes LabelSelector with matchLabels or matchExpressions",
        }))
    }
}

/// What is known of a cluster when its values are chosen.
#[derive(Debug, Clone, Copy)]
pub struct ClusterFacts<'a> {
    pub name: &'a Name,
    pub labels: &'a Labels,
}

/// The parameters of a target, as operations on its sets.
#[derive(Debug, Clone, Copy)]
pub struct Parameters;

impl Parameters {
    /// Refuses sets that could not be resolved or referenced.
    pub fn check(sets: &[ParameterSet]) -> Result<(), InvalidParameter> {
        for (index, set) in sets.iter().enumerate() {
            if let Some(selector) = &set.clusters {
                selector.check().map_err(|source| InvalidParameter::Selector { number: index + 1, source })?;
            }
            set.values.iter().try_for_each(|(name, value)| check_value(name, value))?;
        }
        Ok(())
    }

    /// Every value that a cluster was given for a parameter, the weakest first.
    pub fn explain(sets: &[ParameterSet], cluster: ClusterFacts<'_>, name: &str) -> Vec<Layer> {
        let numbered = || (1..).zip(sets);
        let value = |set: &ParameterSet| set.values.get(name).filter(|value| check_value(name, value).is_ok()).cloned();
        let defaults = numbered().filter(|(_, set)| set.clusters.is_none());
        let selected = numbered()
            .filter(|(_, set)| set.clusters.as_ref().is_some_and(|selector| selector.selects(cluster.labels)));
        let given = defaults.chain(selected).filter_map(|(number, set)| {
            Some(Layer { set: Some(number), is_selected: set.clusters.is_some(), value: value(set)? })
        });
        let own = Self::resolve(&[], cluster).values.remove(name);
        given.chain(own.map(|value| Layer { set: None, is_selected: true, value })).collect()
    }

    /// The values of one cluster. Sets without a selector are the weakest, whatever their place; of the others the later
    /// wins. What [`Parameters::check`] would refuse is left out.
    pub fn resolve(sets: &[ParameterSet], cluster: ClusterFacts<'_>) -> Values {
        let defaults = sets.iter().filter(|set| set.clusters.is_none());
        let selected =
            sets.iter().filter(|set| set.clusters.as_ref().is_some_and(|selector| selector.selects(cluster.labels)));
        let mut values: BTreeMap<String, Value> = defaults
            .chain(selected)
            .flat_map(|set| &set.values)
            .filter(|&(name, value)| check_value(name, value).is_ok())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        values.insert(format!("{CLUSTER_PREFIX}name"), Value::from(cluster.name.as_str()));
        let labels = cluster.labels.iter();
        values
            .extend(labels.map(|(key, value)| (format!("{CLUSTER_LABELS_PREFIX}{key}"), Value::from(value.as_str()))));
        let names = Arc::new(values.keys().cloned().collect());
        Values { values, names }
    }
}

/// Where a value of a parameter was given; the one that a cluster has is the last of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Which of the target's sets, from 1; `None`: it is the cluster's own.
    pub set: Option<usize>,
    /// The set is for the clusters that it selects, and this is one.
    pub is_selected: bool,
    pub value: Value,
}

/// Whether `${NAME}` can mean a parameter. Only the cluster's labels may have a `/`, for the sake of keys such as
/// `topology.kubernetes.io/region`.
pub fn is_parameter_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first_may_stand = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let slash_may_stand = name.starts_with(CLUSTER_LABELS_PREFIX);
    first_may_stand && name.bytes().all(|byte| inner(byte) || (byte == b'/' && slash_may_stand))
}

/// Whether a parameter is the cluster's name or one of its labels, which are always text.
pub fn is_clusters_own(name: &str) -> bool {
    name.starts_with(CLUSTER_PREFIX)
}

fn check_value(name: &str, value: &Value) -> Result<(), InvalidParameter> {
    let named = || name.chars().take(80).collect::<String>();
    if name == "cluster" || is_clusters_own(name) {
        return Err(InvalidParameter::Reserved { name: named() });
    }
    if !is_parameter_name(name) {
        return Err(InvalidParameter::Name { name: named() });
    }
    let found = match value {
        Value::Bool(_) | Value::Number(_) => return Ok(()),
        Value::String(text) if text.len() <= VALUE_BYTES_MAX => return Ok(()),
        Value::String(text) => return Err(InvalidParameter::TooLong { name: named(), bytes: text.len() }),
        Value::Null => "null",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    };
    Err(InvalidParameter::NotScalar { name: named(), found })
}

/// The values of one cluster, or of all clusters that have the same: strings, numbers and booleans.
#[derive(Clone, Default)]
pub struct Values {
    values: BTreeMap<String, Value>,
    /// What the cluster has beyond what is used, for suggestions. No part of what the values are.
    names: Arc<BTreeSet<String>>,
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl Eq for Values {}

/// Names only: a value may be a secret.
impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Values {
    /// A string, number or boolean, as it was given.
    pub fn find(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Every name that the cluster has a value for, also those that [`Values::restricted_to`] left out.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// With these where it has none.
    #[must_use]
    pub fn over(&self, weaker: BTreeMap<String, Value>) -> Self {
        let mut values = weaker;
        values.extend(self.values.clone());
        let names = self.names.iter().chain(values.keys()).cloned().collect();
        Self { values, names: Arc::new(names) }
    }

    /// Only what is used. Clusters whose used values are equal share a bundle.
    #[must_use]
    pub fn restricted_to(&self, names: &BTreeSet<String>) -> Self {
        let used = self.values.iter().filter(|(name, _)| names.contains(*name));
        let values = used.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { values, names: Arc::clone(&self.names) }
    }

    /// Equal for equal values, and only for these: the number 4 is not the string `4`.
    pub fn digest(&self) -> Digest {
        digest_of(&self.values.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sets(document: Value) -> Vec<ParameterSet> {
        serde_json::from_value(document).expect("is a list of sets")
    }

    fn resolve(document: Value, labels: Value) -> Values {
        let name = "berlin".parse().expect("is a name");
        let labels = serde_json::from_value(labels).expect("are labels");
        Parameters::resolve(&sets(document), ClusterFacts { name: &name, labels: &labels })
    }

    fn check(values: &Value) -> Result<(), InvalidParameter> {
        Parameters::check(&sets(json!([{ "values": values }])))
    }

    #[test]
    fn a_set_that_selects_the_cluster_is_stronger_than_one_for_all_whatever_their_order() {
        let document = json!([
            {"clusters": {"matchLabels": {"region": "eu"}}, "values": {"replicas": 4}},
            {"values": {"replicas": 2, "tier": "web"}},
            {"clusters": {"matchLabels": {"region": "us"}}, "values": {"tier": "other"}},
        ]);

        let values = resolve(document, json!({"region": "eu"}));

        assert_eq!(values.find("replicas"), Some(&json!(4)));
        assert_eq!(values.find("tier"), Some(&json!("web")));
    }

    #[test]
    fn of_two_sets_that_select_the_cluster_the_later_wins() {
        let document = json!([
            {"clusters": {"matchLabels": {"ring": "canary"}}, "values": {"log": "debug"}},
            {"clusters": {}, "values": {"log": "info"}},
        ]);

        assert_eq!(resolve(document, json!({"ring": "canary"})).find("log"), Some(&json!("info")));
    }

    #[test]
    fn the_clusters_name_and_labels_are_always_there_and_cannot_be_set() {
        let document = json!([{"values": {"cluster.name": "forged", "cluster.labels.ring": "forged"}}]);
        assert!(matches!(Parameters::check(&sets(document.clone())), Err(InvalidParameter::Reserved { .. })));

        let values = resolve(document, json!({"topology.kubernetes.io/region": "eu"}));

        assert_eq!(values.find("cluster.name"), Some(&json!("berlin")));
        assert_eq!(values.find("cluster.labels.topology.kubernetes.io/region"), Some(&json!("eu")));
        assert_eq!(values.find("cluster.labels.ring"), None);
    }

    #[test]
    fn names_and_values_that_no_manifest_could_use_are_refused() {
        assert!(check(&json!({"image.tag": "v1", "_a-b": 1, "on": true})).is_ok());
        for name in ["", "1a", "a b", "a/b", "ä", "${a}", "-a", ".a"] {
            assert!(matches!(check(&json!({ name: 1 })), Err(InvalidParameter::Name { .. })), "{name}");
        }
        for value in [json!(null), json!([1]), json!({"a": 1})] {
            assert!(matches!(check(&json!({ "a": value })), Err(InvalidParameter::NotScalar { .. })));
        }
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        assert!(matches!(check(&json!({ "a": long })), Err(InvalidParameter::TooLong { .. })));
    }

    #[test]
    fn a_bad_selector_is_named_by_its_place() {
        let document = json!([{}, {"clusters": {"matchLabels": {"a b": "c"}}}]);

        let refused = Parameters::check(&sets(document));

        assert!(matches!(refused, Err(InvalidParameter::Selector { number: 2, .. })));
    }

    #[test]
    fn clusters_that_differ_only_in_what_is_not_used_have_one_digest() {
        let document = json!([{"values": {"replicas": 2}}]);
        let (eu, us) = (resolve(document.clone(), json!({"ring": "eu"})), resolve(document, json!({"ring": "us"})));
        let used = BTreeSet::from(["replicas".to_owned(), "cluster.name".to_owned()]);

        assert_ne!(eu.digest(), us.digest());
        assert_eq!(eu.restricted_to(&used).digest(), us.restricted_to(&used).digest());
        assert!(eu.restricted_to(&used).names().any(|name| name == "cluster.labels.ring"), "it can still be suggested");
    }

    #[test]
    fn a_number_and_its_text_have_two_digests() {
        let number = resolve(json!([{"values": {"a": 4}}]), json!({}));
        let text = resolve(json!([{"values": {"a": "4"}}]), json!({}));

        assert_ne!(number.digest(), text.digest());
    }

    #[test]
    fn every_layer_of_a_parameter_is_told_and_the_last_is_what_a_cluster_has() {
        let sets = sets(json!([
            {"clusters": {"matchLabels": {"env": "prod"}}, "values": {"size": 3}},
            {"values": {"size": 1, "other": "x"}},
            {"clusters": {"matchLabels": {"env": "test"}}, "values": {"size": 2}},
        ]));
        let (name, labels) = ("berlin".parse().expect("is a name"), [("env".to_owned(), "prod".to_owned())].into());
        let cluster = ClusterFacts { name: &name, labels: &labels };

        let layers = Parameters::explain(&sets, cluster, "size");

        let told: Vec<_> = layers.iter().map(|layer| (layer.set, layer.is_selected, layer.value.clone())).collect();
        assert_eq!(told, [(Some(2), false, json!(1)), (Some(1), true, json!(3))]);
        assert_eq!(Parameters::resolve(&sets, cluster).find("size"), Some(&json!(3)));
        let own = Parameters::explain(&sets, cluster, "cluster.labels.env");
        assert_eq!(own, [Layer { set: None, is_selected: true, value: json!("prod") }]);
        assert!(Parameters::explain(&sets, cluster, "none").is_empty());
    }

    #[test]
    fn weaker_values_are_used_where_there_is_none() {
        let values = resolve(json!([{"values": {"a": 1}}]), json!({}));

        let over = values.over([("a".to_owned(), json!(2)), ("b".to_owned(), json!(3))].into());

        assert_eq!((over.find("a"), over.find("b")), (Some(&json!(1)), Some(&json!(3))));
        assert!(over.names().any(|name| name == "b"), "it may be meant by who misspells it");
    }
}
