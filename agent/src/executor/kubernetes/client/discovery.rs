//! Which kinds the API server has, and under which paths.
//!
//! Read in two requests (aggregated discovery; older API servers need one for each version), and read again when a kind
//! is missing: once for all that miss one at the same time, and at most once in five seconds, so that a bundle full of
//! unknown kinds costs next to nothing. Only after we applied a definition ourselves, or a path that was read here is not
//! served any more, it is read more often for a while: then something is on its way.
//!
//! One reading can lack what is there: an API server that starts publishes kinds one by one, and an aggregated one may be
//! away. So a kind that is not listed is only missing. It is *gone* when those that could serve it say so: see
//! [`Discovery::is_gone`].

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bellwether_core::ObjectKey;
use bellwether_core::apis::Apis;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::request::Requests;
use super::{ClusterError, evidence};

const REFRESH_PAUSE: Duration = Duration::from_secs(5);

/// The API server publishes a new kind about a second after it established it.
const EXPECTING: Duration = Duration::from_secs(15);
const EXPECTING_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    /// In which it is served; another one than that of the manifest, when the manifest's is not.
    pub(super) api_version: String,
    pub(super) plural: String,
    pub(super) namespaced: bool,
    /// Or else it is only listed.
    pub(super) can_watch: bool,
    /// It has a subresource for the status.
    pub(super) has_status: bool,
}

/// Of what is listed. Whoever names no verbs at all is believed to have the usual ones.
fn can_watch(verbs: &[String]) -> bool {
    let has = |verb: &str| verbs.iter().any(|one| one == verb);
    has("watch") || !has("list")
}

pub(super) struct Discovery {
    known: Mutex<Known>,
    /// One reads; the others wait for what it finds.
    reader: Semaphore,
}

/// In which version a kind has to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// In that of the manifest: nobody but its author may write it in another one.
    AsWritten,
    /// In any: to read or to delete an object, one is as good as another.
    Somehow,
}

#[derive(Default)]
struct Known {
    snapshot: Snapshot,
    read_at: Option<Instant>,
    expecting_since: Option<Instant>,
    /// Groups and kinds that the snapshot lacks because a path of them was not served.
    disproved: BTreeSet<(String, String)>,
    /// Groups and kinds, when that was asked, and whether they are gone.
    gone: HashMap<(String, String), (Instant, bool)>,
}

/// What one reading found.
#[derive(Debug, Default)]
struct Snapshot {
    /// By group and kind; the version that is preferred first.
    kinds: HashMap<(String, String), Vec<Resource>>,
    /// Groups of which a version is not known: whoever serves it does not answer.
    unknown_groups: BTreeSet<String>,
}

impl Snapshot {
    fn find(&self, key: &ObjectKey, served: Served) -> Option<&Resource> {
        let versions = self.kinds.get(&group_and_kind(key))?;
        let as_written = versions.iter().find(|resource| resource.api_version == key.api_version);
        as_written.or_else(|| versions.first().filter(|_| served == Served::Somehow))
    }
}

fn group_and_kind(key: &ObjectKey) -> (String, String) {
    (key.group().to_owned(), key.kind.clone())
}

/// Of `apps/v1`; the core group's versions have none in front.
fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn missing(key: &ObjectKey) -> ClusterError {
    ClusterError::KindMissing { api_version: key.api_version.clone(), kind: key.kind.clone() }
}

impl Default for Discovery {
    fn default() -> Self {
        Self { known: Mutex::default(), reader: Semaphore::new(1) }
    }
}

impl Discovery {
    pub(super) async fn resource(
        &self,
        requests: &Requests,
        key: &ObjectKey,
        served: Served,
    ) -> Result<Resource, ClusterError> {
        if let Some(resource) = self.known(key, served) {
            return Ok(resource);
        }
        let _reader = self.reader.acquire().await.expect("it is never closed");
        if !self.is_fresh() {
            let snapshot = fetch_snapshot(requests).await?;
            let mut known = self.lock();
            known.snapshot = snapshot;
            known.disproved.clear();
            known.read_at = Some(Instant::now());
        }
        self.known(key, served).ok_or_else(|| missing(key))
    }

    fn known(&self, key: &ObjectKey, served: Served) -> Option<Resource> {
        self.lock().snapshot.find(key, served).cloned()
    }

    /// A path of this kind is not served, though it was read here.
    pub(super) fn disprove(&self, key: &ObjectKey) {
        let mut known = self.lock();
        known.snapshot.kinds.remove(&group_and_kind(key));
        known.disproved.insert(group_and_kind(key));
        known.expecting_since = Some(Instant::now());
    }

