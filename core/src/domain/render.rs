//! How the files of a target become objects: which engine, and what is asked of Helm.
//!
//! Rows hold these as they serialise here; what people write is `api::WrittenRender`. Neighbours: `parameters` are what
//! `${…}` in them means; the crate `render` asks the engine.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::source::{GitRef, HEAD, full_name, is_valid, is_valid_path};
use crate::{Digest, Name, version_range};

/// Of a Helm release: what it adds to names has to fit into 63 characters, too.
const RELEASE_BYTES_MAX: usize = 53;

/// Of inline values, as JSON. Charts have some hundred values of a line each; what is larger is a file in the repo.
const VALUES_BYTES_MAX: usize = 256 * 1024;

/// Lines of `set` and `setString` together: what has more of them is a file of values.
const SETTINGS_MAX: usize = 1_000;

/// Files of values, of which each goes over the one before.
const VALUES_FILES_MAX: usize = 50;

/// More than a cluster with every operator that there is serves.
const API_VERSIONS_MAX: usize = 1_000;

/// Of what tells new frozen values from earlier ones: a number, a date or a word.
const GENERATION_BYTES_MAX: usize = 63;

/// Where settings as of `helm --set` stand in a spec, for messages about them.
pub const SET: &str = "render.helm.set";
/// And those whose values are texts, whatever they look like.
pub const SET_STRING: &str = "render.helm.setString";

/// What a target says of its render.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderOptions {
    #[serde(default, skip_serializing_if = "RenderKind::is_auto")]
    pub kind: RenderKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helm: Option<HelmOptions>,
    /// The folder of a kustomization that gets what a chart gives as a resource; its path may have `${…}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kustomize: Option<RepoFile>,
    /// Files with parameters, a later one over an earlier, and those of the spec over all; their paths may have `${…}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameter_files: Vec<RepoFile>,
}

/// A file or a folder that a render reads: of the target's own repo, or of another one of its project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RepoFile {
    Own(String),
    Other {
        repo: Name,
        #[serde(rename = "ref", default)]
        reference: GitRef,
        path: String,
    },
}

impl RepoFile {
    /// In its repo.
    pub fn path(&self) -> &str {
        match self {
            Self::Own(path) | Self::Other { path, .. } => path,
        }
    }

    /// Which other repo has it.
    pub fn source(&self) -> Option<Source> {
        match self {
            Self::Own(_) => None,
            Self::Other { repo, reference, .. } => {
                Some(Source::Repo { repo: repo.clone(), reference: reference.clone() })
            }
        }
    }
}

impl From<String> for RepoFile {
    fn from(path: String) -> Self {
        Self::Own(path)
    }
}

/// What a render reads besides its own repo. Its files lie below [`Source::mount`], as if they were in that repo: whoever
/// has the files finds out where they really are, and at which commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A repo of the project, by its name.
    Repo {
        repo: Name,
        #[serde(rename = "ref")]
        reference: GitRef,
    },
    /// A chart in a Helm repository or in a registry: the newest of these versions.
    Chart { repository: String, name: String, versions: String },
    /// A Git repository by its URL, as a remote base of Kustomize names it.
    Git {
        url: String,
        /// A branch, a tag or a commit; none is the default branch.
        #[serde(rename = "ref")]
        reference: String,
    },
    /// A single file at a URL, as a kustomization names one; it lies in its folder under its own name.
    File { url: String },
}

impl Source {
    /// The folder of its files, such as `env@main:`. No two sources have the same.
    pub fn mount(&self) -> String {
        match self {
            Self::Repo { repo, reference } => format!("{repo}@{}:", short_name(reference)),
            Self::Chart { repository, name, versions } => {
                // No repo has a name that begins so.
                format!("chart:{name}@{versions}:{}", Digest::of(repository.as_bytes()).short())
            }
            Self::Git { url, reference } => {
                let at = if reference.is_empty() { String::new() } else { format!("@{reference}") };
                format!("git:{}{at}:{}", last_name(url), Digest::of(url.as_bytes()).short())
            }
            Self::File { url } => format!("file:{}:{}", last_name(url), Digest::of(url.as_bytes()).short()),
        }
    }

