//! What people are shown: reads across tables, in bulk.
//!
//! A page costs a few statements, however many rows it has and however large the fleet is. Nothing is decided by what
//! stands here.

pub(crate) mod clusters;
pub(crate) mod drifts;
pub(crate) mod repos;
pub(crate) mod rollouts;
pub(crate) mod targets;
