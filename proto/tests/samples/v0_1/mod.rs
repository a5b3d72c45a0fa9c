//! What the samples of 0.1 say. Never edited: a later version has a file of its own beside this one.
//!
//! Where a type gets a field, the new field is given here the value that a message without it is read as.

use std::collections::BTreeMap;

use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::drift::{Change, Drift, Response};
use bellwether_core::dry_run::DryRuns;
use bellwether_core::report::{Counts, ObjectLine, Outcome, Report, Verdict};
use bellwether_core::session::{
    Action, AgentMessage, Assignment, Desired, HeartbeatPolicy, Hello, HubMessage, Piece, ProfileWanted, SyncOptions,
    Want, Welcome,
};
use bellwether_core::{Digest, Generation, ObjectKey, ReportSequence, SessionNumber, TargetId, TraceId};
use jiff::Timestamp;
use uuid::Uuid;

fn key() -> ObjectKey {
    ObjectKey {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: Some("shop".to_owned()),
        name: "web".to_owned(),
    }
}

pub(crate) fn from_agent() -> Vec<AgentMessage> {
    let hello = Hello {
        protocol: 1,
        version: "0.1.0".to_owned(),
        boot: Uuid::from_u128(1),
        root: Digest::of(b"root"),
        acked: Some((SessionNumber::new(3), ReportSequence::new(4))),
        facts: BTreeMap::from([("kubernetes.version".to_owned(), "v1.37.2".to_owned())]),
        apis: None,
        definitions: None,
        dry_runs: DryRuns::Unknown,
        acts_as_accounts: false,
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
        values: bellwether_core::drift::ChangedValues::default(),
    };
    vec![
        AgentMessage::Hello(hello),
        AgentMessage::Report(ReportSequence::new(1), report),
        AgentMessage::Drift(ReportSequence::new(2), drift),
        AgentMessage::Heartbeat,
        AgentMessage::Inventory(vec![assignment().listed()]),
        AgentMessage::Need(vec![Digest::of(b"object")]),
    ]
}

pub(crate) fn assignment() -> Assignment {
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
        retried: Generation::default(),
        trace: Some(TraceId::new(Uuid::from_u128(6))),
    }
}

pub(crate) fn from_hub() -> Vec<HubMessage> {
    let unchanged = vec![TargetId::new(Uuid::from_u128(3))];
    let piece = Piece { digest: Digest::of(b"object"), bytes_total: 6, offset: 0, bytes: b"object".to_vec() };
    vec![
        HubMessage::Welcome(Welcome {
            session: SessionNumber::new(1),
            want: Want::All,
            heartbeat: HeartbeatPolicy::default(),
            profile: ProfileWanted::Never,
        }),
        HubMessage::Objects(vec![piece]),
        HubMessage::Desired(Desired { complete: true, assignments: vec![assignment()], unchanged }),
        HubMessage::Compare(Digest::of(b"root")),
        HubMessage::Ack(ReportSequence::new(9)),
    ]
}
