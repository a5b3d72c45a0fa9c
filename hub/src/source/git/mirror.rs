//! A repo's local copy, and what it keeps between fetches.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bellwether_core::signature::Verified;
use bellwether_core::source::{GitRef, full_name};
use gix::ObjectId;
use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::{file, http};

use super::budget::{Budget, FetchBounds};
use super::commit::read_commit;
use super::disk::{TIPS_MAX, beside, check_packs, create, measure, open, read_tips, remove, write_tips};
use super::error::FetchError;
use super::fetch::{Fetched, Here, Refused, run_fetch};
use super::lacking::Lacking;
use super::reader::Reader;
use super::unpack::Stored;
use super::verify::Verifier;
use super::wire::{self, Wire};
use super::{Head, Remote, mirror, protocol, ssh};
use crate::source::oci::{self, Registry};

/// A mirror beyond these is made anew: single objects and packs that Git would pack, too.
const LOOSE_MAX: usize = 5_000;
const PACKS_MAX: usize = 20;

/// One that gets something new with every fetch is made anew beyond so many times as much. Somebody waits for that.
const WORN_OUT: usize = 2;

/// Fetches that stored something and after which it is not measured: each brings less than a hundred single objects, so this
/// is the least that could matter. A pack counts for more.
const UNMEASURED_MAX: usize = 50;
const UNMEASURED_FOR_A_PACK: usize = 10;

/// What is worth keeping between fetches.
#[derive(Debug)]
enum Connection {
    Http(wire::Connection),
    Ssh(ssh::Connection),
}

impl Connection {
    fn serves(&self, remote: &Remote) -> bool {
        match self {
            Self::Http(connection) => connection.serves(remote),
            Self::Ssh(connection) => connection.serves(remote),
        }
    }
}

/// A repo's local copy. One at a time per folder.
#[derive(Debug)]
pub(crate) struct Mirror {
    folder: PathBuf,
    pub(super) repo: gix::ThreadSafeRepository,
    bounds: FetchBounds,
    connection: Option<Connection>,
    registry: Option<Registry>,
    /// The newest commits that are here, latest last.
    tips: Vec<ObjectId>,
    /// A reader found damage: the next fetch begins anew.
    damaged: Arc<AtomicBool>,
    lacking: Arc<Lacking>,
    refused: Option<Refused>,
    /// Somebody says that a ref has moved.
    expects_news: bool,
    /// By their full names, refs and the commits that they are to build on.
    bases: BTreeMap<String, ObjectId>,
    /// Commits at refs that are known not to.
    waiting: BTreeMap<String, ObjectId>,
    /// Something was stored since it was last found small enough.
    has_grown: bool,
    /// Of [`UNMEASURED_MAX`].
    unmeasured: usize,
    /// Whatever it has.
    is_to_shrink: bool,
}

impl Mirror {
    /// Opens the mirror in `folder`. What is torn or not a mirror at all is removed and made anew.
    pub(crate) fn open_or_create(folder: &Path) -> Result<Self, FetchError> {
        let repo = match open(folder) {
            Ok(repo) => repo,
            Err(reason) => create(folder, &reason.to_string())?,
        };
        let tips = read_tips(folder, &repo.to_thread_local());
        let folder = folder.to_owned();
        Ok(Self {
            folder,
            repo,
            bounds: FetchBounds::default(),
            connection: None,
            registry: None,
            tips,
            damaged: Arc::default(),
            lacking: Arc::default(),
            refused: None,
            expects_news: false,
            bases: BTreeMap::new(),
            waiting: BTreeMap::new(),
            has_grown: true,
            unmeasured: 0,
            is_to_shrink: false,
        })
    }

    pub(crate) fn with_bounds(self, bounds: FetchBounds) -> Self {
        Self { bounds, ..self }
    }

    /// Whether the next fetches are likely to find something: then branches are asked for by name, where the server lets us,
    /// and what they lead to comes with the answer. For what finds nothing a listing costs the server less.
    pub(crate) const fn expect_news(&mut self, expects_news: bool) {
        self.expects_news = expects_news;
    }

    /// After the next fetch, whatever that brings.
    pub(crate) const fn renew_soon(&mut self, is_to_shrink: bool) {
        self.is_to_shrink = is_to_shrink;
    }

    /// It was to be made anew, and was not.
    pub(crate) const fn is_to_shrink(&self) -> bool {
        self.is_to_shrink
    }

    /// Whether these refs, by their full names, build on commits is looked for by the next fetches, wherever they lead
    /// somewhere else; not of commits that were looked at, and wait.
    pub(crate) fn ask_whether(&mut self, builds_on: &BTreeMap<String, String>, waiting: &BTreeMap<String, String>) {
        let read = |commits: &BTreeMap<String, String>| {
            let commits = commits.iter();
            commits.filter_map(|(name, id)| Some((name.clone(), ObjectId::from_hex(id.as_bytes()).ok()?))).collect()
        };
        (self.bases, self.waiting) = (read(builds_on), read(waiting));
    }

