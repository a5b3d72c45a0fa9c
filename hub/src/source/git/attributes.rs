//! What a repo leaves out of what it exports: `export-ignore` in its `.gitattributes`.
//!
//! Whoever marks a file so says that it is no part of what is delivered. To deploy it all the same is one mistake, to leave it out
//! in silence another: what was deployed before would be pruned. So a target that would render it is told.

use std::sync::Arc;

use gix::attrs::Search;
use gix::attrs::search::{MetadataCollection, Outcome};
use gix::bstr::BStr;
use gix::glob::pattern::Case;

use super::error::ReadError;
use super::read::damaged;

pub(crate) const FILE: &str = ".gitattributes";

const ATTRIBUTE: &str = "export-ignore";

/// The files of a folder and of all that it is in, the nearest last.
#[derive(Clone, Default)]
pub(super) struct Attributes {
    search: Search,
    names: MetadataCollection,
}

impl Attributes {
    /// What a folder's own file says, beside what was said above it.
    pub(super) fn and(above: Option<&Self>, file: &str, bytes: &[u8]) -> Result<Arc<Self>, ReadError> {
        let mut all = above.cloned().unwrap_or_default();
        let has_macros = !file.contains('/');
        let added = all.search.add_patterns_buffer(bytes, file.into(), Some("".as_ref()), &mut all.names, has_macros);
        added.map_err(damaged)?;
        Ok(Arc::new(all))
    }

    pub(super) fn leave_out(&self, path: &str, is_folder: bool) -> bool {
        let mut outcome = Outcome::default();
        outcome.initialize_with_selection(&self.names, [ATTRIBUTE]);
        self.search.pattern_matching_relative_path(BStr::new(path), Case::Sensitive, Some(is_folder), &mut outcome);
        outcome.iter_selected().any(|found| found.assignment.state.is_set())
    }
}
