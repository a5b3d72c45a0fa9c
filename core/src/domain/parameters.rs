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

use crate::apis::Apis;
use crate::labels::{InvalidLabel, LabelSelector, Labels, Requirement};
use crate::object::digest_of;
use crate::{Digest, Name};

/// The longest value, as text. A value is a setting, not a file; half a Kubernetes object is more than enough.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Names that start so are the cluster's own, and cannot be set.
const CLUSTER_PREFIX: &str = "cluster.";
/// Before the key of a label of the cluster.
pub const CLUSTER_LABELS_PREFIX: &str = "cluster.labels.";
/// Before the key of an annotation of the cluster.
pub const CLUSTER_ANNOTATIONS_PREFIX: &str = "cluster.annotations.";
/// Before the name of a fact that its agent told.
pub const CLUSTER_FACTS_PREFIX: &str = "cluster.facts.";
/// Stands for all APIs of the cluster: whoever looks at them as a whole depends on each.
pub const CLUSTER_APIS: &str = "cluster.apis";
/// And before the name of one, for whether the cluster serves it. Neither can be written by anybody: charts ask for them.
pub const CLUSTER_APIS_PREFIX: &str = "cluster.apis.";
/// The fact that charts know as their Kubernetes version.
pub const VERSION_FACT: &str = "kubernetes.version";

/// Of a fact that is a parameter: a fact is an agent's word, and is to be no more than one.
const FACT_BYTES_MAX: usize = 63;

/// One entry of `parameters:` in a Target: values for the clusters that it names or selects, or for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterSet {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<ClusterSelector>,
    /// Strings, numbers and booleans by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Value>,
}

/// Which clusters a parameter set is for: a [`LabelSelector`] that may name them, too. All conditions must hold, and one that
/// is not known is not ignored. Only values are given by names: where something runs, and when, goes by labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenSelector", into = "WrittenSelector")]
pub struct ClusterSelector {
    /// It is one of these. They need not be there yet.
    pub match_names: Option<BTreeSet<Name>>,
    pub labels: LabelSelector,
}

/// As people write it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "they are the document's words")]
struct WrittenSelector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    match_names: Option<BTreeSet<Name>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: Labels,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<Requirement>,
}

impl From<WrittenSelector> for ClusterSelector {
    fn from(WrittenSelector { match_names, match_labels, match_expressions }: WrittenSelector) -> Self {
        Self { match_names, labels: LabelSelector { match_labels, match_expressions } }
    }
}

impl From<ClusterSelector> for WrittenSelector {
    fn from(ClusterSelector { match_names, labels }: ClusterSelector) -> Self {
        let LabelSelector { match_labels, match_expressions } = labels;
        Self { match_names, match_labels, match_expressions }
    }
}

impl ClusterSelector {
    /// This cluster alone.
    pub fn named(cluster: Name) -> Self {
        Self { match_names: Some([cluster].into()), labels: LabelSelector::default() }
    }

    fn selects(&self, cluster: ClusterFacts<'_>) -> bool {
        self.match_names.as_ref().is_none_or(|names| names.contains(cluster.name))
            && self.labels.selects(cluster.labels)
    }
}

/// How a value comes to a cluster, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// The set is for all.
    ForAll,
    /// It selects the cluster by its labels.
    ByLabels,
    /// It names the cluster.
    ByName,
    /// The cluster has it by itself, and no set can give another.
    Own,
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
    #[error("`matchNames` of parameter set {number} names no cluster")]
    NoNames { number: usize },
}

impl InvalidParameter {
    /// Stable, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name { .. } => "parameter_name_invalid",
            Self::Reserved { .. } => "parameter_name_reserved",
            Self::NotScalar { .. } => "parameter_not_scalar",
            Self::TooLong { .. } => "parameter_too_long",
            Self::Selector { .. } | Self::NoNames { .. } => "selector_invalid",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Name { .. } => "choose a name such as `replicas` or `image.tag`",
            Self::Reserved { .. } => {
                "`cluster.name`, `cluster.labels.KEY`, `cluster.annotations.KEY` and `cluster.facts.NAME` are the cluster's; \
                 choose another prefix"
            }
            Self::NotScalar { .. } => "write one parameter for each value",
            Self::TooLong { .. } => "keep files in the repo, and choose between them by a short parameter",
            Self::Selector { .. } => {
                "write it as a Kubernetes LabelSelector with matchLabels or matchExpressions, or name clusters by matchNames"
            }
            Self::NoNames { .. } => "name at least one, or leave `matchNames` out",
        }))
    }
}

