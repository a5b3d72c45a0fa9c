//! Manifests: from the files of a commit to the objects that agents apply.
//!
//! Everything here is a pure function of its arguments: no clock, no network, no file system, no API server, so the same
//! files with the same values are the same bytes at every hub. The hub reads the files from Git and stores what comes
//! out; `core` names and hashes objects and resolves parameters.
//!
//! `tree` is what is read, `yaml` reads it, an engine makes objects of it, and `finish` completes and checks each.

mod engine;
mod error;
mod finish;
#[cfg(test)]
mod tests;
mod tree;
pub mod yaml;

use std::collections::BTreeSet;
use std::fmt;

use bellwether_core::{Digest, ObjectKey, TargetId};

pub use engine::plain::{Documents, SOURCES_BYTES_MAX};
pub use error::{Place, RenderError};
pub use tree::{Inputs, SourceFile};

/// What a target adds to its objects.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub target: TargetId,
    /// `installation/project/target`.
    pub owner: String,
    /// For objects that need a namespace and name none.
    pub namespace: Option<String>,
    /// Namespaces in which agents of the fleet live.
    pub agents: BTreeSet<String>,
}

/// One object as it is applied: complete, checked, and at most
/// [`OBJECT_BYTES_MAX`](bellwether_core::object::OBJECT_BYTES_MAX) bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedObject {
    pub key: ObjectKey,
    /// Canonical JSON.
    pub body: Vec<u8>,
    /// Of the body.
    pub digest: Digest,
}

/// Without the body, which may be a Secret's.
impl fmt::Debug for RenderedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderedObject").field("key", &self.key).field("digest", &self.digest).finish_non_exhaustive()
    }
}
