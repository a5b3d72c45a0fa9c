//! Which digest became which commit. A hint: what is not known is pulled again, and becomes the same.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use gix::ObjectId;

/// A later way to make commits of artifacts takes another name: what the earlier one made is not mistaken for its own.
const FILE: &str = "bellwether-artifacts-1";

/// Some thousand lines, then it begins anew.
const BYTES_MAX: u64 = 512 << 10;

#[derive(Debug)]
pub(super) struct Known {
    file: PathBuf,
    commits: BTreeMap<String, ObjectId>,
}

impl Known {
    pub(super) fn open(folder: &Path) -> Self {
        let file = folder.join(FILE);
        let mut text = String::new();
        let read = fs::File::open(&file).and_then(|opened| opened.take(BYTES_MAX).read_to_string(&mut text));
        let pair = |line: &str| {
            let (digest, commit) = line.split_once(' ')?;
            Some((digest.to_owned(), ObjectId::from_hex(commit.as_bytes()).ok()?))
        };
        let commits = if read.is_ok() { text.lines().filter_map(pair).collect() } else { BTreeMap::new() };
        Self { file, commits }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// A mirror that was made anew has none of them.
    pub(super) fn commit_of(&self, digest: &str, repo: &gix::Repository) -> Option<ObjectId> {
        self.commits.get(digest).copied().filter(|commit| repo.has_object(*commit))
    }

    pub(super) fn note(&mut self, digest: &str, commit: ObjectId) -> io::Result<()> {
        self.commits.insert(digest.to_owned(), commit);
        let is_full = fs::metadata(&self.file).is_ok_and(|file| file.len() >= BYTES_MAX);
        let mut options = fs::File::options();
        let options = if is_full { options.write(true).truncate(true) } else { options.create(true).append(true) };
        options.open(&self.file)?.write_all(format!("{digest} {commit}\n").as_bytes())
    }
}