    /// Whether its mount leads nowhere else. What a chart names is what somebody wrote who is not trusted.
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Repo { reference, .. } => is_valid(reference),
            Self::Chart { repository, name, versions } => {
                let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
                !name.is_empty()
                    && name.len() <= CHART_BYTES_MAX
                    && name.bytes().all(is_named)
                    && is_url(repository)
                    && !versions.contains(['/', '\\'])
                    && chart_reference(versions).is_some()
            }
            Self::Git { url, reference } => is_url(url) && is_valid(&base_reference(reference)),
            Self::File { url } => is_url(url) && file_name(url).is_some(),
        }
    }
}

/// How a single file at a URL is called, where it is one by its name; a query is part of no name.
pub fn file_name(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let (_, name) = rest.rsplit_once('/')?;
    let (before, ending) = name.rsplit_once('.')?;
    let is = |text: &str, any: &[&str]| any.iter().any(|one| text.eq_ignore_ascii_case(one));
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let is_file = is(scheme, &["https", "http"]) && is(ending, &["yaml", "yml", "json"]);
    (is_file && is_plain && !before.is_empty() && !name.starts_with('.') && !rest.contains(['?', '#'])).then_some(name)
}

/// Of a repository at a URL, without what no path of ours may have.
fn last_name(url: &str) -> String {
    let name = url.rsplit(['/', ':']).next().unwrap_or_default();
    name.chars().filter(|character| character.is_ascii_alphanumeric() || "._-".contains(*character)).take(100).collect()
}

/// The longest name that a commit has.
const COMMIT_DIGITS: usize = 40;

/// What the `ref` of a remote base means, as `git fetch` takes it. It need not be valid.
pub fn base_reference(text: &str) -> GitRef {
    let is_commit = text.len() == COMMIT_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (text.strip_prefix("refs/heads/"), text.strip_prefix("refs/tags/")) {
        (Some(name), _) => GitRef::Branch(name.to_owned()),
        (_, Some(name)) => GitRef::Tag(name.to_owned()),
        _ if text.is_empty() => GitRef::Named(HEAD.to_owned()),
        _ if is_commit => GitRef::Commit(text.to_lowercase()),
        _ => GitRef::Named(text.to_owned()),
    }
}

/// As of a repo's URL.
const URL_BYTES_MAX: usize = 2_000;

/// Longer than any that Helm takes.
const CHART_BYTES_MAX: usize = 250;

/// Whether it may be shown as a URL; what it leads to is asked of the project's repos, and never of a network.
fn is_url(text: &str) -> bool {
    text.len() <= URL_BYTES_MAX && !text.chars().any(|character| character.is_control() || character.is_whitespace())
}

/// A URL without what may be a password in it: its user, its query, and all of it where neither can be told from the rest.
pub fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    let port = after_address.rsplit_once(':').map_or("", |(_, port)| port);
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("{scheme}://…");
    }
    path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
}

/// Where the versions of a chart lead to, as Helm means them; none when they are no versions.
pub fn chart_reference(versions: &str) -> Option<GitRef> {
    let versions = versions.trim();
    if version_range::is_version(versions) {
        return Some(GitRef::Tag(versions.to_owned()));
    }
    // Helm also writes a comma between what has to be so together.
    let range = if versions.is_empty() { "*".to_owned() } else { versions.replace(',', " ") };
    Some(GitRef::Semver(range)).filter(is_valid)
}

/// What a path is below a source's folder; `None`: it is not there.
pub fn below_mount<'p>(mount: &str, path: &'p str) -> Option<&'p str> {
    let rest = path.strip_prefix(mount)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// A branch as people name it, as long as that can be nothing else.
fn short_name(reference: &GitRef) -> String {
    match reference {
        GitRef::Branch(name) if !name.contains(['/', ':']) && name.len() < 40 => name.clone(),
        other => full_name(other),
    }
}

/// Which engine makes objects of the files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RenderKind {
    /// What the folder is: one with a `kustomization.yaml` is Kustomize's, one with a `Chart.yaml` is Helm's.
    #[default]
    Auto,
    Plain,
    Kustomize,
    Helm,
}