/// What is known of a cluster besides its name and its labels: it is rendered for by this, and never chosen by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits {
    /// A person's word.
    pub annotations: BTreeMap<String, String>,
    /// Its agent's, such as `kubernetes.version`.
    pub facts: BTreeMap<String, String>,
    /// `None`: its agent has not said them.
    pub apis: Option<Apis>,
}

/// Which traits somebody depends on: the others need not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraitsUsed {
    pub annotations: bool,
    pub facts: bool,
    pub apis: bool,
}

impl TraitsUsed {
    /// Of whoever looks at none of them.
    pub const NONE: Self = Self { annotations: false, facts: false, apis: false };
    /// Of whoever may look at any.
    pub const ALL: Self = Self { annotations: true, facts: true, apis: true };

    /// By whoever uses these variables.
    pub fn by<'v>(variables: impl IntoIterator<Item = &'v String>) -> Self {
        let mut used = Self::NONE;
        for name in variables {
            used.annotations |= name.starts_with(CLUSTER_ANNOTATIONS_PREFIX);
            used.facts |= name.starts_with(CLUSTER_FACTS_PREFIX);
            used.apis |= name == CLUSTER_APIS || name.starts_with(CLUSTER_APIS_PREFIX);
        }
        used
    }

    /// Whether these are among the others.
    pub fn is_within(self, others: Self) -> bool {
        self.and(others) == others
    }

    /// What the cluster's agent says.
    pub const fn is_of_agents(self) -> bool {
        self.facts || self.apis
    }

    /// What either of two depends on.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            annotations: self.annotations || other.annotations,
            facts: self.facts || other.facts,
            apis: self.apis || other.apis,
        }
    }
}

/// What is known of a cluster when its values are chosen.
#[derive(Debug, Clone, Copy)]
pub struct ClusterFacts<'a> {
    name: &'a Name,
    labels: &'a Labels,
    traits: Option<&'a Traits>,
}

impl<'a> ClusterFacts<'a> {
    /// Nothing else is known of it.
    pub const fn new(name: &'a Name, labels: &'a Labels) -> Self {
        Self { name, labels, traits: None }
    }

    /// What people wrote on it.
    pub const fn labels(&self) -> &'a Labels {
        self.labels
    }

    /// The same cluster, of which these are known, too.
    #[must_use]
    pub const fn with(self, traits: &'a Traits) -> Self {
        Self { traits: Some(traits), ..self }
    }
}

/// Whether a fact may be a parameter. Others are only shown.
fn is_parameter(fact: &str, value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    value.len() <= FACT_BYTES_MAX && value.bytes().all(inner) && is_parameter_name(fact)
}

/// The fact that a parameter stands for.
pub fn fact_of(parameter: &str) -> Option<&str> {
    parameter.strip_prefix(CLUSTER_FACTS_PREFIX)
}

/// The parameters of a target, as operations on its sets.
#[derive(Debug, Clone, Copy)]
pub struct Parameters;

impl Parameters {
    /// Refuses sets that could not be resolved or referenced.
    pub fn check(sets: &[ParameterSet]) -> Result<(), InvalidParameter> {
        for (index, set) in sets.iter().enumerate() {
            if let Some(ClusterSelector { match_names, labels }) = &set.clusters {
                let number = index + 1;
                labels.check().map_err(|source| InvalidParameter::Selector { number, source })?;
                if match_names.as_ref().is_some_and(BTreeSet::is_empty) {
                    return Err(InvalidParameter::NoNames { number });
                }
            }
            set.values.iter().try_for_each(|(name, value)| check_value(name, value))?;
        }
        Ok(())
    }

