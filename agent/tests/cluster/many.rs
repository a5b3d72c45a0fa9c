//! A cluster with much to run.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bellwether_core::TargetId;
use bellwether_core::report::Verdict;
use serde_json::{Value, json};
use uuid::Uuid;

const TARGETS: usize = 3;
const OBJECTS: usize = 3_000;
/// Of each object's data: what a settings file or a dashboard has.
const DATA_BYTES: usize = 3_000;

/// Writing so many takes longer than anything else that tests wait for.
const PATIENCE: Duration = Duration::from_mins(5);

/// What the install manifest gives an agent.
const MEMORY_BYTES_MAX: u64 = 128 * 1024 * 1024;

#[tokio::test]
async fn an_agent_takes_in_nine_thousand_objects_within_its_memory() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    let targets: Vec<_> = (0..TARGETS).map(|_| TargetId::new(Uuid::now_v7())).collect();
    for (number, target) in targets.iter().enumerate() {
        let object =
            |index: usize| labelled(fixture.config_map(&format!("c{number}-{index}"), &data(number, index)), *target);
        fixture.assign_to(*target, &(0..OBJECTS).map(object).collect::<Vec<_>>());
    }
    let agent = fixture.start_agent_process();

    let deadline = Instant::now() + PATIENCE;
    let are_well = || {
        let is_well = |target: &TargetId| {
            fixture.hub.reports(*target).last().is_some_and(|last| last.verdict == Verdict::Healthy)
        };
        targets.iter().all(is_well)
    };
    while !are_well() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let peak = peak_bytes(agent.id().expect("it runs"));
    assert!(peak < MEMORY_BYTES_MAX, "{} MiB", peak / 1024 / 1024);
    assert_eq!(fixture.hub.sessions(), 1, "one stream was enough");
}

/// Unlike any other's, and no better to compress than settings are.
fn data(number: usize, index: usize) -> String {
    let mut text = String::with_capacity(DATA_BYTES + 40);
    while text.len() < DATA_BYTES {
        let place = text.len() * 7 % 1_009;
        writeln!(text, "setting.{place}.{number} = {index}").expect("writing into memory cannot fail");
    }
    text
}

fn labelled(mut object: Value, target: TargetId) -> Value {
    object["metadata"]["labels"]["bellwether.dev/target"] = json!(target.as_uuid().simple().to_string());
    object
}

/// The most that a process has had in memory.
fn peak_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it stands there");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("is a number");
    kib * 1024
}
