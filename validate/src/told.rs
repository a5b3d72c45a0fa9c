//! Definitions that clusters have, as a hub was told of them: they count where neither the objects nor a folder define a kind.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::custom::{Definitions, Known};

/// One definition, and the clusters that have it so.
#[derive(Debug)]
pub struct LiveDefinition {
    /// With when each told it last.
    clusters: BTreeSet<(String, Timestamp)>,
    definitions: Definitions,
}

/// Where the schema of a kind came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldSchema {
    pub api_version: String,
    pub kind: String,
    pub cluster: String,
    pub told_at: Timestamp,
}

/// Clusters that are named; the others are counted.
const NAMED_MAX: usize = 5;

impl LiveDefinition {
    /// `None`: it is no definition.
    pub fn new(clusters: BTreeSet<(String, Timestamp)>, definition: &Value) -> Option<Self> {
        let mut definitions = Definitions::default();
        definitions.learn(definition).then_some(Self { clusters, definitions })
    }

    pub(crate) fn find(&self, api_version: &str, kind: &str) -> Option<Known<'_>> {
        Some(self.definitions.find(api_version, kind)).filter(|known| !matches!(known, Known::Nothing))
    }

    pub(crate) fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    pub(crate) fn schemas(&self, api_version: &str, kind: &str) -> impl Iterator<Item = ToldSchema> {
        self.clusters.iter().map(move |(cluster, told_at)| ToldSchema {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            cluster: cluster.clone(),
            told_at: *told_at,
        })
    }

    /// `eu-1, us-1 and 3 more`.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.clusters.iter().map(|(cluster, _)| cluster.as_str()).collect();
        named(&names)
    }
}

pub(crate) fn named(clusters: &[&str]) -> String {
    let named = clusters[..clusters.len().min(NAMED_MAX)].join(", ");
    match clusters.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
