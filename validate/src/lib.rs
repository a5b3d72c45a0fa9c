//! What is wrong with manifests, told without an API server: for CI and before a commit.
//!
//! The schemas of several Kubernetes versions are carried with it (`schemas/`), so that nothing is asked of a network.
//! Neighbours: `render` reads the files and makes objects of them, and whoever has the files gives both here; nothing here
//! starts an engine.
//!
//! `find` says what a folder holds: kustomizations, charts, plain manifests. `schema` knows the built-in kinds, `custom`
//! those that CustomResourceDefinitions define and `lifecycle` when an API goes; `fields` and `structural` hold an object
//! against them. [`Set`] is all the objects of a run, and [`Report`] what was found, in the formats of `report`.

mod custom;
mod fields;
mod find;
mod formats;
mod lifecycle;
mod lists;
mod names;
mod own;
mod path;
mod report;
mod rules;
mod schema;
mod set;
mod structural;
mod told;

pub use custom::Definitions;
pub use find::{Found, FoundFolder, Unreadable, find, find_manifests, read_file, read_within};
pub use own::{OwnDocument, is_own, read_own};
pub use path::{Problem, line_of};
pub use report::{Finding, Named, Report, Severity, Skipped, TargetReport, json, junit, sarif};
pub use schema::{Schemas, UnknownVersion, Version};
pub use set::{Object, Options, Part, Served, Set, Source, named};
pub use structural::Structural;
pub use told::{LiveDefinition, ToldSchema};
