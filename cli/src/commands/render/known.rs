//! What is known of the cluster that something is rendered for: by its hub, if that is asked, and by flags, which are over it.

use std::path::Path;

use anyhow::Context as _;
use bellwether_core::Labels;
use bellwether_core::api::{ClusterApis, ClusterDocument};
use bellwether_core::apis::{Apis, InvalidApis};
use bellwether_core::parameters::Traits;

use super::super::Context;
use crate::args::{Label, RenderArgs};
use crate::client::{Answer, Route};
use crate::failure::Failure;
use crate::output::{note, time};

#[derive(Debug, Default)]
pub(in crate::commands) struct Known {
    pub(super) labels: Labels,
    pub(super) traits: Traits,
}

/// Asks the hub. It renders for the cluster with the same.
pub(in crate::commands) async fn ask(context: &Context, arguments: &RenderArgs) -> anyhow::Result<Known> {
    let Some(name) = &arguments.cluster else { return Ok(Known::default()) };
    let route = Route::named("clusters", name);
    let cluster: Answer<ClusterDocument> = context.client.fetch(&route).await?;
    let served: Answer<ClusterApis> = context.client.fetch(&route.then("apis")).await?;
    let ClusterDocument { labels, annotations, .. } = cluster.document;
    let ClusterApis { facts, apis, facts_told_at, apis_told_at, .. } = served.document;
    for (told, at) in [("facts", facts_told_at), ("APIs", apis_told_at)] {
        if let Some(at) = at {
            note(&format!("the {told} of {name} are as its agent told them {}", time(at)));
        }
    }
    if apis.is_none() {
        note(&format!("what {name} serves is not known yet: charts see what Helm has built in"));
    }
    let apis = apis.map(Apis::new).transpose();
    let apis = apis.map_err(|_| Failure::new("the hub answers with what is no name of an API"))?;
    Ok(Known { labels, traits: Traits { annotations, facts, apis } })
}

impl Known {
    /// With what flags say.
    pub(super) fn with(mut self, arguments: &RenderArgs) -> anyhow::Result<Self> {
        let pair = |label: &Label| (label.key.clone(), label.value.clone());
        self.labels.extend(arguments.labels.iter().map(pair));
        self.traits.annotations.extend(arguments.annotations.iter().map(pair));
        self.traits.facts.extend(arguments.facts.iter().cloned());
        if let Some(file) = &arguments.cluster_apis {
            self.traits.apis = Some(read(file)?);
        }
        Ok(self)
    }
}

fn read(file: &Path) -> anyhow::Result<Apis> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let apis = parse(&text).map_err(|error| {
        Failure::usage(format!("`{}`: {error}", file.display())).hint(
            "write one a line, such as apps/v1 or apps/v1/Deployment, as `bellwether cluster apis NAME` prints them",
        )
    })?;
    Ok(apis)
}

/// In any order, with empty lines.
fn parse(text: &str) -> Result<Apis, InvalidApis> {
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
    Apis::new(names.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apis_are_read_as_kubectl_prints_them() {
        let apis = parse("apps/v1\r\nv1\n\napps/v1/Deployment\nv1\n").expect("names");

        assert_eq!(apis.names().collect::<Vec<_>>(), ["apps/v1", "apps/v1/Deployment", "v1"]);
        assert!(parse("NAME READY\n").is_err());
    }
}
