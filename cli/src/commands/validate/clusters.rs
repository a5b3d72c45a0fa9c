//! What the hub knows of clusters: which version of Kubernetes they have, what they serve, and what their definitions say.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::Digest;
use bellwether_core::Name;
use bellwether_core::api::{
    ClusterApis, ClusterDefinition, ClusterDefinitions, ClusterDocument, ClusterPhase, List, NamedDefinition,
};
use bellwether_core::apis::Apis;
use bellwether_validate::{LiveDefinition, Served, Version};
use jiff::Timestamp;

use super::super::{ALL, Context};
use crate::args::ValidateArgs;
use crate::client::{Answer, RequestError, Route};
use crate::failure::Failure;
use crate::output::note;

/// A cluster that files are for.
pub(crate) struct AskedCluster {
    name: Name,
    /// `None`: it is not known, or there are no schemas of it.
    pub(super) version: Option<Version>,
    pub(super) served: Option<Served>,
}

pub(super) async fn ask(context: &Context, arguments: &ValidateArgs) -> anyhow::Result<Vec<AskedCluster>> {
    let names = if arguments.clusters { list(context).await? } else { arguments.cluster.clone() };
    let mut asked = Vec::new();
    for name in names {
        let route = Route::named("clusters", &name).then("apis");
        let answer: Answer<ClusterApis> = context.client.fetch(&route).await?;
        asked.push(read(answer.document)?);
    }
    Ok(asked)
}

async fn list(context: &Context) -> anyhow::Result<Vec<Name>> {
    let answer: Answer<List<ClusterDocument>> = context.client.fetch_list(&Route::new(["clusters"]), ALL).await?;
    let has_joined = |cluster: &ClusterDocument| {
        matches!(cluster.status.phase, ClusterPhase::Connected | ClusterPhase::Disconnected)
    };
    let joined = answer.document.items.into_iter().filter(has_joined);
    let names: Vec<_> = joined.map(|cluster| cluster.metadata.name).collect();
    if names.is_empty() {
        return Err(Failure::new("no cluster has joined the hub").into());
    }
    Ok(names)
}

/// What is not known is told, and asked of nothing.
fn read(known: ClusterApis) -> anyhow::Result<AskedCluster> {
    let ClusterApis { cluster, facts, apis, .. } = known;
    let minor = facts.get("kubernetes.minor");
    let version = minor.and_then(|minor| minor.parse::<Version>().ok());
    match (minor, version) {
        (None, _) => note(&format!("the version of Kubernetes of {cluster} is not known yet")),
        (Some(minor), None) => note(&format!("there are no schemas of Kubernetes {minor}, which {cluster} has")),
        (Some(_), Some(_)) => {}
    }
    let served = match apis {
        Some(names) => {
            let apis = Apis::new(names).map_err(|_| Failure::new("the hub answers with what is no name of an API"))?;
            Some(Served { cluster: cluster.to_string(), apis })
        }
        None => {
            note(&format!("what {cluster} serves is not known yet"));
            None
        }
    };
    Ok(AskedCluster { name: cluster, version, served })
}

/// A definition that some clusters have.
struct Wanted {
    /// The first that has it, and its name there.
    route: Route,
    clusters: BTreeSet<(String, Timestamp)>,
}

