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

mod values;

pub use values::{
    ChangedValue, ChangedValues, VALUE_BYTES_MAX, VALUES_BYTES_MAX, VALUES_MAX, Wanted, changed_values,
    changed_values_without,
};

/// Paths that one drift names.
pub const FIELDS_MAX: usize = 20;

/// Of all texts of a drift but its object's key, which has a kilobyte. Twenty paths are half of it; and a hub counts a
/// cluster's drifts of a day, 5,000 at most, so that they are 15 MB.
pub const TEXT_BYTES_MAX: usize = 2 * 1024;

/// Kubernetes allows 128 characters.
pub const MANAGER_BYTES_MAX: usize = 128;

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
    /// As rows and documents have it.
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
    /// The correction did not succeed.
    Failed,
}

impl Response {
    /// As rows and documents have it.
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
    /// By the agent's clock.
    pub found_at: Timestamp,
    pub change: Change,
    /// What the agent did about it, at once.
    pub response: Response,
    /// Who, as `managedFields` say; `None` when nothing says so, as after a delete.
    pub manager: Option<String>,
    /// `Apply` or `Update`.
    pub operation: Option<String>,
    /// Paths that differed, at most [`FIELDS_MAX`].
    pub fields: Vec<String>,
    /// What of them can be shown; of a Secret nothing.
    pub values: ChangedValues,
}

/// What an object's ownership looked like after our last apply. Small, and nothing of a Secret is in it but a hash of
/// which fields are ours.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriftSignal {
    /// Nothing is asked.
    None,
    /// Only the generation or the time of our entry moved: checked rarely. Admission may have changed a field of
    /// ours while our entry stayed, or the same manager's name was used by hand.
    Possible,
    /// Another object under the name, or fields have left our entry: asked about at once.
    Certain,
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

    /// Of the object that it was taken of: another one under the name has another.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// What seeing `now` calls for, when `self` is as after our last apply.
    pub fn signal(&self, now: &Self) -> DriftSignal {
        if self == now {
            return DriftSignal::None;
        }
        let fields = |fingerprint: &Self| fingerprint.entry.as_ref().map(|entry| entry.fields);
        if self.uid != now.uid || fields(self) != fields(now) {
            return DriftSignal::Certain;
        }
        DriftSignal::Possible
    }
}

/// Who changed the object, as far as its `managedFields` tell: whoever besides us owns one of the changed fields now, or
/// else whoever wrote last. Manager and operation.
pub fn culprit(metadata: &Value, manager: &str, changed: &[String]) -> Option<(String, String)> {
    let entries = metadata.get("managedFields")?.as_array()?;
    // What is written through `scale` is the object's own; what is written through `status` never is.
    let others = entries.iter().filter(|entry| entry["manager"] != manager && entry["subresource"] != "status");
    let took_a_field = |entry: &Value| changed.iter().any(|path| owns(&entry["fieldsV1"], path));
    let newest = others.max_by_key(|entry| (took_a_field(entry), entry["time"].as_str().unwrap_or_default()))?;
    let text = |name: &str| newest[name].as_str().unwrap_or_default().to_owned();
    Some((text("manager"), text("operation")))
}

/// Whether a path, as [`differing_paths`] writes it, is among the fields of an entry.
fn owns(fields: &Value, path: &str) -> bool {
    let Some(rest) = path.strip_prefix('.') else { return path.is_empty() };
    let mut fields = fields.as_object().into_iter().flatten();
    fields.any(|(key, below)| {
        key.strip_prefix("f:").and_then(|name| rest.strip_prefix(name)).is_some_and(|rest| owns(below, rest))
    })
}

/// Whether an object says something at a path as the API server writes it in a conflict:
/// `.spec.ports[port=80,protocol="TCP"].name`.
///
/// A key of a list's item that the object leaves out has some default, so it fits.
pub fn says(object: &Value, path: &str) -> bool {
    match object {
        _ if path.is_empty() => true,
        Value::Object(fields) => path.strip_prefix('.').is_some_and(|rest| {
            // A key may hold dots itself.
            fields.iter().any(|(key, value)| rest.strip_prefix(key.as_str()).is_some_and(|rest| says(value, rest)))
        }),
        Value::Array(items) => split_selector(path).is_some_and(|(selector, rest)| {
            let mut items = items.iter().enumerate();
            items.any(|(index, item)| is_selected(item, index, selector) && says(item, rest))
        }),
        _ => false,
    }
}

/// `[a="b"].c` → `a="b"`, `.c`.
fn split_selector(path: &str) -> Option<(&str, &str)> {
    let inner = path.strip_prefix('[')?;
    let end = find_unquoted(inner, ']')?;
    Some((&inner[..end], &inner[end + 1..]))
}

