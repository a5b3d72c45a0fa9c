//! Against the real `git`, by folder and by HTTP.

mod fetch;
mod fuzz;
pub(crate) mod http;
mod opened;
mod packs;
mod read;
pub(crate) mod signers;
mod ssh;
pub(crate) mod upstream;
mod verify;
