//! What `./dev demo` and `./dev bench` do: the whole way on real parts, with every figure observed from outside.
//!
//! Times come from Git's ref updates, the watcher's stamps, the API servers' audit logs and the hub's audit log; nothing
//! here asks a hub or an agent how fast it was, but for `monorepo`, which is about what a hub decides and counts. [`recount`]
//! gets the same figures from the files alone.
//! Neighbours: `ground` (what runs), `steps` (what is shown and measured); a benchmark each: `bench` (pushes), `renders`, `monorepo`,
//! `applies`, `drifts`, `idle`; and what the last three share: `load`, `bare` (the floor), `requests`, `cpu`.

pub mod applies;
mod bare;
pub mod bench;
mod cpu;
pub mod drifts;
pub mod evidence;
pub mod figures;
pub mod ground;
pub mod idle;
pub mod load;
pub mod memory;
pub mod monorepo;
pub mod recount;
pub mod renders;
mod requests;
pub mod run_dir;
pub mod sample;
pub mod show;
pub mod stamps;
pub mod steps;
pub mod webhook;