    /// Every value that a cluster was given for a parameter, the weakest first.
    pub fn explain(sets: &[ParameterSet], cluster: ClusterFacts<'_>, name: &str) -> Vec<Layer> {
        let given = Self::for_cluster(sets, cluster).into_iter().filter_map(|(strength, number, set)| {
            let value = set.values.get(name).filter(|value| check_value(name, value).is_ok()).cloned()?;
            Some(Layer { set: Some(number), strength, value })
        });
        let own = Self::resolve(&[], cluster).by_name.remove(name);
        given.chain(own.map(|value| Layer { set: None, strength: Strength::Own, value })).collect()
    }

    /// The sets that give this cluster values, with their numbers from 1: the weakest first, and of equal strength the earlier.
    fn for_cluster<'s>(
        sets: &'s [ParameterSet],
        cluster: ClusterFacts<'_>,
    ) -> Vec<(Strength, usize, &'s ParameterSet)> {
        let strength = |set: &ParameterSet| match &set.clusters {
            None => Some(Strength::ForAll),
            Some(selector) if !selector.selects(cluster) => None,
            Some(selector) if selector.match_names.is_some() => Some(Strength::ByName),
            Some(_) => Some(Strength::ByLabels),
        };
        let numbered = (1..).zip(sets).filter_map(|(number, set)| Some((strength(set)?, number, set)));
        let mut sets: Vec<_> = numbered.collect();
        sets.sort_by_key(|&(strength, number, _)| (strength, number));
        sets
    }

    /// The values of one cluster. Sets for all are under those that select it, and these under those that name it, whatever
    /// their places; of two of one kind the later wins. What [`Parameters::check`] would refuse is left out.
    pub fn resolve(sets: &[ParameterSet], cluster: ClusterFacts<'_>) -> Values {
        let mut values: BTreeMap<String, Value> = Self::for_cluster(sets, cluster)
            .into_iter()
            .flat_map(|(.., set)| &set.values)
            .filter(|&(name, value)| check_value(name, value).is_ok())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        values.insert(format!("{CLUSTER_PREFIX}name"), Value::from(cluster.name.as_str()));
        let mut give = |prefix: &str, key: &str, value: &str| {
            values.insert(format!("{prefix}{key}"), Value::from(value));
        };
        cluster.labels.iter().for_each(|(key, value)| give(CLUSTER_LABELS_PREFIX, key, value));
        if let Some(Traits { annotations, facts, .. }) = cluster.traits {
            for (key, value) in annotations {
                give(CLUSTER_ANNOTATIONS_PREFIX, key, value);
            }
            let facts = facts.iter().filter(|(name, value)| is_parameter(name, value));
            facts.for_each(|(name, value)| give(CLUSTER_FACTS_PREFIX, name, value));
        }
        let names = Arc::new(values.keys().cloned().collect());
        Values { by_name: values, names, apis: cluster.traits.and_then(|traits| traits.apis.clone()) }
    }
}

/// Where a value of a parameter was given; the one that a cluster has is the last of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Which of the target's sets, from 1; `None`: it is the cluster's own.
    pub set: Option<usize>,
    pub strength: Strength,
    pub value: Value,
}

/// Whether `${NAME}` can mean a parameter. Only the cluster's labels and annotations may have a `/`, for the sake of keys
/// such as `topology.kubernetes.io/region`.
pub fn is_parameter_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first_may_stand = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let slash_may_stand = name.starts_with(CLUSTER_LABELS_PREFIX) || name.starts_with(CLUSTER_ANNOTATIONS_PREFIX);
    first_may_stand && name.bytes().all(|byte| inner(byte) || (byte == b'/' && slash_may_stand))
}

/// Whether a parameter is the cluster's own (its name, a label, an annotation, a fact), which is always text.
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
    by_name: BTreeMap<String, Value>,
    /// What the cluster has beyond what is used, for suggestions. No part of what the values are.
    names: Arc<BTreeSet<String>>,
    /// What the cluster serves. Once it is known what is used of it, that is among the values, and the rest is left out.
    apis: Option<Apis>,
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.by_name == other.by_name && self.apis == other.apis
    }
}

impl Eq for Values {}

