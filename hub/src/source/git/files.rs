//! The files of one commit, as a render asks for them: one path after the other, out of the object store.
//!
//! Nothing is checked out and no link is followed, whoever asks for what is behind it.

use std::sync::{Mutex, PoisonError};

use bellwether_render::{Found, LeaveOut, Listed, Listing, SourceFile};
use gix::ObjectId;
use gix::objs::Kind;
use gix::objs::tree::EntryKind;
use gix::odb::HeaderExt as _;

use super::Reader;
use super::error::ReadError;
use super::read::{self, Trees};
use super::scan::OBJECT_BYTES_MAX;

/// The files of a commit that was fetched.
pub(crate) struct CommitFiles {
    reader: Reader,
    commit: String,
    at: Mutex<At>,
}

/// What was looked through.
struct At {
    repo: gix::Repository,
    root: Option<ObjectId>,
    trees: Trees,
}

impl CommitFiles {
    pub(super) fn new(reader: Reader, commit: String) -> Self {
        let repo = reader.repo.to_thread_local();
        let at = Mutex::new(At { repo, root: None, trees: Trees::default() });
        Self { reader, commit, at }
    }

    fn look<T>(&self, look: impl FnOnce(&mut At, ObjectId) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let at = &mut *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match at.root {
            Some(root) => Ok(root),
            None => read::find_root(&at.repo, &self.commit),
        };
        let looked = found.and_then(|root| {
            at.root = Some(root);
            look(at, root)
        });
        self.reader.note_damage(looked)
    }
}

/// As [`Files`](bellwether_render::Files) of one commit, which knows of no other repo.
impl CommitFiles {
    pub(crate) fn read(&self, path: &str, bytes_max: usize) -> Result<Found, ReadError> {
        self.look(|at, root| {
            let id = match at.find(root, path)? {
                None => return Ok(Found::Absent),
                Some((EntryKind::Tree, _)) => return Ok(Found::Folder),
                Some((_, id)) => id,
            };
            let lacking = &self.reader.lacking;
            if lacking.is_too_large(id) {
                return Err(ReadError::FileTooLarge { file: path.to_owned(), bytes_max: OBJECT_BYTES_MAX });
            }
            if !at.repo.has_object(id) {
                lacking.want(id);
                return Err(ReadError::NotFetched);
            }
            if at.repo.objects.header(id).map_err(read::damaged)?.size() > bytes_max as u64 {
                return Ok(Found::TooLarge);
            }
            Ok(Found::File(read::load(&at.repo, id, Kind::Blob, bytes_max as u64)?))
        })
    }

    pub(crate) fn list(&self, path: &str) -> Result<Listing, ReadError> {
        self.look(|at, root| match at.find(root, path)? {
            None => Ok(Listing::Absent),
            Some((EntryKind::Tree, id)) => {
                let above = if path.is_empty() { String::new() } else { format!("{path}/") };
                let entries = at.trees.list(&at.repo, id, &above)?.into_iter();
                let listed = |(name, kind)| Listed { name, is_folder: kind == EntryKind::Tree };
                Ok(Listing::Folder(entries.map(listed).collect()))
            }
            Some(_) => Ok(Listing::NotAFolder),
        })
    }

    pub(crate) fn manifests(&self, folder: &str, leave_out: &LeaveOut<'_>) -> Result<Vec<SourceFile>, ReadError> {
        // People read paths from the repo's root on.
        let whole = |path: &str| if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") };
        let leave_out = |path: &str, is_folder| leave_out(&whole(path), is_folder);
        let mut files = self.reader.read_folder(&self.commit, folder, &leave_out)?.files;
        for file in &mut files {
            file.path = whole(&file.path);
        }
        Ok(files)
    }
}

impl At {
    /// A link or a submodule, there or on the way there, is an error that names it.
    fn find(&mut self, root: ObjectId, path: &str) -> Result<Option<(EntryKind, ObjectId)>, ReadError> {
        let (mut here, mut end) = ((EntryKind::Tree, root), 0);
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let below = if here.0 == EntryKind::Tree { self.trees.find(&self.repo, here.1, part)? } else { None };
            let Some(below) = below else { return Ok(None) };
            end += part.len() + usize::from(end > 0);
            match below.0 {
                EntryKind::Link => return Err(ReadError::Symlink { file: path[..end].to_owned() }),
                EntryKind::Commit => return Err(ReadError::Submodule { path: path[..end].to_owned() }),
                EntryKind::Tree | EntryKind::Blob | EntryKind::BlobExecutable => here = below,
            }
        }
        Ok(Some(here))
    }
}
