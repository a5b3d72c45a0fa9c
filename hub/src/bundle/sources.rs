//! Other repos that a render reads: which they are, at which commits, and their files below their mounts.
//!
//! Of what a target names, and what its last render read, this is found out before a render begins. What a render asks for
//! besides ends it, is found out then, and it begins again: an engine waits for no database.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellwether_core::API_VERSION;
use bellwether_core::render::{Source, base_reference, below_mount, chart_reference, file_name};
use bellwether_core::source::{GitRef, HEAD, full_name};
use bellwether_core::{Condition, Name, RepoId};
use bellwether_render::{Files, Found, LeaveOut, Listing, SourceFile};

use crate::process::clock;
use crate::source::git::{CommitFiles, ReadError, RepoUrl, nearest};
use crate::source::mirrors::Mirrors;
use crate::source::policy;
use crate::store::repos::Repo;
use crate::store::sources::{Minded, ReadSource};
use crate::store::targets::Target;
use crate::store::work::{self, Stage};
use crate::store::{self, Connection, StoreError};

/// Of one target: a chart of charts has some dozen.
const SOURCES_MAX: usize = 100;

/// Why there are no files of a source.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum SourceError {
    #[error("there is no repo `{repo}`, which `render` of the target names")]
    NoRepo { repo: Name },
    #[error("repo `{repo}`, which the target is rendered from: {}", .condition.message)]
    NotThere { repo: Name, condition: Box<Condition> },
    #[error("nothing was seen yet at `{reference}` of repo `{repo}`, which the target is rendered from")]
    NotSeen { repo: Name, reference: String },
    #[error("chart `{chart}` of {url} is of no repo of the project, and nothing else is fetched")]
    NotRegistered { chart: String, url: String, nearest: Option<String> },
    #[error("{url} is of no repo of the project, and nothing else is fetched")]
    NoSuchBase { url: String, nearest: Option<String> },
    #[error("two sources of the target would be read at `{mount}`")]
    SameMount { mount: String },
    #[error("the target is rendered from more than {SOURCES_MAX} other repos")]
    TooMany,
    /// It has to be found out first.
    #[error("what the target is rendered from is not known yet")]
    Unknown,
}

impl SourceError {
    pub(super) fn code(&self) -> &str {
        match self {
            Self::NoRepo { .. } => "source_repo_not_found",
            Self::NotRegistered { .. } | Self::NoSuchBase { .. } => "source_not_registered",
            Self::NotThere { condition, .. } => &condition.code,
            Self::NotSeen { .. } | Self::Unknown => "source_not_seen",
            Self::TooMany | Self::SameMount { .. } => "sources_too_many",
        }
    }

    pub(super) fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NoRepo { repo } => {
                Some(format!("correct its name, or add it to the project: bellwether repo add {repo} URL").into())
            }
            Self::NotThere { condition, .. } => condition.hint.clone().map(Cow::Owned),
            Self::NotSeen { .. } | Self::Unknown => Some("it is fetched; what runs goes on until then".into()),
            Self::TooMany => Some("split the target".into()),
            Self::NoSuchBase { url, nearest } => {
                let nearest = nearest.as_ref().map(|nearest| format!("{nearest}; ")).unwrap_or_default();
                let document = document(url.rsplit(['/', ':']).next().unwrap_or_default(), &format!("{{url: {url}}}"));
                Some(format!("{nearest}apply it as a repo of the project: {document}").into())
            }
            Self::SameMount { .. } => Some("write one of the URLs in another way".into()),
            Self::NotRegistered { chart, url, nearest } => {
                let nearest = nearest.as_ref().map(|nearest| format!("{nearest}; ")).unwrap_or_default();
                let document = chart_document(chart, url);
                let hint = "apply it as a repo of the project, or vendor it with `helm dependency build`";
                Some(format!("{nearest}{hint}: {document}").into())
            }
        }
    }
}

/// What a source is, or why it is nothing.
type Answer = Result<ReadSource, SourceError>;

/// All that is known of what one target may read besides its repo.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    known: BTreeMap<Source, Answer>,
    /// Refs that are worth a fetch, whether anything is there or not.
    minded: BTreeMap<Source, BTreeSet<Minded>>,
    /// As an earlier render had them; nothing else is looked up.
    is_pinned: bool,
}

