//! Other repos that a render reads: which they are, at which commits, and their files below their mounts.
//!
//! Of what a target names, and what its last render read, this is found out before a render begins. What a render asks for
//! besides ends it, is found out then, and it begins again: an engine waits for no database.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellwether_core::render::{Source, below_mount};
use bellwether_core::source::{GitRef, full_name};
use bellwether_core::{Condition, Name, RepoId};
use bellwether_render::{Files, Found, LeaveOut, Listing, SourceFile};

use crate::process::clock;
use crate::source::git::{CommitFiles, ReadError};
use crate::source::mirrors::Mirrors;
use crate::source::policy;
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
            Self::NotThere { condition, .. } => &condition.code,
            Self::NotSeen { .. } | Self::Unknown => "source_not_seen",
            Self::TooMany => "sources_too_many",
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
    minded: BTreeMap<Source, Minded>,
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
        for source in wanted {
            if self.known.contains_key(&source) {
                continue;
            }
            let answer = if self.is_pinned || self.known.len() >= SOURCES_MAX {
                Err(SourceError::TooMany)
            } else {
                self.look_up(db, target, &source).await?
            };
            self.known.insert(source, answer);
        }
        Ok(())
    }

    async fn look_up(&mut self, db: &mut Connection, target: &Target, source: &Source) -> Result<Answer, StoreError> {
        let Source::Repo { repo: name, reference } = source;
        let repo = store::repos::find_by_name(db, name).await?.filter(|repo| repo.project == target.project);
        let Some(repo) = repo else {
            return Ok(Err(SourceError::NoRepo { repo: name.clone() }));
        };
        self.minded.insert(source.clone(), Minded { repo: repo.id, reference: reference.clone() });
        find_at(db, &repo, source, reference).await
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
        self.minded.iter().filter(|(source, _)| is_of(source)).map(|(_, minded)| minded.clone()).collect()
    }
}

async fn find_at(
    db: &mut Connection,
    repo: &store::repos::Repo,
    source: &Source,
    reference: &GitRef,
) -> Result<Answer, StoreError> {
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
    asked: Arc<Asked>,
    mounted: Mutex<BTreeMap<String, Arc<Mounted>>>,
}

struct Mounted {
    repo: RepoId,
    mount: String,
    files: CommitFiles,
}

/// Sources that a render asked for.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<BTreeSet<Source>>);

impl Asked {
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
    pub(super) fn new(mirrors: Arc<Mirrors>, own: CommitFiles, sources: Arc<Sources>, asked: Arc<Asked>) -> Self {
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
