//! Reads a target's folder out of a commit. Nothing is checked out and no link is followed.
//!
//! Every object is checked against its id as it is read, so a damaged mirror is an error and never a wrong manifest.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bellwether_core::Digest;
use bellwether_core::source::is_valid_path;
use bellwether_render::{Aspect, Input, LeaveOut, SourceFile, is_named_for_render};
use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::objs::tree::{EntryKind, EntryRef};
use gix::objs::{Find, Kind, TreeRefIter};
use gix::odb::HeaderExt;

use super::HASH;
use super::error::{ReadError, nearest};
use super::lacking::Lacking;
use super::scan::OBJECT_BYTES_MAX;

const FILES_MAX: usize = 10_000;
const BYTES_MAX: usize = 64 << 20;
const DEPTH_MAX: usize = 64;

/// A commit is text of a person, and a tree has one line per file; both are small or an attack.
pub(super) const COMMIT_BYTES_MAX: u64 = 1 << 20;
const TREE_BYTES_MAX: u64 = 16 << 20;

/// Of listings held at once: those above the one that is read, or those that were read to compare two commits.
const LISTINGS_BYTES_MAX: usize = 32 << 20;

/// The manifests of a folder, in the order of their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    /// The id of the folder's tree: equal ids, equal content.
    pub(crate) tree: String,
    /// Paths are relative to the folder.
    pub(crate) files: Vec<SourceFile>,
}

pub(super) fn read_folder(
    repo: &gix::Repository,
    commit: &str,
    path: &str,
    lacking: &Lacking,
    leave_out: &LeaveOut<'_>,
) -> Result<Folder, ReadError> {
    let tree = find_tree(repo, commit, path)?;
    let (files, entries, bytes, listings_bytes) = (Vec::new(), 0, 0, 0);
    let mut walk = Walk { repo, lacking, leave_out, files, entries, bytes, listings_bytes, is_whole: true };
    walk.visit(tree, "", 0).map_err(|error| error.below(path))?;
    if !walk.is_whole {
        return Err(ReadError::NotFetched);
    }
    let mut files = walk.files;
    files.sort_by(|left, right| left.path.cmp(&right.path));
    // Git never writes a tree with a name twice; whoever does wants two readers to see different files.
    if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(ReadError::UnsafeName { file: pair[0].path.clone() });
    }
    Ok(Folder { tree: tree.to_string(), files })
}

pub(super) fn find_tree(repo: &gix::Repository, commit: &str, path: &str) -> Result<ObjectId, ReadError> {
    let not_found = |nearest| ReadError::NoSuchPath { path: path.to_owned(), nearest };
    let mut tree = find_root(repo, commit)?;
    if !is_valid_path(path) {
        return Err(not_found(None));
    }
    let mut above = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let bytes = load_tree(repo, tree)?;
        let entries: Vec<EntryRef<'_>> =
            TreeRefIter::from_bytes(&bytes, HASH).collect::<Result<_, _>>().map_err(damaged)?;
        let Some(entry) = entries.iter().find(|entry| entry.filename == part) else {
            let folders =
                entries.iter().filter(|entry| entry.mode.is_tree()).filter_map(|entry| entry.filename.to_str().ok());
            return Err(not_found(nearest(part, folders).map(|folder| format!("{above}{folder}"))));
        };
        above.push_str(part);
        match entry.mode.kind() {
            EntryKind::Tree => tree = entry.oid.to_owned(),
            EntryKind::Link => return Err(ReadError::Symlink { file: above }),
            EntryKind::Commit => return Err(ReadError::Submodule { path: above }),
            _ => return Err(ReadError::NotAFolder { path: above }),
        }
        above.push('/');
    }
    Ok(tree)
}

pub(super) fn find_root(repo: &gix::Repository, commit: &str) -> Result<ObjectId, ReadError> {
    let missing = || ReadError::NoSuchCommit { commit: commit.to_owned() };
    let id = ObjectId::from_hex(commit.as_bytes()).map_err(|_| missing())?;
    if !repo.has_object(id) {
        return Err(missing());
    }
    let bytes = load(repo, id, Kind::Commit, COMMIT_BYTES_MAX)?;
    Ok(gix::objs::CommitRef::from_bytes(&bytes, HASH).map_err(damaged)?.tree())
}

/// Of what was read, in its order: of files and folders their kinds and ids, of what is only listed the names and kinds.
pub(super) fn digest_of(repo: &gix::Repository, commit: &str, paths: &BTreeSet<String>) -> Result<Digest, ReadError> {
    let root = find_root(repo, commit)?;
    let mut trees = Trees::default();
    let mut bytes = Vec::new();
    for path in paths {
        bytes.extend(path.as_bytes());
        bytes.push(0);
        bytes.extend(trees.describe(repo, root, &Input::parse(path))?);
        bytes.push(0);
    }
    Ok(Digest::of(&bytes))
}

