//! The agent's own objects that show its targets: all of them by one watch, and one write at a time.

use std::pin::pin;
use std::time::Duration;

use bellwether_core::assignment::{API_VERSION, DEFINITION, KIND, Write};
use futures_util::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::evidence::DEFINITIONS;
use super::watch::{status, told};
use super::{Cluster, ClusterError};
use crate::backoff::{Backoff, Jitter, chance};

/// Between tries: an agent that starts does nothing before it knows who is suspended.
const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(10), jitter: Jitter::Half };

/// An API server that has just started forbids everything for a moment, and serves what is defined a little later.
const FAILURES_MAX: u32 = 8;

/// The same of answers that do not come at all.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Each says what a target says, and somebody's annotations of up to 256 KiB.
const PAGE: u32 = 50;

const PLURAL: &str = "assignments";

/// Who wrote what stands in them; not the manager of what targets hold.
const MANAGER: &str = "bellwether-agent";

/// What is seen of them, in order.
#[derive(Debug)]
pub(crate) enum SeenAssignment {
    /// A list begins: what it does not name is gone.
    Begins,
    Present(Value),
    Gone(String),
    /// All that there are have been told.
    Listed,
}

/// Why they are not seen, and will not be before somebody changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// Their definition is not installed, so there are none.
    Missing,
    /// They are defined, and not served.
    Unserved,
    /// There may be some, and the agent has no right to them.
    Refused,
    /// There may be some; the API server answers for others and not for them, as where a webhook of theirs is broken.
    Failing,
    /// Nobody listens any more.
    Unheard,
}

impl Cluster {
    /// Tells all that there are, and each change.
    pub(crate) async fn watch_assignments(self, to: mpsc::Sender<SeenAssignment>) -> Unseen {
        let (group, version) = API_VERSION.split_once('/').unwrap_or_default();
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            plural: PLURAL.to_owned(),
        };
        let api = Api::<DynamicObject>::all_with(self.inner.requests.client(), &resource);
        let mut events = pin!(watcher(api, watcher::Config::default().page_size(PAGE)));
        let (mut failures, mut is_listing) = (0, true);
        loop {
            let event = match tokio::time::timeout(SILENCE_MAX, events.next()).await {
                Ok(Some(event)) => event,
                Ok(None) => return Unseen::Unheard,
                Err(_) if is_listing && self.answers_otherwise().await => return Unseen::Failing,
                // A watch in which nothing happens stands.
                Err(_) if !is_listing => {
                    failures = 0;
                    continue;
                }
                Err(_) => continue,
            };
            match event {
                Ok(event) => {
                    // A list begins with each try, may tell some of its pages, and only then fails.
                    match event {
                        Event::Init => is_listing = true,
                        Event::InitApply(_) => {}
                        Event::InitDone | Event::Apply(_) | Event::Delete(_) => (failures, is_listing) = (0, false),
                    }
                    if let Some(seen) = seen(event)
                        && to.send(seen).await.is_err()
                    {
                        return Unseen::Unheard;
                    }
                }
                Err(error) => {
                    failures += 1;
                    match status(&error) {
                        Some(404) if matches!(self.defines_assignments().await, Ok(false)) => return Unseen::Missing,
                        Some(404) if failures >= FAILURES_MAX => return Unseen::Unserved,
                        // Whatever stands there and answers so: nothing is held back for it any longer.
                        Some(code) if code < 500 && code != 429 && failures >= FAILURES_MAX => return Unseen::Refused,
                        _ if failures >= FAILURES_MAX && self.answers_otherwise().await => return Unseen::Failing,
                        _ => {}
                    }
                    tracing::debug!(error = %told(&error), "what shows the targets in the cluster is not seen");
                    tokio::time::sleep(RECONNECT.wait(failures, chance())).await;
                }
            }
        }
    }

    /// An API server that answers nothing is waited for: nothing could be applied there either.
    async fn answers_otherwise(&self) -> bool {
        matches!(self.defines_assignments().await, Ok(_) | Err(ClusterError::Forbidden { .. }))
    }

    async fn defines_assignments(&self) -> Result<bool, ClusterError> {
        let path = format!("{DEFINITIONS}?fieldSelector=metadata.name%3D{DEFINITION}");
        let found: Vec<Value> = self.inner.requests.list_metadata(&path).await?.items()?;
        Ok(!found.is_empty())
    }

    /// In the namespace that events on what is cluster-scoped are in.
    pub(crate) async fn write_event(&self, event: &Value) -> Result<(), ClusterError> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/default/events?fieldManager={MANAGER}");
        self.inner.requests.post(&path, event.to_string().into_bytes()).await.map(drop)
    }

    /// What is there then; `None`: nothing is.
    pub(crate) async fn write_assignment(&self, write: &Write) -> Result<Option<Value>, ClusterError> {
        let all = format!("/apis/{API_VERSION}/{PLURAL}");
        let query = format!("fieldManager={MANAGER}&fieldValidation=Strict");
        let requests = &self.inner.requests;
        let body = |value: &Value| value.to_string().into_bytes();
        let answer = match write {
            Write::Create { body: object, .. } => requests.post(&format!("{all}?{query}"), body(object)).await,
            Write::Spec { name, patch } => requests.merge_in_full(&format!("{all}/{name}?{query}"), body(patch)).await,
            Write::Status { name, patch } => {
                requests.merge_in_full(&format!("{all}/{name}/status?{query}"), body(patch)).await
            }
            Write::Delete { name, uid } => {
                let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
                return match requests.delete(&format!("{all}/{name}"), body(&options)).await {
                    Ok(_) | Err(ClusterError::NotFound) => Ok(None),
                    Err(error) => Err(error),
                };
            }
        };
        match answer {
            Ok(answer) => answer.decode().map(Some),
            Err(ClusterError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn seen(event: Event<DynamicObject>) -> Option<SeenAssignment> {
    Some(match event {
        Event::Init => SeenAssignment::Begins,
        Event::InitDone => SeenAssignment::Listed,
        Event::InitApply(object) | Event::Apply(object) => SeenAssignment::Present(serde_json::to_value(object).ok()?),
        Event::Delete(object) => SeenAssignment::Gone(object.metadata.name?),
    })
}
