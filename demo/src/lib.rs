//! What `./dev demo` and `./dev bench` do: the whole way on real parts, with every figure observed from outside.
//!
//! Times come from Git's ref updates, the watcher's stamps, the API servers' audit logs and the hub's audit log; nothing
//! here asks a hub or an agent how fast it was, but for `monorepo`, which is about what a hub decides and counts. [`recount`]
//! gets the same figures from the files alone.
//! Neighbours: `ground` (what runs), `steps` (what is shown and measured), `bench` (pushes), `renders`, `monorepo`.

pub mod bench;
pub mod evidence;
pub mod figures;
pub mod ground;
pub mod memory;
pub mod monorepo;
pub mod recount;
pub mod renders;
pub mod run_dir;
pub mod sample;
pub mod show;
pub mod stamps;
pub mod steps;
pub mod webhook;
