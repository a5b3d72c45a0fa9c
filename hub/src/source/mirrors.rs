//! The repos' bare mirrors: a cache that may be deleted at any time.
//!
//! They hold what private repos hold, so nobody but the hub's user may look into their folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellwether_core::RepoId;
use bellwether_core::source::GitRef;
use tokio::sync::watch;

use super::git::{self, FetchBounds, FetchError, Head, Mirror, Reader, Remote};

/// What is git's in the folder ends so; everything else there is left alone.
const ENDING: &str = ".git";

pub(crate) struct Mirrors {
    folder: PathBuf,
    bounds: FetchBounds,
    open: Mutex<BTreeMap<RepoId, Arc<Slot>>>,
}

/// One repo's mirror. Fetches wait for each other; reads wait for no fetch.
pub(crate) struct Slot {
    folder: PathBuf,
    bounds: FetchBounds,
    mirror: Mutex<Option<Mirror>>,
    /// Of the mirror as the last fetch left it.
    reader: Mutex<Option<Reader>>,
    fetched: watch::Sender<()>,
}

impl Mirrors {
    /// Closes the folder to everybody else, also one that an earlier hub left open.
    pub(crate) fn open(folder: PathBuf, bounds: FetchBounds) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        Ok(Self { folder, bounds, open: Mutex::default() })
    }

    pub(crate) fn of(&self, repo: RepoId) -> Arc<Slot> {
        let slot = || {
            let (mirror, reader, fetched) = (Mutex::default(), Mutex::default(), watch::Sender::default());
            Arc::new(Slot { folder: self.path(repo), bounds: self.bounds, mirror, reader, fetched })
        };
        lock(&self.open).entry(repo).or_insert_with(slot).clone()
    }

    /// Of a repo that is deleted. Blocks, also for a fetch that is under way.
    pub(crate) fn remove(&self, repo: RepoId) -> io::Result<()> {
        let slot = lock(&self.open).remove(&repo);
        let held = slot.as_ref().map(|slot| (lock(&slot.mirror), lock(&slot.reader)));
        if let Some((mut mirror, mut reader)) = held {
            (*mirror, *reader) = (None, None);
        }
        git::remove_mirror(&self.path(repo))
    }

    /// Repos that have a mirror here, whether they are still known or not. Blocks.
    pub(crate) fn list(&self) -> io::Result<BTreeSet<RepoId>> {
        let mut repos = BTreeSet::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let id =
                name.to_str().and_then(|name| name.strip_suffix(ENDING)).and_then(|id| uuid::Uuid::parse_str(id).ok());
            repos.extend(id.map(RepoId::new));
        }
        Ok(repos)
    }

    fn path(&self, repo: RepoId) -> PathBuf {
        self.folder.join(format!("{repo}{ENDING}"))
    }
}

/// What a fetch is for.
pub(crate) struct Wanted {
    pub(crate) refs: Vec<GitRef>,
    /// By their full names, refs and commits: whether they build on them is to be found out.
    pub(crate) bases: BTreeMap<String, String>,
    /// By their full names, refs and commits there that do not, and wait for somebody.
    pub(crate) waiting: BTreeMap<String, String>,
    /// Somebody says that there is something new.
    pub(crate) was_asked: bool,
}

impl Slot {
    /// Blocks: for `spawn_blocking`.
    pub(crate) fn fetch(&self, remote: &Remote, wanted: &Wanted, stop: &AtomicBool) -> Result<Vec<Head>, FetchError> {
        let heads = self.with(|mirror| {
            mirror.expect_news(wanted.was_asked);
            mirror.ask_whether(&wanted.bases, &wanted.waiting);
            mirror.fetch(remote, &wanted.refs, stop)
        })?;
        self.fetched.send_replace(());
        Ok(heads)
    }

    /// Changes whenever a fetch from now on has ended well.
    pub(crate) fn fetched(&self) -> watch::Receiver<()> {
        self.fetched.subscribe()
    }

    /// Blocks, and so does what it reads: for `spawn_blocking`.
    pub(crate) fn reader(&self) -> Result<Reader, FetchError> {
        let reader = lock(&self.reader).clone();
        match reader {
            Some(reader) => Ok(reader),
            None => self.with(|mirror| Ok(mirror.reader())),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Mirror) -> Result<T, FetchError>) -> Result<T, FetchError> {
        let mut slot = lock(&self.mirror);
        let mirror = match &mut *slot {
            Some(mirror) => mirror,
            none => none.insert(Mirror::open_or_create(&self.folder)?.with_bounds(self.bounds)),
        };
        let done = work(mirror);
        *lock(&self.reader) = Some(mirror.reader());
        done
    }
}

/// Whoever panicked with it left nothing half done that the next fetch would not repair.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn nobody_else_may_look_into_the_mirrors_even_if_they_once_could() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let repos = folder.path().join("repos");
        fs::create_dir(&repos).expect("a new folder");
        fs::set_permissions(&repos, fs::Permissions::from_mode(0o755)).expect("it is ours");

        let mirrors = Mirrors::open(repos.clone(), FetchBounds::default()).expect("it can be used");
        let repo = RepoId::new(crate::process::clock::new_id());
        mirrors.of(repo).reader().expect("a new mirror");

        assert_eq!((mode(&repos), mode(&mirrors.path(repo))), (0o700, 0o700));
    }

    #[test]
    fn a_mirror_goes_with_its_repo_also_when_this_hub_never_opened_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mirrors = Mirrors::open(folder.path().join("repos"), FetchBounds::default()).expect("it can be used");
        let (opened, closed) =
            (RepoId::new(crate::process::clock::new_id()), RepoId::new(crate::process::clock::new_id()));
        mirrors.of(opened).reader().expect("a new mirror");
        fs::create_dir(mirrors.path(closed)).expect("a folder of an earlier run");
        assert_eq!(mirrors.list().expect("they are listed"), [opened, closed].into());

        for repo in [opened, closed, RepoId::new(crate::process::clock::new_id())] {
            mirrors.remove(repo).expect("it goes");
        }

        assert_eq!(mirrors.list().expect("they are listed"), BTreeSet::new());
    }
}
