//! What the hub knows of clusters: which version of Kubernetes they have, and what they serve. Never the schemas of their
//! definitions, which no agent sends.

use bellwether_core::Name;
use bellwether_core::api::{ClusterApis, ClusterDocument, ClusterPhase, List};
use bellwether_core::apis::Apis;
use bellwether_validate::{Served, Version};

use super::super::{ALL, Context};
use crate::args::ValidateArgs;
use crate::client::{Answer, Route};
use crate::failure::Failure;
use crate::output::note;

/// A cluster that files are for.
pub(crate) struct AskedCluster {
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
    let ClusterApis { cluster, facts, apis } = known;
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
    Ok(AskedCluster { version, served })
}
