//! A cluster with much to run.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_core::TargetId;
use bellwether_core::report::{Report, Verdict};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::labelled;

const TARGETS: usize = 3;
const OBJECTS: usize = 3_000;
/// Of each object's data: what a settings file or a dashboard has.
const DATA_BYTES: usize = 3_000;

/// Writing so many takes longer than anything else that tests wait for.
const PATIENCE: Duration = Duration::from_mins(10);

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

/// Of each object that does not compress: a certificate store, a font.
const NOISE_BYTES: usize = 600_000;
const NOISY: usize = 48;

#[tokio::test]
async fn an_agent_starts_again_over_a_journal_that_is_larger_than_its_memory() {
    let mut fixture = fixture!();
    let noisy = |generation: usize| {
        // Half of them change each time, so that the journal keeps what the other half was written with.
        let changed = |index: usize| if index.is_multiple_of(2) { generation } else { 0 };
        let object = |index: usize| fixture.config_map(&format!("n{index}"), &noise(changed(index) * NOISY + index));
        std::iter::once(fixture.namespace_object()).chain((0..NOISY).map(object)).collect::<Vec<_>>()
    };
    let [first, second, third] = [1, 2, 3].map(noisy);
    fixture.assign(1, &first);
    fixture.start_agent();
    fixture.report_within(PATIENCE, |report| report.applied && report.verdict == Verdict::Healthy).await;
    for (generation, objects) in [(2, second), (3, third)] {
        fixture.assign(generation, &objects);
        let is_new = |report: &Report| report.generation.get() == generation && report.applied;
        fixture.report_within(PATIENCE, is_new).await;
    }
    fixture.kill_agent().await;

    let before = fixture.hub.reports(fixture.target).len();
    let agent = fixture.start_agent_process();
    let deadline = Instant::now() + PATIENCE;
    while fixture.hub.reports(fixture.target).len() == before
        || fixture.hub.reports(fixture.target).last().is_some_and(|last| !last.applied)
    {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let peak = peak_bytes(agent.id().expect("it runs"));
    assert!(peak < MEMORY_BYTES_MAX, "{} MiB", peak / 1024 / 1024);
    assert_eq!(fixture.hub.loaded(), 1 + 2 * NOISY, "nothing is sent again");
}

/// Unlike any other's, and no compression makes it smaller than three quarters.
fn noise(seed: usize) -> String {
    let mut state = seed as u64 + 1;
    let next = || {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    let bytes: Vec<_> = std::iter::repeat_with(next).take(NOISE_BYTES * 3 / 4 / 8).flatten().collect();
    STANDARD.encode(bytes)
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

const DEFINITIONS: usize = 300;
/// Of each: together they are 20 MB, most of them descriptions, as in those of large operators.
const FIELDS: usize = 260;

/// Of an agent that has nothing to do in a cluster with many definitions, built for tests: 23 MiB were seen at its peak. All
/// bodies together, read, are several times as much.
const QUIET_BYTES_MAX: u64 = 30 * 1024 * 1024;

#[tokio::test]
async fn an_agent_tells_three_hundred_definitions_without_having_them_in_memory() {
    let mut fixture = fixture!();
    fixture.poll_seconds = "1";
    let group = format!("{}.example.org", fixture.namespace);
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut definition = fixture.definition(&group);
    let field = |number: usize| {
        let text = format!("What the field {number} of it does, said as operators say it. ").repeat(4);
        (format!("field{number}"), json!({"type": "string", "description": text}))
    };
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
        Value::Object((0..FIELDS).map(field).collect());
    for number in 0..DEFINITIONS {
        definition["metadata"]["name"] = json!(format!("w{number}s.{group}"));
        definition["spec"]["names"] =
            json!({"plural": format!("w{number}s"), "singular": format!("w{number}"), "kind": format!("W{number}")});
        // As good as none of the others.
        definition["spec"]["versions"][0]["served"] = json!(false);
        fixture.post(path, &definition).await;
    }
    let agent = fixture.start_agent_process();

    let deadline = Instant::now() + PATIENCE;
    while fixture.hub.definition_count() < DEFINITIONS {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {}", fixture.hub.definition_count());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let peak = peak_bytes(agent.id().expect("it runs"));
    for number in 0..DEFINITIONS {
        fixture.remove(&format!("{path}/w{number}s.{group}")).await;
    }
    assert!(peak < QUIET_BYTES_MAX, "{} MiB", peak / 1024 / 1024);
}

/// The most that a process has had in memory.
fn peak_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it stands there");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("is a number");
    kib * 1024
}
