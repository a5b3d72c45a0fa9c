//! What the end-to-end tests, the demo and the benchmarks run on: real control planes, a real Postgres, real hubs and
//! agents as processes, and a Git server.
//!
//! Nothing here reaches into a hub or an agent: they are started as anybody would start them, and spoken to by their
//! command line, their API and the clusters' API servers.

pub mod agent;
pub mod api;
pub mod api_server_proxy;
pub mod balancer;
pub mod borrowed;
pub mod controlplane;
pub mod deployments;
pub mod environment;
pub mod fake_agent;
pub mod git_server;
pub mod harness;
pub mod held;
pub mod hub;
pub mod kubectl;
pub mod options;
pub mod pki;
pub mod ports;
pub mod postgres;
pub mod postgres_proxy;
pub mod process;
pub mod progress;
pub mod stack;

/// For every TLS connection of this process; may be called again.
pub fn install_crypto() {
    // Two providers are compiled in by what we use, so none is the default until one is chosen.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