/// What is asked of Helm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelmOptions {
    /// The target's name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Name>,
    /// Over all files. Texts in it may have `${…}`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub values: Map<String, Value>,
    /// Over `values`, each as `helm --set` reads it; after the `=` it may have `${…}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// Over `set`, each as `helm --set-string` reads it; after the `=` it may have `${…}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_string: Vec<String>,
    /// A later one over an earlier; their paths may have `${…}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values_files: Vec<RepoFile>,
    /// What becomes of what the chart keeps in `crds/`. Earlier versions of the hub read, under that name,
    /// whether it is there at all.
    #[serde(
        default,
        rename = "includeCrds",
        alias = "crds",
        serialize_with = "Crds::are_there",
        skip_serializing_if = "Crds::is_install"
    )]
    pub crds: Crds,
    #[serde(default, skip_serializing_if = "Lookup::is_refused")]
    pub lookup: Lookup,
    /// What becomes of what the chart leaves to chance or to the clock.
    #[serde(default, skip_serializing_if = "Volatile::is_error")]
    pub volatile: Volatile,
    /// Of Kubernetes, as templates see it; it may have `${…}`. Helm's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_version: Option<String>,
    /// That templates see besides those of Helm; they may have `${…}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_versions: Vec<String>,
}

/// A hook of Helm or Argo CD that is not applied: its times are not those of a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOutHook {
    pub kind: String,
    /// As it is written.
    pub name: String,
    /// Such as `pre-upgrade,pre-rollback`.
    pub hook: String,
}

/// Of one render. A chart has a few; who commits more of them is not read any more.
pub const LEFT_OUT_MAX: usize = 50;

impl fmt::Display for LeftOutHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.kind, self.name, self.hook)
    }
}

/// What a template gets that looks for an object in a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Lookup {
    /// An error: nobody asks a cluster while something is rendered.
    #[default]
    Refuse,
    /// Nothing, as if there were no such object.
    Empty,
}

impl Lookup {
    /// Serde gives a reference.
    pub fn is_refused(&self) -> bool {
        *self == Self::Refuse
    }
}

/// What becomes of what a chart makes by itself and would make otherwise the next time: passwords, keys, certificates, times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Volatile {
    /// An error: what is rendered follows from what is in Git.
    #[default]
    Error,
    /// It is made once for each of these words, the empty one too, and is the same from then on.
    Freeze { generation: String },
}

const ERROR: &str = "error";
const FREEZE: &str = "freeze";

impl Volatile {
    /// Serde gives a reference.
    pub fn is_error(&self) -> bool {
        *self == Self::Error
    }
}

impl Serialize for Volatile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Error => to.serialize_str(ERROR),
            Self::Freeze { generation } if generation.is_empty() => to.serialize_str(FREEZE),
            Self::Freeze { generation } => {
                let mut map = to.serialize_map(Some(1))?;
                map.serialize_entry(FREEZE, generation)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Volatile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(VolatileWritten)
    }
}

/// A word; or a map of the word to what tells these values from earlier ones.
struct VolatileWritten;

impl<'de> Visitor<'de> for VolatileWritten {
    type Value = Volatile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`error`, `freeze` or `{freeze: WORD}`")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Volatile, E> {
        match word {
            ERROR => Ok(Volatile::Error),
            FREEZE => Ok(Volatile::Freeze { generation: String::new() }),
            other => Err(E::unknown_variant(other, &[ERROR, FREEZE])),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Volatile, A::Error> {
        let mut generation = None;
        while let Some(field) = map.next_key::<String>()? {
            if field != FREEZE {
                return Err(de::Error::unknown_field(&field, &[FREEZE]));
            }
            generation = Some(map.next_value::<Generation>()?.0);
        }
        generation.map(|generation| Volatile::Freeze { generation }).ok_or_else(|| de::Error::missing_field(FREEZE))
    }
}

/// A text, or a whole number that is one.
struct Generation(String);

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) if number.is_u64() => Ok(Self(number.to_string())),
            _ => Err(de::Error::custom("what `freeze` is is a word or a number")),
        }
    }
}

/// What becomes of the definitions that a chart keeps in `crds/`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Crds {
    /// As with Helm itself: made where they are absent, and then never changed.
    #[default]
    Install,
    /// Applied as all else is: a new version of the chart changes them.
    Upgrade,
    /// Left out.
    Skip,
}

impl Crds {
    /// Serde gives a reference.
    pub fn is_install(&self) -> bool {
        *self == Self::Install
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn are_there<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bool(*self != Self::Skip)
    }
}

impl<'de> Deserialize<'de> for Crds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CrdsWritten)
    }
}

/// A word; or, as `includeCrds` was written, whether they are there.
struct CrdsWritten;

