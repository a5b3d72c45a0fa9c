//! Manifests: from the files of a commit to the objects that agents apply.
//!
//! Everything here is a pure function of its arguments: no clock, no network, no file system, no API server. The hub and
//! the CLI call the same code, so that `bellwether render` prints what a rollout would apply. Neighbours: `core` names
//! and hashes objects and resolves parameters; the caller reads files from Git and stores what comes out.

mod error;
pub mod plain;
mod scopes;
mod variables;
pub mod yaml;

pub use error::{Place, RenderError};
pub use plain::{Documents, Recipe, RenderedObject, SourceFile};
