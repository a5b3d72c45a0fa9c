//! The nouns: values that everything else is said with.

pub mod access;
pub mod account;
pub mod apis;
pub mod bundle;
pub mod condition;
pub mod definitions;
pub mod digest;
pub mod enrollment;
pub mod ids;
pub mod labels;
pub mod names;
pub mod object;
pub mod parameters;
pub mod render;
pub mod repo;
pub mod report;
pub mod schedule;
pub mod signature;
pub mod source;
pub mod target;
pub mod version_range;
