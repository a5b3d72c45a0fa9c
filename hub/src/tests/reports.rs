//! What agents tell: reports and drifts, and their bounds.

use bellwether_core::report::{Counts, Report, Suspended, Verdict};
use bellwether_core::rollout::RolloutState;
use bellwether_core::{Digest, ReportSequence, SessionNumber, TargetId};
use serde_json::json;

use super::rollouts::failed_line;
use super::scene::{ONE, Scene, finish, shown};
use crate::process::clock;
use crate::store::work::Stage;
use crate::store::{self, Pool};

#[crate::store::database_test(migrations = "../migrations")]
async fn a_drift_of_a_target_that_its_tombstone_outlives_is_dropped(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let target = TargetId::new(scene.id("one").await);
    let drift = drift_of(target);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");

    let action = bellwether_core::session::Action::Orphan;
    store::assignments::mark_tombstones(&mut db, target, action, 10, clock::now()).await.expect("it is written");
    store::assignments::mark_outliving(&mut db, target, &"one".parse().expect("a name")).await.expect("it is written");
    store::targets::delete(&mut db, target).await.expect("it goes");
    let is_new = store::drifts::insert_new(&mut db, scene.clusters[0], &drift, clock::now()).await;

    assert!(!is_new.expect("it is no error: a batch would be tried again for ever"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_report_about_a_row_that_cannot_be_read_is_dropped_alone_and_said_once(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    let damage = "update reports set digest = 'x'
                   where cluster_id = (select cluster_id from clusters order by name limit 1) returning true";
    assert!(store::ask_raw(&mut db, damage).await.expect("an intruder can"));

    let (queue, incoming) = tokio::sync::mpsc::channel(8);
    let (recorded_to, recorded) = tokio::sync::watch::channel(ReportSequence::default());
    for (number, cluster) in (1..).zip(&scene.clusters) {
        for (sequence, listed) in (20..).zip(scene.listing(*cluster).await.into_values()) {
            let report = Report {
                target: listed.assignment.target,
                generation: listed.assignment.generation,
                digest: listed.assignment.digest,
                applied: true,
                verdict: Verdict::Failed,
                objects: Counts::default(),
                lines: Vec::new(),
                suspended: None,
            };
            let (session, sequence) = (SessionNumber::new(number), ReportSequence::new(sequence));
            let (event, recorded) = (crate::record::queue::AgentEvent::Report(report), recorded_to.clone());
            let one = crate::record::queue::Incoming { cluster: *cluster, session, sequence, event, recorded };
            queue.send(one).await.expect("there is room");
        }
    }
    drop(queue);
    crate::record::run(scene.hub.clone(), incoming, tokio_util::sync::CancellationToken::new()).await;

    let others = "select bool_and((verdict = 'failed') = (digest <> 'x')) from reports";
    let said = "select count(*) = 1 from audit_outbox where convert_from(body, 'UTF8') like '%report.dropped%'";
    assert!(store::ask_raw(&mut db, others).await.expect("it is read"));
    assert!(store::ask_raw(&mut db, said).await.expect("it is read"));
    assert_eq!(*recorded.borrow(), ReportSequence::new(21), "their agents could only say the same again");
}

fn drift_of(target: TargetId) -> bellwether_core::drift::Drift {
    bellwether_core::drift::Drift {
        id: clock::new_id(),
        target,
        object: serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "one"})).expect("a key"),
        found_at: clock::now(),
        change: bellwether_core::drift::Change::Modified,
        response: bellwether_core::drift::Response::Corrected,
        manager: None,
        operation: None,
        fields: Vec::new(),
        values: bellwether_core::drift::ChangedValues::default(),
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_has_its_share_of_a_days_drifts_and_no_more(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let target = TargetId::new(scene.id("one").await);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let [first, second] = [scene.clusters[0], scene.clusters[1]];

    let mut written = 0;
    for _ in 0..510 {
        let is_new = store::drifts::insert_new(&mut db, first, &drift_of(target), clock::now()).await;
        written += usize::from(is_new.expect("it is no error"));
    }
    let others = store::drifts::insert_new(&mut db, second, &drift_of(target), clock::now()).await;
    let tomorrow = clock::now() + jiff::SignedDuration::from_hours(25);
    let next = store::drifts::insert_new(&mut db, first, &drift_of(target), tomorrow).await;

    assert_eq!(written, 500);
    assert!(others.expect("written") && next.expect("written"), "another cluster, and another day");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn failures_of_digests_that_an_agent_makes_up_stand_in_no_entry_and_what_it_runs_still_does(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let assignment = scene.listing(scene.clusters[0]).await["one"].assignment.clone();
    let failed = |digest| Report {
        target: assignment.target,
        generation: assignment.generation,
        digest,
        applied: true,
        verdict: Verdict::Failed,
        objects: Counts::default(),
        lines: Vec::new(),
        suspended: None,
    };
    let forged = [Digest::of(b"one"), Digest::of(b"another")];
    let alternating = (0..40).map(|number| failed(forged[number % 2]));
    let (recorded, _durable) = tokio::sync::watch::channel(ReportSequence::default());

    for (sequence, report) in (20..).zip(alternating.chain([failed(assignment.digest)])) {
        let (session, sequence) = (SessionNumber::new(1), ReportSequence::new(sequence));
        let event = crate::record::queue::AgentEvent::Report(report);
        let (cluster, recorded) = (scene.clusters[0], recorded.clone());
        let one = crate::record::queue::Incoming { cluster, session, sequence, event, recorded };
        // Each in a batch of its own: of one batch the newest counts.
        let (alone, queue_of_one) = tokio::sync::mpsc::channel(1);
        alone.send(one).await.expect("there is room");
        drop(alone);
        crate::record::run(scene.hub.clone(), queue_of_one, tokio_util::sync::CancellationToken::new()).await;
    }

    let entries = scene.entries().await.into_iter().filter(|entry| entry["action"] == "report.failed");
    assert_eq!(entries.count(), 1, "the one about what the cluster is assigned");
}

/// Several batches of reports, and the last is not full.
const FLEET: i64 = 1_200;
const BATCHES: i64 = 3;

#[crate::store::database_test(migrations = "../migrations")]
async fn a_fleet_that_fails_at_once_is_written_in_batches_and_stops_its_rollout_once(pool: Pool) {
    let scene = Scene::new(&pool, FLEET).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let target = TargetId::new(scene.id("one").await);

    let (queue, incoming) = tokio::sync::mpsc::channel(scene.clusters.len());
    let (recorded, _durable) = tokio::sync::watch::channel(ReportSequence::default());
    for (number, cluster) in (1..).zip(&scene.clusters) {
        let assignment = scene.listing(*cluster).await["one"].assignment.clone();
        let report = Report {
            target,
            generation: assignment.generation,
            digest: assignment.digest,
            applied: true,
            verdict: Verdict::Failed,
            objects: Counts::default(),
            lines: vec![failed_line()],
            suspended: None,
        };
        let (session, sequence) = (SessionNumber::new(number), ReportSequence::new(1));
        let (event, recorded) = (crate::record::queue::AgentEvent::Report(report), recorded.clone());
        let one = crate::record::queue::Incoming { cluster: *cluster, session, sequence, event, recorded };
        queue.send(one).await.expect("there is room");
    }
    drop(queue);
    crate::record::run(scene.hub.clone(), incoming, tokio_util::sync::CancellationToken::new()).await;
    let mut decisions = 0;
    while !scene.reconcile(Stage::Rollout).await.is_empty() && decisions < 10 {
        decisions += 1;
    }

    let mut db = pool.acquire().await.expect("a connection");
    let failed = store::ask_number(&mut db, "select count(*) from reports where verdict = 'failed'").await;
    // Who wrote a row is its transaction.
    let written = "select count(distinct xmin::text) from reports where verdict = 'failed'";
    assert_eq!(failed.expect("they are counted"), FLEET);
    assert_eq!(store::ask_number(&mut db, written).await.expect("they are counted"), BATCHES);
    assert_eq!(shown(&mut db, target).await.state, RolloutState::Paused);
    let stops = scene.entries().await.into_iter().filter(|entry| entry["action"] == "rollout.paused");
    assert_eq!(stops.count(), 1);
    assert!(decisions < 10, "it is decided about for ever");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_suspended_cluster_is_shown_and_audited_once_and_its_rollout_waits_for_it(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let assignment = scene.listing(scene.clusters[0]).await["one"].assignment.clone();
    let suspended =
        Suspended { since: clock::now(), until: None, reason: "INC-42".to_owned(), by: "kubectl-annotate".to_owned() };
    let said = |suspended: Option<&Suspended>| Report {
        target: assignment.target,
        generation: assignment.generation,
        digest: assignment.digest,
        applied: true,
        verdict: Verdict::Healthy,
        objects: Counts::default(),
        lines: Vec::new(),
        suspended: suspended.cloned(),
    };
    let (recorded, _durable) = tokio::sync::watch::channel(ReportSequence::default());
    let tell = async |sequence, report| {
        let (session, sequence) = (SessionNumber::new(1), ReportSequence::new(sequence));
        let event = crate::record::queue::AgentEvent::Report(report);
        let (cluster, recorded) = (scene.clusters[0], recorded.clone());
        let (alone, queue_of_one) = tokio::sync::mpsc::channel(1);
        let one = crate::record::queue::Incoming { cluster, session, sequence, event, recorded };
        alone.send(one).await.expect("there is room");
        drop(alone);
        crate::record::run(scene.hub.clone(), queue_of_one, tokio_util::sync::CancellationToken::new()).await;
        scene.reconcile(Stage::Rollout).await;
    };
    let words = "suspended by kubectl-annotate: INC-42";

    tell(20, said(Some(&suspended))).await;
    tell(21, said(Some(&suspended))).await;

    let mut db = pool.acquire().await.expect("a connection");
    let waits = "select bool_and(state = 'applied' and reason = 'suspended by kubectl-annotate: INC-42'
                                 and judged_from is null) from rollout_clusters";
    assert!(store::ask_raw(&mut db, waits).await.expect("it is read"), "neither healthy nor failed");
    let entries = async |action: &str| {
        let all = scene.entries().await;
        all.into_iter().filter(|entry| entry["action"] == action).collect::<Vec<_>>()
    };
    let begun = entries("report.suspended").await;
    assert_eq!((begun.len(), begun[0]["reason"].as_str()), (1, Some(words)), "{begun:?}");

    tell(22, said(None)).await;

    assert_eq!(entries("report.resumed").await.len(), 1);
    let done = "select bool_and(state = 'healthy') from rollout_clusters";
    assert!(store::ask_raw(&mut db, done).await.expect("it is read"));
}
