//! What a target is: which folder of which repo goes to which clusters, with which values, and how.
//!
//! The program works with these nouns, and rows hold them as they serialise here. A later version may have written a row,
//! so fields that are not known are ignored, and those that are missing have their defaults. What people write is
//! another type, which refuses what it does not know: `api::WrittenTarget`. `docs/decisions/0009` says why.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::labels::{InvalidLabel, LabelSelector, Labels};
use crate::parameters::{ClusterFacts, InvalidParameter, ParameterSet, Parameters};
use crate::render::{InvalidRender, RenderOptions};
use crate::rollout::{Strategy, StrategyError};
use crate::session::SyncOptions;
use crate::source::{GitRef, is_valid, is_valid_path};

/// What a person wants of a target, as the program has it and rows hold it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetSpec {
    pub repo: Name,
    #[serde(rename = "ref", default)]
    pub reference: GitRef,
    /// A folder of the repo; its root when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    #[serde(default, skip_serializing_if = "RenderOptions::is_default")]
    pub render: RenderOptions,
    /// For objects that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// Selects by labels; an empty one selects all.
    #[serde(default)]
    pub clusters: LabelSelector,
    /// In order: a later set wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ParameterSet>,
    #[serde(default)]
    pub sync: SyncOptions,
    /// The default strategy when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Strategy>,
}

/// Why a target is refused, whoever reads it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidTarget {
    #[error("`{range}` is not a range of versions")]
    Range { range: String },
    #[error("`ref` is not a name that Git could have")]
    Reference,
    #[error("`path` `{path}` does not lead into the repo")]
    Path { path: String },
    #[error(transparent)]
    Clusters(InvalidLabel),
    #[error(transparent)]
    Parameters(#[from] InvalidParameter),
    #[error(transparent)]
    Render(#[from] InvalidRender),
    #[error("`createNamespace` is asked for, and the target has no namespace")]
    NoNamespace,
    #[error("`serviceAccount` is asked for, and the target has no namespace in which it could be")]
    NoNamespaceOfAccount,
    #[error(transparent)]
    Rollout(#[from] StrategyError),
}

impl InvalidTarget {
    /// Stable, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Range { .. } | Self::Reference => "ref_invalid",
            Self::Path { .. } => "path_invalid",
            Self::Clusters(_) => "selector_invalid",
            Self::Parameters(error) => error.code(),
            Self::Render(error) => error.code(),
            Self::NoNamespace | Self::NoNamespaceOfAccount => "sync_invalid",
            Self::Rollout(_) => "rollout_invalid",
        }
    }

    /// Of the spec.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Range { .. } | Self::Reference => "ref",
            Self::Path { .. } => "path",
            Self::Clusters(_) => "clusters",
            Self::Parameters(_) => "parameters",
            Self::Render(_) => "render",
            Self::NoNamespace | Self::NoNamespaceOfAccount => "sync",
            Self::Rollout(_) => "rollout",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Range { .. } | Self::Reference => Some(Cow::Borrowed(
                "give one of branch, tag, semver with a range such as `>=1.2 <2` or `1.2.x`, commit with 40 hexadecimal digits, or, of \
                 an artifact, digest with `sha256:` and 64 of them",
            )),
            Self::Path { .. } => {
                Some(Cow::Borrowed("write it without `..`, and without `/` at its start or end, such as apps/shop"))
            }
            Self::Parameters(error) => error.hint(),
            Self::Render(error) => error.hint(),
            Self::NoNamespace => {
                Some(Cow::Borrowed("write `namespace:` into the spec, or leave `createNamespace` out"))
            }
            Self::NoNamespaceOfAccount => {
                Some(Cow::Borrowed("write `namespace:` into the spec: the account is one of that namespace"))
            }
            Self::Clusters(_) | Self::Rollout(_) => None,
        }
    }
}

