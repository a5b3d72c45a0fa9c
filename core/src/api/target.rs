//! Targets as people write them and the API shows them. Each `Written…` type is a noun's strict twin.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{Document, RolloutDocument, WrittenStrategy};
use crate::commit_status::CommitState;
use crate::labels::LabelSelector;
use crate::parameters::{ClusterSelector, ParameterSet};
use crate::render::{Crds, HelmOptions, LeftOutHook, Lookup, RenderKind, RenderOptions, RepoFile, Volatile};
use crate::session::{Adopt, DriftMode, Prune, Replace, SyncOptions};
use crate::source::GitRef;
use crate::target::TargetSpec;
use crate::{Condition, Digest, Name, RolloutId};

/// `GET /api/v1/targets/{name}/render?cluster=NAME`: what one cluster gets of a target, as it is stored; what Secrets hold only
/// with `secrets=true`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderedTarget {
    pub target: Name,
    pub cluster: Name,
    /// Of the target's own repo.
    pub commit: String,
    /// The bundle's.
    pub digest: Digest,
    /// What the cluster is assigned now; another one is on its way to it, or kept back. `None`: nothing yet.
    pub runs: Option<Digest>,
    /// When the cluster's agent last said its facts, and which APIs it serves: what is rendered for it is of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts_told_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apis_told_at: Option<Timestamp>,
    /// Hooks of Helm that no cluster gets of it, since their times are not those of a target; at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out_hooks: Vec<LeftOutHook>,
    /// Of how many Secrets the objects here do not have the values.
    #[serde(default)]
    pub hidden_secrets: usize,
    /// They come last: a hub writes them one after another.
    pub objects: Vec<RenderedObject>,
}

/// An object as a cluster gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderedObject {
    pub digest: Digest,
    pub body: Value,
}

/// `GET /api/v1/targets/{name}/explain?cluster=NAME&parameter=NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedParameter {
    pub target: Name,
    pub cluster: Name,
    pub parameter: String,
    /// The weakest first; the cluster has the last. None: nothing gives it a value.
    pub layers: Vec<ParameterLayer>,
}

/// A value that a cluster was given, by a file, by one of the target's sets, or, without either, by the cluster itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterLayer {
    pub value: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<u32>,
    /// The set is for the clusters that it selects, and this is one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub selected: bool,
    /// And it names the cluster, so that it is over those that do not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub named: bool,
}

/// What to deploy where.
pub type TargetDocument = Document<WrittenTarget, TargetStatus>;

/// `spec:` of a Target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenTarget {
    pub repo: Name,
    #[serde(rename = "ref", default)]
    pub reference: WrittenRef,
    /// A folder of the repo; its root when left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What the folder is says how it is rendered, when left out.
    #[serde(default, skip_serializing_if = "WrittenRender::is_default")]
    pub render: WrittenRender,
    /// For objects that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// All clusters when left out.
    #[serde(default)]
    pub clusters: LabelSelector,
    /// Values by cluster. A set that selects the cluster is over one for all, and one that names it over both; of two of a kind the
    /// later wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<WrittenParameters>,
    #[serde(default)]
    pub sync: WrittenSync,
    /// One cluster first, then the rest in quarters, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<WrittenStrategy>,
}

/// Which commit of a repo. Exactly one field is given; `branch: main` when none is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "RefFields")]
pub enum WrittenRef {
    Branch(String),
    Tag(String),
    /// A range of versions, such as `>=1.2 <2`: the newest of the tags in it.
    Semver(String),
    Commit(String),
    /// Of an artifact in a registry.
    Digest(String),
}

/// What is read first, so that two at once are told by their names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map with `branch`, `tag`, `semver`, `commit` or `digest`")]
struct RefFields {
    branch: Option<String>,
    tag: Option<String>,
    semver: Option<String>,
    commit: Option<String>,
    digest: Option<String>,
}

impl TryFrom<RefFields> for WrittenRef {
    type Error = String;

    fn try_from(fields: RefFields) -> Result<Self, String> {
        let RefFields { branch, tag, semver, commit, digest } = fields;
        let given = [
            branch.map(|name| ("branch", Self::Branch(name))),
            tag.map(|name| ("tag", Self::Tag(name))),
            semver.map(|range| ("semver", Self::Semver(range))),
            commit.map(|id| ("commit", Self::Commit(id))),
            digest.map(|digest| ("digest", Self::Digest(digest))),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (None, _) => Ok(Self::default()),
            (Some((_, one)), None) => Ok(one),
            (Some((one, _)), Some((other, _))) => {
                Err(format!("`{one}` and `{other}` are both given; keep one of them"))
            }
        }
    }
}

