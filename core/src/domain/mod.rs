//! The nouns: values that everything else is said with.

pub mod bundle;
pub mod digest;
pub mod ids;
pub mod labels;
pub mod names;
pub mod object;
pub mod parameters;
pub mod render;
pub mod repo;
pub mod report;
pub mod source;
pub mod target;
pub mod version_range;
