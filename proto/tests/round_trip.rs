//! What one end says is what the other hears, and what no end should say is refused.

use std::collections::BTreeMap;

use bellwether_core::apis::Apis;
use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::definitions::Definitions;
use bellwether_core::drift::{Change, ChangedValue, ChangedValues, Drift, Response, VALUES_BYTES_MAX, VALUES_MAX};
use bellwether_core::dry_run::{ASKED_BYTES_MAX, DryRun, DryRuns};
use bellwether_core::report::{Counts, ObjectLine, Outcome, Report, Verdict};
use bellwether_core::session::{
    Action, Adopt, AgentMessage, Assignment, Desired, DryRan, HeartbeatPolicy, Hello, HubMessage, PROTOCOL, Packed,
    Piece, Profile, ProfileWanted, SyncOptions, Want, Welcome,
};
use bellwether_core::{Digest, Generation, ObjectKey, ReportSequence, SessionNumber, TargetId, TraceId};
use bellwether_proto::{agent_message, dry_run_from_bytes, dry_run_to_bytes, hub_message, v1};
use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use uuid::Uuid;

fn key() -> ObjectKey {
    ObjectKey {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: Some("shop".to_owned()),
        name: "web".to_owned(),
    }
}

fn from_agent() -> Vec<AgentMessage> {
    let hello = Hello {
        protocol: PROTOCOL,
        version: "0.1.0".to_owned(),
        boot: Uuid::from_u128(1),
        root: Digest::of(b"root"),
        acked: Some((SessionNumber::new(3), ReportSequence::new(4))),
        facts: BTreeMap::from([("kubernetes.version".to_owned(), "v1.37.2".to_owned())]),
        apis: Some(Digest::of(b"apis")),
        definitions: Some(Digest::of(b"definitions")),
        dry_runs: DryRuns::Off,
        acts_as_accounts: true,
    };
    let line = ObjectLine {
        key: key(),
        outcome: Outcome::Rejected,
        verdict: Verdict::Failed,
        message: "no".to_owned(),
        hint: "yes".to_owned(),
        may_pass: true,
    };
    let report = Report {
        target: TargetId::new(Uuid::from_u128(2)),
        generation: Generation::new(5),
        digest: Digest::of(b"bundle"),
        applied: false,
        verdict: Verdict::Failed,
        objects: Counts { total: 3, in_place: 2, healthy: 1 },
        lines: vec![line],
        suspended: None,
    };
    let drift = Drift {
        id: Uuid::from_u128(9),
        target: TargetId::new(Uuid::from_u128(2)),
        object: key(),
        found_at: Timestamp::from_microsecond(1_795_000_000_234_567).expect("is a time"),
        change: Change::Modified,
        response: Response::Corrected,
        manager: Some("kubectl-edit".to_owned()),
        operation: None,
        fields: vec![".spec.replicas".to_owned()],
        values: ChangedValues {
            values: vec![ChangedValue {
                path: ".spec.replicas".to_owned(),
                found: Some("5".to_owned()),
                wanted: None,
                is_cut: false,
            }],
            are_more: true,
        },
    };
    vec![
        AgentMessage::Hello(hello),
        AgentMessage::Report(ReportSequence::new(1), report),
        AgentMessage::Drift(ReportSequence::new(2), drift),
        AgentMessage::Heartbeat,
        AgentMessage::Profile(Profile {
            facts: BTreeMap::from([("kubernetes.minor".to_owned(), "1.37".to_owned())]),
            apis: Some(Apis::parse("apps/v1\napps/v1/Deployment").expect("names")),
            definitions: Some(Definitions::new([("widgets.example.org".to_owned(), Some(Digest::of(b"widget")))])),
        }),
        // A cluster without any is another than one that nobody has looked at.
        AgentMessage::Profile(Profile { definitions: Some(Definitions::new([])), ..Profile::default() }),
        AgentMessage::Profile(Profile::default()),
        AgentMessage::Definition(Packed { digest: Digest::of(b"widget"), bytes: b"packed".to_vec() }),
        AgentMessage::Inventory(vec![assignment().listed()]),
        AgentMessage::Need(vec![Digest::of(b"object")]),
        AgentMessage::DryRan(DryRan { id: Uuid::from_u128(8), answer: b"answer".to_vec() }),
    ]
}

