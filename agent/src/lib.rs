//! The agent: one small process per cluster. It dials out to the hub; nothing dials in.
//!
//! | module | does |
//! |---|---|
//! | `config` | what it is told at its start |
//! | `identity` | its key and certificates, and whom it trusts |
//! | `link` | the connection to the hub; the only module that knows `tonic` |
//! | `definitions` | which CustomResourceDefinitions its cluster has |
//! | `policy` | what the cluster's owner allows it, by a file |
//! | `profile` | what it sees of its cluster: its version, and what it serves |
//! | `renewal` | the next certificate, when half of this one's life is over |
//! | `journal` | what was accepted, written down in the cluster before anything acts on it |
//! | `executor` | what carries assignments out, and what it is given and gives |
//! | `executor::kubernetes` | the loop that reconciles a cluster, and its client of the API server |
//! | `simulate` | many agents at once without a cluster, to see what a hub bears |
//!
//! The hub says what is to run ([`link`] → `journal` → `executor`), the executor makes it so, and what it sees goes back
//! (`executor` → [`link`]). What is done next is decided in [`bellwether_core::reconcile`]. Nothing in a cluster waits for
//! the hub once an assignment was accepted.

mod backoff;
mod clock;
mod config;
mod definitions;
mod executor;
mod identity;
mod journal;
mod link;
mod policy;
mod profile;
mod renewal;
mod run;
mod simulate;

pub(crate) use bellwether_core::chain;
pub use config::{Call, Config, PolicyCheck, Simulation};
pub use policy::check as check_policy;
pub use run::{RunError, run};
pub use simulate::{SimulateError, simulate};
