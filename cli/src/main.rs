//! The doorway of `bellwether`, the command line of the hub.
//!
//! Reads the arguments, runs one command, and turns its outcome into an exit code. It decides nothing about the fleet:
//! everything is asked of the hub's REST API. Neighbours: `args` (what can be typed), `client` (how the hub is asked),
//! `commands` (one module per noun), `output` (what is printed where).

mod args;
mod client;
mod commands;
mod failure;
mod folder;
mod output;
mod text;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    // Several providers could be linked; without this choice the first TLS connection would panic.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(arguments)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => failure::report(&error).into(),
    }
}