impl Sources {
    /// Those that an earlier render read, where they were then.
    pub(super) fn pinned(read: &[ReadSource]) -> Self {
        let known = read.iter().map(|one| (one.source.clone(), Ok(one.clone()))).collect();
        Self { known, minded: BTreeMap::new(), is_pinned: true }
    }

    /// Where these are by now.
    pub(super) async fn find(
        &mut self,
        db: &mut Connection,
        target: &Target,
        wanted: BTreeSet<Source>,
    ) -> Result<(), StoreError> {
        let mut repos = Registered::default();
        for source in wanted {
            if self.known.contains_key(&source) {
                continue;
            }
            let mount = source.mount();
            let answer = if self.is_pinned || self.known.len() >= SOURCES_MAX {
                Err(SourceError::TooMany)
            } else if self.known.keys().any(|known| known.mount() == mount) {
                Err(SourceError::SameMount { mount })
            } else {
                self.look_up(db, target, &source, &mut repos).await?
            };
            self.known.insert(source, answer);
        }
        Ok(())
    }

    async fn look_up(
        &mut self,
        db: &mut Connection,
        target: &Target,
        source: &Source,
        known: &mut Registered,
    ) -> Result<Answer, StoreError> {
        match source {
            Source::Repo { repo: name, reference } => {
                let repo = store::repos::find_by_name(db, target.project.id, name).await?;
                let Some(repo) = repo else {
                    return Ok(Err(SourceError::NoRepo { repo: name.clone() }));
                };
                self.find_at(db, &repo, source, reference).await
            }
            Source::Chart { repository, name, versions } => {
                let repos = known.list(db, target).await?;
                match find_chart(repos, repository, (name, versions)) {
                    Ok((repo, reference)) => self.find_at(db, repo, source, &reference).await,
                    Err(error) => Ok(Err(error)),
                }
            }
            Source::File { url } => match find_base(known.list(db, target).await?, url) {
                Ok(repo) => self.find_at(db, repo, source, &GitRef::Named(HEAD.to_owned())).await,
                Err(error) => Ok(Err(error)),
            },
            Source::Git { url, reference } => match find_base(known.list(db, target).await?, url) {
                Ok(repo) => self.find_at(db, repo, source, &base_reference(reference)).await,
                Err(error) => Ok(Err(error)),
            },
        }
    }

    /// Minded from now on, whether anything is there or not.
    async fn find_at(
        &mut self,
        db: &mut Connection,
        repo: &Repo,
        source: &Source,
        reference: &GitRef,
    ) -> Result<Answer, StoreError> {
        let minded = Minded { repo: repo.id, reference: reference.clone() };
        self.minded.entry(source.clone()).or_default().insert(minded);
        find_at(db, repo, source, reference).await
    }

    /// What was found of those that were asked for.
    pub(super) fn found(&self, asked: &BTreeSet<Source>) -> Vec<ReadSource> {
        asked.iter().filter_map(|source| self.known.get(source)?.as_ref().ok().cloned()).collect()
    }

    pub(super) fn all(&self) -> Vec<ReadSource> {
        self.known.values().filter_map(|answer| answer.as_ref().ok().cloned()).collect()
    }

    /// Refs of those; of all that was looked for, if it is not known which are needed.
    pub(super) fn minded(&self, of: Option<&[ReadSource]>) -> BTreeSet<Minded> {
        let is_of = |source: &Source| of.is_none_or(|of| of.iter().any(|one| one.source == *source));
        self.minded.iter().filter(|(source, _)| is_of(source)).flat_map(|(_, minded)| minded.clone()).collect()
    }
}

/// Repos of the target's project, once somebody has to choose among them.
#[derive(Default)]
struct Registered(Option<Vec<Repo>>);

impl Registered {
    async fn list(&mut self, db: &mut Connection, target: &Target) -> Result<&[Repo], StoreError> {
        let repos = match self.0.take() {
            Some(repos) => repos,
            None => store::repos::list_of_project(db, target.project.id).await?,
        };
        Ok(self.0.insert(repos))
    }
}