fn assignment() -> Assignment {
    let manifest = Manifest::new(vec![Entry { key: key(), digest: Digest::of(b"object") }]).expect("is a manifest");
    Assignment {
        target: TargetId::new(Uuid::from_u128(2)),
        name: "shop".parse().expect("is a name"),
        generation: Generation::new(5),
        action: Action::Apply,
        manifest,
        prunable: vec![ObjectKey { namespace: None, ..key() }],
        namespace: None,
        project: None,
        options: SyncOptions::default(),
        retried: Generation::new(4),
        trace: Some(TraceId::new(Uuid::from_u128(6))),
    }
}

fn dry_run() -> DryRun {
    let Assignment { target, manifest, .. } = assignment();
    DryRun {
        id: Uuid::from_u128(8),
        target,
        manifest,
        objects: vec![b"packed".to_vec()],
        namespace: None,
        project: Some("tills".parse().expect("is a name")),
        options: SyncOptions {
            adopt: Adopt::Always,
            service_account: Some("deployer".parse().expect("is a name")),
            ..SyncOptions::default()
        },
        deadline: SignedDuration::from_secs(30),
    }
}

#[test]
fn a_dry_run_that_is_kept_is_asked_as_it_was() {
    let read = dry_run_from_bytes(&dry_run_to_bytes(dry_run())).expect("it is read");

    assert_eq!(read, dry_run());
    let large = DryRun { objects: vec![vec![0; ASKED_BYTES_MAX + 1]], ..dry_run() };
    assert!(dry_run_from_bytes(&dry_run_to_bytes(large)).is_err(), "no agent is asked so much at once");
}

fn from_hub() -> Vec<HubMessage> {
    let unchanged = vec![TargetId::new(Uuid::from_u128(3))];
    let piece = Piece { digest: Digest::of(b"object"), bytes_total: 6, offset: 0, bytes: b"object".to_vec() };
    vec![
        HubMessage::Welcome(Welcome {
            session: SessionNumber::new(1),
            want: Want::All,
            heartbeat: HeartbeatPolicy::default(),
            profile: ProfileWanted::WhenChanged,
        }),
        HubMessage::Objects(vec![piece]),
        HubMessage::Desired(Desired { complete: true, assignments: vec![assignment()], unchanged }),
        HubMessage::Compare(Digest::of(b"root")),
        HubMessage::Ack(ReportSequence::new(9)),
        HubMessage::DryRun(dry_run()),
    ]
}

#[test]
fn what_an_agent_says_is_what_the_hub_hears() {
    for message in from_agent() {
        let bytes = v1::FromAgent::from(message.clone()).encode_to_vec();
        let heard = v1::FromAgent::decode(bytes.as_slice()).expect("decodes");
        assert_eq!(agent_message(heard).expect("is accepted"), message);
    }
}

#[test]
fn what_the_hub_says_is_what_an_agent_hears() {
    for message in from_hub() {
        let bytes = v1::FromHub::from(message.clone()).encode_to_vec();
        let heard = v1::FromHub::decode(bytes.as_slice()).expect("decodes");
        assert_eq!(hub_message(heard).expect("is accepted"), message);
    }
}

#[test]
fn a_field_of_a_later_version_is_passed_over() {
    let mut bytes = v1::FromAgent::from(AgentMessage::Heartbeat).encode_to_vec();
    // Field 1000, a number.
    bytes.extend([0xc0, 0x3e, 0x07]);

    let heard = v1::FromAgent::decode(bytes.as_slice()).expect("decodes");

    assert_eq!(agent_message(heard).expect("is accepted"), AgentMessage::Heartbeat);
}

#[test]
fn a_suspension_that_its_agent_did_not_cut_and_clean_is_cut_and_cleaned() {
    let mut message = v1::FromAgent::from(from_agent()[1].clone());
    if let Some(v1::from_agent::Message::Report(report)) = &mut message.message {
        let text = format!("\u{1b}[31mred\u{202e}{}", "x".repeat(100_000));
        report.suspended = Some(v1::Suspended { since_us: 0, until_us: None, reason: text.clone(), by: text });
    }

    let AgentMessage::Report(_, report) = agent_message(message).expect("is accepted") else { panic!("is a report") };

    let suspended = report.suspended.expect("it says so");
    for text in [suspended.reason, suspended.by] {
        assert!(text.len() <= 256 && text.starts_with(" [31mred x"), "{text}");
    }
}

