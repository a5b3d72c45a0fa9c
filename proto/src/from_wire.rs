//! Wire → domain. Everything that the other end could have got wrong is refused here, by name.

use std::collections::{BTreeMap, HashMap};

use bellwether_core::apis::{APIS_BYTES_MAX, Apis};
use bellwether_core::assignment::SUSPENSION_BYTES_MAX;
use bellwether_core::bundle::{Manifest, ManifestError};
use bellwether_core::definitions::{DEFINITION_PACKED_BYTES_MAX, DEFINITIONS_BYTES_MAX, DEFINITIONS_MAX, Definitions};
use bellwether_core::drift::{
    Change, ChangedValue, ChangedValues, Drift, FIELDS_MAX, MANAGER_BYTES_MAX, Response, TEXT_BYTES_MAX,
    VALUE_BYTES_MAX, VALUES_BYTES_MAX, VALUES_MAX,
};
use bellwether_core::dry_run::{self, DryRun, DryRuns};
use bellwether_core::quoting::without_values;
use bellwether_core::report::{
    Counts, LINES_MAX, MESSAGE_BYTES_MAX, ObjectLine, Outcome, Report, Suspended, Verdict, bounded_message,
    bounded_text,
};
use bellwether_core::session::{
    Action, Adopt, AgentMessage, Assignment, Desired, DriftMode, DryRan, HeartbeatPolicy, Hello, HubMessage, Listed,
    Packed, Piece, Profile, ProfileWanted, Prune, Replace, SyncOptions, Want, Welcome,
};
use bellwether_core::{Digest, Generation, Name, ObjectKey, ReportSequence, SessionNumber, TargetId, TraceId};
use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use uuid::Uuid;

use crate::{compression, v1};

/// Facts that an agent may report, and the bytes of each.
const FACTS_MAX: usize = 64;
const FACT_BYTES_MAX: usize = 256;
/// Of a name that an agent's report carries: what Kubernetes allows at most.
const KEY_BYTES_MAX: usize = 253;