/// Only what somebody registered for the project is fetched, with the credential and the policy of that.
fn find_chart<'r>(
    repos: &'r [Repo],
    url: &str,
    (chart, versions): (&str, &str),
) -> Result<(&'r Repo, GitRef), SourceError> {
    let is_registry = RepoUrl::is_of_artifact(url);
    let url = chart_url(url);
    let places: Vec<_> = repos.iter().filter_map(|repo| Some((repo, chart_place(repo)?))).collect();
    let found = places.iter().find(|(_, (there, name))| *there == url && *name == chart).map(|(repo, _)| *repo);
    match (found, chart_reference(versions)) {
        // Registries have no `+` in a tag, and Helm writes this instead.
        (Some(repo), Some(GitRef::Tag(tag))) if is_registry => Ok((repo, GitRef::Tag(tag.replace('+', "_")))),
        (Some(repo), Some(reference)) => Ok((repo, reference)),
        _ => {
            let elsewhere = places.iter().find(|(_, (_, name))| *name == chart);
            let there = places.iter().filter(|(_, (there, _))| *there == url).map(|(_, (_, name))| *name);
            let nearest = match elsewhere {
                Some((repo, (there, _))) => Some(format!("repo `{}` has a chart `{chart}` of {there}", repo.name)),
                None => nearest(chart, there).map(|name| format!("of {url} there is a repo with the chart `{name}`")),
            };
            Err(SourceError::NotRegistered { chart: chart.to_owned(), url, nearest })
        }
    }
}

/// Where the chart of a repo is, and what it is called there; a repo of Git has none.
fn chart_place(repo: &Repo) -> Option<(String, &str)> {
    let url = &repo.spec.url;
    match &repo.spec.chart {
        Some(chart) => Some((chart_url(url), chart)),
        None if RepoUrl::is_of_artifact(url) => {
            url.trim_end_matches('/').rsplit_once('/').map(|(there, name)| (chart_url(there), name))
        }
        None => None,
    }
}

/// How a registry is reached is what its repo says; charts have one word for it.
fn chart_url(url: &str) -> String {
    RepoUrl::normal(url).replacen("oci+http://", "oci://", 1)
}

/// A Git repository or a single file, by its host and path: protocol, user and credential are the registered repo's.
fn find_base<'r>(repos: &'r [Repo], url: &str) -> Result<&'r Repo, SourceError> {
    let wanted = RepoUrl::place_of(url);
    let places: Vec<_> = repos
        .iter()
        .filter(|repo| repo.spec.chart.is_none() && !RepoUrl::is_of_artifact(&repo.spec.url))
        .filter(|repo| file_name(&repo.spec.url).is_some() == file_name(url).is_some())
        .map(|repo| (repo, RepoUrl::place_of(&repo.spec.url)))
        .collect();
    if let Some((repo, _)) = places.iter().find(|(_, place)| *place == wanted) {
        return Ok(repo);
    }
    let host = wanted.split('/').next().unwrap_or_default();
    let there = places.iter().filter(|(_, place)| place.split('/').next() == Some(host)).map(|(_, place)| &**place);
    let nearest = nearest(&wanted, there).and_then(|nearest| places.iter().find(|(_, place)| *place == nearest));
    let nearest = nearest.map(|(repo, place)| format!("repo `{}` is {place}", repo.name));
    Err(SourceError::NoSuchBase { url: url.to_owned(), nearest })
}

/// As a document that somebody can apply.
fn chart_document(chart: &str, url: &str) -> String {
    let is_registry = RepoUrl::is_of_artifact(url);
    let spec = if is_registry { format!("{{url: {url}/{chart}}}") } else { format!("{{url: {url}, chart: {chart}}}") };
    document(chart, &spec)
}

fn document(named: &str, spec: &str) -> String {
    let name = named.to_lowercase().replace(['.', '_'], "-");
    format!("{{apiVersion: {API_VERSION}, kind: Repo, metadata: {{name: {name}}}, spec: {spec}}}")
}

