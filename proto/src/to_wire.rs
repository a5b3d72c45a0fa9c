//! Domain → wire. Never fails: what the domain can hold, the wire can say.

use bellwether_core::ObjectKey;
use bellwether_core::ReportSequence;
use bellwether_core::drift::{Change, ChangedValue, Drift, Response};
use bellwether_core::dry_run::{DryRun, DryRuns};
use bellwether_core::report::{ObjectLine, Outcome, Report, Verdict};
use bellwether_core::session::{
    Action, Adopt, AgentMessage, Assignment, Desired, DriftMode, DryRan, Hello, HubMessage, Listed, Packed, Piece,
    Profile, ProfileWanted, Prune, Replace, Want, Welcome,
};
use jiff::{SignedDuration, Timestamp};
use prost::Message as _;

use crate::{compression, v1};

impl From<AgentMessage> for v1::FromAgent {
    fn from(message: AgentMessage) -> Self {
        let message = match message {
            AgentMessage::Hello(hello) => v1::from_agent::Message::Hello(hello.into()),
            AgentMessage::Profile(Profile { facts, apis, definitions }) => {
                let apis = apis.map(|apis| compression::compress(apis.text().as_bytes())).unwrap_or_default();
                let definitions =
                    definitions.map(|all| compression::compress(all.text().as_bytes())).unwrap_or_default();
                v1::from_agent::Message::Profile(v1::Profile { facts: facts.into_iter().collect(), apis, definitions })
            }
            AgentMessage::Definition(Packed { digest, bytes }) => {
                let digest = digest.as_bytes().to_vec();
                v1::from_agent::Message::Definition(v1::Definition { digest, packed: bytes })
            }
            AgentMessage::Report(sequence, report) => v1::from_agent::Message::Report(report_to_wire(sequence, report)),
            AgentMessage::Drift(sequence, drift) => v1::from_agent::Message::Drift(drift_to_wire(sequence, drift)),
            AgentMessage::Inventory(listed) => {
                let listed = listed.into_iter().map(Into::into).collect();
                v1::from_agent::Message::Inventory(v1::Inventory { listed })
            }
            AgentMessage::Need(objects) => {
                let objects = objects.iter().map(|object| object.as_bytes().to_vec()).collect();
                v1::from_agent::Message::Need(v1::Need { objects })
            }
            AgentMessage::DryRan(DryRan { id, answer }) => {
                v1::from_agent::Message::DryRan(v1::DryRan { id: id.as_bytes().to_vec(), answer })
            }
            AgentMessage::Heartbeat => v1::from_agent::Message::Heartbeat(v1::Heartbeat {}),
        };
        Self { message: Some(message) }
    }
}

impl From<HubMessage> for v1::FromHub {
    fn from(message: HubMessage) -> Self {
        let message = match message {
            HubMessage::Welcome(welcome) => v1::from_hub::Message::Welcome(welcome.into()),
            HubMessage::Compare(root) => v1::from_hub::Message::Compare(v1::Compare { root: root.as_bytes().to_vec() }),
            HubMessage::Objects(pieces) => {
                let pieces = pieces.into_iter().map(Into::into).collect();
                v1::from_hub::Message::Objects(v1::Objects { pieces })
            }
            HubMessage::Desired(desired) => v1::from_hub::Message::Desired(desired.into()),
            HubMessage::Wanted(definitions) => {
                let definitions = definitions.iter().map(|digest| digest.as_bytes().to_vec()).collect();
                v1::from_hub::Message::Wanted(v1::Wanted { definitions })
            }
            HubMessage::DryRun(asked) => v1::from_hub::Message::DryRun(asked.into()),
            HubMessage::Ack(sequence) => v1::from_hub::Message::Ack(v1::Ack { sequence: sequence.get() }),
        };
        Self { message: Some(message) }
    }
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            protocol: hello.protocol,
            version: hello.version,
            boot: hello.boot.as_bytes().to_vec(),
            root: hello.root.as_bytes().to_vec(),
            acked: hello
                .acked
                .map(|(session, sequence)| v1::Position { session: session.get(), sequence: sequence.get() }),
            facts: hello.facts.into_iter().collect(),
            apis: hello.apis.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
            definitions: hello.definitions.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
            dry_runs: match hello.dry_runs {
                DryRuns::Unknown => v1::DryRuns::Unspecified,
                DryRuns::Taken => v1::DryRuns::Taken,
                DryRuns::Off => v1::DryRuns::Off,
            }
            .into(),
            acts_as_accounts: hello.acts_as_accounts,
        }
    }
}

