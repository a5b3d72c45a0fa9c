//! The repos' bare mirrors: a cache that may be deleted at any time.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use bellwether_core::RepoId;
use bellwether_core::api::GitRef;

use super::git::{FetchError, Folder, Head, Mirror, ReadError, Remote};

pub(crate) struct Mirrors {
    folder: PathBuf,
    open: Mutex<std::collections::BTreeMap<RepoId, Arc<Slot>>>,
}

/// One repo's mirror. Fetches wait for each other; reads open the mirror by themselves.
pub(crate) struct Slot {
    folder: PathBuf,
    mirror: Mutex<Option<Mirror>>,
}

impl Mirrors {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, open: Mutex::default() }
    }

    pub(crate) fn of(&self, repo: RepoId) -> Arc<Slot> {
        let mut open = self.open.lock().expect("no holder of this lock panics");
        let slot = open.entry(repo).or_insert_with(|| {
            Arc::new(Slot { folder: self.folder.join(format!("{repo}.git")), mirror: Mutex::new(None) })
        });
        slot.clone()
    }
}

impl Slot {
    /// Blocks: for `spawn_blocking`.
    pub(crate) fn fetch(&self, remote: &Remote, wanted: &[GitRef], stop: &AtomicBool) -> Result<Vec<Head>, FetchError> {
        self.with(|mirror| mirror.fetch(remote, wanted, stop))
    }

    /// Blocks: for `spawn_blocking`.
    pub(crate) fn tree_of(&self, commit: &str, path: &str) -> Result<String, ReadError> {
        self.with(|mirror| mirror.tree_of(commit, path))
    }

    /// Blocks: for `spawn_blocking`.
    pub(crate) fn read_folder(&self, commit: &str, path: &str) -> Result<Folder, ReadError> {
        self.with(|mirror| mirror.read_folder(commit, path))
    }

    fn with<T, E: From<FetchError>>(&self, work: impl FnOnce(&mut Mirror) -> Result<T, E>) -> Result<T, E> {
        let mut slot = self.mirror.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mirror = match &mut *slot {
            Some(mirror) => mirror,
            none => none.insert(Mirror::open_or_create(&self.folder)?),
        };
        work(mirror)
    }
}