async fn find_at(db: &mut Connection, repo: &Repo, source: &Source, reference: &GitRef) -> Result<Answer, StoreError> {
    // As of the target's own repo: see `render`.
    work::await_subject(db, Stage::Source, repo.id.as_uuid()).await?;
    let (name, full) = (repo.name.clone(), full_name(reference));
    let (head, condition) = store::revisions::find_head(db, repo.id, &full).await?;
    if let Some(condition) = condition {
        return Ok(Err(SourceError::NotThere { repo: name, condition: Box::new(condition) }));
    }
    if let Some(head) = head {
        // As of its own repo: what has to be signed there has to be signed for all who read it.
        if let Some(condition) = policy::hold(&repo.spec, &head, clock::now()) {
            return Ok(Err(SourceError::NotThere { repo: name, condition: Box::new(condition) }));
        }
        let (source, repo) = (source.clone(), repo.id);
        let read = ReadSource { source, repo, name, reference: full, commit: head.commit, verified: head.verified };
        return Ok(Ok(read));
    }
    Ok(Err(match store::repos::find_fetch_status(db, repo.id).await?.condition {
        Some(condition) => SourceError::NotThere { repo: name, condition: Box::new(condition) },
        None => SourceError::NotSeen { repo: name, reference: full },
    }))
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    #[error(transparent)]
    Own(ReadError),
    #[error("{mount} {error}")]
    There { repo: RepoId, mount: String, error: ReadError },
    #[error(transparent)]
    Source(SourceError),
}

/// The files of a commit, and of its sources.
pub(super) struct RepoFiles {
    own: CommitFiles,
    mirrors: Arc<Mirrors>,
    sources: Arc<Sources>,
    asked: Arc<RequestedSources>,
    mounted: Mutex<BTreeMap<String, Arc<Mounted>>>,
}

struct Mounted {
    repo: RepoId,
    mount: String,
    files: CommitFiles,
}

/// Sources that a render asked for.
#[derive(Debug, Default)]
pub(super) struct RequestedSources(Mutex<BTreeSet<Source>>);

impl RequestedSources {
    fn add(&self, source: &Source) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(source.clone());
    }

    pub(super) fn extend(&self, sources: impl IntoIterator<Item = Source>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(sources);
    }

    pub(super) fn list(&self) -> BTreeSet<Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn found(&self, sources: &Sources) -> Vec<ReadSource> {
        sources.found(&self.list())
    }
}

impl RepoFiles {
    pub(super) fn new(
        mirrors: Arc<Mirrors>,
        own: CommitFiles,
        sources: Arc<Sources>,
        asked: Arc<RequestedSources>,
    ) -> Self {
        Self { own, mirrors, sources, asked, mounted: Mutex::default() }
    }

    fn look<T>(
        &self,
        path: &str,
        look: impl FnOnce(&CommitFiles, &str) -> Result<T, ReadError>,
    ) -> Result<T, FilesError> {
        let there = self
            .lock()
            .iter()
            .find_map(|(mount, mounted)| Some((mounted.clone(), below_mount(mount, path)?.to_owned())));
        let Some((mounted, below)) = there else { return look(&self.own, path).map_err(FilesError::Own) };
        let Mounted { repo, mount, files } = &*mounted;
        look(files, &below).map_err(|error| FilesError::There { repo: *repo, mount: mount.clone(), error })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Mounted>>> {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for RepoFiles {
    type Error = FilesError;

    fn read(&self, path: &str, bytes_max: usize) -> Result<Found, FilesError> {
        self.look(path, |files, path| files.read(path, bytes_max))
    }

    fn list(&self, path: &str) -> Result<Listing, FilesError> {
        self.look(path, CommitFiles::list)
    }

    fn manifests(&self, folder: &str, leave_out: &LeaveOut<'_>) -> Result<Vec<SourceFile>, FilesError> {
        self.own.manifests(folder, leave_out).map_err(FilesError::Own)
    }

    fn find_source(&self, source: &Source) -> Result<(), FilesError> {
        self.asked.add(source);
        let answer = self.sources.known.get(source).ok_or(FilesError::Source(SourceError::Unknown))?;
        let read = answer.as_ref().map_err(|error| FilesError::Source(error.clone()))?;
        let mount = source.mount();
        if self.lock().contains_key(&mount) {
            return Ok(());
        }
        let failed = |error| FilesError::There { repo: read.repo, mount: mount.clone(), error };
        let reader = self.mirrors.of(read.repo).reader().map_err(|error| failed(ReadError::from(error)))?;
        let mounted = Mounted { repo: read.repo, mount: mount.clone(), files: reader.files(&read.commit) };
        self.lock().insert(mount, Arc::new(mounted));
        Ok(())
    }
}
