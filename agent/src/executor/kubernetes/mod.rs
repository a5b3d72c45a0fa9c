//! Carries assignments out in a Kubernetes cluster.
//!
//! | module | does |
//! |---|---|
//! | `reconcile` | the loop: feeds [`bellwether_core::reconcile`], which decides, and has its steps carried out |
//! | `dry_run` | what would become of a bundle, for whoever asks |
//! | `assignments` | the other loop: shows each target to the people of the cluster, and hears whom they suspend |
//! | `carry_out` | one step: its requests, one after the other |
//! | `keyring` | the cluster's keys, and with them what SOPS sealed |
//! | `quoted` | whether somebody's words quote what was opened |
//! | `client` | the API server; the only module that knows `kube`. Identity and journal keep their Secrets with it |

pub(crate) mod assignments;
mod carry_out;
pub(crate) mod client;
mod dry_run;
mod keyring;
mod quoted;
mod reconcile;

pub(crate) use reconcile::{ReconcileError, serve};
