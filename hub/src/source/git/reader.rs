//! Reads what a mirror holds while it fetches.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bellwether_render::LeaveOut;

use super::error::ReadError;
use super::files::CommitFiles;
use super::lacking::Lacking;
use super::read::{self, Folder};

/// Reads what a mirror held when this was made, while the mirror fetches.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(super) repo: gix::ThreadSafeRepository,
    pub(super) damaged: Arc<AtomicBool>,
    pub(super) lacking: Arc<Lacking>,
}

impl Reader {
    /// The manifests below `path` (the empty path is the root) in a commit that was fetched, without those that are left
    /// out by their paths below it.
    pub(crate) fn read_folder(&self, commit: &str, path: &str, leave_out: &LeaveOut<'_>) -> Result<Folder, ReadError> {
        self.note_damage(read::read_folder(&self.repo.to_thread_local(), commit, path, &self.lacking, leave_out))
    }

    /// The id of that folder's tree; it changes exactly when something in the folder does.
    #[cfg(test)]
    pub(crate) fn tree_of(&self, commit: &str, path: &str) -> Result<String, ReadError> {
        self.note_damage(read::find_tree(&self.repo.to_thread_local(), commit, path)).map(|tree| tree.to_string())
    }

    /// All of a commit, for whoever does not know before what is needed of it.
    pub(crate) fn files(&self, commit: &str) -> CommitFiles {
        CommitFiles::new(self.clone(), commit.to_owned())
    }

    /// What a render read of a commit, as it is there: equal digests, equal objects.
    pub(crate) fn digest_of(&self, commit: &str, paths: &BTreeSet<String>) -> Result<String, ReadError> {
        let digest = read::digest_of(&self.repo.to_thread_local(), commit, paths);
        self.note_damage(digest).map(|digest| digest.to_string())
    }

    /// Of what renders read, that which is the same in two commits.
    pub(crate) fn list_unmoved(
        &self,
        old: &str,
        new: &str,
        paths: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, ReadError> {
        self.note_damage(read::list_unmoved(&self.repo.to_thread_local(), old, new, paths))
    }

    pub(super) fn note_damage<T>(&self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        if matches!(result, Err(ReadError::Damaged { .. })) {
            self.damaged.store(true, Ordering::Relaxed);
        }
        result
    }
}
