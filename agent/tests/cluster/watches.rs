//! What is known of objects where an API server lists them and lets nobody watch.

use std::time::{Duration, Instant};

use bellwether_core::Generation;
use bellwether_core::report::{Report, Verdict};
use serde_json::json;

use crate::gateway::{Counts, Gateway};

async fn wait_for(gateway: &Gateway, is_so: impl Fn(Counts) -> bool) -> Counts {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so(gateway.counts()) {
        assert!(Instant::now() < deadline, "{:?}", gateway.counts());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.counts()
}

#[tokio::test]
async fn where_only_watches_are_refused_health_is_unknown_until_one_stands_and_lists_do_not_change_that() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    gateway.refuse_watches();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    let unknown = fixture.report(|report| report.verdict == Verdict::Unknown).await;
    assert_eq!((unknown.lines.len(), unknown.lines[0].message.as_str()), (1, "its watch is broken"));
    let told = fixture.hub.reports(fixture.target).len();

    let counts = wait_for(&gateway, |counts| counts.watches >= 6).await;

    assert_eq!(counts.lists, 1);
    assert_eq!(fixture.hub.reports(fixture.target).len(), told, "health does not change with each try");
    gateway.let_watches_through();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;
    fixture.delete("a").await;
    fixture.wait_until("a", true).await;
}

#[tokio::test]
async fn a_kind_that_is_served_without_watches_is_known_by_lists_and_holds_up_nothing() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    gateway.serve_without_watches();
    let objects = [fixture.namespace_object(), fixture.config_map("a", "1")];
    fixture.assign(1, &objects);
    fixture.start_agent();
    wait_for(&gateway, |counts| counts.lists >= 1).await;
    fixture.report(|report| report.verdict == Verdict::Healthy).await;

    let later = "ValidatingWebhookConfiguration";
    let mut last = fixture.object("admissionregistration.k8s.io/v1", later, &fixture.namespace, &json!({}));
    last["metadata"].as_object_mut().expect("is an object").remove("namespace");
    let [namespace, a] = objects;
    fixture.assign(2, &[namespace, a, last]);
    let is_second = |report: &Report| report.generation == Generation::new(2) && report.verdict == Verdict::Healthy;
    fixture.report(is_second).await;

    fixture.delete("a").await;
    fixture.wait_until("a", true).await;
    let told = fixture.hub.reports(fixture.target);
    assert!(told.iter().all(|report| report.verdict != Verdict::Unknown), "{told:#?}");
    assert_eq!(gateway.counts().watches, 0);
}

/// It waits for two minutes, as the agent does: until then a newer assignment may want the kind again.
#[tokio::test]
async fn a_kind_that_no_target_has_any_more_is_watched_no_more_and_again_when_one_has() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    let is_healthy = |generation| {
        move |report: &Report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
    };
    let wait_for_open = async |count: usize| {
        let deadline = Instant::now() + Duration::from_mins(4);
        while gateway.open_watches() != count {
            assert!(Instant::now() < deadline, "{} are open", gateway.open_watches());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let a = fixture.config_map("a", "1");
    fixture.assign(1, &[fixture.namespace_object(), a.clone()]);
    fixture.start_agent();
    fixture.report(is_healthy(1)).await;
    wait_for_open(1).await;

    fixture.assign_pruning(2, &[fixture.namespace_object()], &[a]);
    fixture.report(is_healthy(2)).await;
    wait_for_open(0).await;

    fixture.assign(3, &[fixture.namespace_object(), fixture.config_map("b", "1")]);
    fixture.report(is_healthy(3)).await;
    wait_for_open(1).await;
    fixture.edit("b", &json!({"data": {"key": "theirs"}})).await;
    fixture.wait_for_value("b", "1").await;
}
