//! The hub: the server that stores repos, targets and the audit log, renders, plans rollouts and talks to agents.
//!
//! Stages (`source`, `bundle`, `rollout`, `link`, `record`, `commit_status`) never call each other: each reads rows, decides with
//! `bellwether-core`, and writes rows, work and audit entries in one transaction ([`work::change`]). Everything that is
//! big has one door: `sqlx` in `store`, `gix` in `source`, `axum` in `http`, `tonic` in `link`, `rcgen` in `pki`, and what goes
//! out goes by `egress`.

#[macro_use]
mod stages;

mod access;
mod boot;
mod bundle;
mod commit_status;
mod context;
mod egress;
mod http;
mod link;
mod pki;
mod plan;
mod ports;
mod postgres;
mod process;
mod record;
mod rollout;
mod source;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod work;
mod worker;

pub(crate) use bellwether_core::chain;
pub use boot::{main, run};
pub(crate) use context::Hub;
pub use process::config::{Config, LogFormat};
