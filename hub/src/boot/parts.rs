//! The parts of a running hub: the stages by their table, and what runs beside them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::setup::{Listeners, SetupError};
use crate::record::queue::Incoming;
use crate::store::work::Stage;
use crate::{Hub, bundle, http, link, pki, record, source, work, worker};

/// What is in hand may take so long to finish after the first signal.
const DRAIN_MAX: Duration = Duration::from_secs(30);

type Part = Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! run_stages {
    ($($(#[$key:meta])* $stage:ident: $room:ident,)*) => {
        fn run_stage(stage: Stage, hub: Arc<Hub>, stop: CancellationToken) -> Part {
            match stage {
                $(Stage::$stage => Box::pin(crate::$room::run(hub, stop)),)*
            }
        }
    };
}

stages!(run_stages);

/// One down, all down: half a hub looks healthy and is not.
pub(super) async fn run(
    hub: &Arc<Hub>,
    listeners: Listeners,
    queue: mpsc::Receiver<Incoming>,
    stop: &CancellationToken,
) -> Result<(), SetupError> {
    let mut parts = JoinSet::new();
    for (name, part) in list(hub, listeners, queue, stop) {
        parts.spawn(async move {
            part.await;
            name
        });
    }
    let mut failed = None;
    let all = async {
        while let Some(ended) = parts.join_next().await {
            if !stop.is_cancelled() {
                failed = Some(ended.unwrap_or("a part that panicked"));
                stop.cancel();
            }
        }
        hub.tasks.close();
        hub.tasks.wait().await;
    };
    if !ends_in_time(all, stop, DRAIN_MAX).await {
        tracing::warn!("dropping what does not end");
    }
    drop(parts);
    link::write_last_ends(hub).await;
    failed.map_or(Ok(()), |part| Err(SetupError::PartEnded(part)))
}

/// Waits for something, but after `stop` no longer than so long; says whether it ended.
async fn ends_in_time(something: impl Future<Output = ()>, stop: &CancellationToken, longest: Duration) -> bool {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(longest).await;
    };
    tokio::select! {
        () = something => true,
        () = late => false,
    }
}

fn list(
    hub: &Arc<Hub>,
    listeners: Listeners,
    queue: mpsc::Receiver<Incoming>,
    stop: &CancellationToken,
) -> Vec<(&'static str, Part)> {
    let (one, two) = (|| hub.clone(), || stop.clone());
    let mut parts: Vec<_> = Stage::ALL.iter().map(|&stage| (stage.as_str(), run_stage(stage, one(), two()))).collect();
    let beside: [(_, Part); 12] = [
        ("record", Box::pin(record::run(one(), queue, two()))),
        ("sealer", Box::pin(worker::sealer::run(one(), two()))),
        ("signals out", Box::pin(work::notify::send(one(), two()))),
        ("signals in", Box::pin(work::notify::listen(one(), two()))),
        ("sweep", Box::pin(worker::sweep::run(one(), two()))),
        ("mirrors", Box::pin(source::sweep(one(), two()))),
        ("engines", Box::pin(bundle::sweep(one(), two()))),
        ("trust", Box::pin(pki::revocations::run(one(), two()))),
        ("heartbeat", Box::pin(worker::heartbeat::run(one(), two()))),
        ("stream ends", Box::pin(link::write_ends(one(), two()))),
        ("agents", Box::pin(serve_agents(one(), listeners.agents, two()))),
        ("api", Box::pin(http::serve(one(), listeners.api, two()))),
    ];
    parts.extend(beside);
    parts
}

async fn serve_agents(hub: Arc<Hub>, listener: TcpListener, stop: CancellationToken) {
    if let Err(error) = link::serve(hub, listener, stop).await {
        tracing::error!(error = %crate::chain(&error), "the agents' port ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_end_is_dropped_a_while_after_the_stop() {
        let (stop, soon) = (CancellationToken::new(), Duration::from_millis(10));

        let before = tokio::time::timeout(soon * 5, ends_in_time(std::future::pending(), &stop, soon)).await;
        assert!(before.is_err(), "nobody stopped it");

        stop.cancel();
        assert!(!ends_in_time(std::future::pending(), &stop, soon).await);
        assert!(ends_in_time(std::future::ready(()), &stop, soon).await);
    }
}