    /// Finds where the `wanted` refs are, and fetches the commits that are not here yet.
    ///
    /// One answer per ref, in the same order. Without any it still asks, so that a repo that is not there is noticed.
    pub(crate) fn fetch(
        &mut self,
        remote: &Remote,
        wanted: &[GitRef],
        stop: &AtomicBool,
    ) -> Result<Vec<Head>, FetchError> {
        if self.damaged.swap(false, Ordering::Relaxed) {
            self.begin_anew("a reader found damage")?;
        }
        let budget = Budget::new(self.bounds, stop);
        let kept = self.connection.as_ref().is_some_and(|connection| connection.serves(remote));
        let mut fetched = self.fetch_once(remote, wanted, &budget);
        if kept && fetched.as_ref().is_err_and(FetchError::may_come_from_a_kept_connection) {
            fetched = self.fetch_once(remote, wanted, &budget);
        }
        let is_not_stored = matches!(fetched, Err(FetchError::Mirror { .. } | FetchError::Protocol { .. }));
        if is_not_stored && let Err(reason) = check_packs(&self.folder.join("objects/pack")) {
            self.begin_anew(&reason.to_string())?;
            fetched = self.fetch_once(remote, wanted, &budget);
        } else if is_not_stored && !self.tips.is_empty() {
            // What is sent builds on the commits we say to have; one of them may be damaged.
            self.tips.clear();
            fetched = self.fetch_once(remote, wanted, &budget);
        }
        if let Err(FetchError::Damaged { source }) = &fetched {
            self.begin_anew(&source.to_string())?;
            fetched = self.fetch_once(remote, wanted, &budget);
        }
        let Fetched { heads, tips, stored } = fetched?;
        if stored == Some(Stored::Pack) {
            // See `options`.
            self.repo = open(&self.folder).map_err(mirror)?;
        }
        self.remember(&tips)?;
        if self.is_to_be_renewed(stored) {
            match self.renew(remote, (wanted, &heads), stop) {
                Ok(is_renewed) => self.is_to_shrink &= !is_renewed,
                Err(error) => {
                    tracing::warn!(folder = %self.folder.display(), error = %crate::chain(&error), "cannot renew a mirror");
                }
            }
        }
        Ok(heads)
    }

    /// After a fetch that stored this.
    fn is_to_be_renewed(&mut self, stored: Option<Stored>) -> bool {
        if self.is_to_shrink {
            return true;
        }
        let Some(stored) = stored else {
            // Nobody waits for what nothing was found for.
            return std::mem::take(&mut self.has_grown) && self.is_larger_than(1);
        };
        self.has_grown = true;
        self.unmeasured += if stored == Stored::Pack { UNMEASURED_FOR_A_PACK } else { 1 };
        if self.unmeasured < UNMEASURED_MAX {
            return false;
        }
        self.unmeasured = 0;
        self.is_larger_than(WORN_OUT)
    }

    /// So many times as much as a mirror is to have.
    fn is_larger_than(&self, times: usize) -> bool {
        let size = measure(&self.folder.join("objects")).unwrap_or_default();
        let bytes_max = self.bounds.pack_bytes_max.saturating_mul(2 * times as u64);
        size.loose > LOOSE_MAX * times || size.packs > PACKS_MAX * times || size.bytes > bytes_max
    }

    /// Fetches the commits that are wanted into a new mirror and puts it in the place of this one. Earlier commits go:
    /// what was rendered from them is kept elsewhere. Readers go on in the new one. False: the server has not all any more that
    /// counts here.
    fn renew(
        &mut self,
        remote: &Remote,
        (wanted, heads): (&[GitRef], &[Head]),
        stop: &AtomicBool,
    ) -> Result<bool, FetchError> {
        let (new, old) = (beside(&self.folder, "new"), beside(&self.folder, "old"));
        for folder in [&new, &old] {
            remove(folder).map_err(mirror)?;
        }
        let counting = self.counting(heads);
        let pinned = counting.iter().map(|commit| GitRef::Commit(commit.to_string()));
        let all: Vec<_> = wanted.iter().cloned().chain(pinned).collect();
        let mut renewed = Self::open_or_create(&new)?.with_bounds(self.bounds);
        renewed.fetch(remote, &all, stop)?;
        if !counting.iter().all(|commit| renewed.repo.to_thread_local().has_object(*commit)) {
            remove(&new).map_err(mirror)?;
            return Ok(false);
        }
        fs::rename(&self.folder, &old).and_then(|()| fs::rename(&new, &self.folder)).map_err(mirror)?;
        let Self { repo, tips, .. } = Self::open_or_create(&self.folder)?;
        (self.repo, self.tips) = (repo, tips);
        remove(&old).map_err(mirror)?;
        Ok(true)
    }

