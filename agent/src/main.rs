//! The program: reads what it is told, listens for signals, and hands everything else to the library.
//!
//! Exit codes: 0 stopped when asked to, 1 failed, 2 called wrongly, 3 stopped by a second signal with work in hand. `policy check` has
//! its own.

use std::io::Write as _;
use std::pin::Pin;
use std::process::ExitCode;

use bellwether_agent::{Call, Config, Simulation, check_policy, run, simulate};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> anyhow::Result<ExitCode> {
    let call = Call::from_process();
    match &call {
        Call::Run(config) => config.start_logging(),
        Call::Simulate(simulation) => simulation.start_logging(),
        Call::CheckPolicy(_) => {}
    }
    // Every TLS configuration of the process asks for the default provider; two candidates would make it panic.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // One thread: the work is waiting, and a second thread's stack and allocator arena cost more than they bring.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    let running: Pin<Box<dyn Future<Output = ExitCode>>> = match call {
        Call::Run(config) => Box::pin(run_agent(config, stop.clone())),
        Call::Simulate(simulation) => Box::pin(run_simulation(simulation, stop.clone())),
        Call::CheckPolicy(check) => {
            let (text, code) = check_policy(&check);
            std::io::stdout().write_all(text.as_bytes())?;
            return Ok(ExitCode::from(code));
        }
    };
    let code = runtime.block_on(until_told(running, &stop));
    // Name lookups run in threads that nothing can interrupt; the process does not wait for them.
    runtime.shutdown_background();
    code
}

async fn run_agent(config: Config, stop: CancellationToken) -> ExitCode {
    let Err(error) = run(config, stop).await else { return ExitCode::SUCCESS };
    tracing::error!(error = %error.with_sources(), hint = error.hint().as_deref(), "the agent cannot go on");
    ExitCode::FAILURE
}

async fn run_simulation(simulation: Simulation, stop: CancellationToken) -> ExitCode {
    let Err(error) = simulate(simulation, stop).await else { return ExitCode::SUCCESS };
    tracing::error!(error = %error.with_sources(), hint = error.hint().as_deref(), "the simulation cannot go on");
    ExitCode::FAILURE
}

async fn until_told(
    mut running: Pin<Box<dyn Future<Output = ExitCode>>>,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            code = &mut running => return Ok(code),
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
