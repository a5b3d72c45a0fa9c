//! What a render gives to each cluster.

use std::collections::{BTreeMap, BTreeSet};

use super::Candidate;
use crate::Digest;
use crate::parameters::{ParameterSet, Parameters, Values};

/// A render, with the parameters of its target: which bundle each cluster gets from it.
#[derive(Debug, Clone)]
pub struct Rendered<'a> {
    parameters: &'a [ParameterSet],
    /// Parameters that its manifests name: of the others nothing depends.
    variables: BTreeSet<String>,
    variants: &'a BTreeMap<Digest, Digest>,
    /// The digest of no values, when nothing depends on parameters: hashed once, and not for each cluster.
    plain: Option<Digest>,
}

impl<'a> Rendered<'a> {
    /// `parameters` are the target's, `variables` the names that its manifests refer to, and `variants` the bundles, by
    /// the digest of the values of just these names ([`Values::digest`]). All of one version of the target's spec.
    pub fn new(parameters: &'a [ParameterSet], variables: &[String], variants: &'a BTreeMap<Digest, Digest>) -> Self {
        let plain = variables.is_empty().then(|| Values::default().digest());
        Self { parameters, variables: variables.iter().cloned().collect(), variants, plain }
    }

    /// The cluster's bundle; `None`: it was never rendered with that cluster's parameters.
    pub fn gives(&self, cluster: &Candidate) -> Option<Digest> {
        let values = self.plain.unwrap_or_else(|| {
            Parameters::resolve(self.parameters, cluster.facts()).restricted_to(&self.variables).digest()
        });
        self.variants.get(&values).copied()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::parameters::Traits;
    use crate::{ClusterId, Labels};

    fn cluster(name: &str, region: &str) -> Candidate {
        let labels = Labels::from([("region".to_owned(), region.to_owned())]);
        let cluster = ClusterId::new(Uuid::nil());
        Candidate { cluster, name: name.parse().expect("a name"), labels, traits: Traits::default(), connected: true }
    }

    fn used(parameters: &[ParameterSet], variables: &[String], cluster: &Candidate) -> Digest {
        Parameters::resolve(parameters, cluster.facts()).restricted_to(&variables.iter().cloned().collect()).digest()
    }

    #[test]
    fn each_cluster_gets_the_variant_of_the_parameters_that_are_used() {
        let set = json!({"clusters": {"matchLabels": {"region": "eu"}}, "values": {"replicas": 3}});
        let parameters: Vec<ParameterSet> = vec![
            serde_json::from_value(json!({"values": {"replicas": 1}})).expect("a set"),
            serde_json::from_value(set).expect("a set"),
        ];
        let variables = ["replicas".to_owned()];
        let (eu, us) = (cluster("a", "eu"), cluster("b", "us"));
        let (many, one) = (Digest::of(b"many"), Digest::of(b"one"));
        let both = [(used(&parameters, &variables, &eu), many), (used(&parameters, &variables, &us), one)].into();
        let only = [(used(&parameters, &variables, &us), one)].into();

        let gives =
            |variants| [&eu, &us].map(|cluster| Rendered::new(&parameters, &variables, variants).gives(cluster));

        assert_eq!(gives(&both), [Some(many), Some(one)]);
        assert_eq!(gives(&only), [None, Some(one)], "nothing stands in for what was not rendered");
    }

    #[test]
    fn without_variables_everybody_gets_the_same() {
        let cluster = cluster("a", "eu");
        let variants = [(used(&[], &[], &cluster), Digest::of(b"all"))].into();

        assert_eq!(Rendered::new(&[], &[], &variants).gives(&cluster), Some(Digest::of(b"all")));
    }
}
