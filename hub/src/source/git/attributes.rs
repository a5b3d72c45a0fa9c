//! What a repo leaves out of what it exports: `export-ignore` in its `.gitattributes`.
//!
//! Whoever marks a file so says that it is no part of what is delivered. To deploy it all the same is one mistake, to leave it out
//! in silence another: what was deployed before would be pruned. So a target that would render it is told.

use std::sync::Arc;

use gix::attrs::Search;
use gix::attrs::search::{MetadataCollection, Outcome};
use gix::bstr::{BStr, ByteSlice as _};
use gix::glob::pattern::Case;

use super::error::ReadError;
use super::read::damaged;

pub(crate) const FILE: &str = ".gitattributes";

const ATTRIBUTE: &str = "export-ignore";

/// Only the root's file may define one.
const MACRO: &[u8] = b"[attr]";

/// Lines that a path may have to be compared with: repos have a handful, and each of their files is compared.
const LINES_MAX: usize = 500;

/// What is said in a folder, and in those that it is in.
pub(super) struct Attributes {
    above: Option<Arc<Self>>,
    own: Search,
    names: MetadataCollection,
    /// Of this and those above.
    lines: usize,
    /// Other words may mean the attribute.
    has_macros: bool,
}

impl Attributes {
    /// What a folder's own file says, beside what was said above it. Lines about other attributes are passed over, and a file
    /// that has no others says nothing.
    pub(super) fn and(above: Option<Arc<Self>>, file: &str, bytes: &[u8]) -> Result<Option<Arc<Self>>, ReadError> {
        let speaks = |line: &[u8]| line.contains_str(ATTRIBUTE);
        let is_root = !file.contains('/');
        let defines = is_root && bytes.lines().any(|line| line.starts_with(MACRO) && speaks(line));
        let has_macros = defines || above.as_ref().is_some_and(|above| above.has_macros);
        let kept: Vec<&[u8]> = bytes.lines().filter(|line| has_macros || speaks(line)).collect();
        if kept.is_empty() {
            return Ok(above);
        }
        let lines = kept.len() + above.as_ref().map_or(0, |above| above.lines);
        if lines > LINES_MAX {
            return Err(ReadError::TooManyAttributes { file: file.to_owned(), lines_max: LINES_MAX });
        }
        let mut names = above.as_ref().map(|above| above.names.clone()).unwrap_or_default();
        let mut own = Search::default();
        let added = own.add_patterns_buffer(&kept.join(&b'\n'), file.into(), Some("".as_ref()), &mut names, is_root);
        added.map_err(damaged)?;
        Ok(Some(Arc::new(Self { above, own, names, lines, has_macros })))
    }

    /// The nearest folder that says something has its way.
    pub(super) fn leave_out(&self, path: &str, is_folder: bool) -> bool {
        let mut outcome = Outcome::default();
        outcome.initialize_with_selection(&self.names, [ATTRIBUTE]);
        self.own.pattern_matching_relative_path(BStr::new(path), Case::Sensitive, Some(is_folder), &mut outcome);
        let said = outcome.iter_selected().find(|found| !found.assignment.state.is_unspecified());
        match said {
            Some(found) => found.assignment.state.is_set(),
            None => self.above.as_ref().is_some_and(|above| above.leave_out(path, is_folder)),
        }
    }
}
