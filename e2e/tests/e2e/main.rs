//! The main way, end to end: real processes, a real Postgres, real API servers.
//!
//! `./dev test e2e` runs it, and gives it what it needs. A test is a scene of its own (`bellwether_e2e::harness`); nothing
//! is waited for by sleeping, and nothing is believed that an API server, the command line or the API did not say.

mod applying;
mod bad_input;
mod crashes;
mod joining;

/// A ConfigMap with one value, as a file of a repo.
fn config_map(name: &str, key: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{{key}: {value:?}}}\n")
}
