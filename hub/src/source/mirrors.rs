//! The repos' bare mirrors: a cache that may be deleted at any time.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellwether_core::RepoId;
use bellwether_core::api::GitRef;

use super::git::{FetchError, Head, Mirror, Reader, Remote};

pub(crate) struct Mirrors {
    folder: PathBuf,
    open: Mutex<std::collections::BTreeMap<RepoId, Arc<Slot>>>,
}

/// One repo's mirror. Fetches wait for each other; reads wait for no fetch.
pub(crate) struct Slot {
    folder: PathBuf,
    mirror: Mutex<Option<Mirror>>,
    /// Of the mirror as the last fetch left it.
    reader: Mutex<Option<Reader>>,
}

impl Mirrors {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, open: Mutex::default() }
    }

    pub(crate) fn of(&self, repo: RepoId) -> Arc<Slot> {
        let mut open = self.open.lock().expect("no holder of this lock panics");
        let slot = open.entry(repo).or_insert_with(|| {
            let folder = self.folder.join(format!("{repo}.git"));
            Arc::new(Slot { folder, mirror: Mutex::default(), reader: Mutex::default() })
        });
        slot.clone()
    }
}

impl Slot {
    /// Blocks: for `spawn_blocking`.
    pub(crate) fn fetch(&self, remote: &Remote, wanted: &[GitRef], stop: &AtomicBool) -> Result<Vec<Head>, FetchError> {
        self.with(|mirror| mirror.fetch(remote, wanted, stop))
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
            none => none.insert(Mirror::open_or_create(&self.folder)?),
        };
        let done = work(mirror);
        *lock(&self.reader) = Some(mirror.reader());
        done
    }
}

/// Whoever panicked with it left nothing half done that the next fetch would not mend.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