fn is_selected(item: &Value, index: usize, selector: &str) -> bool {
    let (first, rest) = match find_unquoted(selector, ',') {
        Some(comma) => (&selector[..comma], Some(&selector[comma + 1..])),
        None => (selector, None),
    };
    let fits = match first.split_once('=') {
        None => first.parse() == Ok(index),
        Some(("", value)) => is_value(item, value),
        Some((key, value)) => item.get(key).is_none_or(|of| is_value(of, value)),
    };
    fits && rest.is_none_or(|rest| is_selected(item, index, rest))
}

fn is_value(item: &Value, written: &str) -> bool {
    serde_json::from_str::<Value>(written).is_ok_and(|value| value == *item)
}

fn find_unquoted(text: &str, wanted: char) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().find_map(|(at, character)| {
        let is_found = !quoted && character == wanted;
        quoted ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        is_found.then_some(at)
    })
}

/// Paths whose values a correction changes: those of `after` that `found` does not have, but for what the API server
/// writes itself; at most [`FIELDS_MAX`].
pub fn corrected_paths(found: &Value, after: &Value) -> Vec<String> {
    differing_paths(&without_what_the_server_writes(after), &without_what_the_server_writes(found))
}

fn without_what_the_server_writes(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !WRITTEN_BY_THE_SERVER.contains(&field.as_str()));
    }
    object
}

const WRITTEN_BY_THE_SERVER: [&str; 6] =
    ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"];

/// Paths that `wanted` says something at and that our entry among the object's managers no longer lists: they were ours
/// and have been taken. Unlike [`differing_paths`] it does not mind how the API server writes a value; at most
/// [`FIELDS_MAX`].
pub fn lost_paths(wanted: &Value, metadata: &Value, manager: &str) -> Vec<String> {
    let entries = metadata.get("managedFields").and_then(Value::as_array);
    let ours = entries.into_iter().flatten().find(|entry| entry["manager"] == manager && entry["operation"] == "Apply");
    let listed = ours.map_or(&Value::Null, |entry| &entry["fieldsV1"]);
    let mut paths = Vec::new();
    let mut wanted = wanted.clone();
    // What makes the object this object is in nobody's entry.
    if let Some(fields) = wanted.as_object_mut() {
        fields.retain(|field, _| !matches!(field.as_str(), "apiVersion" | "kind" | "status"));
    }
    if let Some(metadata) = wanted.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !matches!(field.as_str(), "name" | "namespace" | "creationTimestamp"));
    }
    collect_lost(&wanted, listed, &mut String::new(), &mut paths);
    paths
}

fn collect_lost(wanted: &Value, listed: &Value, path: &mut String, paths: &mut Vec<String>) {
    let Value::Object(fields) = wanted else { return };
    for (key, value) in fields {
        if paths.len() >= FIELDS_MAX {
            return;
        }
        let is_nothing = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        let length = path.len();
        path.push('.');
        path.push_str(key);
        match listed.get(format!("f:{key}")) {
            _ if is_nothing => {}
            // A map whose fields are all somebody else's now is not listed either, and is told by its fields.
            None if value.is_object() => collect_lost(value, &Value::Null, path, paths),
            None => paths.push(path.clone()),
            // Whole: a value, or a map that nobody shares.
            Some(below) if below.as_object().is_none_or(serde_json::Map::is_empty) => {}
            Some(below) => match value {
                Value::Array(items) if !items.iter().all(|item| is_listed(item, below)) => paths.push(path.clone()),
                _ => collect_lost(value, below, path, paths),
            },
        }
        path.truncate(length);
    }
}