impl From<DryRun> for v1::DryRun {
    fn from(asked: DryRun) -> Self {
        Self {
            id: asked.id.as_bytes().to_vec(),
            target: asked.target.as_uuid().as_bytes().to_vec(),
            digest: asked.manifest.digest().as_bytes().to_vec(),
            manifest: asked.manifest.encode(),
            objects: asked.objects,
            namespace: asked.namespace.map(|namespace| namespace.to_string()).unwrap_or_default(),
            create_namespace: asked.options.create_namespace,
            adopt: adopt_to_wire(asked.options.adopt).into(),
            replace: replace_to_wire(asked.options.replace).into(),
            deadline_ms: u32::try_from(asked.deadline.as_millis()).unwrap_or_default(),
            service_account: asked.options.service_account.map(|name| name.to_string()).unwrap_or_default(),
            project: asked.project.map(|name| name.to_string()).unwrap_or_default(),
        }
    }
}

/// A dry run as bytes, for whoever keeps it until its agent is asked; [`dry_run_from_bytes`](crate::dry_run_from_bytes) reads it.
pub fn dry_run_to_bytes(asked: DryRun) -> Vec<u8> {
    v1::DryRun::from(asked).encode_to_vec()
}

impl From<Welcome> for v1::Welcome {
    fn from(welcome: Welcome) -> Self {
        let want = match welcome.want {
            Want::Unacked => v1::Want::Unacked,
            Want::All => v1::Want::All,
        };
        let millis = |duration: SignedDuration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Self {
            session: welcome.session.get(),
            want: want.into(),
            heartbeat_ms: millis(welcome.heartbeat.interval),
            deadline_ms: millis(welcome.heartbeat.deadline),
            takes_profile: welcome.profile != ProfileWanted::Never,
            wants_profile: welcome.profile == ProfileWanted::Now,
        }
    }
}

impl From<Piece> for v1::Piece {
    fn from(piece: Piece) -> Self {
        Self {
            digest: piece.digest.as_bytes().to_vec(),
            bytes_total: piece.bytes_total,
            offset: piece.offset,
            bytes: piece.bytes,
        }
    }
}

impl From<Desired> for v1::Desired {
    fn from(desired: Desired) -> Self {
        Self {
            complete: desired.complete,
            assignments: desired.assignments.into_iter().map(Into::into).collect(),
            unchanged: desired.unchanged.into_iter().map(|target| target.as_uuid().as_bytes().to_vec()).collect(),
        }
    }
}

impl From<Assignment> for v1::Assignment {
    fn from(assignment: Assignment) -> Self {
        let prune = match assignment.options.prune {
            Prune::AfterHealthy => v1::Prune::AfterHealthy,
            Prune::AfterApply => v1::Prune::AfterApply,
            Prune::Never => v1::Prune::Never,
        };
        let drift = match assignment.options.drift {
            DriftMode::Correct => v1::DriftMode::Correct,
            DriftMode::Warn => v1::DriftMode::Warn,
            DriftMode::Ignore => v1::DriftMode::Ignore,
        };
        let adopt = adopt_to_wire(assignment.options.adopt);
        let replace = replace_to_wire(assignment.options.replace);
        Self {
            target: assignment.target.as_uuid().as_bytes().to_vec(),
            name: assignment.name.to_string(),
            generation: assignment.generation.get(),
            action: action_to_wire(assignment.action).into(),
            digest: assignment.manifest.digest().as_bytes().to_vec(),
            manifest: assignment.manifest.encode(),
            prunable: assignment.prunable.into_iter().map(Into::into).collect(),
            prune: prune.into(),
            drift: drift.into(),
            adopt: adopt.into(),
            namespace: assignment.namespace.map(|namespace| namespace.to_string()).unwrap_or_default(),
            create_namespace: assignment.options.create_namespace,
            service_account: assignment.options.service_account.map(|name| name.to_string()).unwrap_or_default(),
            project: assignment.project.map(|project| project.to_string()).unwrap_or_default(),
            replace: replace.into(),
            retried: assignment.retried.get(),
            trace: assignment.trace.map(|trace| trace.as_uuid().as_bytes().to_vec()).unwrap_or_default(),
        }
    }
}

impl From<Listed> for v1::Listed {
    fn from(listed: Listed) -> Self {
        Self {
            target: listed.target.as_uuid().as_bytes().to_vec(),
            generation: listed.generation.get(),
            action: action_to_wire(listed.action).into(),
            digest: listed.digest.as_bytes().to_vec(),
        }
    }
}

