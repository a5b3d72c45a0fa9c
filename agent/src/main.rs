//! The agent's program: reads its configuration, listens for signals, and hands everything else to the library.
//!
//! Exit codes: 0 stopped when asked to, 1 failed, 2 called wrongly, 3 stopped by a second signal with work in hand.

use std::process::ExitCode;

use bellwether_agent::{Config, run};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> anyhow::Result<ExitCode> {
    let config = Config::from_process();
    config.start_logging();
    // Every TLS configuration of the process asks for the default provider; two candidates would make it panic.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // One thread: the work is waiting, and a second thread's stack and allocator arena cost more than they bring.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(run_until_told(config));
    // Name lookups run in threads that nothing can interrupt; the process does not wait for them.
    runtime.shutdown_background();
    code
}

async fn run_until_told(config: Config) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let mut running = std::pin::pin!(run(config, stop.clone()));
    loop {
        tokio::select! {
            ended = &mut running => return Ok(exit_code(ended)),
            () = told(&mut terminate, &mut interrupt) => {}
        }
        if stop.is_cancelled() {
            tracing::warn!("told a second time to stop: dropping what is in hand");
            return Ok(ExitCode::from(3));
        }
        stop.cancel();
    }
}

async fn told(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn exit_code(ended: Result<(), bellwether_agent::RunError>) -> ExitCode {
    let Err(error) = ended else { return ExitCode::SUCCESS };
    tracing::error!(error = %error.with_sources(), hint = error.hint(), "the agent cannot go on");
    ExitCode::FAILURE
}
