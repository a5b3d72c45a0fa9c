//! The first version of the API: a module for each noun, a file for each thing done to it.

mod answer;
pub(super) mod audit;
pub(super) mod clusters;
pub(super) mod drift;
mod find;
pub(super) mod repos;
pub(super) mod rollouts;
pub(super) mod status;
pub(super) mod targets;
#[cfg(test)]
mod tests;
