//! Carries assignments out in a Kubernetes cluster: the loop that reconciles targets, and the client of the API server.

pub(crate) mod client;
pub(crate) mod reconcile;