/// Of what was read, that which is the same in two commits, or in neither there. Reads only where the commits differ, and
/// most trees once.
pub(super) fn list_unmoved(
    repo: &gix::Repository,
    old: &str,
    new: &str,
    paths: &BTreeSet<String>,
) -> Result<BTreeSet<String>, ReadError> {
    let (old, new) = (find_root(repo, old)?, find_root(repo, new)?);
    let mut trees = Trees::default();
    let mut unmoved = BTreeSet::new();
    for path in paths {
        if trees.is_unmoved(repo, (old, new), &Input::parse(path))? {
            unmoved.insert(path.clone());
        }
    }
    Ok(unmoved)
}

/// What is at a path.
type Entry = (EntryKind, ObjectId);

/// The last trees that were read, by their ids.
#[derive(Default)]
pub(super) struct Trees {
    /// As they are stored; parsed they take a few times that.
    bytes: usize,
    read: HashMap<ObjectId, BTreeMap<BString, Entry>>,
}

impl Trees {
    fn is_unmoved(
        &mut self,
        repo: &gix::Repository,
        (mut old, mut new): (ObjectId, ObjectId),
        input: &Input,
    ) -> Result<bool, ReadError> {
        for part in input.path.split('/').filter(|part| !part.is_empty()) {
            if old == new {
                return Ok(true);
            }
            match (self.find(repo, old, part)?, self.find(repo, new, part)?) {
                (Some((EntryKind::Tree, below_old)), Some((EntryKind::Tree, below_new))) => {
                    (old, new) = (below_old, below_new);
                }
                // Below a file, or below nothing, nothing is.
                (old, new) => return Ok(self.aspect(repo, old, input)? == self.aspect(repo, new, input)?),
            }
        }
        let tree = |id| Some((EntryKind::Tree, id));
        Ok(old == new || self.aspect(repo, tree(old), input)? == self.aspect(repo, tree(new), input)?)
    }

    fn describe(&mut self, repo: &gix::Repository, root: ObjectId, input: &Input) -> Result<Vec<u8>, ReadError> {
        let mut here = Some((EntryKind::Tree, root));
        for part in input.path.split('/').filter(|part| !part.is_empty()) {
            here = match here {
                Some((EntryKind::Tree, id)) => self.find(repo, id, part)?,
                _ => None,
            };
        }
        self.aspect(repo, here, input)
    }

    /// What of it was read; nothing of what is not there.
    fn aspect(&mut self, repo: &gix::Repository, at: Option<Entry>, input: &Input) -> Result<Vec<u8>, ReadError> {
        let Some((kind, id)) = at else { return Ok(Vec::new()) };
        let mut bytes = (kind as u16).to_be_bytes().to_vec();
        match input.aspect {
            Aspect::Content => bytes.extend(id.as_bytes()),
            Aspect::Names if kind == EntryKind::Tree => {
                for (name, (kind, _)) in self.entries(repo, id)? {
                    bytes.extend((*kind as u16).to_be_bytes());
                    bytes.extend(name.iter());
                    bytes.push(0);
                }
            }
            Aspect::Names | Aspect::Kind => {}
        }
        Ok(bytes)
    }

    /// Names and kinds, if all names are allowed.
    pub(super) fn list(
        &mut self,
        repo: &gix::Repository,
        tree: ObjectId,
        above: &str,
    ) -> Result<Vec<(String, EntryKind)>, ReadError> {
        let entries = self.entries(repo, tree)?;
        if entries.len() > FILES_MAX * 10 {
            return Err(ReadError::TooManyFiles { files_max: FILES_MAX });
        }
        entries.iter().map(|(name, (kind, _))| Ok((check_name(name.as_ref(), above)?.to_owned(), *kind))).collect()
    }

    pub(super) fn find(
        &mut self,
        repo: &gix::Repository,
        tree: ObjectId,
        name: &str,
    ) -> Result<Option<Entry>, ReadError> {
        Ok(self.entries(repo, tree)?.get(BStr::new(name)).copied())
    }

    fn entries(&mut self, repo: &gix::Repository, tree: ObjectId) -> Result<&BTreeMap<BString, Entry>, ReadError> {
        if !self.read.contains_key(&tree) {
            let bytes = load_tree(repo, tree)?;
            if self.bytes + bytes.len() > LISTINGS_BYTES_MAX {
                self.read.clear();
                self.bytes = 0;
            }
            self.bytes += bytes.len();
            let mut entries = BTreeMap::new();
            for entry in TreeRefIter::from_bytes(&bytes, HASH) {
                let entry = entry.map_err(damaged)?;
                let is_twice =
                    entries.insert(entry.filename.to_owned(), (entry.mode.kind(), entry.oid.to_owned())).is_some();
                // As in `read_folder`.
                if is_twice {
                    return Err(ReadError::UnsafeName { file: super::tidy(entry.filename) });
                }
            }
            self.read.insert(tree, entries);
        }
        Ok(&self.read[&tree])
    }
}

