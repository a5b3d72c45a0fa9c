//! What happened to a target, in a line each: events of Kubernetes on its object.
//!
//! Of one object and reason at most one in [`PAUSE`], and so many an hour, with turns between the objects; what comes
//! meanwhile is counted, or takes the place of what waits. They name objects, and no values of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::board::Subject;
use super::{API_VERSION, KIND, PAUSE};
use crate::report::bounded_text;

/// What the API server takes.
const TEXT_BYTES_MAX: usize = 1024;

/// Events are kept for an hour as a rule, in the store of the API server.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// In an hour, of one target: more says nothing that one a minute does not.
const OF_ONE_MAX: u32 = 60;

/// In an hour, of all.
const OF_ALL_MAX: u32 = 1000;

/// The spelling of each is what people filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Applied,
    Failed,
    /// Of objects that left the bundle, or of all that a target had.
    Pruned,
    DriftCorrected,
    Suspended,
    Resumed,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "Applied",
            Self::Failed => "Failed",
            Self::Pruned => "Pruned",
            Self::DriftCorrected => "DriftCorrected",
            Self::Suspended => "Suspended",
            Self::Resumed => "Resumed",
        }
    }

    /// Each is of another object, so that many are counted.
    const fn is_counted(self) -> bool {
        matches!(self, Self::Pruned | Self::DriftCorrected)
    }
}

/// One event, about the object of that name and uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub name: String,
    pub uid: Uuid,
    pub reason: Reason,
    pub text: String,
}

impl Note {
    /// The object to be created, by the agent of that namespace.
    pub fn body(&self, home: &str, at: Timestamp) -> Value {
        let kind = if matches!(self.reason, Reason::Failed | Reason::Suspended) { "Warning" } else { "Normal" };
        // That of what is cluster-scoped, as Kubernetes has it.
        let metadata = json!({"generateName": format!("{}-", self.name), "namespace": "default"});
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": metadata,
            "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "reportingController": "bellwether.dev/agent",
            "reportingInstance": home,
            "action": "Reconcile",
            "reason": self.reason.as_str(),
            "type": kind,
            "note": bounded_text(&self.text, TEXT_BYTES_MAX),
            "regarding": {"apiVersion": API_VERSION, "kind": KIND, "name": self.name, "uid": self.uid},
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct Notes {
    of: BTreeMap<(Subject, Reason), Waiting>,
    /// Whose turn it was last.
    last: Option<(Subject, Reason)>,
    hour_ends_at: Option<Timestamp>,
    /// How many were said in this hour.
    said: BTreeMap<Subject, u32>,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Option<String>,
    /// Beside that one.
    more: u32,
    free_at: Option<Timestamp>,
}

impl Notes {
    pub(super) fn put(&mut self, subject: Subject, reason: Reason, text: String) {
        let waiting = self.of.entry((subject, reason)).or_default();
        if reason.is_counted() && waiting.text.is_some() {
            waiting.more += 1;
        } else {
            waiting.text = Some(text);
        }
    }

    /// The next whose time has come.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<(Subject, Reason, String)> {
        self.of.retain(|_, waiting| waiting.text.is_some() || waiting.free_at.is_some_and(|at| at > now));
        if self.hour_ends_at.is_none_or(|at| at <= now) {
            self.hour_ends_at = Some(now.saturating_add(HOUR).unwrap_or(Timestamp::MAX));
            self.said.clear();
        }
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let in_turn = self.of.range((after, Bound::Unbounded)).chain(&self.of);
        let mut due = in_turn.filter(|(key, waiting)| self.due_at(key.0, waiting, now).is_some_and(|at| at <= now));
        let key = *due.next()?.0;
        let (subject, reason) = key;
        self.last = Some(key);
        *self.said.entry(subject).or_default() += 1;
        let waiting = self.of.get_mut(&key)?;
        let text = waiting.text.take()?;
        let more = std::mem::take(&mut waiting.more);
        waiting.free_at = Some(now.saturating_add(PAUSE).unwrap_or(Timestamp::MAX));
        let text = if more == 0 { text } else { format!("{text}, and {more} more") };
        Some((subject, reason, text))
    }

    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.of.iter().filter_map(|(key, waiting)| self.due_at(key.0, waiting, now)).min()
    }

    /// What waits to be said of it is said to nobody.
    pub(super) fn drop_of(&mut self, subject: Subject) {
        self.of.retain(|(of, _), _| *of != subject);
    }

    /// When what waits may be said.
    fn due_at(&self, subject: Subject, waiting: &Waiting, now: Timestamp) -> Option<Timestamp> {
        waiting.text.as_ref()?;
        let free_at = waiting.free_at.unwrap_or(now);
        let of_it = self.said.get(&subject).copied().unwrap_or_default();
        let is_full = of_it >= OF_ONE_MAX || self.said.values().sum::<u32>() >= OF_ALL_MAX;
        Some(if is_full { free_at.max(self.hour_ends_at.unwrap_or(now)) } else { free_at })
    }
}

/// What is new in a status, for whoever was not looking.
pub(super) fn turns(spec: &Value, before: &Value, after: &Value) -> Vec<(Reason, String)> {
    let mut turns = Vec::new();
    let text = |status: &Value, field: &str| status[field].as_str().unwrap_or_default().to_owned();
    let is_new = before["generation"] != after["generation"];
    // Of what is suspended it is not said whether it is in place.
    let was_in_place = before["synced"] == true || before["synced"].is_null() && suspended(before).is_some();
    if after["synced"] == true && (is_new || !was_in_place) {
        let (revision, objects) = (text(spec, "revision"), after["objects"]["total"].as_u64().unwrap_or_default());
        turns.push((Reason::Applied, format!("bundle {revision} is in place: {objects} objects")));
    }
    if after["health"] == "failed" && (is_new || before["health"] != "failed") {
        turns.push((Reason::Failed, text(after, "message")));
    }
    match (suspended(before), suspended(after)) {
        (was, Some(is)) if was != Some(is) => turns.push((Reason::Suspended, is.to_owned())),
        (Some(_), None) => turns.push((Reason::Resumed, "nothing suspends it any more".to_owned())),
        _ => {}
    }
    turns
}

/// What the condition says, where it holds.
fn suspended(status: &Value) -> Option<&str> {
    let all = status["conditions"].as_array()?;
    let it = all.iter().find(|condition| condition["type"] == "Suspended" && condition["status"] == "True")?;
    it["message"].as_str()
}
