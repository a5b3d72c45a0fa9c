//! Which kinds the API server has, and under which paths.
//!
//! Read in two requests (aggregated discovery; older API servers need one for each version), and read again when a kind is missing: once for all that miss one at the
//! same time, and at most once in five seconds, so that a bundle full of unknown kinds costs next to nothing. Only after
//! we applied a definition ourselves it is read more often for a while: then the kind is on its way.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bellwether_core::ObjectKey;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::ClusterError;
use super::request::Requests;

const REFRESH_PAUSE: Duration = Duration::from_secs(5);

/// The API server publishes a new kind about a second after it established it.
const EXPECTING: Duration = Duration::from_secs(15);
const EXPECTING_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) plural: String,
    pub(super) namespaced: bool,
}

pub(super) struct Discovery {
    known: Mutex<Known>,
    /// One reads; the others wait for what it finds.
    reader: Semaphore,
}

#[derive(Default)]
struct Known {
    kinds: Kinds,
    read_at: Option<Instant>,
    expecting_since: Option<Instant>,
}

/// By apiVersion and kind.
type Kinds = HashMap<(String, String), Resource>;

impl Default for Discovery {
    fn default() -> Self {
        Self { known: Mutex::default(), reader: Semaphore::new(1) }
    }
}

impl Discovery {
    pub(super) async fn resource(&self, requests: &Requests, key: &ObjectKey) -> Result<Resource, ClusterError> {
        let kind = (key.api_version.clone(), key.kind.clone());
        if let Some(resource) = self.known(&kind) {
            return Ok(resource);
        }
        let _reader = self.reader.acquire().await.expect("it is never closed");
        if !self.is_fresh() {
            let kinds = fetch_kinds(requests).await?;
            let mut known = self.lock();
            known.kinds = kinds;
            known.read_at = Some(Instant::now());
        }
        self.known(&kind).ok_or(ClusterError::KindMissing { api_version: kind.0, kind: kind.1 })
    }

    fn known(&self, kind: &(String, String)) -> Option<Resource> {
        self.lock().kinds.get(kind).cloned()
    }

    /// A definition was applied: a kind that is missing is likely to appear.
    pub(super) fn expect_kind(&self) {
        self.lock().expecting_since = Some(Instant::now());
    }

    fn is_fresh(&self) -> bool {
        let known = self.lock();
        let is_expecting = known.expecting_since.is_some_and(|since| since.elapsed() < EXPECTING);
        let pause = if is_expecting { EXPECTING_PAUSE } else { REFRESH_PAUSE };
        known.read_at.is_some_and(|at| at.elapsed() < pause)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch_kinds(requests: &Requests) -> Result<Kinds, ClusterError> {
    let mut kinds = Kinds::new();
    for path in ["/api", "/apis"] {
        match requests.get_discovery(path).await?.decode()? {
            Answer::Aggregated(groups) => read_groups(groups, &mut kinds),
            Answer::Names(names) => {
                // An API server before Kubernetes 1.27, or one that has this switched off: a request for each version.
                for api_version in names.api_versions() {
                    let list = requests.get(&format!("{path}/{api_version}")).await?.decode()?;
                    read_list(&api_version, list, &mut kinds);
                }
            }
        }
    }
    Ok(kinds)
}

/// What an API server says at `/api` and `/apis`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Aggregated(Groups),
    Names(Names),
}

#[derive(Deserialize)]
struct Groups {
    items: Vec<Group>,
}

/// Versions of the core group, or groups with their versions.
#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    groups: Vec<NamedGroup>,
}

