//! The files of a target, as they were read out of a commit, and what of the commit a render depends on. Nothing here
//! reads: the caller has Git.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// A file of a commit. It is somebody else's input: nothing about it is believed.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the repo's root, with `/`.
    pub path: String,
    pub bytes: Vec<u8>,
}

/// Without the bytes: they may be a Secret's.
impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.bytes.len())
    }
}

impl SourceFile {
    /// Git LFS puts a few lines in place of a large file; the hub does not fetch what they point to.
    pub(crate) fn is_lfs_pointer(&self) -> bool {
        self.bytes.starts_with(b"version https://git-lfs.github.com/spec/")
    }

    pub(crate) fn is_manifest(&self) -> bool {
        let extension = Path::new(&self.path).extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("yaml" | "yml" | "json"))
    }
}

/// Files and folders of the commit that a render read, and those that it looked for and did not find. While none of them
/// changes, the same values render to the same bytes; of nothing else in the repo is that known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    paths: BTreeSet<String>,
}

impl Inputs {
    /// A whole folder, with all that is below it.
    pub fn of_folder(path: &str) -> Self {
        Self { paths: BTreeSet::from([path.to_owned()]) }
    }

    /// Relative to the repo's root, with `/`; the root itself is empty.
    pub fn paths(&self) -> &BTreeSet<String> {
        &self.paths
    }
}
