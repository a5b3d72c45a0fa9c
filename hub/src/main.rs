//! The hub's doorway: settings, logs, signals.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    bellwether_hub::main(bellwether_hub::Config::parse())
}