impl Visitor<'_> for CrdsWritten {
    type Value = Crds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`install`, `upgrade` or `skip`")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Crds, E> {
        match word {
            "install" => Ok(Crds::Install),
            "upgrade" => Ok(Crds::Upgrade),
            "skip" => Ok(Crds::Skip),
            other => Err(E::unknown_variant(other, &["install", "upgrade", "skip"])),
        }
    }

    fn visit_bool<E: de::Error>(self, are_there: bool) -> Result<Crds, E> {
        Ok(if are_there { Crds::Upgrade } else { Crds::Skip })
    }
}

impl Default for HelmOptions {
    fn default() -> Self {
        Self {
            release: None,
            values: Map::new(),
            set: Vec::new(),
            set_string: Vec::new(),
            values_files: Vec::new(),
            crds: Crds::Install,
            lookup: Lookup::Refuse,
            volatile: Volatile::Error,
            kube_version: None,
            api_versions: Vec::new(),
        }
    }
}

impl HelmOptions {
    /// What stands in `set` and `setString`, by where.
    pub fn settings(&self) -> impl Iterator<Item = (String, &str)> {
        let each = |field: &'static str, settings| {
            let settings: std::slice::Iter<'_, String> = settings;
            settings.enumerate().map(move |(index, text)| (format!("{field}[{index}]"), text.as_str()))
        };
        each(SET, self.set.iter()).chain(each(SET_STRING, self.set_string.iter()))
    }
}

/// What a setting is the value of, with the `=` that ends it, and the value: only that may have `${…}`. `None`: it has none.
pub fn sides(setting: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let end = setting.bytes().position(|byte| {
        let ends = byte == b'=' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })?;
    Some(setting.split_at(end + 1))
}

impl RenderKind {
    /// Serde gives a reference.
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// Why render options are refused. No variant holds a value: it could be a secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRender {
    #[error("`render.helm` and `render.kustomize` are for Helm, and `render.kind` says otherwise")]
    NotHelm,
    #[error("`{path}` of `render.kustomize` does not lead into the repo")]
    Kustomize { path: String },
    #[error("`render.helm.apiVersions` has more than {API_VERSIONS_MAX} lines")]
    TooManyVersions,
    #[error("`render.helm.release` is longer than the {RELEASE_BYTES_MAX} characters of a release's name")]
    Release,
    #[error("`render.helm.values`, `set` and `setString` have {bytes} bytes, more than {VALUES_BYTES_MAX}")]
    Values { bytes: usize },
    #[error("`render.helm.set` and `render.helm.setString` have more than {SETTINGS_MAX} lines together")]
    TooManySettings,
    #[error("`{field}` has no `=`")]
    Setting { field: String },
    #[error("`{path}` of `render.parameterFiles` does not lead into the repo")]
    ParameterFile { path: String },
    #[error("`render.helm.valuesFiles` or `render.parameterFiles` has more than {VALUES_FILES_MAX} files")]
    TooManyFiles,
    #[error("`{path}` of `render.helm.valuesFiles` does not lead into the repo")]
    ValuesFile { path: String },
    #[error("`freeze` of `render.helm.volatile` is more than {GENERATION_BYTES_MAX} letters, digits, `.`, `_` and `-`")]
    Generation,
    #[error("the `ref` of repo `{repo}` in `render` is not a name that it could have")]
    Reference { repo: Name },
}

impl InvalidRender {
    /// Stable, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotHelm => "render_kind_differs",
            Self::Kustomize { .. } => "kustomize_path_invalid",
            Self::TooManyVersions => "api_versions_too_many",
            Self::Release => "helm_release_invalid",
            Self::Values { .. } => "helm_values_too_large",
            Self::TooManySettings | Self::Setting { .. } => "helm_set_invalid",
            Self::TooManyFiles | Self::ValuesFile { .. } | Self::ParameterFile { .. } => "values_file_invalid",
            Self::Generation => "freeze_invalid",
            Self::Reference { .. } => "ref_invalid",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::NotHelm => "leave one of them out",
            Self::Kustomize { .. } => {
                "write a folder from the repo's root on, without `..`, and without `/` at its start, such as apps/shop/eu"
            }
            Self::TooManyVersions => "name those that the chart asks for",
            Self::Release => "choose a shorter one; it is the target's name when left out",
            Self::Values { .. } => "keep them in a file of the repo, and name it in `valuesFiles`",
            Self::TooManySettings => "write them into a file of the repo, and name it in `valuesFiles`",
            Self::Setting { .. } => "write it as for `helm --set`: NAME=VALUE, such as image.tag=1.4.2",
            Self::TooManyFiles => "put some of them together",
            Self::ValuesFile { .. } | Self::ParameterFile { .. } => {
                "write it from the repo's root on, without `..`, and without `/` at its start, such as apps/shop/values-eu.yaml"
            }
            Self::Generation => "write `freeze`, or a word that was not there before: {freeze: 2}",
            Self::Reference { .. } => {
                "give one of branch, tag, semver, commit and digest, as for the target's own repo"
            }
        }))
    }
}

