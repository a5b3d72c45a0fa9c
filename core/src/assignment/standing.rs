//! What an object says of its target: fields for people, and conditions for `kubectl wait` and for whatever reads kstatus.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::suspension::Suspension;
use crate::report::{Counts, Report, Suspended, Verdict};
use crate::session::{Action, Assignment};
use crate::{Digest, Generation, Name, TargetId, TraceId};

/// One target as it is shown: what it is to run, and what the hub is told of that. It keeps no lines: the worst one is its
/// message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub target: TargetId,
    pub name: Name,
    /// `installation/project/target`, as its objects say it; `None`: they do not.
    pub owner: Option<String>,
    pub generation: Generation,
    pub action: Action,
    pub digest: Digest,
    pub trace: Option<TraceId>,
    pub applied: bool,
    pub verdict: Verdict,
    /// Of a failure.
    pub may_pass: bool,
    pub objects: Counts,
    pub message: String,
    /// By its own object or by that of the agent, as the hub is told.
    pub suspended: Option<Suspended>,
}

impl Shown {
    /// What is said of a target in this report, which is about this assignment.
    pub fn of(assignment: &Assignment, owner: Option<&str>, report: &Report) -> Self {
        Self {
            target: assignment.target,
            name: assignment.name.clone(),
            owner: owner.map(str::to_owned),
            generation: report.generation,
            action: assignment.action,
            digest: report.digest,
            trace: assignment.trace,
            applied: report.applied,
            verdict: report.verdict,
            may_pass: report.may_pass(),
            objects: report.objects,
            message: report.lines.first().map(ToString::to_string).unwrap_or_default(),
            suspended: report.suspended.clone(),
        }
    }

    /// Its tombstone was carried out.
    pub(super) fn is_gone(&self) -> bool {
        self.action != Action::Apply && self.applied
    }

    fn is_on_its_way(&self) -> bool {
        !self.applied || self.verdict == Verdict::Progressing
    }

    /// Nothing better is known to follow within moments: after a restart a target is first said to be on its way.
    pub(super) fn is_settled(&self) -> bool {
        self.applied && !matches!(self.verdict, Verdict::Progressing | Verdict::Unknown)
    }

    /// Names that its object may have, the first that is free: two targets of one cluster may have one name, in two projects or
    /// of two installations.
    pub(super) fn names(&self) -> [String; 2] {
        let mut parts = self.owner.as_deref().unwrap_or_default().split('/').skip(1);
        let project = parts.next().filter(|&project| project != "default" && !project.is_empty());
        let name = project.map_or_else(|| self.name.to_string(), |project| format!("{project}.{}", self.name));
        let id = self.target.as_uuid().simple().to_string();
        // The end of it is random, the beginning is a time.
        let long = format!("{name}.{}", &id[id.len() - 8..]);
        // That one is the agent's.
        if name == super::board::AGENT { [long.clone(), long] } else { [name, long] }
    }

    pub(super) fn spec(&self, home: &str) -> Value {
        let mut spec = Map::new();
        let mut set = |name: &str, value: Value| drop(spec.insert(name.to_owned(), value));
        set("agent", home.into());
        set("targetId", self.target.as_uuid().to_string().into());
        set("target", self.name.as_str().into());
        let mut owner = self.owner.as_deref().unwrap_or_default().split('/');
        if let (Some(installation), Some(project)) = (owner.next().filter(|it| !it.is_empty()), owner.next()) {
            set("installation", installation.into());
            set("project", project.into());
        }
        set("generation", self.generation.get().into());
        set("action", self.action.as_str().into());
        set("bundle", self.digest.to_string().into());
        set("revision", self.digest.short().into());
        if let Some(trace) = self.trace {
            set("trace", trace.to_string().into());
        }
        Value::Object(spec)
    }

    /// `generation` is that of the object itself, of which `before` is the status.
    pub(super) fn status(
        &self,
        suspension: Option<&Suspension>,
        (generation, before): (i64, &Value),
        now: Timestamp,
    ) -> Value {
        let own = suspension.filter(|it| !it.is_over(now));
        let active = own.map(Suspension::told).or_else(|| self.suspended.clone());
        let active = active.as_ref();
        let message = match active {
            Some(suspension) if self.message.is_empty() => suspension.to_string(),
            Some(suspension) => format!("{suspension}; {}", self.message),
            None => self.message.clone(),
        };
        let mut status = json!({
            "observedGeneration": generation,
            "generation": self.generation.get(),
            "synced": self.applied,
            "health": self.verdict.as_str(),
            "message": message,
            "objects": {
                "total": self.objects.total,
                "inPlace": self.objects.in_place,
                "healthy": self.objects.healthy,
            },
        });
        if let (Some(_), true, Some(fields)) = (active, self.applied, status.as_object_mut()) {
            // Nothing is looked after meanwhile, so nobody knows.
            fields.remove("synced");
        }
        let is_readable = own.is_none_or(|it| it.problem.is_empty());
        let said = self.conditions(active).into_iter().chain([suspended(active, is_readable)]);
        status["conditions"] = conditions(said, (generation, before), now);
        with_times(status, suspension, before, now)
    }

