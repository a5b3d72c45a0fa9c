//! The files of a target, as they were read out of a commit. Nothing here reads them: the caller has Git.

use std::fmt;
use std::path::Path;

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
    pub(crate) fn is_manifest(&self) -> bool {
        let extension = Path::new(&self.path).extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("yaml" | "yml" | "json"))
    }
}