    /// Whether objects of this group and kind cannot exist: no version of it is served, no definition names it, and nobody is
    /// registered for a group of which nothing is listed.
    pub(super) async fn is_gone(&self, requests: &Requests, key: &ObjectKey) -> Result<bool, ClusterError> {
        match self.resource(requests, key, Served::Somehow).await {
            Ok(_) => return Ok(false),
            Err(ClusterError::KindMissing { .. }) => {}
            Err(error) => return Err(error),
        }
        let _reader = self.reader.acquire().await.expect("it is never closed");
        let kind = group_and_kind(key);
        {
            let known = self.lock();
            // Nobody has read since whether it is served.
            if known.snapshot.unknown_groups.contains(key.group()) || known.disproved.contains(&kind) {
                return Ok(false);
            }
            // Many objects of one kind miss it at once.
            if let Some((_, is_gone)) = known.gone.get(&kind).filter(|(at, _)| at.elapsed() < REFRESH_PAUSE) {
                return Ok(*is_gone);
            }
        }
        let is_listed = self.lock().snapshot.kinds.keys().any(|(group, _)| group == key.group());
        let is_registered = !is_listed && evidence::is_registered(requests, key.group()).await?;
        let is_gone = !is_registered && !evidence::is_defined(requests, key).await?;
        self.lock().gone.insert(kind, (Instant::now(), is_gone));
        Ok(is_gone)
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

async fn fetch_snapshot(requests: &Requests) -> Result<Snapshot, ClusterError> {
    let mut snapshot = Snapshot::default();
    for path in ["/api", "/apis"] {
        match requests.get_discovery(path).await?.decode()? {
            Answer::Aggregated(groups) => snapshot.take_in(groups),
            Answer::Names(names) => {
                // An API server before Kubernetes 1.27, or one that has this switched off: a request for each version.
                for api_version in names.api_versions() {
                    let list = requests.get(&format!("{path}/{api_version}")).await;
                    snapshot.note_list(&api_version, list.and_then(|list| list.decode()))?;
                }
            }
        }
    }
    if snapshot.lacks_the_core() {
        return Err(no_discovery());
    }
    Ok(snapshot)
}

/// Every API server has kinds of `v1`. An answer without them, such as an empty list, comes of something else.
fn no_discovery() -> ClusterError {
    ClusterError::retry("what the API server says that it serves has no kind of v1, so it is not believed")
}

/// Groups with their versions, and kinds in these. Of versions whose servers do not answer, what was known before.
pub(super) async fn fetch_names(requests: &Requests, before: Option<&Apis>) -> Result<BTreeSet<String>, ClusterError> {
    let mut names = Names::default();
    for path in ["/api", "/apis"] {
        match requests.get_discovery(path).await?.decode()? {
            Answer::Aggregated(groups) => names.take_in(groups),
            Answer::Names(found) => {
                for api_version in found.api_versions() {
                    match requests.get(&format!("{path}/{api_version}")).await.and_then(|list| list.decode::<List>()) {
                        Ok(list) => names.take_in_list(&api_version, list),
                        Err(error) if group_of(&api_version).is_empty() => return Err(error),
                        Err(_) => names.note_unknown(api_version),
                    }
                }
            }
        }
    }
    if names.lacks_the_core() {
        return Err(no_discovery());
    }
    Ok(names.with(before))
}

#[derive(Debug, Default)]
struct Names {
    served: BTreeSet<String>,
    /// Versions whose servers do not answer.
    unknown: BTreeSet<String>,
}

impl Names {
    fn lacks_the_core(&self) -> bool {
        !self.served.iter().any(|name| name.starts_with("v1/"))
    }

    fn take_in(&mut self, groups: Groups) {
        for group in groups.items {
            for version in group.versions {
                let api_version = api_version(&group.metadata.name, &version.version);
                if version.freshness == "Stale" || version.resources.is_empty() {
                    self.unknown.insert(api_version.clone());
                }
                let of = |resource: GroupResource| {
                    let parts = resource.subresources.into_iter().filter_map(|part| part.response_kind);
                    parts.chain(resource.response_kind).map(|kind| kind.kind).collect::<Vec<_>>()
                };
                self.add(&api_version, version.resources.into_iter().flat_map(of));
            }
        }
    }

    fn take_in_list(&mut self, api_version: &str, list: List) {
        self.add(api_version, list.resources.into_iter().map(|resource| resource.kind));
    }

    fn note_unknown(&mut self, api_version: String) {
        self.add(&api_version, []);
        self.unknown.insert(api_version);
    }

    fn add(&mut self, api_version: &str, kinds: impl IntoIterator<Item = String>) {
        let kinds = kinds.into_iter().filter(|kind| !kind.is_empty());
        self.served.extend(kinds.map(|kind| format!("{api_version}/{kind}")));
        self.served.insert(api_version.to_owned());
    }

    fn with(mut self, before: Option<&Apis>) -> BTreeSet<String> {
        let is_of_unknown = |name: &&str| {
            let version = name.rsplit_once('/').map_or("", |(version, _)| version);
            self.unknown.contains(version)
        };
        let kept = before.into_iter().flat_map(Apis::names).filter(is_of_unknown).map(str::to_owned);
        self.served.extend(kept.collect::<Vec<_>>());
        self.served
    }
}

/// The core group's versions have no group in front.
fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// What an API server says at `/api` and `/apis`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Aggregated(Groups),
    Names(Named),
}

#[derive(Deserialize)]
struct Groups {
    items: Vec<Group>,
}

/// What has neither is no discovery, and not that of a cluster which serves nothing.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    /// Of the core group.
    Versions {
        versions: Vec<String>,
    },
    Groups {
        groups: Vec<NamedGroup>,
    },
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

impl Named {
    fn api_versions(self) -> Vec<String> {
        match self {
            Self::Versions { versions } => versions,
            Self::Groups { groups } => {
                groups.into_iter().flat_map(|group| group.versions).map(|version| version.group_version).collect()
            }
        }
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
    #[serde(default)]
    verbs: Vec<String>,
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
    /// `Stale`: whoever serves it did not answer when it was asked last.
    #[serde(default)]
    freshness: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupResource {
    resource: String,
    /// Absent for those that only have subresources.
    response_kind: Option<ResponseKind>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    subresources: Vec<Subresource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subresource {
    #[serde(default)]
    subresource: String,
    response_kind: Option<ResponseKind>,
}

#[derive(Deserialize)]
struct ResponseKind {
    kind: String,
}

impl Snapshot {
    fn lacks_the_core(&self) -> bool {
        !self.kinds.values().flatten().any(|resource| resource.api_version == "v1")
    }

    /// What came of asking for a version. When those who serve one beside the API server are away, refuse or talk nonsense,
    /// nothing else is known by that.
    fn note_list(&mut self, api_version: &str, list: Result<List, ClusterError>) -> Result<(), ClusterError> {
        let group = group_of(api_version);
        match list {
            Ok(list) => self.take_in_list(api_version, list),
            Err(error) if group.is_empty() => return Err(error),
            Err(_) => drop(self.unknown_groups.insert(group.to_owned())),
        }
        Ok(())
    }

    /// Versions are to be taken in as they are named: the preferred one of a group first.
    fn take_in_list(&mut self, api_version: &str, list: List) {
        let group = group_of(api_version);
        if list.resources.is_empty() {
            self.unknown_groups.insert(group.to_owned());
        }
        let (parts, whole): (Vec<_>, Vec<_>) = list.resources.into_iter().partition(|it| it.name.contains('/'));
        let statuses: BTreeSet<_> = parts.iter().filter_map(|part| part.name.strip_suffix("/status")).collect();
        for resource in whole {
            let ListedResource { name: plural, kind, namespaced, verbs } = resource;
            let (can_watch, has_status) = (can_watch(&verbs), statuses.contains(plural.as_str()));
            let found = Resource { api_version: api_version.to_owned(), plural, namespaced, can_watch, has_status };
            self.kinds.entry((group.to_owned(), kind)).or_default().push(found);
        }
    }

    fn take_in(&mut self, groups: Groups) {
        for group in groups.items {
            let name = group.metadata.name;
            for version in group.versions {
                if version.freshness == "Stale" || version.resources.is_empty() {
                    self.unknown_groups.insert(name.clone());
                }
                let api_version = api_version(&name, &version.version);
                for resource in version.resources {
                    let Some(response) = resource.response_kind else { continue };
                    let (namespaced, can_watch) = (resource.scope == "Namespaced", can_watch(&resource.verbs));
                    let has_status = resource.subresources.iter().any(|part| part.subresource == "status");
                    let (api_version, plural) = (api_version.clone(), resource.resource);
                    let found = Resource { api_version, plural, namespaced, can_watch, has_status };
                    self.kinds.entry((name.clone(), response.kind)).or_default().push(found);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apis_are_named_as_helm_names_them_and_who_does_not_answer_keeps_what_was_known() {
        let groups = r#"{"items": [
            {"versions": [{"version": "v1", "resources": [{"resource": "pods", "responseKind": {"kind": "Pod"},
                "subresources": [{"subresource": "eviction", "responseKind": {"kind": "Eviction"}}]}]}]},
            {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1", "freshness": "Stale"}]},
            {"metadata": {"name": "gone.io"}, "versions": []}]}"#;
        let before = Apis::parse("gone.io/v1\nmetrics.k8s.io/v1\nmetrics.k8s.io/v1/PodMetrics").expect("names");
        let look = |before: Option<&Apis>| {
            let mut names = Names::default();
            names.take_in(serde_json::from_str(groups).expect("is discovery"));
            names.with(before).into_iter().collect::<Vec<_>>()
        };

        assert_eq!(look(None), ["metrics.k8s.io/v1", "v1", "v1/Eviction", "v1/Pod"]);
        assert_eq!(
            look(Some(&before)),
            ["metrics.k8s.io/v1", "metrics.k8s.io/v1/PodMetrics", "v1", "v1/Eviction", "v1/Pod"]
        );
    }

    #[test]
    fn kinds_are_found_by_group_version_and_kind() {
        let groups = r#"{"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"creationTimestamp": null}, "versions": [{"version": "v1", "resources": [
                {"resource": "namespaces", "responseKind": {"group": "", "version": "", "kind": "Namespace"}, "scope": "Cluster"},
                {"resource": "orphans", "scope": "Namespaced"}]}]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced",
                 "subresources": [{"subresource": "scale", "responseKind": {"kind": "Scale"}}, {"subresource": "status"}]}]}]}]}"#;
        let found = snapshot(groups);

        let kind = |version: &str, kind: &str| found.find(&key(version, kind), Served::AsWritten).cloned();
        let resource = |api_version: &str, plural: &str, is_deployment| {
            let (api_version, plural) = (api_version.to_owned(), plural.to_owned());
            let (namespaced, has_status) = (is_deployment, is_deployment);
            Some(Resource { api_version, plural, namespaced, can_watch: true, has_status })
        };
        assert_eq!(kind("v1", "Namespace"), resource("v1", "namespaces", false));
        assert_eq!(kind("apps/v1", "Deployment"), resource("apps/v1", "deployments", true));
        assert_eq!(kind("v1", "Deployment"), None);
        assert_eq!(found.kinds.len(), 2);
    }

    fn snapshot(groups: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.take_in(serde_json::from_str(groups).expect("is discovery"));
        snapshot
    }

    fn key(api_version: &str, kind: &str) -> ObjectKey {
        let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
        ObjectKey { api_version, kind, namespace: None, name: "a".to_owned() }
    }

    #[test]
    fn a_version_that_is_not_served_is_read_in_another_one_and_never_written_so() {
        let found = snapshot(
            r#"{"items": [{"metadata": {"name": "g"}, "versions": [
            {"version": "v2", "resources": [{"resource": "as", "responseKind": {"kind": "A"}, "scope": "Cluster"}]},
            {"version": "v1", "resources": [{"resource": "as", "responseKind": {"kind": "A"}, "scope": "Cluster"}]}]}]}"#,
        );
        let version = |written: &str, served| Some(found.find(&key(written, "A"), served)?.api_version.clone());

        assert_eq!(version("g/v1beta1", Served::AsWritten), None);
        assert_eq!(version("g/v1beta1", Served::Somehow).as_deref(), Some("g/v2"));
        assert_eq!(version("g/v1", Served::Somehow).as_deref(), Some("g/v1"));
        assert_eq!(version("h/v1", Served::Somehow), None);
    }

    #[test]
    fn what_is_listed_and_has_no_verb_watch_cannot_be_watched() {
        let found = snapshot(
            r#"{"items": [{"metadata": {"name": "g"}, "versions": [{"version": "v1", "resources": [
            {"resource": "as", "responseKind": {"kind": "A"}, "verbs": ["get", "list", "patch", "watch"]},
            {"resource": "bs", "responseKind": {"kind": "B"}, "verbs": ["get", "list", "patch"]}]}]}]}"#,
        );
        let list = r#"{"resources": [{"name": "cs", "kind": "C", "verbs": ["list"]}, {"name": "ds", "kind": "D"}]}"#;
        let mut older = Snapshot::default();
        older.take_in_list("g/v1", serde_json::from_str(list).expect("is a list"));
        let can_watch =
            |found: &Snapshot, kind: &str| found.find(&key("g/v1", kind), Served::AsWritten).map(|it| it.can_watch);

        assert_eq!((can_watch(&found, "A"), can_watch(&found, "B")), (Some(true), Some(false)));
        assert_eq!((can_watch(&older, "C"), can_watch(&older, "D")), (Some(false), Some(true)));
    }

    #[test]
    fn a_group_whose_server_does_not_answer_is_unknown() {
        let found = snapshot(
            r#"{"items": [
            {"metadata": {"name": "stale"}, "versions": [{"version": "v1", "freshness": "Stale", "resources": [
                {"resource": "as", "responseKind": {"kind": "A"}, "scope": "Cluster"}]}]},
            {"metadata": {"name": "empty"}, "versions": [{"version": "v1", "freshness": "Current", "resources": []}]},
            {"metadata": {"name": "well"}, "versions": [{"version": "v1", "freshness": "Current", "resources": [
                {"resource": "as", "responseKind": {"kind": "A"}, "scope": "Cluster"}]}]}]}"#,
        );

        assert_eq!(found.unknown_groups.iter().map(String::as_str).collect::<Vec<_>>(), ["empty", "stale"]);
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
            {"name": "deployments/scale", "group": "autoscaling", "namespaced": true, "kind": "Scale", "verbs": []},
            {"name": "deployments/status", "namespaced": true, "kind": "Deployment", "verbs": []}]}"#;
        let empty = r#"{"kind": "APIResourceList", "groupVersion": "empty/v1", "resources": []}"#;
        let mut found = Snapshot::default();

        found.take_in_list("apps/v1", serde_json::from_str(list).expect("is a list"));
        found.take_in_list("empty/v1", serde_json::from_str(empty).expect("is a list"));

        assert_eq!((names(core), names(groups)), (vec!["v1".to_owned()], vec!["apps/v1".to_owned()]));
        let (api_version, plural) = ("apps/v1".to_owned(), "deployments".to_owned());
        let deployments = Resource { api_version, plural, namespaced: true, can_watch: true, has_status: true };
        assert_eq!(found.find(&key("apps/v1", "Deployment"), Served::AsWritten), Some(&deployments));
        assert_eq!(found.find(&key("apps/v1beta1", "Deployment"), Served::Somehow), Some(&deployments));
        assert_eq!(found.kinds.len(), 1);
        assert_eq!(found.unknown_groups.iter().map(String::as_str).collect::<Vec<_>>(), ["empty"]);
    }

    #[test]
    fn what_is_no_discovery_is_not_read_as_that_of_a_cluster_that_serves_nothing() {
        for text in ["{}", r#"{"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}"#] {
            assert!(serde_json::from_str::<Answer>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Answer>(r#"{"kind": "APIVersions", "versions": ["v1"]}"#).is_ok());
    }

    #[test]
    fn a_reading_without_the_kinds_that_every_api_server_has_is_none() {
        let pods = r#"{"items": [{"versions": [{"version": "v1", "resources": [{"resource": "pods", "responseKind": {"kind": "Pod"}}]}]}]}"#;
        let apps = r#"{"items": [{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
            {"resource": "deployments", "responseKind": {"kind": "Deployment"}}]}]}]}"#;
        for (groups, lacks) in [(r#"{"items": []}"#, true), (r#"{"items": [{}]}"#, true), (apps, true), (pods, false)] {
            let mut names = Names::default();
            names.take_in(serde_json::from_str(groups).expect("is discovery"));

            assert_eq!((snapshot(groups).lacks_the_core(), names.lacks_the_core()), (lacks, lacks), "{groups}");
        }
    }

    #[test]
    fn an_extension_that_refuses_or_talks_nonsense_takes_no_other_kind_away() {
        let forbidden = || Err(ClusterError::Forbidden { message: "cannot get path".to_owned() });
        let list = r#"{"resources": [{"name": "deployments", "namespaced": true, "kind": "Deployment"}]}"#;
        let nonsense =
            || serde_json::from_str::<List>("<html>").map_err(|error| ClusterError::retry(error.to_string()));
        let mut found = Snapshot::default();

        found.note_list("custom.metrics.k8s.io/v1beta1", forbidden()).expect("it is one of many");
        found.note_list("odd.example.org/v1", nonsense()).expect("it is one of many");
        found.note_list("apps/v1", Ok(serde_json::from_str(list).expect("is a list"))).expect("is read");

        assert!(found.find(&key("apps/v1", "Deployment"), Served::AsWritten).is_some());
        let unknown = found.unknown_groups.iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(unknown, ["custom.metrics.k8s.io", "odd.example.org"]);
        assert!(found.note_list("v1", forbidden()).is_err(), "the API server's own");
    }
}