/// Whether an item of a list is among those of an entry, with all that it says: `k:{"name":"web"}`, or `v:"item"`.
fn is_listed(item: &Value, listed: &Value) -> bool {
    listed.as_object().into_iter().flatten().any(|(key, below)| {
        let is_named = |names: &str| {
            let keys: Value = serde_json::from_str(names).unwrap_or_default();
            let mut keys = keys.as_object().into_iter().flatten();
            keys.all(|(name, value)| item.get(name).is_none_or(|of| of == value))
        };
        if let Some(value) = key.strip_prefix("v:") {
            return is_value(item, value);
        }
        let mut lost = Vec::new();
        if key.strip_prefix("k:").is_some_and(is_named) {
            collect_lost(item, below, &mut String::new(), &mut lost);
            return lost.is_empty();
        }
        false
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

        assert_eq!(before.signal(&after), DriftSignal::Certain);
        assert_eq!(before.signal(&before), DriftSignal::None);
    }

    #[test]
    fn a_generation_that_moved_under_an_equal_entry_is_a_possible_drift() {
        let fields = json!({"f:data": {"f:a": {}}});

        let before = fingerprint(&metadata(&fields, 1, "t"));

        assert_eq!(before.signal(&fingerprint(&metadata(&fields, 2, "t"))), DriftSignal::Possible);
        assert_eq!(before.signal(&fingerprint(&metadata(&fields, 1, "u"))), DriftSignal::Possible);
    }

    #[test]
    fn another_object_under_the_same_name_is_a_certain_drift() {
        let mut other = metadata(&json!({}), 1, "t");
        let before = fingerprint(&other);
        other["uid"] = json!("u2");

        assert_eq!(before.signal(&fingerprint(&other)), DriftSignal::Certain);
    }

    #[test]
    fn the_culprit_is_who_took_the_field_and_else_who_wrote_last() {
        let entry = |manager: &str, time: &str, fields: Value| json!({"manager": manager, "operation": "Update", "time": time, "fieldsV1": fields});
        let metadata = json!({"managedFields": [
            entry("kubectl-edit", "2026-01-02T00:00:00Z", json!({"f:data": {"f:a.b": {}}})),
            entry("controller", "2026-01-03T00:00:00Z", json!({"f:metadata": {"f:annotations": {".": {}, "f:x": {}}}})),
            entry("bellwether", "2026-01-04T00:00:00Z", json!({"f:data": {"f:c": {}}})),
        ]});
        let culprit = |changed: &str| culprit(&metadata, "bellwether", &[changed.to_owned()]);

        assert_eq!(culprit(".data.a.b"), Some(("kubectl-edit".to_owned(), "Update".to_owned())));
        assert_eq!(culprit(".data.c"), Some(("controller".to_owned(), "Update".to_owned())));
    }

    #[test]
    fn a_path_of_a_conflict_is_found_in_what_was_applied() {
        let object = json!({
            "metadata": {"annotations": {"example.com/a": "1"}, "finalizers": ["x]y"]},
            "spec": {"replicas": 1, "args": ["-v"], "ports": [{"port": 80, "name": "a"}, {"port": 81}]},
        });
        for path in [
            ".spec.replicas",
            ".metadata.annotations.example.com/a",
            ".spec.ports[port=80,protocol=\"TCP\"].name",
            ".spec.ports[port=81]",
            ".metadata.finalizers[=\"x]y\"]",
            ".spec.args[0]",
            ".spec.args",
        ] {
            assert!(says(&object, path), "{path}");
        }
        for path in [".spec.replica", ".spec.ports[port=81].name", ".spec.ports[port=82]", ".data", ".spec.args[1]"] {
            assert!(!says(&object, path), "{path}");
        }
    }

    #[test]
    fn what_the_server_writes_is_nobodys_drift() {
        let found = json!({"metadata": {"resourceVersion": "1", "labels": {"a": "x"}}, "status": {"a": 1}});
        let after = json!({"metadata": {"resourceVersion": "2", "labels": {"a": "y"}}, "status": {"a": 2}});

        assert_eq!(corrected_paths(&found, &after), [".metadata.labels.a"]);
    }

    #[test]
    fn what_was_taken_from_our_entry_is_lost_however_its_value_is_written() {
        let wanted = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "x"}},
            "spec": {"replicas": 2, "paused": null, "containers": [{"name": "web", "cpu": "1000m", "args": ["-v"]}],
                     "names": ["a"]},
        });
        let entry = |replicas: Value, container: Value| {
            let mut spec = json!({"f:containers": {"k:{\"name\":\"web\"}": container}, "f:names": {"v:\"a\"": {}}});
            if !replicas.is_null() {
                spec["f:replicas"] = replicas;
            }
            let fields = json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": spec});
            json!({"managedFields": [
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "bellwether", "operation": "Apply", "fieldsV1": fields},
            ]})
        };
        let whole = || json!({".": {}, "f:name": {}, "f:cpu": {}, "f:args": {}});
        let lost = |metadata: &Value| lost_paths(&wanted, metadata, "bellwether");

        assert_eq!(lost(&entry(json!({}), whole())), Vec::<String>::new());
        assert_eq!(lost(&entry(Value::Null, whole())), [".spec.replicas"]);
        assert_eq!(lost(&entry(json!({}), json!({".": {}, "f:name": {}, "f:args": {}}))), [".spec.containers"]);
        assert_eq!(lost(&json!({})).len(), 4);
    }

    #[test]
    fn only_what_was_wanted_can_differ() {
        let wanted = json!({"data": {"a": "1", "b": "2"}, "list": [1]});
        let found = json!({"data": {"a": "1", "b": "x", "theirs": "y"}, "list": [1, 2], "more": 1});

        assert_eq!(differing_paths(&wanted, &found), [".data.b", ".list"]);
    }
}