fn adopt_to_wire(adopt: Adopt) -> v1::Adopt {
    match adopt {
        Adopt::Never => v1::Adopt::Unspecified,
        Adopt::IfUnowned => v1::Adopt::IfUnowned,
        Adopt::Always => v1::Adopt::Always,
    }
}

fn replace_to_wire(replace: Replace) -> v1::Replace {
    match replace {
        Replace::Never => v1::Replace::Unspecified,
        Replace::Immutable => v1::Replace::Immutable,
    }
}

fn action_to_wire(action: Action) -> v1::Action {
    match action {
        Action::Apply => v1::Action::Apply,
        Action::Delete => v1::Action::Delete,
        Action::Orphan => v1::Action::Orphan,
    }
}

impl From<ObjectKey> for v1::ObjectKey {
    fn from(key: ObjectKey) -> Self {
        Self {
            api_version: key.api_version,
            kind: key.kind,
            namespace: key.namespace.unwrap_or_default(),
            name: key.name,
        }
    }
}

fn report_to_wire(sequence: ReportSequence, report: Report) -> v1::Report {
    v1::Report {
        sequence: sequence.get(),
        target: report.target.as_uuid().as_bytes().to_vec(),
        generation: report.generation.get(),
        digest: report.digest.as_bytes().to_vec(),
        applied: report.applied,
        verdict: verdict_to_wire(report.verdict).into(),
        total: report.objects.total,
        in_place: report.objects.in_place,
        healthy: report.objects.healthy,
        lines: report.lines.into_iter().map(Into::into).collect(),
        suspended: report.suspended.map(|suspended| v1::Suspended {
            since_us: suspended.since.as_microsecond(),
            until_us: suspended.until.map(Timestamp::as_microsecond),
            reason: suspended.reason,
            by: suspended.by,
        }),
    }
}

fn drift_to_wire(sequence: ReportSequence, drift: Drift) -> v1::Drift {
    let change = match drift.change {
        Change::Modified => v1::Change::Modified,
        Change::Deleted => v1::Change::Deleted,
        Change::Replaced => v1::Change::Replaced,
        Change::Unlabelled => v1::Change::Unlabelled,
    };
    let response = match drift.response {
        Response::Corrected => v1::Response::Corrected,
        Response::Warned => v1::Response::Warned,
        Response::Failed => v1::Response::Failed,
    };
    v1::Drift {
        sequence: sequence.get(),
        id: drift.id.as_bytes().to_vec(),
        target: drift.target.as_uuid().as_bytes().to_vec(),
        object: Some(drift.object.into()),
        found_at_us: drift.found_at.as_microsecond(),
        change: change.into(),
        response: response.into(),
        manager: drift.manager.unwrap_or_default(),
        operation: drift.operation.unwrap_or_default(),
        fields: drift.fields,
        values: drift.values.values.into_iter().map(Into::into).collect(),
        are_more_values: drift.values.are_more,
    }
}

impl From<ChangedValue> for v1::ChangedValue {
    fn from(ChangedValue { path, found, wanted, is_cut }: ChangedValue) -> Self {
        Self { path, found, wanted, is_cut }
    }
}

impl From<ObjectLine> for v1::ObjectLine {
    fn from(line: ObjectLine) -> Self {
        let outcome = match line.outcome {
            Outcome::Waiting => v1::Outcome::Waiting,
            Outcome::Applied => v1::Outcome::Applied,
            Outcome::Unchanged => v1::Outcome::Unchanged,
            Outcome::Exists => v1::Outcome::Exists,
            Outcome::Conflict => v1::Outcome::Conflict,
            Outcome::Rejected => v1::Outcome::Rejected,
            Outcome::Retrying => v1::Outcome::Retrying,
            Outcome::Drifted => v1::Outcome::Drifted,
            Outcome::Pruning => v1::Outcome::Pruning,
        };
        Self {
            key: Some(line.key.into()),
            outcome: outcome.into(),
            verdict: verdict_to_wire(line.verdict).into(),
            message: line.message,
            hint: line.hint,
            may_pass: line.may_pass,
        }
    }
}

fn verdict_to_wire(verdict: Verdict) -> v1::Verdict {
    match verdict {
        Verdict::Healthy => v1::Verdict::Healthy,
        Verdict::Progressing => v1::Verdict::Progressing,
        Verdict::Unknown => v1::Verdict::Unknown,
        Verdict::Degraded => v1::Verdict::Degraded,
        Verdict::Failed => v1::Verdict::Failed,
    }
}

/// The answer to `Enroll` and `Renew`.
pub fn to_wire_certificate(chain: Vec<Vec<u8>>, roots: Vec<Vec<u8>>) -> v1::Certificate {
    v1::Certificate { chain, roots }
}
