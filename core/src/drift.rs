//! Drift: what others change in a cluster, and how it is told from what they may.
//!
//! The API server says it itself. In an object's `managedFields`, the Apply entry of our manager lists exactly the
//! fields that we own; when somebody else changes one of them, it leaves our entry. So an agent keeps a *fingerprint* of
//! that entry instead of the object: no spec is compared, no defaulting rule is needed, and no Secret is kept. A
//! differing fingerprint is a question, never an answer: a dry run answers it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::object::{canonical_json, digest_of};
use crate::{Digest, ObjectKey, TargetId};

/// Paths that one drift names; never their values.
pub const FIELDS_MAX: usize = 20;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A field of ours has another value.
    Modified,
    Deleted,
    /// Deleted and made again by somebody else.
    Replaced,
    /// It no longer carries its target's label.
    Unlabelled,
}

impl Change {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Replaced => "replaced",
            Self::Unlabelled => "unlabelled",
        }
    }
}

impl std::str::FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Modified, Self::Deleted, Self::Replaced, Self::Unlabelled]
            .into_iter()
            .find(|change| change.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a change"))
    }
}

/// What the agent did about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Corrected,
    /// Left as it is: the target only warns.
    Warned,
    /// The correction did not succeed, or somebody undoes it again and again.
    Failed,
}

impl Response {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Corrected => "corrected",
            Self::Warned => "warned",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for Response {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Corrected, Self::Warned, Self::Failed]
            .into_iter()
            .find(|response| response.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a response"))
    }
}

/// One change that somebody else made to what a target owns, as its agent tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Made by the agent: a message that comes twice is written once.
    pub id: Uuid,
    pub target: TargetId,
    pub object: ObjectKey,
    pub found_at: Timestamp,
    pub change: Change,
    pub response: Response,
    /// Who, as `managedFields` say; `None` when nothing says so, as after a delete.
    pub manager: Option<String>,
    /// `Apply` or `Update`.
    pub operation: Option<String>,
    /// Paths that differed, at most [`FIELDS_MAX`].
    pub fields: Vec<String>,
}

/// What an object's ownership looked like after our last apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    uid: String,
    /// Of the spec; kinds without one have the resource version here, which moves with anything.
    generation: String,
    entry: Option<Entry>,
}

/// Our Apply entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    api_version: String,
    time: String,
    fields: Digest,
}

/// What a changed fingerprint calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// Nothing is asked.
    None,
    /// Only the generation or the time of our entry moved: asked about seldom. Admission may have changed a field of
    /// ours while our entry stayed, or the same manager's name was used by hand.
    Slight,
    /// Another object under the name, or fields have left our entry: asked about at once.
    Grave,
}

impl Fingerprint {
    /// Of an object's metadata; `None` when it has no uid, and so was never in an API server.
    pub fn of(metadata: &Value, manager: &str) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let generation = metadata
            .get("generation")
            .map_or_else(|| metadata.get("resourceVersion").and_then(text).unwrap_or_default(), ToString::to_string);
        let entries = metadata.get("managedFields").and_then(Value::as_array);
        let ours = entries.into_iter().flatten().find(|entry| {
            entry["manager"] == manager
                && entry["operation"] == "Apply"
                && entry.get("subresource").is_none_or(|of| of == "")
        });
        Some(Self {
            uid: metadata.get("uid").and_then(text)?,
            generation,
            entry: ours.map(|entry| Entry {
                api_version: entry.get("apiVersion").and_then(text).unwrap_or_default(),
                time: entry.get("time").and_then(text).unwrap_or_default(),
                fields: digest_of(&entry["fieldsV1"]),
            }),
        })
    }

    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// What seeing `now` calls for, when `self` is as after our last apply.
    pub fn suspicion(&self, now: &Self) -> Suspicion {
        if self == now {
            return Suspicion::None;
        }
        let fields = |fingerprint: &Self| fingerprint.entry.as_ref().map(|entry| entry.fields);
        if self.uid != now.uid || fields(self) != fields(now) {
            return Suspicion::Grave;
        }
        Suspicion::Slight
    }
}