impl RenderOptions {
    /// Nothing that anybody chose.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Options for Helm are a choice of Helm.
    pub fn stated_kind(&self) -> RenderKind {
        let is_for_helm = self.helm.is_some() || self.kustomize.is_some();
        if self.kind == RenderKind::Auto && is_for_helm { RenderKind::Helm } else { self.kind }
    }

    /// Which values of a chart's own are frozen, if they are.
    pub fn frozen_generation(&self) -> Option<&str> {
        match &self.helm.as_ref()?.volatile {
            Volatile::Error => None,
            Volatile::Freeze { generation } => Some(generation),
        }
    }

    /// The other repos that it names, each once.
    pub fn sources(&self) -> BTreeSet<Source> {
        self.files().filter_map(RepoFile::source).collect()
    }

    /// All files and folders that it names besides the target's own folder.
    pub fn files(&self) -> impl Iterator<Item = &RepoFile> {
        let values_files = self.helm.iter().flat_map(|helm| &helm.values_files);
        values_files.chain(&self.parameter_files).chain(&self.kustomize)
    }

    /// Refuses what could never render. What `${…}` comes to is looked at for each cluster.
    pub fn check(&self) -> Result<(), InvalidRender> {
        if (self.helm.is_some() || self.kustomize.is_some()) && self.stated_kind() != RenderKind::Helm {
            return Err(InvalidRender::NotHelm);
        }
        if let Some(path) = self.kustomize.as_ref().map(RepoFile::path).filter(|path| !is_valid_path(path)) {
            return Err(InvalidRender::Kustomize { path: path.chars().take(80).collect() });
        }
        if self.parameter_files.len() > VALUES_FILES_MAX {
            return Err(InvalidRender::TooManyFiles);
        }
        if let Some(path) = invalid_path(&self.parameter_files) {
            return Err(InvalidRender::ParameterFile { path });
        }
        for source in self.sources() {
            if let Source::Repo { repo, reference } = source
                && !is_valid(&reference)
            {
                return Err(InvalidRender::Reference { repo });
            }
        }
        let Some(helm) = &self.helm else { return Ok(()) };
        if helm.api_versions.len() > API_VERSIONS_MAX {
            return Err(InvalidRender::TooManyVersions);
        }
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if let Volatile::Freeze { generation } = &helm.volatile
            && (generation.len() > GENERATION_BYTES_MAX || !generation.bytes().all(is_word))
        {
            return Err(InvalidRender::Generation);
        }
        if helm.release.as_ref().is_some_and(|release| release.as_str().len() > RELEASE_BYTES_MAX) {
            return Err(InvalidRender::Release);
        }
        if helm.set.len() + helm.set_string.len() > SETTINGS_MAX {
            return Err(InvalidRender::TooManySettings);
        }
        if let Some((field, _)) = helm.settings().find(|(_, setting)| sides(setting).is_none()) {
            return Err(InvalidRender::Setting { field });
        }
        let set: usize = helm.settings().map(|(_, setting)| setting.len()).sum();
        let bytes = serde_json::to_vec(&helm.values).map_or(usize::MAX, |json| json.len() + set);
        if bytes > VALUES_BYTES_MAX {
            return Err(InvalidRender::Values { bytes });
        }
        if helm.values_files.len() > VALUES_FILES_MAX {
            return Err(InvalidRender::TooManyFiles);
        }
        match invalid_path(&helm.values_files) {
            Some(path) => Err(InvalidRender::ValuesFile { path }),
            None => Ok(()),
        }
    }
}