/// Names only: a value may be a secret.
impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl Values {
    /// A string, number or boolean, as it was given.
    pub fn find(&self, name: &str) -> Option<&Value> {
        self.by_name.get(name)
    }

    /// Every name that the cluster has a value for, also those that [`Values::restricted_to`] left out.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// With these where it has none.
    #[must_use]
    pub fn over(&self, weaker: BTreeMap<String, Value>) -> Self {
        let mut values = weaker;
        values.extend(self.by_name.clone());
        let names = self.names.iter().chain(values.keys()).cloned().collect();
        Self { by_name: values, names: Arc::new(names), apis: self.apis.clone() }
    }

    /// What the cluster serves, as far as that is known.
    pub const fn apis(&self) -> Option<&Apis> {
        self.apis.as_ref()
    }

    /// Only what is used. Clusters whose used values are equal share a bundle.
    #[must_use]
    pub fn restricted_to(&self, names: &BTreeSet<String>) -> Self {
        let used = self.by_name.iter().filter(|(name, _)| names.contains(*name));
        let mut values: BTreeMap<_, _> = used.map(|(name, value)| (name.clone(), value.clone())).collect();
        if let Some(apis) = &self.apis {
            if names.contains(CLUSTER_APIS) {
                values.insert(CLUSTER_APIS.to_owned(), Value::from(apis.digest().to_string()));
            }
            for name in names.range(CLUSTER_APIS_PREFIX.to_owned()..) {
                let Some(api) = name.strip_prefix(CLUSTER_APIS_PREFIX) else { break };
                values.insert(name.clone(), Value::from(apis.has(api)));
            }
        }
        Self { by_name: values, names: Arc::clone(&self.names), apis: None }
    }

    /// Equal for equal values, and only for these: the number 4 is not the string `4`.
    pub fn digest(&self) -> Digest {
        digest_of(&self.by_name.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
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
        Parameters::resolve(&sets(document), ClusterFacts::new(&name, &labels))
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
    fn a_set_that_names_the_cluster_is_stronger_than_one_that_selects_it_whatever_their_order() {
        let document = json!([
            {"clusters": {"matchNames": ["berlin", "paris"]}, "values": {"size": 3, "log": "first"}},
            {"clusters": {"matchNames": ["berlin"], "matchLabels": {"ring": "canary"}}, "values": {"log": "last"}},
            {"clusters": {"matchNames": ["paris"]}, "values": {"size": 4}},
            {"clusters": {"matchNames": ["berlin"], "matchLabels": {"ring": "other"}}, "values": {"size": 5}},
            {"clusters": {"matchLabels": {"ring": "canary"}}, "values": {"size": 2}},
            {"values": {"size": 1}},
        ]);

        let values = resolve(document, json!({"ring": "canary"}));

        assert_eq!(values.find("size"), Some(&json!(3)));
        assert_eq!(values.find("log"), Some(&json!("last")), "of two that name it the later wins");
    }

    #[test]
    fn names_are_written_as_they_were_read_and_none_at_all_is_a_mistake() {
        let written = json!([{"clusters": {"matchNames": ["berlin"], "matchLabels": {"a": "b"}}, "values": {"a": 1}}]);
        assert_eq!(serde_json::to_value(sets(written.clone())).expect("JSON"), written);
        let empty = sets(json!([{"values": {"a": 1}}, {"clusters": {"matchNames": []}, "values": {"a": 2}}]));

        let refused = Parameters::check(&empty);

        assert!(matches!(refused, Err(InvalidParameter::NoNames { number: 2 })), "{refused:?}");
        let read = |set| serde_json::from_value::<ParameterSet>(set);
        assert!(read(json!({"clusters": {"matchNames": ["a b"]}})).is_err());
        let unknown = read(json!({"clusters": {"matchName": ["a"]}})).expect_err("it would be for all clusters");
        assert!(unknown.to_string().contains("matchNames"), "{unknown}");
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
    fn annotations_and_facts_are_the_clusters_own_and_a_fact_is_never_more_than_a_word() {
        let traits = Traits {
            annotations: [("team/owner".to_owned(), "Ann & Bob\n".to_owned())].into(),
            facts: [("kubernetes.version", "v1.33.2+k3s1"), ("kubernetes.platform", "linux/amd64"), ("a b", "c")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            apis: None,
        };
        let (name, labels) = ("berlin".parse().expect("is a name"), Labels::new());
        let cluster = ClusterFacts::new(&name, &labels);

        let values = Parameters::resolve(&[], cluster.with(&traits));

        assert_eq!(values.find("cluster.annotations.team/owner"), Some(&json!("Ann & Bob\n")));
        assert_eq!(values.find("cluster.facts.kubernetes.version"), Some(&json!("v1.33.2+k3s1")));
        let others = values.names().filter(|name| name.starts_with("cluster.facts.")).count();
        assert_eq!(others, 1, "what is no word is only shown");
        assert!(is_parameter_name("cluster.annotations.team/owner"));
        assert_eq!(Parameters::resolve(&[], cluster).find("cluster.facts.kubernetes.version"), None);
        let own = Parameters::explain(&[], cluster.with(&traits), "cluster.facts.kubernetes.version");
        assert_eq!(own.len(), 1, "it can be explained");
    }

    #[test]
    fn who_uses_neither_annotations_nor_facts_need_not_have_them_read() {
        let used = |names: &[&str]| TraitsUsed::by(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());

        assert_eq!(used(&["cluster.name", "cluster.labels.a", "facts"]), TraitsUsed::NONE);
        assert_eq!(used(&["a", "cluster.facts.b"]), TraitsUsed { facts: true, ..TraitsUsed::NONE });
        assert_eq!(used(&["cluster.annotations.a/b", "cluster.facts.b", "cluster.apis.v1"]), TraitsUsed::ALL);
    }

    #[test]
    fn clusters_that_serve_other_apis_are_the_same_to_who_asks_for_what_both_serve() {
        let with = |apis: &str| Traits { apis: Some(Apis::parse(apis).expect("names")), ..Traits::default() };
        let (name, labels) = ("berlin".parse().expect("is a name"), Labels::new());
        let (plain, more) = (with("apps/v1\nv1"), with("apps/v1\nmonitoring.coreos.com/v1\nv1"));
        let resolve = |traits| Parameters::resolve(&[], ClusterFacts::new(&name, &labels).with(traits));
        let digest = |traits, used: &[&str]| {
            let used = used.iter().map(|&name| name.to_owned()).collect();
            resolve(traits).restricted_to(&used).digest()
        };

        let apps = ["cluster.apis.apps/v1"];
        assert_eq!(digest(&plain, &apps), digest(&more, &apps));
        for used in ["cluster.apis.monitoring.coreos.com/v1", "cluster.apis"] {
            assert_ne!(digest(&plain, &[used]), digest(&more, &[used]), "{used}");
        }
        let unknown = Traits::default();
        assert_ne!(digest(&plain, &apps), digest(&unknown, &apps), "what is not known is neither");
        assert_ne!(resolve(&plain), resolve(&more), "what is used is not known yet");
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
            {"clusters": {"matchNames": ["berlin"]}, "values": {"size": 4}},
            {"clusters": {"matchNames": ["paris"]}, "values": {"size": 5}},
        ]));
        let (name, labels) = ("berlin".parse().expect("is a name"), [("env".to_owned(), "prod".to_owned())].into());
        let cluster = ClusterFacts::new(&name, &labels);

        let layers = Parameters::explain(&sets, cluster, "size");

        let told: Vec<_> = layers.iter().map(|layer| (layer.set, layer.strength, layer.value.clone())).collect();
        let wanted = [
            (Some(2), Strength::ForAll, json!(1)),
            (Some(1), Strength::ByLabels, json!(3)),
            (Some(4), Strength::ByName, json!(4)),
        ];
        assert_eq!(told, wanted);
        assert_eq!(Parameters::resolve(&sets, cluster).find("size"), Some(&json!(4)));
        let own = Parameters::explain(&sets, cluster, "cluster.labels.env");
        assert_eq!(own, [Layer { set: None, strength: Strength::Own, value: json!("prod") }]);
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