#[test]
fn nothing_unspecified_is_accepted() {
    let wire = |message: &AgentMessage| v1::FromAgent::from(message.clone());
    let report = wire(&from_agent()[1]);
    let spoil = |change: fn(&mut v1::Report)| {
        let mut message = report.clone();
        if let Some(v1::from_agent::Message::Report(report)) = &mut message.message {
            change(report);
        }
        agent_message(message)
    };

    assert!(spoil(|_| {}).is_ok());
    assert!(spoil(|report| report.verdict = 0).is_err());
    assert!(spoil(|report| report.verdict = 99).is_err());
    assert!(spoil(|report| report.sequence = 0).is_err());
    assert!(spoil(|report| report.target.clear()).is_err());
    assert!(spoil(|report| report.digest.push(0)).is_err());
    assert!(spoil(|report| report.lines[0].outcome = 0).is_err());
    assert!(spoil(|report| report.lines[0].key = None).is_err());
    assert!(spoil(|report| report.lines = vec![report.lines[0].clone(); 51]).is_err());
    assert!(agent_message(v1::FromAgent { message: None }).is_err());
    let inventory = v1::Inventory { listed: vec![v1::Listed { action: 0, ..assignment().listed().into() }] };
    assert!(agent_message(v1::FromAgent { message: Some(v1::from_agent::Message::Inventory(inventory)) }).is_err());
}

#[test]
fn a_drift_from_another_age_is_refused() {
    let mut message = v1::FromAgent::from(from_agent()[2].clone());
    if let Some(v1::from_agent::Message::Drift(drift)) = &mut message.message {
        // The year -9000: a timestamp to us, and none to Postgres.
        drift.found_at_us = -346_000_000_000_000_000;
    }

    assert!(agent_message(message).is_err());
}

#[test]
fn a_manifest_that_is_not_the_one_named_is_refused() {
    let mut message = v1::FromHub::from(from_hub()[2].clone());
    if let Some(v1::from_hub::Message::Desired(desired)) = &mut message.message {
        desired.assignments[0].manifest.push(b'\n');
    }

    assert!(hub_message(message).is_err());
}

/// The greatest drift that an agent can tell.
fn greatest_drift() -> v1::FromAgent {
    let mut message = v1::FromAgent::from(from_agent()[2].clone());
    if let Some(v1::from_agent::Message::Drift(drift)) = &mut message.message {
        let long = "x".repeat(10_000);
        drift.manager.clone_from(&long);
        drift.operation.clone_from(&long);
        let value = v1::ChangedValue {
            path: long.clone(),
            found: Some(long.clone()),
            wanted: Some(long.clone()),
            is_cut: false,
        };
        drift.values = vec![value; 17];
        drift.fields = vec![long; 20];
        if let Some(key) = &mut drift.object {
            for part in [&mut key.api_version, &mut key.kind, &mut key.namespace, &mut key.name] {
                *part = "x".repeat(253);
            }
        }
    }
    message
}

#[test]
fn what_is_kept_of_one_drift_has_a_bound() {
    let Ok(AgentMessage::Drift(_, drift)) = agent_message(greatest_drift()) else { panic!("it is cut, not refused") };

    let texts = drift.fields.iter().chain([&drift.manager, &drift.operation].into_iter().flatten());
    let bytes: usize = texts.map(String::len).sum();
    assert!(bytes <= 2 * 1024, "{bytes} bytes");
    assert!(!drift.fields.is_empty(), "which field it was is cut first");
    let values = drift.values.values.iter().flat_map(|one| [Some(&one.path), one.found.as_ref(), one.wanted.as_ref()]);
    let bytes: usize = values.flatten().map(String::len).sum();
    assert!(bytes <= VALUES_BYTES_MAX && (1..=VALUES_MAX).contains(&drift.values.values.len()), "{bytes} bytes");
    assert!(drift.values.are_more && drift.values.values.iter().all(|one| one.is_cut));
}
