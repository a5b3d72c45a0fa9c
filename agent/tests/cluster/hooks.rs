//! What Helm and Argo CD call hooks: Jobs that run at their time, are made anew at each change, and go as they ask.

use std::time::Duration;

use bellwether_core::Generation;
use bellwether_core::report::{Report, Verdict};
use bellwether_core::session::{DriftMode, SyncOptions};
use serde_json::{Value, json};

use crate::fixture::Fixture;

fn is_well(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
}

/// Of a hook of that chart's version. It has nothing to complete, or never gets to it.
fn job(fixture: &Fixture, version: &str, ends: bool) -> Value {
    let pod = json!({"containers": [{"name": "a", "image": version}], "restartPolicy": "Never", "nodeSelector": {"none": "x"}});
    let spec = json!({"completions": i32::from(!ends), "template": {"spec": pod}});
    let mut job = fixture.object("batch/v1", "Job", "migrate", &json!({"spec": spec}));
    job["metadata"]["annotations"] = json!({"helm.sh/hook": "post-install,post-upgrade"});
    job
}

fn path(fixture: &Fixture) -> String {
    format!("/apis/batch/v1/namespaces/{}/jobs/migrate", fixture.namespace)
}

#[tokio::test]
async fn the_job_of_a_hook_that_changed_is_deleted_and_made_anew() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), job(&fixture, "one", true)]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;

    fixture.assign(2, &[fixture.namespace_object(), job(&fixture, "two", true)]);
    fixture.report(is_well(2)).await;

    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(after["spec"]["template"]["spec"]["containers"][0]["image"], "two");
    assert!(fixture.hub.drifts().is_empty(), "nobody else deleted it");
    // What did not change does not run again.
    fixture.assign(3, &[fixture.namespace_object(), job(&fixture, "two", true), fixture.config_map("a", "1")]);
    fixture.report(is_well(3)).await;
    assert_eq!(fixture.wait_for(&path(&fixture), Value::is_object).await["metadata"]["uid"], after["metadata"]["uid"]);
}

#[tokio::test]
async fn the_job_of_a_hook_that_still_runs_is_waited_for() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), job(&fixture, "one", false)]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;
    let pods = format!("/api/v1/namespaces/{}/pods", fixture.namespace);
    let list = fixture.wait_for(&pods, |list| list["items"].as_array().is_some_and(|pods| !pods.is_empty())).await;
    let name = list["items"][0]["metadata"]["name"].as_str().expect("has a name").to_owned();
    let running = json!({"name": "a", "image": "one", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}});
    let status = json!({"status": {"phase": "Running", "containerStatuses": [running]}});
    fixture.merge(&format!("{pods}/{name}/status"), "kubelet", &status).await;

    fixture.assign(2, &[fixture.namespace_object(), job(&fixture, "two", true)]);
    let is_second = |report: &Report| report.generation == Generation::new(2) && report.verdict == Verdict::Degraded;
    let waits = fixture.report(is_second).await;

    assert!(waits.lines[0].message.contains("runs still"), "{:?}", waits.lines);
    assert_eq!(fixture.wait_for(&path(&fixture), Value::is_object).await["metadata"]["uid"], before["metadata"]["uid"]);
    // However long it takes.
    let created: jiff::Timestamp =
        before["metadata"]["creationTimestamp"].as_str().and_then(|at| at.parse().ok()).expect("has a time");
    let deadline = tokio::time::Instant::now() + Duration::from_mins(2);
    while jiff::Timestamp::now().duration_since(created) < jiff::SignedDuration::from_secs(50) {
        assert!(tokio::time::Instant::now() < deadline, "time passes");
        let now = fixture.wait_for(&path(&fixture), Value::is_object).await;
        assert_eq!(now["metadata"]["uid"], before["metadata"]["uid"]);
    }
    fixture.remove(&path(&fixture)).await;
    fixture.report(is_well(2)).await;
}

#[tokio::test]
async fn the_job_of_a_hook_that_cannot_begin_makes_room_for_the_one_that_mends_it() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), job(&fixture, "typo", false)]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;

    fixture.assign(2, &[fixture.namespace_object(), job(&fixture, "two", true)]);
    fixture.report_within(Duration::from_mins(3), is_well(2)).await;

    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(after["spec"]["template"]["spec"]["containers"][0]["image"], "two");
}

