//! Against the real `git`, by folder and by HTTP.

mod fetch;
mod http;
mod packs;
mod read;
pub(crate) mod upstream;
