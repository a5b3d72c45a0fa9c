//! What an agent tells and no row can hold, while the stages use every connection that they may have.

use bellwether_core::report::{Counts, Report, Verdict};
use bellwether_core::{ReportSequence, SessionNumber};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::scene::{ONE, Scene, finish};
use crate::record::queue::{AgentEvent, Incoming};
use crate::store::work::Stage;
use crate::store::{self, Pool};

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_dropped_is_said_though_the_stages_use_every_connection(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    store::execute_raw(&pool, "update reports set digest = 'x'").await.expect("an intruder can");
    let (queue, incoming) = mpsc::channel(1);
    let (recorded_to, recorded) = watch::channel(ReportSequence::default());
    let (cluster, sequence) = (scene.clusters[0], ReportSequence::new(20));
    let assigned = scene.listing(cluster).await.remove("one").expect("it runs it").assignment;
    let report = Report {
        target: assigned.target,
        generation: assigned.generation,
        digest: assigned.digest,
        applied: true,
        verdict: Verdict::Failed,
        objects: Counts::default(),
        lines: Vec::new(),
        suspended: None,
    };
    let (session, event) = (SessionNumber::new(1), AgentEvent::Report(report));
    let one = Incoming { cluster, session, sequence, event, recorded: recorded_to };
    queue.send(one).await.expect("there is room");
    drop(queue);
    let mut taken = Vec::new();
    for _ in 0..scene.hub.pool.options().get_max_connections() {
        taken.push(scene.hub.pool.acquire().await.expect("it is free"));
    }

    let record = crate::record::run(scene.hub.clone(), incoming, CancellationToken::new());
    tokio::time::timeout(std::time::Duration::from_secs(4), record).await.expect("it waits for no connection");

    let said = "select count(*) = 1 from audit_outbox where convert_from(body, 'UTF8') like '%report.dropped%'";
    assert!(store::ask_raw(&mut taken[0], said).await.expect("it is read"));
    assert_eq!(*recorded.borrow(), sequence);
}