/// A message that is not what the protocol says: the stream that it came on is to be ended.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("a message without content")]
    Empty,
    #[error("`{field}` is missing or unspecified")]
    Unspecified { field: &'static str },
    #[error("`{field}` has the wrong form or size")]
    Malformed { field: &'static str },
    #[error("a manifest that does not hold")]
    Manifest(#[from] ManifestError),
}

/// What an agent said. Texts of reports and drifts are cut to their bounds and cleaned of what a terminal obeys;
/// anything else that is too large, missing or unknown refuses the message.
pub fn agent_message(message: v1::FromAgent) -> Result<AgentMessage, WireError> {
    match message.message.ok_or(WireError::Empty)? {
        v1::from_agent::Message::Hello(message) => hello(message).map(AgentMessage::Hello),
        v1::from_agent::Message::Profile(message) => profile(message).map(AgentMessage::Profile),
        v1::from_agent::Message::Report(message) => {
            report(message).map(|(sequence, report)| AgentMessage::Report(sequence, report))
        }
        v1::from_agent::Message::Drift(message) => {
            drift(message).map(|(sequence, drift)| AgentMessage::Drift(sequence, drift))
        }
        v1::from_agent::Message::Inventory(message) => {
            message.listed.iter().map(listed).collect::<Result<_, _>>().map(AgentMessage::Inventory)
        }
        v1::from_agent::Message::Need(message) => {
            let objects = message.objects.iter().map(|bytes| digest(bytes, "need.objects"));
            objects.collect::<Result<_, _>>().map(AgentMessage::Need)
        }
        v1::from_agent::Message::Definition(message) => packed(message).map(AgentMessage::Definition),
        v1::from_agent::Message::DryRan(message) => dry_ran(message).map(AgentMessage::DryRan),
        v1::from_agent::Message::Heartbeat(v1::Heartbeat {}) => Ok(AgentMessage::Heartbeat),
    }
}

/// What the hub said. Each manifest is read and has the digest that its assignment names; anything that is missing or
/// unknown refuses the message.
pub fn hub_message(message: v1::FromHub) -> Result<HubMessage, WireError> {
    match message.message.ok_or(WireError::Empty)? {
        v1::from_hub::Message::Welcome(message) => welcome(message).map(HubMessage::Welcome),
        v1::from_hub::Message::Objects(message) => {
            message.pieces.into_iter().map(piece).collect::<Result<_, _>>().map(HubMessage::Objects)
        }
        v1::from_hub::Message::Desired(message) => {
            let assignments = message.assignments.into_iter().map(assignment).collect::<Result<_, _>>()?;
            let unchanged = message.unchanged.iter().map(|bytes| id(bytes, "desired.unchanged").map(TargetId::new));
            let unchanged = unchanged.collect::<Result<_, _>>()?;
            Ok(HubMessage::Desired(Desired { complete: message.complete, assignments, unchanged }))
        }
        v1::from_hub::Message::Compare(message) => digest(&message.root, "compare.root").map(HubMessage::Compare),
        v1::from_hub::Message::Wanted(message) => {
            if message.definitions.len() > DEFINITIONS_MAX {
                return Err(WireError::Malformed { field: "wanted.definitions" });
            }
            let definitions = message.definitions.iter().map(|bytes| digest(bytes, "wanted.definitions"));
            definitions.collect::<Result<_, _>>().map(HubMessage::Wanted)
        }
        v1::from_hub::Message::DryRun(message) => dry_run(message).map(HubMessage::DryRun),
        v1::from_hub::Message::Ack(message) => Ok(HubMessage::Ack(ReportSequence::new(message.sequence))),
    }
}

fn hello(message: v1::Hello) -> Result<Hello, WireError> {
    let facts = facts(message.facts)?;
    if !is_short(&message.version) {
        return Err(WireError::Malformed { field: "version" });
    }
    Ok(Hello {
        protocol: message.protocol,
        version: message.version,
        boot: id(&message.boot, "boot")?,
        root: digest(&message.root, "root")?,
        acked: message
            .acked
            .map(|position| (SessionNumber::new(position.session), ReportSequence::new(position.sequence))),
        facts,
        apis: (!message.apis.is_empty()).then(|| digest(&message.apis, "apis")).transpose()?,
        definitions: (!message.definitions.is_empty())
            .then(|| digest(&message.definitions, "definitions"))
            .transpose()?,
        dry_runs: match v1::DryRuns::try_from(message.dry_runs) {
            Ok(v1::DryRuns::Taken) => DryRuns::Taken,
            Ok(v1::DryRuns::Off) => DryRuns::Off,
            // What a later version may say besides, nobody here knows.
            Ok(v1::DryRuns::Unspecified) | Err(_) => DryRuns::Unknown,
        },
        acts_as_accounts: message.acts_as_accounts,
    })
}

/// What [`dry_run_to_bytes`](crate::dry_run_to_bytes) wrote.
pub fn dry_run_from_bytes(bytes: &[u8]) -> Result<DryRun, WireError> {
    let message = v1::DryRun::decode(bytes).map_err(|_| WireError::Malformed { field: "dry_run" })?;
    dry_run(message)
}

fn dry_run(message: v1::DryRun) -> Result<DryRun, WireError> {
    let bytes: usize = message.objects.iter().map(Vec::len).sum();
    if message.objects.len() > dry_run::OBJECTS_MAX || bytes > dry_run::ASKED_BYTES_MAX {
        return Err(WireError::Malformed { field: "dry_run.objects" });
    }
    let namespace = named(&message.namespace, "dry_run.namespace")?;
    let project = named(&message.project, "dry_run.project")?;
    let service_account = named(&message.service_account, "dry_run.service_account")?;
    let (adopt, replace) = (adopt(message.adopt)?, replace(message.replace)?);
    Ok(DryRun {
        id: id(&message.id, "dry_run.id")?,
        target: TargetId::new(id(&message.target, "dry_run.target")?),
        manifest: Manifest::decode(&message.manifest, digest(&message.digest, "dry_run.digest")?)?,
        objects: message.objects,
        namespace,
        project,
        options: SyncOptions {
            adopt,
            replace,
            create_namespace: message.create_namespace,
            service_account,
            ..SyncOptions::default()
        },
        deadline: SignedDuration::from_millis(message.deadline_ms.into()),
    })
}

fn dry_ran(message: v1::DryRan) -> Result<DryRan, WireError> {
    if message.answer.len() > dry_run::ANSWER_PACKED_BYTES_MAX {
        return Err(WireError::Malformed { field: "dry_ran.answer" });
    }
    Ok(DryRan { id: id(&message.id, "dry_ran.id")?, answer: message.answer })
}

/// `None`: it is empty.
fn named(text: &str, field: &'static str) -> Result<Option<Name>, WireError> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| WireError::Malformed { field }) }
}

fn is_short(text: &str) -> bool {
    text.len() <= FACT_BYTES_MAX && !text.chars().any(char::is_control)
}

fn facts(facts: HashMap<String, String>) -> Result<BTreeMap<String, String>, WireError> {
    let facts: BTreeMap<_, _> = facts.into_iter().collect();
    if facts.len() > FACTS_MAX || !facts.iter().all(|(key, value)| is_short(key) && is_short(value)) {
        return Err(WireError::Malformed { field: "facts" });
    }
    Ok(facts)
}

fn profile(message: v1::Profile) -> Result<Profile, WireError> {
    let malformed = |field| move || WireError::Malformed { field };
    let text_of = |packed: &[u8], bytes_max: usize| {
        compression::decompress(packed, bytes_max).and_then(|text| String::from_utf8(text).ok())
    };
    let (apis, definitions) = (malformed("profile.apis"), malformed("profile.definitions"));
    let apis = match &message.apis[..] {
        [] => None,
        packed => Some(text_of(packed, APIS_BYTES_MAX).and_then(|text| Apis::parse(&text).ok()).ok_or_else(apis)?),
    };
    let definitions = match &message.definitions[..] {
        [] => None,
        packed => {
            let text = text_of(packed, DEFINITIONS_BYTES_MAX);
            Some(text.and_then(|text| Definitions::parse(&text).ok()).ok_or_else(definitions)?)
        }
    };
    Ok(Profile { facts: facts(message.facts)?, apis, definitions })
}

fn packed(message: v1::Definition) -> Result<Packed, WireError> {
    if message.packed.len() > DEFINITION_PACKED_BYTES_MAX {
        return Err(WireError::Malformed { field: "definition.packed" });
    }
    Ok(Packed { digest: digest(&message.digest, "definition.digest")?, bytes: message.packed })
}

fn welcome(message: v1::Welcome) -> Result<Welcome, WireError> {
    let want = match v1::Want::try_from(message.want) {
        Ok(v1::Want::Unacked) => Want::Unacked,
        Ok(v1::Want::All) => Want::All,
        _ => return Err(WireError::Unspecified { field: "want" }),
    };
    if message.heartbeat_ms == 0 || message.deadline_ms <= message.heartbeat_ms {
        return Err(WireError::Malformed { field: "heartbeat_ms" });
    }
    let heartbeat = HeartbeatPolicy {
        interval: SignedDuration::from_millis(message.heartbeat_ms.into()),
        deadline: SignedDuration::from_millis(message.deadline_ms.into()),
    };
    let profile = match (message.takes_profile, message.wants_profile) {
        (_, true) => ProfileWanted::Now,
        (true, false) => ProfileWanted::WhenChanged,
        (false, false) => ProfileWanted::Never,
    };
    Ok(Welcome { session: SessionNumber::new(message.session), want, heartbeat, profile })
}

fn piece(message: v1::Piece) -> Result<Piece, WireError> {
    Ok(Piece {
        digest: digest(&message.digest, "piece.digest")?,
        bytes_total: message.bytes_total,
        offset: message.offset,
        bytes: message.bytes,
    })
}

fn listed(message: &v1::Listed) -> Result<Listed, WireError> {
    Ok(Listed {
        target: TargetId::new(id(&message.target, "listed.target")?),
        generation: Generation::new(message.generation),
        action: action(message.action)?,
        digest: digest(&message.digest, "listed.digest")?,
    })
}

fn action(number: i32) -> Result<Action, WireError> {
    match v1::Action::try_from(number) {
        Ok(v1::Action::Apply) => Ok(Action::Apply),
        Ok(v1::Action::Delete) => Ok(Action::Delete),
        Ok(v1::Action::Orphan) => Ok(Action::Orphan),
        _ => Err(WireError::Unspecified { field: "action" }),
    }
}

fn assignment(message: v1::Assignment) -> Result<Assignment, WireError> {
    let prune = match v1::Prune::try_from(message.prune) {
        Ok(v1::Prune::AfterHealthy) => Prune::AfterHealthy,
        Ok(v1::Prune::AfterApply) => Prune::AfterApply,
        Ok(v1::Prune::Never) => Prune::Never,
        _ => return Err(WireError::Unspecified { field: "prune" }),
    };
    let drift = match v1::DriftMode::try_from(message.drift) {
        Ok(v1::DriftMode::Correct) => DriftMode::Correct,
        Ok(v1::DriftMode::Warn) => DriftMode::Warn,
        Ok(v1::DriftMode::Ignore) => DriftMode::Ignore,
        _ => return Err(WireError::Unspecified { field: "drift" }),
    };
    let (adopt, replace) = (adopt(message.adopt)?, replace(message.replace)?);
    let namespace = named(&message.namespace, "assignment.namespace")?;
    let project = named(&message.project, "assignment.project")?;
    // Whoever took one that cannot be read for none would act with more rights than were meant.
    let service_account = named(&message.service_account, "assignment.service_account")?;
    let name: Name = message.name.parse().map_err(|_| WireError::Malformed { field: "assignment.name" })?;
    let trace = match message.trace.as_slice() {
        [] => None,
        bytes => Some(TraceId::new(id(bytes, "assignment.trace")?)),
    };
    Ok(Assignment {
        target: TargetId::new(id(&message.target, "assignment.target")?),
        name,
        generation: Generation::new(message.generation),
        action: action(message.action)?,
        manifest: Manifest::decode(&message.manifest, digest(&message.digest, "assignment.digest")?)?,
        prunable: message.prunable.into_iter().map(object_key).collect::<Result<_, _>>()?,
        namespace,
        project,
        options: SyncOptions {
            prune,
            drift,
            adopt,
            replace,
            create_namespace: message.create_namespace,
            service_account,
        },
        retried: Generation::new(message.retried),
        trace,
    })
}

fn adopt(number: i32) -> Result<Adopt, WireError> {
    match v1::Adopt::try_from(number) {
        Ok(v1::Adopt::Unspecified) => Ok(Adopt::Never),
        Ok(v1::Adopt::IfUnowned) => Ok(Adopt::IfUnowned),
        Ok(v1::Adopt::Always) => Ok(Adopt::Always),
        Err(_) => Err(WireError::Unspecified { field: "adopt" }),
    }
}

fn replace(number: i32) -> Result<Replace, WireError> {
    match v1::Replace::try_from(number) {
        Ok(v1::Replace::Unspecified) => Ok(Replace::Never),
        Ok(v1::Replace::Immutable) => Ok(Replace::Immutable),
        Err(_) => Err(WireError::Unspecified { field: "replace" }),
    }
}

fn object_key(message: v1::ObjectKey) -> Result<ObjectKey, WireError> {
    let plain = |text: &String| text.len() <= KEY_BYTES_MAX && !text.chars().any(char::is_control);
    let fields = [&message.api_version, &message.kind, &message.namespace, &message.name];
    if !fields.into_iter().all(plain) {
        return Err(WireError::Malformed { field: "object" });
    }
    Ok(ObjectKey {
        api_version: message.api_version,
        kind: message.kind,
        namespace: Some(message.namespace).filter(|namespace| !namespace.is_empty()),
        name: message.name,
    })
}

fn report(message: v1::Report) -> Result<(ReportSequence, Report), WireError> {
    if message.lines.len() > LINES_MAX {
        return Err(WireError::Malformed { field: "lines" });
    }
    if message.sequence < 1 {
        return Err(WireError::Malformed { field: "sequence" });
    }
    let report = Report {
        target: TargetId::new(id(&message.target, "report.target")?),
        generation: Generation::new(message.generation),
        digest: digest(&message.digest, "report.digest")?,
        applied: message.applied,
        verdict: verdict(message.verdict)?,
        objects: Counts { total: message.total, in_place: message.in_place, healthy: message.healthy },
        lines: message.lines.into_iter().map(object_line).collect::<Result<_, _>>()?,
        suspended: message.suspended.as_ref().map(suspended).transpose()?,
    };
    Ok((ReportSequence::new(message.sequence), report))
}

/// An agent has cut and cleaned it; who says that he is one may not have.
fn suspended(message: &v1::Suspended) -> Result<Suspended, WireError> {
    let time =
        |field, microseconds| Timestamp::from_microsecond(microseconds).map_err(|_| WireError::Malformed { field });
    Ok(Suspended {
        since: time("suspended.since_us", message.since_us)?,
        until: message.until_us.map(|at| time("suspended.until_us", at)).transpose()?,
        reason: bounded_text(&message.reason, SUSPENSION_BYTES_MAX),
        by: bounded_text(&message.by, SUSPENSION_BYTES_MAX),
    })
}

fn drift(message: v1::Drift) -> Result<(ReportSequence, Drift), WireError> {
    let change = match v1::Change::try_from(message.change) {
        Ok(v1::Change::Modified) => Change::Modified,
        Ok(v1::Change::Deleted) => Change::Deleted,
        Ok(v1::Change::Replaced) => Change::Replaced,
        Ok(v1::Change::Unlabelled) => Change::Unlabelled,
        _ => return Err(WireError::Unspecified { field: "change" }),
    };
    let response = match v1::Response::try_from(message.response) {
        Ok(v1::Response::Corrected) => Response::Corrected,
        Ok(v1::Response::Warned) => Response::Warned,
        Ok(v1::Response::Failed) => Response::Failed,
        _ => return Err(WireError::Unspecified { field: "response" }),
    };
    if message.sequence < 1 || message.fields.len() > FIELDS_MAX {
        return Err(WireError::Malformed { field: "drift" });
    }
    let said = |text: &str| Some(bounded_text(text, MANAGER_BYTES_MAX)).filter(|text| !text.is_empty());
    let (manager, operation) = (said(&message.manager), said(&message.operation));
    let mut bytes_left = TEXT_BYTES_MAX - 2 * MANAGER_BYTES_MAX;
    let mut fields = Vec::new();
    for field in &message.fields {
        let field = bounded_text(field, bytes_left.min(MESSAGE_BYTES_MAX));
        bytes_left -= field.len();
        fields.extend(Some(field).filter(|field| !field.is_empty()));
    }
    let drift = Drift {
        id: id(&message.id, "drift.id")?,
        target: TargetId::new(id(&message.target, "drift.target")?),
        object: object_key(message.object.ok_or(WireError::Unspecified { field: "object" })?)?,
        found_at: found_at(message.found_at_us)?,
        change,
        response,
        manager,
        operation,
        fields,
        values: changed_values(message.values, message.are_more_values),
    };
    Ok((ReportSequence::new(message.sequence), drift))
}

/// As many as have room together. One that cannot be told whole says so, and so do all when one is left out.
fn changed_values(values: Vec<v1::ChangedValue>, are_more: bool) -> ChangedValues {
    let told = values.len();
    let mut bytes_left = VALUES_BYTES_MAX;
    let mut kept = Vec::new();
    for v1::ChangedValue { path, found, wanted, mut is_cut } in values.into_iter().take(VALUES_MAX) {
        let mut bounded = |text: String| {
            let kept = bounded_text(&text, VALUE_BYTES_MAX);
            is_cut |= kept != text;
            kept
        };
        let (found, wanted) = (found.map(&mut bounded), wanted.map(&mut bounded));
        let path = bounded_text(&path, MESSAGE_BYTES_MAX);
        let bytes = path.len() + [&found, &wanted].into_iter().flatten().map(String::len).sum::<usize>();
        let Some(left) = bytes_left.checked_sub(bytes).filter(|_| !path.is_empty()) else { continue };
        bytes_left = left;
        kept.push(ChangedValue { path, found, wanted, is_cut });
    }
    ChangedValues { are_more: are_more || kept.len() < told, values: kept }
}

/// Within what a database can hold: one that it refused would be refused again and again, with all that is written with it.
fn found_at(microseconds: i64) -> Result<Timestamp, WireError> {
    const YEARS: std::ops::Range<i64> = 946_684_800_000_000..7_258_118_400_000_000; // 2000 to 2200
    let malformed = WireError::Malformed { field: "found_at_us" };
    if !YEARS.contains(&microseconds) {
        return Err(malformed);
    }
    Timestamp::from_microsecond(microseconds).map_err(|_| malformed)
}

fn object_line(message: v1::ObjectLine) -> Result<ObjectLine, WireError> {
    let outcome = match v1::Outcome::try_from(message.outcome) {
        Ok(v1::Outcome::Waiting) => Outcome::Waiting,
        Ok(v1::Outcome::Applied) => Outcome::Applied,
        Ok(v1::Outcome::Unchanged) => Outcome::Unchanged,
        Ok(v1::Outcome::Exists) => Outcome::Exists,
        Ok(v1::Outcome::Conflict) => Outcome::Conflict,
        Ok(v1::Outcome::Rejected) => Outcome::Rejected,
        Ok(v1::Outcome::Retrying) => Outcome::Retrying,
        Ok(v1::Outcome::Drifted) => Outcome::Drifted,
        Ok(v1::Outcome::Pruning) => Outcome::Pruning,
        _ => return Err(WireError::Unspecified { field: "outcome" }),
    };
    Ok(ObjectLine {
        key: object_key(message.key.ok_or(WireError::Unspecified { field: "key" })?)?,
        outcome,
        verdict: verdict(message.verdict)?,
        // An earlier version of the agent may quote values.
        message: bounded_message(&without_values(&message.message)),
        hint: bounded_message(&without_values(&message.hint)),
        may_pass: message.may_pass,
    })
}

fn verdict(number: i32) -> Result<Verdict, WireError> {
    match v1::Verdict::try_from(number) {
        Ok(v1::Verdict::Healthy) => Ok(Verdict::Healthy),
        Ok(v1::Verdict::Progressing) => Ok(Verdict::Progressing),
        Ok(v1::Verdict::Unknown) => Ok(Verdict::Unknown),
        Ok(v1::Verdict::Degraded) => Ok(Verdict::Degraded),
        Ok(v1::Verdict::Failed) => Ok(Verdict::Failed),
        _ => Err(WireError::Unspecified { field: "verdict" }),
    }
}

fn id(bytes: &[u8], field: &'static str) -> Result<Uuid, WireError> {
    Uuid::from_slice(bytes).map_err(|_| WireError::Malformed { field })
}

fn digest(bytes: &[u8], field: &'static str) -> Result<Digest, WireError> {
    Digest::try_from(bytes).map_err(|_| WireError::Malformed { field })
}
