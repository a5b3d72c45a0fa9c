//! The CustomResourceDefinitions of the cluster: their names and versions by a watch, and each by itself when it is asked for.
//!
//! They are watched by their metadata: all bodies together may be larger than an agent is.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::mpsc;

use super::evidence::DEFINITIONS;
use super::watch::{status, told};
use super::{Cluster, ClusterError, absent_as_none};
use crate::backoff::{Backoff, Jitter, chance};

/// Between tries: nobody waits for it.
const RECONNECT: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_mins(1), jitter: Jitter::Half };

/// What was applied by `kubectl` stands in an annotation of up to 256 KiB.
const PAGE: u32 = 10;

/// What is seen of definitions, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A list begins: what it does not name is gone.
    Begins,
    Present {
        name: String,
        /// Another one with each change of what it defines.
        version: String,
    },
    Gone {
        name: String,
    },
    /// All that there are have been told.
    Listed,
}

impl Cluster {
    /// Tells which definitions there are, until the receiver is gone.
    pub(crate) async fn watch_definitions(&self, to: mpsc::Sender<Seen>) {
        let resource = ApiResource {
            group: "apiextensions.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "apiextensions.k8s.io/v1".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            plural: "customresourcedefinitions".to_owned(),
        };
        let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(self.inner.requests.client(), &resource);
        let mut events = pin!(watcher(api, watcher::Config::default().page_size(PAGE)));
        let mut failures = 0;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    failures = 0;
                    if let Some(seen) = seen(event)
                        && to.send(seen).await.is_err()
                    {
                        return;
                    }
                }
                Err(error) => {
                    failures += 1;
                    // An agent whose rights were narrowed may not see them.
                    if status(&error) != Some(403) || failures == 1 {
                        tracing::info!(error = %told(&error), "the definitions of the cluster are not seen");
                    }
                    tokio::time::sleep(RECONNECT.wait(failures, chance())).await;
                }
            }
        }
    }

    /// As the API server has it; `None` when it is not there.
    pub(crate) async fn fetch_definition(&self, name: &str) -> Result<Option<Vec<u8>>, ClusterError> {
        let answer = absent_as_none(self.inner.requests.get(&format!("{DEFINITIONS}/{name}")).await)?;
        Ok(answer.map(super::request::Answer::into_bytes))
    }
}

fn seen(event: Event<PartialObjectMeta<DynamicObject>>) -> Option<Seen> {
    Some(match event {
        Event::Init => Seen::Begins,
        Event::InitDone => Seen::Listed,
        Event::InitApply(object) | Event::Apply(object) => {
            let (uid, generation) = (object.metadata.uid?, object.metadata.generation.unwrap_or_default());
            Seen::Present { name: object.metadata.name?, version: format!("{uid}/{generation}") }
        }
        Event::Delete(object) => Seen::Gone { name: object.metadata.name? },
    })
}