/// The first that leads nowhere.
fn invalid_path(files: &[RepoFile]) -> Option<String> {
    let path = files.iter().map(RepoFile::path).find(|path| path.is_empty() || !is_valid_path(path))?;
    Some(path.chars().take(80).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_frozen_has_a_word_or_none() {
        let read = |volatile: Value| serde_json::from_value::<Volatile>(volatile);
        let frozen = |generation: &str| Volatile::Freeze { generation: generation.to_owned() };

        for (written, volatile, rewritten) in [
            (json!("error"), Volatile::Error, json!("error")),
            (json!("freeze"), frozen(""), json!("freeze")),
            (json!({"freeze": ""}), frozen(""), json!("freeze")),
            (json!({"freeze": 2}), frozen("2"), json!({"freeze": "2"})),
            (json!({"freeze": "2026-11"}), frozen("2026-11"), json!({"freeze": "2026-11"})),
        ] {
            assert_eq!(read(written.clone()).expect("it is read"), volatile, "{written}");
            assert_eq!(serde_json::to_value(volatile).expect("JSON"), rewritten);
        }
        for wrong in
            [json!("frozen"), json!({}), json!({"freeze": 1.5}), json!({"freeze": null}), json!({"at": 1}), json!(1)]
        {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
        let of = |word: &str| check(json!({"helm": {"volatile": {"freeze": word}}}));
        assert_eq!((of("2026-11_b.c"), of(&"x".repeat(63))), (Ok(()), Ok(())));
        for word in ["${x}", "a b", "ä", &"x".repeat(64)] {
            assert_eq!(of(word), Err(InvalidRender::Generation), "{word}");
        }
    }

    fn check(options: Value) -> Result<(), InvalidRender> {
        serde_json::from_value::<RenderOptions>(options).expect("options").check()
    }

    #[test]
    fn what_could_never_render_is_refused() {
        assert_eq!(check(json!({})), Ok(()));
        assert_eq!(check(json!({"helm": {"release": "shop", "valuesFiles": ["a/${cluster.name}.yaml"]}})), Ok(()));
        assert_eq!(check(json!({"kind": "kustomize", "helm": {}})), Err(InvalidRender::NotHelm));
        assert_eq!(check(json!({"kind": "plain", "kustomize": "a"})), Err(InvalidRender::NotHelm));
        assert_eq!(check(json!({"kustomize": "apps/eu", "parameterFiles": ["a/${cluster.name}.yaml"]})), Ok(()));
        let above = InvalidRender::ParameterFile { path: "../a".to_owned() };
        assert_eq!(check(json!({"parameterFiles": ["../a"]})), Err(above));
        assert_eq!(check(json!({"kustomize": "../a"})), Err(InvalidRender::Kustomize { path: "../a".to_owned() }));
        let versions = check(json!({"helm": {"apiVersions": vec!["a/v1"; 1_001]}}));
        assert_eq!(versions, Err(InvalidRender::TooManyVersions));
        assert_eq!(check(json!({"helm": {"release": "x".repeat(54)}})), Err(InvalidRender::Release));
        for path in ["", "../values.yaml", "/etc/passwd", "a/../b", ".git/config"] {
            let refused = check(json!({"helm": {"valuesFiles": [path]}}));
            assert_eq!(refused, Err(InvalidRender::ValuesFile { path: path.to_owned() }));
        }
        let large = check(json!({"helm": {"values": {"a": "x".repeat(VALUES_BYTES_MAX)}}}));
        assert!(matches!(large, Err(InvalidRender::Values { .. })));
        assert_eq!(check(json!({"helm": {"valuesFiles": vec!["a"; 51]}})), Err(InvalidRender::TooManyFiles));
    }

    #[test]
    fn settings_are_bounded_and_have_a_value_each() {
        assert_eq!(check(json!({"helm": {"set": ["a.b[0].c=1,d=", "e={x,y}"], "setString": ["a\\=b=c"]}})), Ok(()));
        let field = |field: &str| Err(InvalidRender::Setting { field: field.to_owned() });
        assert_eq!(check(json!({"helm": {"set": ["a=1", "secret"]}})), field("render.helm.set[1]"));
        assert_eq!(check(json!({"helm": {"setString": ["a\\=b"]}})), field("render.helm.setString[0]"));
        let many = vec!["a=1"; SETTINGS_MAX / 2 + 1];
        assert_eq!(check(json!({"helm": {"set": many, "setString": many}})), Err(InvalidRender::TooManySettings));
        let long = format!("a={}", "x".repeat(VALUES_BYTES_MAX / 2));
        let large = check(json!({"helm": {"set": [long], "setString": [long]}}));
        assert!(matches!(large, Err(InvalidRender::Values { .. })));
    }

    #[test]
    fn a_setting_has_its_value_after_the_first_sign_that_is_not_escaped() {
        for (setting, parts) in [
            ("a.b=c=d", Some(("a.b=", "c=d"))),
            ("a\\=b=c", Some(("a\\=b=", "c"))),
            ("a\\\\=b", Some(("a\\\\=", "b"))),
            ("é=", Some(("é=", ""))),
            ("a", None),
        ] {
            assert_eq!(sides(setting), parts, "{setting}");
        }
    }

    #[test]
    fn files_of_other_repos_are_below_a_folder_of_their_own_for_each_ref() {
        let options = json!({
            "helm": {"valuesFiles": [
                "a.yaml", {"repo": "env", "path": "b.yaml"}, {"repo": "env", "ref": {"branch": "main"}, "path": "c.yaml"},
                {"repo": "env", "ref": {"tag": "v1"}, "path": "d.yaml"},
            ]},
            "parameterFiles": [{"repo": "env", "ref": {"branch": "refs/tags/v1"}, "path": "e.yaml"}],
        });
        let options: RenderOptions = serde_json::from_value(options).expect("options");

        let mounts: BTreeSet<_> = options.sources().iter().map(Source::mount).collect();

        assert_eq!(options.check(), Ok(()));
        assert_eq!(
            mounts,
            ["env@main:", "env@refs/tags/v1:", "env@refs/heads/refs/tags/v1:"].map(str::to_owned).into()
        );
        assert!(mounts.iter().all(|mount| is_valid_path(&format!("{mount}/a.yaml"))));
        let wrong = json!({"parameterFiles": [{"repo": "env", "ref": {"branch": "../a"}, "path": "e.yaml"}]});
        assert_eq!(check(wrong).map_err(|error| error.code()), Err("ref_invalid"));
    }

    #[test]
    fn a_kustomization_over_a_chart_is_in_the_targets_repo_or_in_another_one() {
        let other = |path: &str| json!({"kustomize": {"repo": "overlays", "ref": {"tag": "v1"}, "path": path}});
        let options: RenderOptions = serde_json::from_value(other("shop/${cluster.labels.env}")).expect("options");

        let mounts: Vec<_> = options.sources().iter().map(Source::mount).collect();

        assert_eq!((options.check(), options.stated_kind()), (Ok(()), RenderKind::Helm));
        assert_eq!(mounts, ["overlays@refs/tags/v1:"]);
        assert_eq!(check(other("")), Ok(()), "the root of a repo is a folder too");
        assert_eq!(check(other("../a")), Err(InvalidRender::Kustomize { path: "../a".to_owned() }));
        let wrong = json!({"kustomize": {"repo": "overlays", "ref": {"branch": "../a"}, "path": "shop"}});
        assert_eq!(check(wrong).map_err(|error| error.code()), Err("ref_invalid"));
    }

    #[test]
    fn what_a_chart_names_has_a_place_of_its_own_or_is_refused() {
        let chart = |name: &str, versions: &str| Source::Chart {
            repository: "https://charts.example.org".to_owned(),
            name: name.to_owned(),
            versions: versions.to_owned(),
        };
        for (versions, reference) in [
            ("18.1.0", GitRef::Tag("18.1.0".to_owned())),
            ("1.2.3-fix.x", GitRef::Tag("1.2.3-fix.x".to_owned())),
            ("18.x.x", GitRef::Semver("18.x.x".to_owned())),
            ("~1.2", GitRef::Semver("~1.2".to_owned())),
            (">=1.0, <2", GitRef::Semver(">=1.0  <2".to_owned())),
            ("", GitRef::Semver("*".to_owned())),
        ] {
            let source = chart("redis", versions);
            assert_eq!(chart_reference(versions), Some(reference), "{versions}");
            assert!(source.is_valid() && is_valid_path(&source.mount()), "{source:?}");
        }
        for wrong in [chart("../redis", "1"), chart("", "1"), chart("redis", "latest"), chart("redis", "1 || ../a")] {
            assert!(!wrong.is_valid(), "{wrong:?}");
        }
        let url =
            |url: &str| Source::Chart { repository: url.to_owned(), name: "a".to_owned(), versions: "1".to_owned() };
        assert!(!url("https://a.example.org\nhint: b").is_valid());
        assert_eq!(without_secrets("https://me:secret@a.example.org/b@c"), "https://a.example.org/b@c");
        assert_eq!(without_secrets("git@a.example.org:b/c"), "git@a.example.org:b/c");
        assert_eq!(without_secrets("ssh://git:secret@a.example.org:22/b"), "ssh://a.example.org:22/b");
        assert_eq!(without_secrets("https://[2606:50c0::1]:8443/b"), "https://[2606:50c0::1]:8443/b");
        let odd = [
            "https://a.example.org/b?access_token=secret",
            "https://a.example.org/b#secret",
            "https://me:sec/ret@a.example.org/b",
            "https://me:se?cret@a.example.org/b",
            "https://me:s@cret@a.example.org/b",
            "https://me%3Asecret@a.example.org/b",
        ];
        for url in odd {
            let shown = without_secrets(url);
            assert!(!shown.contains("sec") && !shown.contains("cret"), "{url}: {shown}");
        }
        assert_ne!(chart("redis", "1").mount(), chart("redis", "2").mount());
    }

    #[test]
    fn the_ref_of_a_remote_base_means_what_git_would_fetch() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let named = |name: &str| GitRef::Named(name.to_owned());
        for (text, meant, is_sound) in [
            ("", named("HEAD"), true),
            ("v1.2", named("v1.2"), true),
            ("feature/x", named("feature/x"), true),
            ("refs/pull/1/head", named("refs/pull/1/head"), true),
            ("refs/tags/a", GitRef::Tag("a".to_owned()), true),
            ("refs/heads/a", GitRef::Branch("a".to_owned()), true),
            (commit, GitRef::Commit(commit.to_owned()), true),
            ("../x", named("../x"), false),
        ] {
            assert_eq!(base_reference(text), meant, "{text}");
            let url = "git@example.org:a/b/../c".to_owned();
            let source = Source::Git { url, reference: text.to_owned() };
            assert_eq!(source.is_valid(), is_sound, "{text}");
            assert!(!is_sound || is_valid_path(&source.mount()), "{}", source.mount());
        }
    }

    #[test]
    fn a_single_file_is_told_by_its_name_and_has_a_folder_of_its_own() {
        let file = |url: &str| Source::File { url: url.to_owned() };
        for url in
            ["https://example.org/v1/install.yaml", "http://example.org/crds.YML", "HTTPS://example.org/a.b.json"]
        {
            assert!(file(url).is_valid() && is_valid_path(&file(url).mount()), "{url}");
        }
        assert_eq!(file_name("https://example.org/v1/install.yaml"), Some("install.yaml"));
        assert_ne!(file("https://a.example.org/a.yaml").mount(), file("https://b.example.org/a.yaml").mount());
        for url in [
            "https://example.org/install",
            "https://example.org/install.yaml?token=a",
            "https://example.org/?a=/b.yaml",
            "https://example.org/.yaml",
            "https://a.yaml",
            "https://example.org/a%2fb.yaml",
            "https://example.org/\n.yaml",
            "file:///etc/a.yaml",
            "git@example.org:a/b.yaml",
        ] {
            assert!(!file(url).is_valid(), "{url}");
        }
    }

    #[test]
    fn what_becomes_of_definitions_is_stored_so_that_a_hub_of_before_does_not_make_what_is_left_out() {
        let read = |stored: Value| serde_json::from_value::<HelmOptions>(stored).expect("it is read").crds;

        for (crds, stored) in [
            (Crds::Skip, json!({"includeCrds": false})),
            (Crds::Upgrade, json!({"includeCrds": true})),
            (Crds::Install, json!({})),
        ] {
            let written = serde_json::to_value(HelmOptions { crds, ..HelmOptions::default() }).expect("JSON");
            assert_eq!((&written, read(written.clone())), (&stored, crds));
        }
        assert_eq!(read(json!({"crds": "skip"})), Crds::Skip, "as it was stored for a while");
    }

    #[test]
    fn options_for_helm_are_a_choice_of_helm() {
        let kind = |options: Value| serde_json::from_value::<RenderOptions>(options).expect("options").stated_kind();

        assert_eq!(kind(json!({"helm": {}})), RenderKind::Helm);
        assert_eq!(kind(json!({"kustomize": "a"})), RenderKind::Helm);
        assert_eq!(kind(json!({})), RenderKind::Auto);
        assert_eq!(kind(json!({"kind": "plain"})), RenderKind::Plain);
    }
}