/// The definitions of these groups that the clusters have, each asked for once.
pub(super) async fn ask_told(
    context: &Context,
    clusters: &[Name],
    groups: &BTreeSet<String>,
) -> anyhow::Result<Vec<LiveDefinition>> {
    let mut wanted: BTreeMap<Digest, Wanted> = BTreeMap::new();
    for cluster in clusters.iter().filter(|_| !groups.is_empty()) {
        let all = Route::named("clusters", cluster).then("definitions");
        let known: ClusterDefinitions = match context.client.fetch(&all).await {
            Ok(Answer { document, .. }) => document,
            // It has none of this.
            Err(RequestError::NotFound(_)) => {
                note(&format!("this hub does not tell which definitions {cluster} has"));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (Some(told_at), Some(definitions)) = (known.told_at, known.definitions) else {
            note(&format!("which definitions {cluster} has is not known yet: its agent has not said it"));
            continue;
        };
        if known.more > 0 {
            note(&format!("of the definitions of {cluster} {} are not known: they are too many", known.more));
        }
        let is_wanted = |one: &NamedDefinition| one.name.split_once('.').is_some_and(|(_, of)| groups.contains(of));
        for one in definitions.into_iter().filter(is_wanted) {
            match one.digest.filter(|_| one.is_stored) {
                Some(digest) => {
                    let route = || all.clone().then(&one.name);
                    let wanted =
                        wanted.entry(digest).or_insert_with(|| Wanted { route: route(), clusters: BTreeSet::new() });
                    wanted.clusters.insert((cluster.to_string(), told_at));
                }
                None => note(&format!("what {} defines in {cluster} is not stored in the hub", one.name)),
            }
        }
    }
    let mut told = Vec::new();
    for Wanted { route, clusters } in wanted.into_values() {
        match context.client.fetch::<ClusterDefinition>(&route).await {
            Ok(Answer { document, .. }) => {
                let definition = serde_json::from_str(document.definition.get())?;
                told.extend(LiveDefinition::new(clusters, &definition));
            }
            Err(RequestError::NotFound(failure)) => note(&failure.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(told)
}

impl AskedCluster {
    pub(super) fn name(&self) -> &Name {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::hub;
    use crate::output::Output;

    const DEFINITION: &str = r#"{"cluster":"eu","toldAt":"2026-11-25T12:00:00Z",
        "digest":"sha256:0000000000000000000000000000000000000000000000000000000000000001",
        "definition":{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","spec":{"group":"example.org",
        "names":{"kind":"Widget"},"versions":[]}}}"#;
    const DEFINED: &str = r#"{"cluster":"x","toldAt":"2026-11-25T12:00:00Z","more":0,"definitions":[
        {"name":"widgets.example.org","isStored":true,
         "digest":"sha256:0000000000000000000000000000000000000000000000000000000000000001"},
        {"name":"gadgets.example.org","digest":null,"isStored":false},
        {"name":"others.example.com","isStored":true,
         "digest":"sha256:0000000000000000000000000000000000000000000000000000000000000002"}]}"#;
    const UNKNOWN: &str = r#"{"cluster":"x","toldAt":null,"more":0,"definitions":null}"#;
    const NO_ROUTE: &str =
        r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no route","code":"route_not_found"}"#;

    #[tokio::test]
    async fn what_clusters_define_alike_is_asked_for_once_and_a_cluster_or_hub_that_does_not_say_is_no_failure() {
        let (client, served) =
            hub(vec![(200, DEFINED), (200, DEFINED), (200, UNKNOWN), (404, NO_ROUTE), (200, DEFINITION)]);
        let context = Context { client, output: Output::new(None) };
        let clusters: Vec<Name> = ["eu", "us", "old", "older"].map(|name| name.parse().expect("a name")).to_vec();

        let told =
            ask_told(&context, &clusters, &BTreeSet::from(["example.org".to_owned()])).await.expect("it is told");

        assert_eq!(told.len(), 1);
        let asked = served.join().expect("served");
        assert!(asked[0].starts_with("GET /api/v1/clusters/eu/definitions HTTP"), "{}", asked[0]);
        assert!(asked[4].starts_with("GET /api/v1/clusters/eu/definitions/widgets.example.org HTTP"), "{}", asked[4]);
    }

    #[tokio::test]
    async fn where_nothing_is_lacking_nothing_is_asked_for() {
        let (client, served) = hub(Vec::new());
        let context = Context { client, output: Output::new(None) };

        let told = ask_told(&context, &["eu".parse().expect("a name")], &BTreeSet::new()).await.expect("it is told");

        assert!(told.is_empty() && served.join().expect("served").is_empty());
    }
}