#[tokio::test]
async fn the_job_of_a_hook_that_somebody_asked_to_keep_is_not_deleted_for_the_one_that_changed() {
    let mut fixture = fixture!();
    fixture.options = SyncOptions { drift: DriftMode::Ignore, ..SyncOptions::default() };
    fixture.assign(1, &[fixture.namespace_object(), job(&fixture, "one", true)]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;
    let keep = json!({"metadata": {"annotations": {"helm.sh/resource-policy": "keep"}}});
    fixture.merge(&path(&fixture), "kubectl-annotate", &keep).await;
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;

    fixture.assign(2, &[fixture.namespace_object(), job(&fixture, "two", true)]);
    let is_told = |report: &Report| report.generation == Generation::new(2) && report.verdict >= Verdict::Degraded;
    let told = fixture.report(|report| is_told(report) || is_well(2)(report)).await;

    assert!(told.lines.iter().any(|line| line.message.contains("helm.sh/resource-policy")), "{told:?}");
    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    fixture
        .merge(
            &path(&fixture),
            "kubectl-annotate",
            &json!({"metadata": {"annotations": {"helm.sh/resource-policy": null}}}),
        )
        .await;
    fixture.report(is_well(2)).await;
}

/// Of Argo CD, at that time. It has nothing to complete, or never gets to it.
fn argos(fixture: &Fixture, (name, time): (&str, &str), ends: bool) -> Value {
    let mut job = job(fixture, "one", ends);
    job["metadata"]["name"] = json!(name);
    job["metadata"]["annotations"] = json!({"argocd.argoproj.io/hook": time});
    job
}

fn path_of(fixture: &Fixture, name: &str) -> String {
    format!("/apis/batch/v1/namespaces/{}/jobs/{name}", fixture.namespace)
}

fn with_policy(mut job: Value, annotation: &str, policy: &str) -> Value {
    job["metadata"]["annotations"][annotation] = json!(policy);
    job
}

/// As its kubelet would say.
async fn end_pod_of(fixture: &Fixture, job: &str) {
    let pods = format!("/api/v1/namespaces/{}/pods", fixture.namespace);
    let of_job = format!("{pods}?labelSelector=batch.kubernetes.io/job-name={job}");
    let list = fixture.wait_for(&of_job, |list| list["items"].as_array().is_some_and(|pods| !pods.is_empty())).await;
    let name = list["items"][0]["metadata"]["name"].as_str().expect("has a name").to_owned();
    let ended = json!({"exitCode": 0, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"});
    let container = json!({"name": "a", "image": "one", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": ended}});
    let status = json!({"status": {"phase": "Succeeded", "containerStatuses": [container]}});
    fixture.merge(&format!("{pods}/{name}/status"), "kubelet", &status).await;
}

#[tokio::test]
async fn hooks_of_argo_cd_before_a_sync_are_waited_for_and_those_after_it_come_when_all_is_well() {
    let mut fixture = fixture!();
    let (before, after) = (("before", "PreSync"), ("after", "PostSync"));
    let objects = [argos(&fixture, after, true), fixture.config_map("a", "1"), argos(&fixture, before, false)];
    fixture.assign(1, &[&[fixture.namespace_object()], &objects[..]].concat());
    fixture.start_agent();
    fixture.report(|report| report.objects.in_place == 2).await;
    fixture.wait_for(&path_of(&fixture, "before"), Value::is_object).await;
    assert!(!fixture.is_there("a").await, "it waits");
    fixture.wait_for(&path_of(&fixture, "after"), Value::is_null).await;

    end_pod_of(&fixture, "before").await;
    fixture.report(is_well(1)).await;

    assert!(fixture.is_there("a").await);
    fixture.wait_for(&path_of(&fixture, "after"), Value::is_object).await;
}

#[tokio::test]
async fn a_hook_of_argo_cd_that_fails_before_a_sync_stops_what_comes_after_it_and_its_reason_is_told() {
    let mut fixture = fixture!();
    let mut before = argos(&fixture, ("before", "PreSync"), false);
    before["spec"]["activeDeadlineSeconds"] = json!(1);
    fixture.assign(1, &[fixture.namespace_object(), before, fixture.config_map("a", "1")]);
    fixture.start_agent();

    let failed = fixture.report(|report| report.verdict == Verdict::Failed).await;

    assert!(!failed.applied && !failed.may_pass());
    let line = &failed.lines[0];
    assert!(line.key.name == "before" && line.message.contains("deadline"), "{failed:?}");
    assert!(!fixture.is_there("a").await);
}

#[tokio::test]
async fn a_hook_that_has_run_is_deleted_as_it_asks_and_is_not_run_again_by_the_next_process() {
    let mut fixture = fixture!();
    let hook = with_policy(job(&fixture, "one", true), "helm.sh/hook-delete-policy", "hook-succeeded");
    let account = fixture.object("v1", "ServiceAccount", "migrate", &json!({}));
    let mut account = with_policy(account, "argocd.argoproj.io/hook", "PreSync");
    account["metadata"]["annotations"]["argocd.argoproj.io/hook-delete-policy"] = json!("HookSucceeded");
    let objects = |fixture: &Fixture, value: &str| {
        [fixture.namespace_object(), account.clone(), hook.clone(), fixture.config_map("a", value)]
    };
    let account_path = format!("/api/v1/namespaces/{}/serviceaccounts/migrate", fixture.namespace);
    fixture.assign(1, &objects(&fixture, "1"));
    fixture.start_agent();
    fixture.report(is_well(1)).await;
    fixture.wait_for(&path(&fixture), Value::is_object).await;

    fixture.wait_for(&path(&fixture), Value::is_null).await;
    fixture.wait_for(&account_path, Value::is_null).await;
    fixture.assign(2, &objects(&fixture, "2"));
    let well = fixture.report(is_well(2)).await;

    assert_eq!((well.objects.total, well.objects.healthy), (4, 4));
    assert!(fixture.hub.drifts().is_empty(), "nobody else deleted it");
    fixture.wait_for_inventory(2).await;
    fixture.kill_agent().await;
    let told = fixture.hub.reports(fixture.target).len();
    fixture.start_agent_without_token();
    let is_well = is_well(2);
    fixture.reports(|all| all[told..].iter().any(|report| report.applied && is_well(report))).await;
    // It would stand there for a while.
    fixture.wait_for(&path(&fixture), Value::is_null).await;
    fixture.wait_for(&account_path, Value::is_null).await;
    assert!(fixture.hub.drifts().is_empty());
}

#[tokio::test]
async fn a_hook_that_is_to_go_once_it_succeeded_makes_room_for_one_that_comes_before_that() {
    let mut fixture = fixture!();
    let hook = |fixture: &Fixture, version: &str, ends: bool| {
        with_policy(job(fixture, version, ends), "helm.sh/hook-delete-policy", "hook-succeeded")
    };
    fixture.assign(1, &[fixture.namespace_object(), hook(&fixture, "one", true)]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;

    // At once: the one before is still there.
    fixture.assign(2, &[fixture.namespace_object(), hook(&fixture, "two", true)]);
    fixture.wait_for(&path(&fixture), |job| job["spec"]["template"]["spec"]["containers"][0]["image"] == "two").await;
    fixture.report(is_well(2)).await;
    fixture.wait_for(&path(&fixture), Value::is_null).await;

    // One that failed is to stay, whatever comes after it.
    let mut failing = hook(&fixture, "three", false);
    failing["spec"]["activeDeadlineSeconds"] = json!(1);
    fixture.assign(3, &[fixture.namespace_object(), failing]);
    let is_failed = |generation| {
        move |report: &Report| report.generation == Generation::new(generation) && report.verdict == Verdict::Failed
    };
    fixture.report(is_failed(3)).await;
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;
    fixture.assign(4, &[fixture.namespace_object(), hook(&fixture, "four", true)]);
    fixture.report(is_failed(4)).await;
    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
}

#[tokio::test]
async fn a_hook_that_failed_is_deleted_as_it_asks_and_stays_failed_with_its_reason() {
    let mut fixture = fixture!();
    let policy = "BeforeHookCreation,HookFailed";
    let before = argos(&fixture, ("migrate", "PreSync"), false);
    let mut before = with_policy(before, "argocd.argoproj.io/hook-delete-policy", policy);
    before["spec"]["activeDeadlineSeconds"] = json!(1);
    fixture.assign(1, &[fixture.namespace_object(), before, fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Failed).await;

    fixture.wait_for(&path(&fixture), Value::is_null).await;

    let is_gone = |report: &Report| report.lines.iter().any(|line| line.message.contains("gone since: "));
    let gone = fixture.report(is_gone).await;
    assert_eq!(gone.verdict, Verdict::Failed);
    assert!(gone.lines[0].message.contains("deadline"), "{gone:?}");
    assert!(!fixture.is_there("a").await && fixture.hub.drifts().is_empty());
}

#[tokio::test]
async fn a_hook_of_upgrades_runs_with_the_next_bundle_and_not_at_the_first_installation_whatever_restarts_in_between() {
    let mut fixture = fixture!();
    let mut hook = job(&fixture, "one", true);
    hook["metadata"]["annotations"] = json!({"helm.sh/hook": "pre-upgrade", "bellwether.dev/hook": "upgrade"});
    let objects =
        |fixture: &Fixture, value: &str| [fixture.namespace_object(), hook.clone(), fixture.config_map("a", value)];
    fixture.assign(1, &objects(&fixture, "1"));
    fixture.start_agent();
    let first = fixture.report(is_well(1)).await;
    assert!(first.lines.iter().any(|line| line.message.contains("a hook of upgrades")), "{first:?}");
    fixture.wait_for_inventory(1).await;

    // A new process, and another generation of the same bundle, are no upgrade.
    fixture.kill_agent().await;
    fixture.start_agent_without_token();
    fixture.assign(2, &objects(&fixture, "1"));
    fixture.report(is_well(2)).await;
    fixture.wait_for(&path(&fixture), Value::is_null).await;
    assert!(fixture.hub.drifts().is_empty());

    fixture.assign(3, &objects(&fixture, "2"));
    let upgraded = fixture.report(is_well(3)).await;

    let ran = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert!(upgraded.lines.is_empty(), "{upgraded:?}");
    fixture.assign(4, &objects(&fixture, "3"));
    fixture.report(is_well(4)).await;
    assert_eq!(fixture.wait_for(&path(&fixture), Value::is_object).await["metadata"]["uid"], ran["metadata"]["uid"]);
}

#[tokio::test]
async fn a_hook_that_failed_is_deleted_and_runs_again_where_a_person_retries_or_another_bundle_comes() {
    let mut fixture = fixture!();
    let mut hook = job(&fixture, "one", false);
    hook["spec"]["activeDeadlineSeconds"] = json!(1);
    fixture.assign(1, &[fixture.namespace_object(), hook.clone()]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Failed).await;
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;

    fixture.retried = 2;
    fixture.assign(2, &[fixture.namespace_object(), hook.clone()]);

    let is_another = |job: &Value| job.is_object() && job["metadata"]["uid"] != before["metadata"]["uid"];
    let after = fixture.wait_for(&path(&fixture), is_another).await;
    // It fails once more, and is not tried again by itself.
    fixture.report(|report| report.generation == Generation::new(2) && report.verdict == Verdict::Failed).await;
    fixture.options.drift = DriftMode::Warn;
    fixture.assign(3, &[fixture.namespace_object(), hook.clone()]);
    fixture.report(|report| report.generation == Generation::new(3) && report.verdict == Verdict::Failed).await;
    assert_eq!(fixture.wait_for(&path(&fixture), Value::is_object).await["metadata"]["uid"], after["metadata"]["uid"]);

    // Another bundle may be what it failed for want of.
    fixture.assign(4, &[fixture.namespace_object(), hook, fixture.config_map("a", "1")]);
    let is_third = |job: &Value| job.is_object() && job["metadata"]["uid"] != after["metadata"]["uid"];
    fixture.wait_for(&path(&fixture), is_third).await;
}