#[derive(Deserialize)]
struct NamedGroup {
    #[serde(default)]
    versions: Vec<NamedVersion>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamedVersion {
    group_version: String,
}

impl Names {
    fn api_versions(self) -> Vec<String> {
        let of_groups = self.groups.into_iter().flat_map(|group| group.versions).map(|version| version.group_version);
        self.versions.into_iter().chain(of_groups).collect()
    }
}

#[derive(Deserialize)]
struct List {
    resources: Vec<ListedResource>,
}

#[derive(Deserialize)]
struct ListedResource {
    /// Subresources have a slash in theirs.
    name: String,
    kind: String,
    #[serde(default)]
    namespaced: bool,
}

fn read_list(api_version: &str, list: List, kinds: &mut Kinds) {
    for resource in list.resources.into_iter().filter(|resource| !resource.name.contains('/')) {
        let found = Resource { plural: resource.name, namespaced: resource.namespaced };
        kinds.insert((api_version.to_owned(), resource.kind), found);
    }
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: GroupMetadata,
    #[serde(default)]
    versions: Vec<GroupVersion>,
}

#[derive(Default, Deserialize)]
struct GroupMetadata {
    /// Absent for the core group.
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
    #[serde(default)]
    resources: Vec<GroupResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupResource {
    resource: String,
    /// Absent for those that only have subresources.
    response_kind: Option<ResponseKind>,
    #[serde(default)]
    scope: String,
}

#[derive(Deserialize)]
struct ResponseKind {
    kind: String,
}

fn read_groups(groups: Groups, kinds: &mut Kinds) {
    for group in groups.items {
        for version in group.versions {
            let api_version = match group.metadata.name.as_str() {
                "" => version.version,
                name => format!("{name}/{}", version.version),
            };
            for resource in version.resources {
                let Some(response) = resource.response_kind else { continue };
                let namespaced = resource.scope == "Namespaced";
                let found = Resource { plural: resource.resource, namespaced };
                kinds.insert((api_version.clone(), response.kind), found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_group_version_and_kind() {
        let groups = r#"{"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"creationTimestamp": null}, "versions": [{"version": "v1", "resources": [
                {"resource": "namespaces", "responseKind": {"group": "", "version": "", "kind": "Namespace"}, "scope": "Cluster"},
                {"resource": "orphans", "scope": "Namespaced"}]}]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced"}]}]}]}"#;
        let mut kinds = Kinds::new();

        read_groups(serde_json::from_str(groups).expect("is discovery"), &mut kinds);

        let kind = |version: &str, kind: &str| kinds.get(&(version.to_owned(), kind.to_owned())).cloned();
        let resource = |plural: &str, namespaced| Some(Resource { plural: plural.to_owned(), namespaced });
        assert_eq!(kind("v1", "Namespace"), resource("namespaces", false));
        assert_eq!(kind("apps/v1", "Deployment"), resource("deployments", true));
        assert_eq!(kind("v1", "Deployment"), None);
        assert_eq!(kinds.len(), 2);
    }
    #[test]
    fn an_api_server_without_aggregated_discovery_is_asked_for_each_version() {
        let names = |text: &str| match serde_json::from_str(text).expect("is discovery") {
            Answer::Names(names) => names.api_versions(),
            Answer::Aggregated(_) => panic!("it only has names"),
        };
        let core = r#"{"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}"#;
        let groups = r#"{"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": "apps",
            "versions": [{"groupVersion": "apps/v1", "version": "v1"}],
            "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"}}]}"#;
        let list = r#"{"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [
            {"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment", "verbs": []},
            {"name": "deployments/scale", "group": "autoscaling", "namespaced": true, "kind": "Scale", "verbs": []}]}"#;
        let mut kinds = Kinds::new();

        read_list("apps/v1", serde_json::from_str(list).expect("is a list"), &mut kinds);

        assert_eq!((names(core), names(groups)), (vec!["v1".to_owned()], vec!["apps/v1".to_owned()]));
        let deployments = Resource { plural: "deployments".to_owned(), namespaced: true };
        assert_eq!(kinds.get(&("apps/v1".to_owned(), "Deployment".to_owned())), Some(&deployments));
        assert_eq!(kinds.len(), 1);
    }
}