impl Default for WrittenRef {
    fn default() -> Self {
        GitRef::default().into()
    }
}

/// How the files become objects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenRender {
    /// `auto` when left out: a folder with a `kustomization.yaml` is Kustomize's, one with a `Chart.yaml` is Helm's.
    #[serde(default, skip_serializing_if = "RenderKind::is_auto")]
    pub kind: RenderKind,
    /// For a chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helm: Option<WrittenHelm>,
    /// A folder, from the repo's root on, with a kustomization over what the chart gives; its path may have `${…}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kustomize: Option<WrittenFile>,
    /// Files with parameters, from the repo's root on, a later one over an earlier, and `parameters` over all; their paths
    /// may have `${…}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameter_files: Vec<WrittenFile>,
}

impl WrittenRender {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What Helm is asked. What is left out is as in [`HelmOptions::default`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WrittenHelm {
    /// The target's name when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Name>,
    /// Over all files. Texts in it may have `${…}`.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub values: Map<String, Value>,
    /// Over `values`, each as `helm --set` reads it; after the `=` it may have `${…}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// Over `set`, each as `helm --set-string` reads it; after the `=` it may have `${…}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set_string: Vec<String>,
    /// From the repo's root on, a later one over an earlier; their paths may have `${…}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values_files: Vec<WrittenFile>,
    /// What becomes of what the chart keeps in `crds/`: `install` when left out, `upgrade`, or `skip`.
    #[serde(alias = "includeCrds", skip_serializing_if = "Crds::is_install")]
    pub crds: Crds,
    /// What `lookup` in a template does: `refuse` when left out, or `empty`.
    #[serde(skip_serializing_if = "Lookup::is_refused")]
    pub lookup: Lookup,
    /// What becomes of passwords, keys and times that the chart makes by itself: `error` when left out, or `freeze`.
    #[serde(skip_serializing_if = "Volatile::is_error")]
    pub volatile: Volatile,
    /// Of Kubernetes, as templates see it; it may have `${…}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kube_version: Option<String>,
    /// That templates see besides Helm's own; they may have `${…}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_versions: Vec<String>,
}

impl Default for WrittenHelm {
    fn default() -> Self {
        HelmOptions::default().into()
    }
}

/// A file or a folder: its path, or where in another repo it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum WrittenFile {
    Own(String),
    Other(WrittenOtherFile),
}

/// A file or a folder of another repo of the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenOtherFile {
    pub repo: Name,
    /// `branch: main` when left out.
    #[serde(rename = "ref", default)]
    pub reference: WrittenRef,
    pub path: String,
}

