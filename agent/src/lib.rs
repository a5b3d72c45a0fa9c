//! The agent: one small process per cluster. It dials out to the hub; nothing dials in.
//!
//! | module | does |
//! |---|---|
//! | `config` | what it is told at its start |
//! | `identity` | its key and certificates, and whom it trusts |
//! | `link` | the connection to the hub; the only module that knows `tonic` |
//! | `renewal` | the next certificate, when half of this one's life is over |
//! | `journal` | what was accepted, written down in the cluster before anything acts on it |
//! | `executor::kubernetes::reconcile` | what to do about each target; owns all that is known of them |
//! | `executor::kubernetes::client` | the API server; the only module that knows `kube` |
//! | `simulate` | many agents at once without a cluster, to see what a hub bears |
//! | `report` | rolls up what is known of a target into what the hub is told |
//!
//! The hub says what is to run ([`link`] → `journal` → `reconcile`), the reconciler makes it so (`reconcile` → `cluster`), and what
//! it sees goes back (`reconcile` → [`link`]). Nothing in a cluster waits for the hub once an assignment was accepted.

mod backoff;
mod clock;
mod config;
mod executor;
mod identity;
mod journal;
mod link;
mod renewal;
mod report;
mod run;
mod simulate;

pub(crate) use bellwether_core::chain;
pub use config::{Call, Config, Simulation};
pub use run::{RunError, run};
pub use simulate::{SimulateError, simulate};
