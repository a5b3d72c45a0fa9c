//! The engines of Kustomize and Helm: a program of its own, which has no files and asks for each.
//!
//! It is the only place of this crate that starts something, waits and looks at a clock. What an engine reads and writes is
//! somebody else's input on its way in and out, so it is believed nothing: frames, bytes, time and what it may ask are
//! bounded here, whatever its own limits are. `wire` is what is said, `process` one engine, `pool` those that there are.

mod error;
mod pool;
mod process;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

pub use error::{Before, EngineError};
pub use pool::{Confinement, Engines};