    fn conditions(&self, suspension: Option<&Suspended>) -> [Said; 4] {
        let failed = self.verdict == Verdict::Failed;
        let stalled = failed && !self.may_pass;
        let is_well = self.applied && self.verdict == Verdict::Healthy;
        let is_held = suspension.is_some() && !self.applied;
        let (ready, why) = match (is_well, suspension.is_some()) {
            (true, false) => ("True", reason(self.verdict)),
            (true, true) => ("Unknown", "Suspended"),
            (false, _) if is_held => ("False", "Suspended"),
            (false, _) => ("False", reason(self.verdict)),
        };
        let reconciling = !is_held && !stalled && self.is_on_its_way();
        let healthy = match self.verdict {
            Verdict::Healthy => "True",
            Verdict::Degraded | Verdict::Failed => "False",
            Verdict::Progressing | Verdict::Unknown => "Unknown",
        };
        let synced = if self.applied { "Synced" } else { "NotSynced" };
        [
            Said { kind: "Ready", status: ready, reason: why, message: self.message.clone() },
            Said { kind: "Reconciling", status: truth(reconciling), reason: synced, message: String::new() },
            Said { kind: "Stalled", status: truth(stalled), reason: reason(self.verdict), message: String::new() },
            Said { kind: "Healthy", status: healthy, reason: reason(self.verdict), message: String::new() },
        ]
    }
}

/// A condition, before it is known since when.
struct Said {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// What the agent says of itself: that it is there, and whether somebody has stopped all of it.
pub(super) fn agent_status(
    suspension: Option<&Suspension>,
    (generation, before): (i64, &Value),
    now: Timestamp,
) -> Value {
    let own = suspension.filter(|it| !it.is_over(now));
    let active = own.map(Suspension::told);
    let message = active.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut status = json!({"observedGeneration": generation, "message": message});
    let (ready, reason) = if active.is_some() { ("False", "Suspended") } else { ("True", "Running") };
    let said = [
        Said { kind: "Ready", status: ready, reason, message: String::new() },
        suspended(active.as_ref(), own.is_none_or(|it| it.problem.is_empty())),
    ];
    status["conditions"] = conditions(said, (generation, before), now);
    with_times(status, suspension, before, now)
}

fn suspended(active: Option<&Suspended>, is_readable: bool) -> Said {
    let (reason, message) = match active {
        None => ("NotSuspended", String::new()),
        Some(it) if is_readable => ("Suspended", it.to_string()),
        Some(it) => ("UnreadableAnnotation", it.to_string()),
    };
    Said { kind: "Suspended", status: truth(active.is_some()), reason, message }
}

const fn truth(is_so: bool) -> &'static str {
    if is_so { "True" } else { "False" }
}

const fn reason(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Healthy => "Healthy",
        Verdict::Progressing => "Progressing",
        Verdict::Unknown => "Unknown",
        Verdict::Degraded => "Degraded",
        Verdict::Failed => "Failed",
    }
}

fn conditions(said: impl IntoIterator<Item = Said>, (generation, before): (i64, &Value), now: Timestamp) -> Value {
    let former = |kind: &str| before["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind);
    let condition = |said: Said| {
        let since = former(said.kind).filter(|former| former["status"] == said.status);
        let since = since.map(|former| former["lastTransitionTime"].clone()).filter(Value::is_string);
        json!({"type": said.kind, "status": said.status, "reason": said.reason, "message": said.message,
            "observedGeneration": generation, "lastTransitionTime": since.unwrap_or_else(|| written(now))})
    };
    said.into_iter().map(condition).collect()
}

/// Since when it is as the rest of it says: nothing is written while nothing changes.
fn with_times(mut status: Value, suspension: Option<&Suspension>, before: &Value, now: Timestamp) -> Value {
    if let Some(suspension) = suspension {
        status["suspended"] = serde_json::to_value(suspension).unwrap_or_default();
    }
    status["observedAt"] = before["observedAt"].clone();
    if status != *before {
        status["observedAt"] = written(now);
    }
    status
}

fn written(at: Timestamp) -> Value {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}