/// Whoever changed the object last, besides us: manager and operation.
pub fn last_other_manager(metadata: &Value, manager: &str) -> Option<(String, String)> {
    let entries = metadata.get("managedFields")?.as_array()?;
    entries
        .iter()
        .filter(|entry| entry["manager"] != manager && entry.get("subresource").is_none_or(|of| of == ""))
        .max_by_key(|entry| entry["time"].as_str().unwrap_or_default().to_owned())
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            (text("manager"), text("operation"))
        })
}

/// Paths at which `wanted` says something that `found` does not; at most [`FIELDS_MAX`]. What only `found` has is
/// somebody else's.
pub fn differing_paths(wanted: &Value, found: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    collect(wanted, found, &mut String::new(), &mut paths);
    paths
}

fn collect(wanted: &Value, found: &Value, path: &mut String, paths: &mut Vec<String>) {
    if paths.len() >= FIELDS_MAX {
        return;
    }
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (key, value) in wanted {
                let length = path.len();
                path.push('.');
                path.push_str(key);
                collect(value, found.get(key).unwrap_or(&Value::Null), path, paths);
                path.truncate(length);
            }
        }
        _ if canonical_json(wanted) == canonical_json(found) => {}
        _ => paths.push(path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(fields: &Value, generation: u32, time: &str) -> Value {
        json!({
            "uid": "u1",
            "generation": generation,
            "managedFields": [
                {"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "time": "2026-01-02T00:00:00Z",
                 "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "bellwether", "operation": "Apply", "apiVersion": "v1", "time": time, "fieldsV1": fields},
            ],
        })
    }

    fn fingerprint(metadata: &Value) -> Fingerprint {
        Fingerprint::of(metadata, "bellwether").expect("has a uid")
    }

    #[test]
    fn a_field_that_left_our_entry_is_asked_about_at_once() {
        let before = fingerprint(&metadata(&json!({"f:data": {"f:a": {}, "f:b": {}}}), 1, "t"));
        let after = fingerprint(&metadata(&json!({"f:data": {"f:a": {}}}), 1, "t"));

        assert_eq!(before.suspicion(&after), Suspicion::Grave);
        assert_eq!(before.suspicion(&before), Suspicion::None);
    }

    #[test]
    fn a_generation_that_moved_under_an_equal_entry_is_slight() {
        let fields = json!({"f:data": {"f:a": {}}});

        let before = fingerprint(&metadata(&fields, 1, "t"));

        assert_eq!(before.suspicion(&fingerprint(&metadata(&fields, 2, "t"))), Suspicion::Slight);
        assert_eq!(before.suspicion(&fingerprint(&metadata(&fields, 1, "u"))), Suspicion::Slight);
    }

    #[test]
    fn another_object_under_the_same_name_is_grave() {
        let mut other = metadata(&json!({}), 1, "t");
        let before = fingerprint(&other);
        other["uid"] = json!("u2");

        assert_eq!(before.suspicion(&fingerprint(&other)), Suspicion::Grave);
    }

    #[test]
    fn the_culprit_is_the_last_other_manager() {
        let named = last_other_manager(&metadata(&json!({}), 1, "2026-01-03T00:00:00Z"), "bellwether");

        assert_eq!(named, Some(("kubectl".to_owned(), "Update".to_owned())));
    }

    #[test]
    fn only_what_was_wanted_can_differ() {
        let wanted = json!({"data": {"a": "1", "b": "2"}, "list": [1]});
        let found = json!({"data": {"a": "1", "b": "x", "theirs": "y"}, "list": [1, 2], "more": 1});

        assert_eq!(differing_paths(&wanted, &found), [".data.b", ".list"]);
    }
}
