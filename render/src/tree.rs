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

/// Git LFS puts a few lines in place of a large file; the hub does not fetch what they point to.
pub(crate) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/")
}

/// Whether a file is named as one of YAML or JSON.
pub fn is_manifest(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Whether a file is read in a folder of plain manifests: as one of them, or as what says that another tool is for it.
pub fn is_named_for_render(path: &str) -> bool {
    is_manifest(path) || path.rsplit('/').next() == Some("Kustomization")
}

/// What of a path a render knows, and so depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// A file's bytes, or a folder with all that is below it; or that nothing is there.
    Content,
    /// What a folder holds: names, and which of them are folders.
    Names,
    /// Whether there is a file, a folder or nothing.
    Kind,
}

/// One thing that a render read, or looked for and did not find. Written as the path, followed by `/` for names and by
/// `/.` for the kind; no path ends so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input {
    /// Relative to the repo's root, with `/`; the root itself is empty.
    pub path: String,
    pub aspect: Aspect,
}

impl Input {
    /// Any text is one.
    pub fn parse(text: &str) -> Self {
        let (path, aspect) = match (text.strip_suffix("/."), text.strip_suffix('/')) {
            (Some(path), _) => (path, Aspect::Kind),
            (None, Some(path)) => (path, Aspect::Names),
            (None, None) => (text, Aspect::Content),
        };
        Self { path: path.to_owned(), aspect }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self.aspect {
            Aspect::Content => "",
            Aspect::Names => "/",
            Aspect::Kind => "/.",
        };
        write!(f, "{}{end}", self.path)
    }
}

/// All that a render read, and what it looked for and did not find. While none of it changes, the same values render to
/// the same bytes; of nothing else in the repo is that known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    inputs: BTreeSet<Input>,
}

impl Inputs {
    pub(crate) fn add(&mut self, path: &str, aspect: Aspect) {
        self.inputs.insert(Input { path: path.to_owned(), aspect });
    }

    /// A folder with all that is below it, single files of which are no inputs of their own then.
    pub(crate) fn add_folder(&mut self, folder: &str) {
        let is_below =
            |path: &str| folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        self.inputs.retain(|input| !is_below(&input.path));
        self.add(folder, Aspect::Content);
    }

    /// It was read as a file and is a folder, of which nothing more is known.
    pub(crate) fn narrow_to_kind(&mut self, path: &str) {
        self.inputs.remove(&Input { path: path.to_owned(), aspect: Aspect::Content });
        self.add(path, Aspect::Kind);
    }

    /// As they are written.
    pub fn paths(&self) -> BTreeSet<String> {
        self.inputs.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_read_back_from_what_is_written() {
        for (path, aspect, written) in [
            ("app", Aspect::Content, "app"),
            ("app/base", Aspect::Names, "app/base/"),
            ("app", Aspect::Kind, "app/."),
            ("", Aspect::Content, ""),
            ("", Aspect::Names, "/"),
            ("", Aspect::Kind, "/."),
        ] {
            let input = Input { path: path.to_owned(), aspect };

            assert_eq!(input.to_string(), written);
            assert_eq!(Input::parse(written), input);
        }
    }
}