    /// Commits that no ref leads to any more, and that count as long as what is there instead waits for somebody.
    fn counting(&self, heads: &[Head]) -> Vec<ObjectId> {
        let counts = heads.iter().filter_map(|head| {
            let base = self.bases.get(&full_name(&head.reference))?;
            let (there, counting) = (head.outcome.as_ref().ok()?, base.to_string());
            (there.id != counting && head.builds_on.as_deref() != Some(&*counting)).then_some(*base)
        });
        counts.collect()
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader { repo: self.repo.clone(), damaged: self.damaged.clone(), lacking: self.lacking.clone() }
    }

    fn begin_anew(&mut self, reason: &str) -> Result<(), FetchError> {
        self.tips.clear();
        self.lacking.clear();
        self.repo = create(&self.folder, reason)?;
        Ok(())
    }

    fn fetch_once(&mut self, remote: &Remote, wanted: &[GitRef], budget: &Budget<'_>) -> Result<Fetched, FetchError> {
        let repo = self.repo.to_thread_local();
        if remote.chart.is_some() || remote.url.artifact().is_some() || remote.file().is_some() {
            return self.fetch_artifacts(remote, wanted, &repo, budget);
        }
        let expects_news = self.expects_news;
        let verifier = remote.verify.as_ref().map(Verifier::read).transpose()?;
        let scratch = beside(&self.folder, "history");
        let here = Here {
            repo: &repo,
            tips: &self.tips,
            lacking: &self.lacking,
            refused: &mut self.refused,
            expects_news,
            bases: &self.bases,
            waiting: &self.waiting,
            scratch: &scratch,
            verifier: verifier.as_ref(),
        };
        if let Some(folder) = remote.url.local_folder() {
            let connect = || {
                let Ok(transport) = file::connect(folder.as_str(), Protocol::V2, false);
                transport
            };
            return run_fetch(connect, wanted, here, budget);
        }
        // It is put back only when all went well; after a failure the next fetch connects again.
        let kept = self.connection.take().filter(|connection| connection.serves(remote));
        let connection = match kept {
            Some(connection) => connection,
            None if remote.url.ssh().is_some() => Connection::Ssh(ssh::Connection::open(remote, budget)?),
            None => Connection::Http(wire::Connection::open(remote)?),
        };
        let fetched = match &connection {
            Connection::Http(connection) => {
                let wire = Wire::new(connection, budget)?;
                let failure = wire.failure();
                let url = gix::url::parse(remote.url.as_str()).map_err(protocol)?;
                let connect = || http::Transport::new_http(wire.clone(), url.clone(), Protocol::V2, false);
                run_fetch(connect, wanted, here, budget).map_err(|error| failure.take().unwrap_or(error))
            }
            Connection::Ssh(connection) => {
                let talk = ssh::Talk::new(connection, budget);
                let failure = talk.failure();
                run_fetch(|| talk.begin(), wanted, here, budget).map_err(|error| failure.take().unwrap_or(error))
            }
        };
        if fetched.is_ok() {
            self.connection = Some(connection);
        }
        fetched
    }

    /// What a registry or another server has becomes commits as well, each a function of its content.
    fn fetch_artifacts(
        &mut self,
        remote: &Remote,
        wanted: &[GitRef],
        repo: &gix::Repository,
        budget: &Budget<'_>,
    ) -> Result<Fetched, FetchError> {
        let mut registry = match self.registry.take().filter(|registry| registry.serves(remote)) {
            Some(registry) => registry,
            None => Registry::open(remote, &self.folder)?,
        };
        let fetched = oci::fetch(&mut registry, wanted, self.expects_news, repo, budget)?;
        self.registry = Some(registry);
        let stored = fetched.has_grown.then_some(Stored::Loose);
        let outcomes = wanted.iter().zip(fetched.found).map(|(reference, found)| {
            let outcome = match found.commit {
                Ok(commit) => read_commit(commit, repo)?,
                Err(error) => Err(error),
            };
            // An artifact has no history that it could build on.
            let verified = found.verified.map(|key| Ok(Verified { artifact: Some(key), ..Verified::default() }));
            Ok(Head { reference: reference.clone(), tag: found.tag, builds_on: None, verified, outcome })
        });
        Ok(Fetched { heads: outcomes.collect::<Result<_, FetchError>>()?, tips: Vec::new(), stored })
    }

    fn remember(&mut self, found: &[ObjectId]) -> Result<(), FetchError> {
        if found.iter().all(|tip| self.tips.contains(tip)) {
            return Ok(());
        }
        self.tips.retain(|tip| !found.contains(tip));
        self.tips.extend(found);
        let excess = self.tips.len().saturating_sub(TIPS_MAX);
        self.tips.drain(..excess);
        write_tips(&self.folder, &self.tips, found).map_err(mirror)
    }
}