struct Walk<'a> {
    repo: &'a gix::Repository,
    lacking: &'a Lacking,
    /// By paths below the folder.
    leave_out: &'a LeaveOut<'a>,
    files: Vec<SourceFile>,
    /// Of all kinds, so that a folder of ten million pictures ends too.
    entries: usize,
    /// Of files and of their paths, which may be longer than what they hold.
    bytes: usize,
    /// Of the folders that the one being read is in.
    listings_bytes: usize,
    /// No file was lacking.
    is_whole: bool,
}

impl Walk<'_> {
    fn visit(&mut self, tree: ObjectId, above: &str, depth: usize) -> Result<(), ReadError> {
        if depth > DEPTH_MAX {
            return Err(ReadError::TooDeep { path: above.trim_end_matches('/').to_owned(), depth_max: DEPTH_MAX });
        }
        let bytes = load_tree(self.repo, tree)?;
        self.listings_bytes += bytes.len();
        if self.listings_bytes > LISTINGS_BYTES_MAX {
            return Err(ReadError::TooManyFiles { files_max: FILES_MAX });
        }
        for entry in TreeRefIter::from_bytes(&bytes, HASH) {
            let entry = entry.map_err(damaged)?;
            self.entries += 1;
            if self.entries > FILES_MAX * 10 {
                return Err(ReadError::TooManyFiles { files_max: FILES_MAX });
            }
            let path = format!("{above}{}", check_name(entry.filename, above)?);
            if (self.leave_out)(&path, entry.mode.is_tree()) {
                continue;
            }
            match entry.mode.kind() {
                EntryKind::Tree => self.visit(entry.oid.to_owned(), &format!("{path}/"), depth + 1)?,
                // Even one beside the manifests: it could stand for a folder of them, left out silently.
                EntryKind::Link => return Err(ReadError::Symlink { file: path }),
                // A folder that nobody looked into is not an empty one: what it held would be pruned.
                EntryKind::Commit => return Err(ReadError::Submodule { path }),
                EntryKind::Blob | EntryKind::BlobExecutable if is_named_for_render(&path) => {
                    self.read(entry.oid.to_owned(), path)?;
                }
                EntryKind::Blob | EntryKind::BlobExecutable => {}
            }
        }
        self.listings_bytes -= bytes.len();
        Ok(())
    }

    fn read(&mut self, id: ObjectId, path: String) -> Result<(), ReadError> {
        if self.files.len() == FILES_MAX {
            return Err(ReadError::TooManyFiles { files_max: FILES_MAX });
        }
        if self.lacking.is_too_large(id) {
            return Err(ReadError::FileTooLarge { file: path, bytes_max: OBJECT_BYTES_MAX });
        }
        if !self.repo.has_object(id) {
            self.lacking.want(id);
            self.is_whole = false;
            return Ok(());
        }
        let left = BYTES_MAX.saturating_sub(self.bytes + path.len());
        let bytes = load(self.repo, id, Kind::Blob, left as u64)?;
        self.bytes += bytes.len() + path.len();
        self.files.push(SourceFile { path, bytes });
        Ok(())
    }
}

/// A tree may hold any bytes as a name. What would mean something else on another file system, or moves a terminal's
/// cursor, is refused, as Git refuses it at checkout.
fn check_name<'a>(name: &'a BStr, above: &str) -> Result<&'a str, ReadError> {
    let refused = || ReadError::UnsafeName { file: format!("{above}{}", super::tidy(name)) };
    let options =
        gix::validate::path::component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    gix::validate::path::component(name, None, options).map_err(|_| refused())?;
    match name.to_str() {
        Ok(text) if text.len() <= 255 && !text.contains('\\') && !text.chars().any(char::is_control) => Ok(text),
        _ => Err(refused()),
    }
}

fn load_tree(repo: &gix::Repository, id: ObjectId) -> Result<Vec<u8>, ReadError> {
    load(repo, id, Kind::Tree, TREE_BYTES_MAX)
}

/// An object of a kind, whole and unharmed.
pub(super) fn load(repo: &gix::Repository, id: ObjectId, kind: Kind, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
    // The size is in the header, so what is too large is never inflated.
    let header = repo.objects.header(id).map_err(damaged)?;
    if header.size() > bytes_max {
        return Err(ReadError::TooLarge { bytes_max: BYTES_MAX });
    }
    let mut bytes = Vec::new();
    let found = repo.objects.try_find(&id, &mut bytes).map_err(damaged)?.map(|found| found.kind);
    if found != Some(kind) || gix::objs::compute_hash(HASH, kind, &bytes).map_err(damaged)? != id {
        return Err(damaged(format!("object {id} is not what it should be")));
    }
    // Putting it together took more than it is, and it may be kept for as long as a render goes on.
    bytes.shrink_to_fit();
    Ok(bytes)
}

pub(super) fn damaged(source: impl Into<super::error::Cause>) -> ReadError {
    ReadError::Damaged { source: source.into() }
}