/// Not derived: it would not say which field is wrong.
impl<'de> Deserialize<'de> for WrittenFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenFile;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a path, or a map of `repo`, `ref` and `path`")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<WrittenFile, E> {
                Ok(WrittenFile::Own(path.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WrittenFile, A::Error> {
                WrittenOtherFile::deserialize(MapAccessDeserializer::new(map)).map(WrittenFile::Other)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Values for the clusters that are named or selected, or for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenParameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<ClusterSelector>,
    /// Strings, numbers and booleans by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Value>,
}

/// How agents keep what they applied. What is left out is as in [`SyncOptions::default`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WrittenSync {
    pub prune: Prune,
    pub drift: DriftMode,
    pub adopt: Adopt,
    pub replace: Replace,
    pub create_namespace: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<Name>,
}

// Both ways by all fields: one that is added to a noun or to a document does not compile before it is here.

impl From<WrittenTarget> for TargetSpec {
    fn from(written: WrittenTarget) -> Self {
        let WrittenTarget { repo, reference, path, render, namespace, clusters, parameters, sync, rollout } = written;
        Self {
            repo,
            reference: reference.into(),
            path: plain_path(path),
            render: render.into(),
            namespace,
            clusters,
            parameters: parameters.into_iter().map(Into::into).collect(),
            sync: sync.into(),
            rollout: rollout.map(Into::into),
        }
    }
}

/// `./apps/`, as people know it from other tools, is `apps`; `.` is the root.
fn plain_path(path: String) -> String {
    match path.strip_prefix("./").unwrap_or(&path).trim_end_matches('/') {
        "." => String::new(),
        // Of the machine, and no folder of a repo: as it was written, to be refused.
        "" if path.starts_with('/') => path,
        plain => plain.to_owned(),
    }
}

impl From<TargetSpec> for WrittenTarget {
    fn from(spec: TargetSpec) -> Self {
        let TargetSpec { repo, reference, path, render, namespace, clusters, parameters, sync, rollout } = spec;
        Self {
            repo,
            reference: reference.into(),
            path,
            render: render.into(),
            namespace,
            clusters,
            parameters: parameters.into_iter().map(Into::into).collect(),
            sync: sync.into(),
            rollout: rollout.map(Into::into),
        }
    }
}

impl From<WrittenRef> for GitRef {
    fn from(written: WrittenRef) -> Self {
        match written {
            WrittenRef::Branch(name) => Self::Branch(name),
            WrittenRef::Tag(name) => Self::Tag(name),
            WrittenRef::Semver(range) => Self::Semver(range),
            WrittenRef::Commit(id) => Self::Commit(id),
            WrittenRef::Digest(digest) => Self::Digest(digest),
        }
    }
}

impl From<GitRef> for WrittenRef {
    fn from(reference: GitRef) -> Self {
        match reference {
            // Only remote bases have a name that may be either, and no document has those.
            GitRef::Branch(name) | GitRef::Named(name) => Self::Branch(name),
            GitRef::Tag(name) => Self::Tag(name),
            GitRef::Semver(range) => Self::Semver(range),
            GitRef::Commit(id) => Self::Commit(id),
            GitRef::Digest(digest) => Self::Digest(digest),
        }
    }
}

impl From<WrittenRender> for RenderOptions {
    fn from(written: WrittenRender) -> Self {
        let WrittenRender { kind, helm, kustomize, parameter_files } = written;
        let (helm, kustomize) = (helm.map(Into::into), kustomize.map(Into::into));
        Self { kind, helm, kustomize, parameter_files: all(parameter_files) }
    }
}

impl From<RenderOptions> for WrittenRender {
    fn from(options: RenderOptions) -> Self {
        let RenderOptions { kind, helm, kustomize, parameter_files } = options;
        let (helm, kustomize) = (helm.map(Into::into), kustomize.map(Into::into));
        Self { kind, helm, kustomize, parameter_files: all(parameter_files) }
    }
}

fn all<T, U: From<T>>(files: Vec<T>) -> Vec<U> {
    files.into_iter().map(Into::into).collect()
}

impl From<WrittenFile> for RepoFile {
    fn from(written: WrittenFile) -> Self {
        match written {
            WrittenFile::Own(path) => Self::Own(plain_path(path)),
            WrittenFile::Other(WrittenOtherFile { repo, reference, path }) => {
                Self::Other { repo, reference: reference.into(), path: plain_path(path) }
            }
        }
    }
}

impl From<RepoFile> for WrittenFile {
    fn from(file: RepoFile) -> Self {
        match file {
            RepoFile::Own(path) => Self::Own(path),
            RepoFile::Other { repo, reference, path } => {
                Self::Other(WrittenOtherFile { repo, reference: reference.into(), path })
            }
        }
    }
}

impl From<WrittenHelm> for HelmOptions {
    fn from(written: WrittenHelm) -> Self {
        let WrittenHelm {
            release,
            values,
            set,
            set_string,
            values_files,
            crds,
            lookup,
            volatile,
            kube_version,
            api_versions,
        } = written;
        let values_files = all(values_files);
        Self { release, values, set, set_string, values_files, crds, lookup, volatile, kube_version, api_versions }
    }
}

impl From<HelmOptions> for WrittenHelm {
    fn from(options: HelmOptions) -> Self {
        let HelmOptions {
            release,
            values,
            set,
            set_string,
            values_files,
            crds,
            lookup,
            volatile,
            kube_version,
            api_versions,
        } = options;
        let values_files = all(values_files);
        Self { release, values, set, set_string, values_files, crds, lookup, volatile, kube_version, api_versions }
    }
}

impl From<WrittenParameters> for ParameterSet {
    fn from(WrittenParameters { clusters, values }: WrittenParameters) -> Self {
        Self { clusters, values }
    }
}

impl From<ParameterSet> for WrittenParameters {
    fn from(ParameterSet { clusters, values }: ParameterSet) -> Self {
        Self { clusters, values }
    }
}

impl From<WrittenSync> for SyncOptions {
    fn from(written: WrittenSync) -> Self {
        let WrittenSync { prune, drift, adopt, replace, create_namespace, service_account } = written;
        Self { prune, drift, adopt, replace, create_namespace, service_account }
    }
}

impl From<SyncOptions> for WrittenSync {
    fn from(options: SyncOptions) -> Self {
        let SyncOptions { prune, drift, adopt, replace, create_namespace, service_account } = options;
        Self { prune, drift, adopt, replace, create_namespace, service_account }
    }
}

/// What became of a target: what Git says, what its clusters are assigned, and its newest rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Clusters that have something of it.
    pub clusters: u32,
    /// Of these: those whose agent is heard and says that all is well with what is assigned.
    pub healthy: u32,
    /// Of these: those whose agent has applied every object of what is assigned.
    pub in_place: u32,
    /// The newest commit of the ref, rendered or not.
    pub commit: Option<String>,
    /// The key, or the keys, that this commit was found signed by, where its repo names some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<String>,
    /// What the newest render read of other repos.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceCommit>,
    /// Hooks of Helm that the newest render left out, since their times are not those of a target; at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out_hooks: Vec<LeftOutHook>,
    /// Clusters that are assigned something else than what the newest render gives them: a rollout has not come to them, was
    /// stopped, or there is none.
    #[serde(default)]
    pub behind: u32,
    /// Clusters that go on with what they have although the selector does not select them any more.
    #[serde(default)]
    pub unselected: u32,
    /// Clusters that do not get what is wanted by themselves, until the content changes; at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_aside: Vec<SetAside>,
    /// What the newest commit renders to, if it is one bundle for all clusters.
    pub digest: Option<Digest>,
    /// Kept back after a rollback, while Git says something newer.
    pub held: bool,
    /// A change is on its way to it through the hub, and is not planned yet: what stands here is from before that.
    #[serde(default)]
    pub pending: bool,
    /// A person deleted it, and its clusters have not all answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<DeletionStatus>,
    /// The newest one, without its members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutDocument>,
    /// What its repo's host was last told of a commit, or was not; `None`: nothing was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_status: Option<TargetCommitStatus>,
    /// What is wrong with its ref, or its render, or its selection: the first of these that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// What a host knows of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetCommitStatus {
    pub commit: String,
    /// Under which name.
    pub context: String,
    /// What the host took last; `None`: nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CommitState>,
    /// When it took that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
    /// Why the last try failed: what the host knows is older than what holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Another repo that a render read, and where that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceCommit {
    pub repo: Name,
    /// Full name, such as `refs/heads/main`.
    #[serde(rename = "ref")]
    pub reference: String,
    pub commit: String,
}