impl TargetSpec {
    /// Refuses what could never be rendered or rolled out. Whether its repo is there, the hub knows.
    pub fn check(&self) -> Result<(), InvalidTarget> {
        if !is_valid(&self.reference) {
            return Err(match &self.reference {
                GitRef::Semver(range) => InvalidTarget::Range { range: range.clone() },
                _ => InvalidTarget::Reference,
            });
        }
        if !is_valid_path(&self.path) {
            return Err(InvalidTarget::Path { path: self.path.clone() });
        }
        self.clusters.check().map_err(InvalidTarget::Clusters)?;
        Parameters::check(&self.parameters)?;
        self.render.check()?;
        if self.sync.create_namespace && self.namespace.is_none() {
            return Err(InvalidTarget::NoNamespace);
        }
        if self.sync.service_account.is_some() && self.namespace.is_none() {
            return Err(InvalidTarget::NoNamespaceOfAccount);
        }
        self.rollout.as_ref().map_or(Ok(()), Strategy::check)?;
        Ok(())
    }

    /// Whether it matters to the target that a cluster is another now: to whether it selects the cluster, to what it gives it,
    /// or to the wave that it is in. `None`: the cluster is not there. Of a target that has rendered it is known which values
    /// are `used`.
    pub fn minds(
        &self,
        (before, after): (Option<ClusterFacts<'_>>, Option<ClusterFacts<'_>>),
        used: Option<&BTreeSet<String>>,
    ) -> bool {
        let given = |cluster: Option<ClusterFacts<'_>>| {
            let cluster = cluster.filter(|cluster| self.clusters.selects(cluster.labels()))?;
            let values = Parameters::resolve(&self.parameters, cluster);
            let values = used.map_or_else(|| values.clone(), |used| values.restricted_to(used));
            Some((values, self.waves_of(cluster.labels())))
        };
        given(before) != given(after)
    }

    /// Which waves select a cluster by its labels.
    fn waves_of(&self, labels: &Labels) -> Vec<bool> {
        let waves = self.rollout.iter().flat_map(|strategy| &strategy.waves);
        waves.map(|wave| wave.clusters.as_ref().is_some_and(|clusters| clusters.selects(labels))).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parameters::Traits;
    use crate::session::Prune;

    #[test]
    fn a_stored_form_of_a_later_version_is_read_without_what_is_not_known() {
        let stored = json!({
            "repo": "apps", "ref": {"tag": "v1", "later": 1}, "later": {}, "render": {"later": 1, "helm": {"later": 1}},
            "parameters": [{"values": {"a": 1}, "later": 1}], "sync": {"prune": "never", "later": 1},
            "rollout": {"later": 1, "waves": [{"name": "canary", "count": 1, "later": 1}]},
        });

        let spec: TargetSpec = serde_json::from_value(stored).expect("it is read");

        assert_eq!((spec.reference, spec.sync.prune), (GitRef::Tag("v1".to_owned()), Prune::Never));
        assert_eq!(spec.rollout.map(|strategy| strategy.waves[0].count), Some(Some(1)));
        assert_eq!(spec.parameters[0].values["a"], 1);
    }

    #[test]
    fn a_condition_of_a_selector_that_is_not_known_is_not_ignored() {
        for stored in [
            json!({"repo": "apps", "clusters": {"matchNames": ["a"]}}),
            json!({"repo": "apps", "parameters": [{"clusters": {"matchFields": ["a"]}}]}),
            json!({"repo": "apps", "rollout": {"waves": [{"name": "a", "clusters": {"matchNames": ["a"]}}]}}),
        ] {
            let read = serde_json::from_value::<TargetSpec>(stored.clone());
            assert!(read.is_err(), "it would select clusters that nobody meant: {stored}");
        }
    }

    #[test]
    fn a_namespace_is_made_only_where_the_target_names_one() {
        let check = |spec: serde_json::Value| serde_json::from_value::<TargetSpec>(spec).expect("is read").check();
        let sync = json!({"createNamespace": true});

        assert_eq!(check(json!({"repo": "apps", "namespace": "shop", "sync": sync})), Ok(()));
        assert_eq!(check(json!({"repo": "apps", "sync": sync})), Err(InvalidTarget::NoNamespace));
    }

    #[test]
    fn a_service_account_is_one_of_the_targets_own_namespace() {
        let read = |spec: serde_json::Value| serde_json::from_value::<TargetSpec>(spec);
        let sync = json!({"serviceAccount": "deployer"});
        let check = |spec| read(spec).expect("is read").check();

        assert_eq!(check(json!({"repo": "apps", "namespace": "shop", "sync": sync})), Ok(()));
        assert_eq!(check(json!({"repo": "apps", "sync": sync})), Err(InvalidTarget::NoNamespaceOfAccount));
        let of_another = json!({"serviceAccount": "kube-system/deployer"});
        assert!(read(json!({"repo": "apps", "namespace": "shop", "sync": of_another})).is_err());
    }

    fn spec(clusters: &serde_json::Value, parameters: &serde_json::Value) -> TargetSpec {
        let spec = json!({"repo": "apps", "clusters": clusters, "parameters": parameters});
        serde_json::from_value(spec).expect("is a spec")
    }

    #[test]
    fn a_target_minds_labels_that_it_selects_by_or_gives_by_and_no_others() {
        let labels = |labels: serde_json::Value| serde_json::from_value::<Labels>(labels).expect("are labels");
        let name: Name = "berlin".parse().expect("is a name");
        let (eu, us) = (labels(json!({"region": "eu", "rack": "1"})), labels(json!({"region": "us", "rack": "1"})));
        let moved = labels(json!({"region": "eu", "rack": "2"}));
        let in_europe = json!({"matchLabels": {"region": "eu"}});
        let by_rack = json!([{"clusters": {"matchLabels": {"rack": "2"}}, "values": {"size": 4}}]);
        let plain = spec(&in_europe, &json!([]));
        let sized = spec(&in_europe, &by_rack);
        let uses = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let minds = |spec: &TargetSpec, before: &Labels, after: &Labels, used: &[&str]| {
            let (before, after) = (ClusterFacts::new(&name, before), ClusterFacts::new(&name, after));
            spec.minds((Some(before), Some(after)), Some(&uses(used)))
        };

        assert!(minds(&plain, &eu, &us, &[]), "it is selected no more");
        assert!(minds(&plain, &us, &eu, &[]), "it is selected now");
        assert!(!minds(&plain, &eu, &moved, &[]), "nothing is given by it");
        assert!(minds(&plain, &eu, &moved, &["cluster.labels.rack"]), "a manifest has it");
        assert!(minds(&sized, &eu, &moved, &["size"]), "a value is chosen by it");
        assert!(!minds(&sized, &eu, &moved, &["other"]), "no manifest has that value");
        let with = |labels| Some(ClusterFacts::new(&name, labels));
        assert!(plain.minds((with(&eu), with(&moved)), None), "what it uses is not known yet");
        let named = spec(&json!({}), &json!([{"clusters": {"matchNames": ["berlin"]}, "values": {"size": 4}}]));
        let other: Name = "paris".parse().expect("is a name");
        let renamed = (with(&eu), Some(ClusterFacts::new(&other, &eu)));
        assert!(named.minds(renamed, Some(&uses(&["size"]))), "a value is given to it by its name");
        assert!(!named.minds(renamed, Some(&uses(&["other"]))));
        assert!(plain.minds((None, with(&eu)), Some(&uses(&[]))), "it joins");
        assert!(!plain.minds((None, with(&us)), Some(&uses(&[]))), "it joins elsewhere");
        let traits = Traits { facts: [("kubernetes.minor".to_owned(), "33".to_owned())].into(), ..Traits::default() };
        let upgraded = with(&eu).map(|cluster| cluster.with(&traits));
        assert!(!plain.minds((with(&eu), upgraded), Some(&uses(&["cluster.name"]))), "no manifest has that fact");
        assert!(plain.minds((with(&eu), upgraded), Some(&uses(&["cluster.facts.kubernetes.minor"]))));
    }
}
