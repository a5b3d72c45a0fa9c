//! Manifests: from the files of a commit to the objects that agents apply.
//!
//! The same files with the same values are the same bytes at every hub and at every command line: nothing here knows a
//! network, a file system or an API server. Whoever has the files answers for them ([`Files`]); the hub reads them from
//! Git and stores what comes out. `core` names and hashes objects and resolves parameters. Only `external` starts a
//! program and looks at a clock: the engines of Kustomize and Helm.
//!
//! `files` and `tree` are what is read, `ignore` says what is left out and `exports` what its repo does not deliver, `yaml` reads it, an engine makes objects of it, and `finish` completes and checks
//! each. [`Manifests`] is all of that for one target.

mod engine;
mod error;
mod exports;
mod external;
mod files;
mod finish;
mod folder;
pub mod ignore;
mod manifests;
#[cfg(test)]
mod tests;
mod tree;
pub mod yaml;

use std::collections::BTreeSet;
use std::fmt;

use bellwether_core::{Digest, ObjectKey, TargetId};

pub use engine::fill::Fills;
pub use engine::plain::{Documents, SOURCES_BYTES_MAX, is_sealed, objects_of, sealed_error};
pub use engine::variables::literal;
pub use error::{Failure, Place, RenderError, SealedAs};
pub use external::wire::{Frozen, SEED_BYTES, Settings};
pub use external::{Before, Confinement, EngineError, Engines};
pub use files::{Files, Found, LeaveOut, Listed, Listing};
pub use folder::{CHART, is_part_of_chart};
pub use manifests::{KUSTOMIZATIONS, Manifests, Plan, values_in_files};
pub use tree::{Aspect, Input, Inputs, SourceFile, is_manifest, is_named_for_render};

/// Of what this program makes of files, engines aside. Raised with whatever makes other bytes of the same files: a render belongs
/// to the version that made it, and a hub of a later one makes it anew. It is a number, so that of two hubs of different
/// versions it is known which is the later one. A test of what comes out fails while it is not raised.
pub const VERSION: u32 = 4;

/// What a render says of what made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeBy<'t> {
    /// 0: it said none yet.
    pub version: u32,
    /// Of the engine, of Helm and of Kustomize, if they were asked.
    pub engine: Option<&'t str>,
}

impl<'t> MadeBy<'t> {
    /// Of any text.
    pub fn read(text: &'t str) -> Self {
        let Some(rest) = text.strip_prefix("render ") else { return Self { version: 0, engine: None } };
        let (version, engine) = rest.split_once(", ").map_or((rest, None), |(version, engine)| (version, Some(engine)));
        Self { version: version.parse().unwrap_or(0), engine }
    }
}

/// As [`MadeBy::read`] reads it.
pub fn made_by(engine: Option<&str>) -> String {
    engine.map_or_else(|| format!("render {VERSION}"), |engine| format!("render {VERSION}, {engine}"))
}

/// Whose an object is, written on it.
#[derive(Debug, Clone)]
pub struct Marks {
    pub target: TargetId,
    /// `installation/project/target`.
    pub owner: String,
}

/// What a target adds to its objects.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// `None` where nobody applies them as a target's.
    pub marks: Option<Marks>,
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
    /// Where it was written, or what it was made from.
    pub place: Place,
}

/// Without the body, which may be a Secret's.
impl fmt::Debug for RenderedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderedObject").field("key", &self.key).field("digest", &self.digest).finish_non_exhaustive()
    }
}