/// A cluster that is left out of what its target is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetAside {
    pub cluster: String,
    /// `skipped`: a person took it out; `failed`: it had it and failed; `ended`: the rollout that would have given it
    /// ended before, or took it back.
    pub cause: String,
    pub rollout: RolloutId,
    pub since: Timestamp,
}

/// How far a target's end is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionStatus {
    /// `prune`: its objects are deleted in the clusters; `orphan`: they stay.
    pub mode: String,
    /// The name of the token that asked.
    pub by: String,
    pub since: Timestamp,
    /// Clusters that have not said that they are done, at most 50; those that are away are not waited for.
    pub waits_for: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_written_as_other_tools_have_them_too() {
        let plain =
            ["./apps/", "apps", ".", "./", "", "/", "/etc/", "../a", "./a/./b"].map(|path| plain_path(path.to_owned()));

        assert_eq!(plain, ["apps", "apps", "", "", "", "/", "/etc", "../a", "a/./b"]);
    }

    #[test]
    fn a_document_with_everything_is_the_same_after_it_was_stored() {
        let written = json!({
            "repo": "apps", "ref": {"tag": "v1"}, "path": "shop", "namespace": "shop",
            "render": {"kind": "helm", "helm": {
                "release": "web", "values": {"image": {"tag": "${tag}"}}, "crds": "upgrade",
                "valuesFiles": ["shop/eu.yaml", {"repo": "env", "ref": {"branch": "main"}, "path": "eu.yaml"}],
                "lookup": "empty", "volatile": {"freeze": "2"}, "kubeVersion": "1.33", "apiVersions": ["a/v1"],
                "set": ["image.pull=${pull}"], "setString": ["ports[0]=80"],
            }, "kustomize": "shop/over", "parameterFiles": ["envs/eu.yaml"]},
            "clusters": {"matchLabels": {"env": "prod"}},
            "parameters": [{"clusters": {"matchLabels": {"size": "big"}}, "values": {"replicas": 3}}],
            "sync": {
                "prune": "never", "drift": "warn", "adopt": "always", "replace": "immutable", "createNamespace": true,
                "serviceAccount": "deployer",
            },
            "rollout": {
                "waves": [{"name": "canary", "percent": 5, "maxConcurrent": 1, "soak": "10m", "minHealthy": "50%"}],
                "failureBudget": "5%", "deadline": "1h", "onFailure": "rollback", "offline": "wait",
            },
        });
        let document: WrittenTarget = serde_json::from_value(written.clone()).expect("a document");

        let stored = serde_json::to_value(TargetSpec::from(document)).expect("JSON");
        let spec: TargetSpec = serde_json::from_value(stored.clone()).expect("it is read");

        let mut in_rows = written.clone();
        let helm = in_rows["render"]["helm"].as_object_mut().expect("options");
        helm.remove("crds");
        // In the word that earlier versions use.
        helm.insert("includeCrds".to_owned(), json!(true));
        assert_eq!(stored, in_rows, "rows keep what people write");
        assert_eq!(serde_json::to_value(WrittenTarget::from(spec)).expect("JSON"), written);
    }

    #[test]
    fn definitions_of_a_chart_are_installed_unless_a_target_says_otherwise_in_a_word_or_as_it_was_written_before() {
        let read = |helm: Value| {
            let document = json!({"repo": "apps", "render": {"helm": helm}});
            let document: WrittenTarget = serde_json::from_value(document).map_err(|error| error.to_string())?;
            let stored = serde_json::to_value(TargetSpec::from(document)).expect("JSON");
            let spec: TargetSpec = serde_json::from_value(stored).expect("it is read");
            Ok::<_, String>(spec.render.helm.expect("it is for Helm").crds)
        };

        assert_eq!(read(json!({})), Ok(Crds::Install));
        for (word, crds) in [("install", Crds::Install), ("upgrade", Crds::Upgrade), ("skip", Crds::Skip)] {
            assert_eq!(read(json!({"crds": word})), Ok(crds));
        }
        assert_eq!(read(json!({"includeCrds": false})), Ok(Crds::Skip));
        assert_eq!(read(json!({"includeCrds": true})), Ok(Crds::Upgrade));
        let refusal = read(json!({"crds": "create"})).expect_err("is refused");
        assert!(refusal.contains("`upgrade`"), "{refusal}");
    }

    #[test]
    fn a_field_that_nobody_knows_is_refused_and_the_known_ones_are_named() {
        for (written, known) in [
            (json!({"repo": "a", "pth": "x"}), "`path`"),
            (json!({"repo": "a", "ref": {"brnch": "main"}}), "`branch`"),
            (json!({"repo": "a", "render": {"knd": "helm"}}), "`kind`"),
            (json!({"repo": "a", "render": {"kind": "hlm"}}), "`helm`"),
            (json!({"repo": "a", "render": {"helm": {"value": {}}}}), "`values`"),
            (json!({"repo": "a", "render": {"helm": {"valuesFiles": [{"repo": "b", "pth": "c"}]}}}), "`path`"),
            (json!({"repo": "a", "sync": {"prun": "never"}}), "`prune`"),
            (json!({"repo": "a", "parameters": [{"value": {}}]}), "`values`"),
            (json!({"repo": "a", "clusters": {"matchLabel": {}}}), "`matchLabels`"),
            (json!({"repo": "a", "rollout": {"wave": []}}), "`waves`"),
            (json!({"repo": "a", "rollout": {"waves": [{"name": "a", "cluster": {}}]}}), "`clusters`"),
        ] {
            let refusal = serde_json::from_value::<WrittenTarget>(written).expect_err("refused").to_string();
            assert!(refusal.starts_with("unknown") && refusal.contains(known), "{refusal}");
        }
        let twice = json!({"repo": "a", "ref": {"branch": "main", "tag": "v1"}});
        assert!(serde_json::from_value::<WrittenTarget>(twice).is_err(), "which of them?");
    }
}
