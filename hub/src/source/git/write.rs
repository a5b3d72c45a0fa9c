//! Commits that are made here, of what is kept elsewhere than in Git. Equal files and words, equal commit, on every hub.

use std::collections::BTreeMap;

use gix::ObjectId;
use gix::actor::Signature;
use gix::bstr::BString;
use gix::objs::tree::{Entry, EntryKind};
use gix::objs::{Commit, Tree};

use super::error::FetchError;
use super::{mirror, tidy};

/// What a commit says beside its files.
pub(in crate::source) struct Made<'a> {
    pub(in crate::source) author: &'a str,
    pub(in crate::source) message: String,
    /// Seconds since the epoch.
    pub(in crate::source) seconds: i64,
}

pub(in crate::source) fn write_file(repo: &gix::Repository, content: &[u8]) -> Result<ObjectId, FetchError> {
    Ok(repo.write_blob(content).map_err(mirror)?.detach())
}

/// After its files, so that a commit that is there is complete. Paths are valid, and none is a folder of another.
pub(in crate::source) fn write_commit(
    repo: &gix::Repository,
    files: &BTreeMap<String, ObjectId>,
    made: &Made<'_>,
) -> Result<ObjectId, FetchError> {
    let mut root = Folder::default();
    for (path, id) in files {
        root.insert(path, *id);
    }
    // Neither may end its line of the commit.
    let name = tidy(made.author.as_bytes()).replace(['<', '>'], "");
    let by = Signature {
        name: name.trim().into(),
        email: BString::default(),
        time: gix::date::Time { seconds: made.seconds, offset: 0 },
    };
    let commit = Commit {
        tree: root.write(repo)?,
        parents: Vec::new().into(),
        author: by.clone(),
        committer: by,
        encoding: None,
        message: made.message.as_str().into(),
        extra_headers: Vec::new(),
    };
    Ok(repo.write_object(&commit).map_err(mirror)?.detach())
}

#[derive(Default)]
struct Folder {
    files: Vec<(String, ObjectId)>,
    folders: BTreeMap<String, Folder>,
}

impl Folder {
    fn insert(&mut self, path: &str, id: ObjectId) {
        match path.split_once('/') {
            Some((folder, rest)) => self.folders.entry(folder.to_owned()).or_default().insert(rest, id),
            None => self.files.push((path.to_owned(), id)),
        }
    }

    fn write(self, repo: &gix::Repository) -> Result<ObjectId, FetchError> {
        let entry = |kind: EntryKind, name: String, oid| Entry { mode: kind.into(), filename: name.into(), oid };
        let mut entries = Vec::with_capacity(self.files.len() + self.folders.len());
        for (name, id) in self.files {
            entries.push(entry(EntryKind::Blob, name, id));
        }
        for (name, folder) in self.folders {
            entries.push(entry(EntryKind::Tree, name, folder.write(repo)?));
        }
        // As Git orders them: a folder as if its name ended in a slash.
        entries.sort();
        Ok(repo.write_object(&Tree { entries }).map_err(mirror)?.detach())
    }
}
