//! Reads the words of scripts, and writes steps as they do.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::OTHER;
use crate::drift::{Change, ChangedValues, Fingerprint};
use crate::health::{Ending, Health};
use crate::object::{MANAGER, OWNER_ANNOTATION, TARGET_LABEL};
use crate::reconcile::{
    Act, Answer, Body, ClusterError, Condition, Contested, Finding, Found, ManagedFields, Metadata, Owner, Replacement,
    Step, label_of, owner_hint,
};
use crate::replace::is_asked;
use crate::report::Verdict;
use crate::yielded::Yielded;
use crate::{Digest, ObjectKey};

pub(super) fn duration(text: &str) -> SignedDuration {
    text.parse().expect("a length of time")
}

pub(super) fn time(text: &str) -> Timestamp {
    Timestamp::UNIX_EPOCH + duration(text)
}

/// `Kind/name` or `Kind/namespace/name`: in namespace shop, but for the cluster's own.
pub(super) fn key(text: &str) -> ObjectKey {
    let (kind, name) = text.split_once('/').expect("a kind and a name");
    let (api_version, namespace) = match kind {
        "Namespace" => ("v1", None),
        "CustomResourceDefinition" => ("apiextensions.k8s.io/v1", None),
        "ValidatingWebhookConfiguration" => ("admissionregistration.k8s.io/v1", None),
        "Job" => ("batch/v1", Some("shop")),
        "Deployment" => ("apps/v1", Some("shop")),
        "Realm" => ("demo.example.org/v1", None),
        _ => ("v1", Some("shop")),
    };
    let (namespace, name) = name.split_once('/').map_or((namespace, name), |(space, name)| (Some(space), name));
    ObjectKey {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    }
}

pub(super) fn name(key: &ObjectKey) -> String {
    match key.namespace.as_deref() {
        None | Some("shop") => key.name.clone(),
        Some(namespace) => format!("{namespace}/{}", key.name),
    }
}

/// An object has one uid, whatever it is called.
pub(super) fn uid(name: &str) -> Uuid {
    let name = name.rsplit('/').next().unwrap_or(name);
    Uuid::from_bytes(Digest::of(name.as_bytes()).as_bytes()[..16].try_into().expect("16 bytes"))
}

pub(super) fn ending(word: &str) -> Ending {
    if word == "failed" { Ending::Failed } else { Ending::Succeeded }
}

/// What words say of an object: a flag, or a word and its value.
pub(super) struct Words<'a> {
    words: Vec<&'a str>,
}

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { words: text.split_whitespace().collect() }
    }

    pub(super) fn after(&self, word: &str) -> Option<&'a str> {
        let at = self.words.iter().position(|there| *there == word)?;
        self.words.get(at + 1).copied()
    }

    pub(super) fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    pub(super) fn version(&self) -> u64 {
        self.words.iter().find_map(|word| word.strip_prefix('v')?.parse().ok()).unwrap_or(1)
    }

    pub(super) fn condition(&self) -> Condition {
        if let Some(job) = self.words.iter().find_map(|word| word.strip_prefix("job-")) {
            return Condition::of(&a_job(job), true);
        }
        let ended = self.after("ended");
        let mut words = self.words.iter().enumerate().filter(|(at, _)| *at == 0 || self.words[at - 1] != "ended");
        let verdict = words.find_map(|(_, word)| word.parse().ok()).unwrap_or(Verdict::Healthy);
        let health = Health {
            verdict,
            message: self.after("saying").unwrap_or_default().to_owned(),
            fails_at: self.after("fails").map(time),
            heals_at: self.after("heals").map(time),
        };
        let fingerprint = self.after("owning").and_then(|fields| {
            let metadata = json!({"uid": "u", "generation": 1, "managedFields": [
                {"manager": "bellwether", "operation": "Apply", "apiVersion": "v1", "time": "t", "fieldsV1": {fields: {}}}]});
            Fingerprint::of(&metadata, "bellwether")
        });
        Condition { health, finished: ended.map(ending), fingerprint, is_kept: self.has("keep") }
    }
}

/// `kind text`, with `drift CHANGE` at its end if there was one.
pub(super) fn answer(step: &Step, text: &str, body: &[u8]) -> Answer {
    let (text, drift) = text.split_once(" drift ").map_or((text, None), |(text, change)| (text, Some(change)));
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let words = Words::of(rest);
    let message = rest.to_owned();
    let (version, condition) = (words.version(), words.condition());
    // Messages have words of their own.
    let named = words.after("uid").filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    let uid = named.map_or_else(|| uid(&step.key.name), other_uid);
    let finding = match kind {
        "applied" => Finding::Applied { uid, version, condition, body: std::sync::Arc::<[u8]>::from(body).into() },
        "kept" => Finding::Kept { seen: Some((uid, version, condition)) },
        "as-found" => {
            let (is_watched, note) = (words.has("ours"), words.after("note").map(str::to_owned));
            Finding::AsFound { uid, version, condition, is_watched, note }
        }
        "absent" => absent(step, body),
        "unchangeable" => return unchangeable(step, &words, body),
        "exists" => Finding::Exists { hint: message },
        "gone" => Finding::Gone,
        "released" => Finding::Released,
        "there" => there(step, &words),
        "read" => read(step, &words, body),
        "rejected" => Finding::Failed(rejected(message)),
        "forbidden" => Finding::Failed(ClusterError::Forbidden { message }),
        "stale" => Finding::Failed(ClusterError::Stale { message }),
        "no-namespace" => Finding::Failed(ClusterError::NamespaceMissing { namespace: message, not_made: None }),
        "namespace-not-made" => Finding::Failed(ClusterError::NamespaceMissing {
            namespace: message,
            not_made: Some("forbidden".to_owned()),
        }),
        "unasked" => Finding::Unasked(ClusterError::NamespaceMissing { namespace: "home".to_owned(), not_made: None }),
        "unanswered" => {
            let after = words.after("after").map(|after| Duration::try_from(duration(after)).expect("is not negative"));
            Finding::Failed(ClusterError::Retry { after, message: "no answer".to_owned() })
        }
        "conflict" => {
            let (field, manager) = rest.split_once(' ').expect("a field and a manager");
            let contested = Contested { field: field.to_owned(), manager: manager.to_owned() };
            Finding::Failed(ClusterError::Conflict(vec![contested]))
        }
        other => panic!("`{other}` is not an answer"),
    };
    let autoscaler = words.after("yields").map(str::to_owned);
    let yielded = autoscaler.map(|autoscaler| Yielded::Replicas { autoscaler });
    let drift = drift.map(|change| found(change.parse().expect("a change")));
    Answer { drift, yielded, ..finding.into() }
}

/// `spec.a: …`, as Kubernetes itself says it, or what somebody else says.
fn rejected(message: String) -> ClusterError {
    let field = message.split_once(": ").map(|(field, _)| field.to_owned()).filter(|field| !field.contains(' '));
    ClusterError::Rejected {
        reason: "Invalid".to_owned(),
        fields: field.into_iter().collect(),
        message,
        is_of_a_change: false,
    }
}

/// Of an apply that is refused because of the first word, a field: what then becomes of what is there.
fn unchangeable(step: &Step, words: &Words<'_>, body: &[u8]) -> Answer {
    let fields: Vec<_> = words.words.first().map(|field| (*field).to_owned()).into_iter().collect();
    let message = format!("{}: field is immutable", fields.join(", "));
    let reason = "Invalid".to_owned();
    let refusal = ClusterError::Rejected { reason, message, fields: fields.clone(), is_of_a_change: true };
    if !is_asked(step.replace, &step.key, body) {
        return Finding::Failed(refusal).into();
    }
    let name = |text: &str| text.to_owned();
    let kept = words.has("keep").then(|| (name("helm.sh/resource-policy"), name("keep")));
    let declined = words.has("never").then(|| (name("bellwether.dev/replace"), name("never")));
    let there = Metadata {
        uid: uid(&step.key.name),
        labels: [(name(TARGET_LABEL), step.label())].into_iter().filter(|_| !words.has("unlabelled")).collect(),
        annotations: kept.into_iter().chain(declined).collect(),
        finalizers: words.after("finalizer").map(name).into_iter().collect(),
        deletion_timestamp: words.has("leaving").then(|| name("now")),
        ..Metadata::default()
    };
    let finding = match Replacement::of(step, body, &there, &Value::Null) {
        Replacement::Refused(why) => Finding::Failed(refusal.not_replaced(why)),
        Replacement::Leaving => {
            return Finding::Failed(ClusterError::leaving(fields, there.finalizers, &Value::Null)).into();
        }
        Replacement::Due(_) if words.has("then-forbidden") => {
            let why = Box::new(ClusterError::Forbidden { message: name("no") });
            return Finding::Failed(ClusterError::Absent { fields, why }).into();
        }
        Replacement::Due(_) => {
            let uid = words.after("uid").map_or(there.uid, other_uid);
            let body = std::sync::Arc::<[u8]>::from(body).into();
            Finding::Applied { uid, version: words.version(), condition: words.condition(), body }
        }
    };
    let replaced = if matches!(finding, Finding::Applied { .. }) { fields } else { Vec::new() };
    Answer { replaced, ..finding.into() }
}

/// What is there is without a label, and ours to have or not.
fn read(step: &Step, words: &Words<'_>, body: &[u8]) -> Finding {
    let label = words.has("of-other").then(|| (TARGET_LABEL.to_owned(), label_of(OTHER)));
    let owner = words.has("left").then(|| (OWNER_ANNOTATION.to_owned(), "main/default/former".to_owned()));
    let (manager, operation) = (MANAGER.to_owned(), "Apply".to_owned());
    let there = Metadata {
        uid: uid(&step.key.name),
        namespace: step.key.namespace.clone(),
        labels: label.into_iter().collect(),
        annotations: owner.into_iter().collect(),
        managed_fields: vec![ManagedFields { manager, operation, ..ManagedFields::default() }],
        ..Metadata::default()
    };
    if step.act.digest().is_none() {
        return Finding::inspected(step, Some(there));
    }
    let body = Body::from(std::sync::Arc::<[u8]>::from(body));
    if Owner::of(&there, step).or_left(&there, step, &body).may_write() {
        Finding::Applied { uid: there.uid, version: 9, condition: words.condition(), body }
    } else {
        Finding::Exists { hint: owner_hint(&there, step) }
    }
}

/// What should be in place and is not there: made again, unless it may have ended.
fn absent(step: &Step, body: &[u8]) -> Finding {
    let (uid, version, condition) = (uid(&step.key.name), 9, Words::of("").condition());
    let made = || Finding::Applied { uid, version, condition, body: std::sync::Arc::<[u8]>::from(body).into() };
    Finding::ended(step).unwrap_or_else(made)
}

fn there(step: &Step, words: &Words<'_>) -> Finding {
    let namespace = match words.after("in") {
        None => step.key.namespace.clone(),
        Some("none") => None,
        Some(namespace) => Some(namespace.to_owned()),
    };
    let uid = words.after("uid").map_or_else(|| uid(&step.key.name), other_uid);
    let finalizers = words.after("finalizer").into_iter().map(str::to_owned).collect();
    let (version, is_leaving) = (words.version().to_string(), words.has("leaving"));
    let annotations = words.has("keep").then(|| ("helm.sh/resource-policy".to_owned(), "keep".to_owned()));
    let there = Metadata {
        uid,
        namespace,
        resource_version: version,
        annotations: annotations.into_iter().collect(),
        finalizers,
        ..Metadata::default()
    };
    Finding::there(there, is_leaving)
}

/// Which runs, or is complete.
fn a_job(how: &str) -> Value {
    let complete = json!([{"type": "Complete", "status": "True"}]);
    let conditions = if how == "complete" { complete } else { json!([]) };
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"uid": "u"},
        "status": {"startTime": "2026-01-01T00:00:00Z", "active": 1, "conditions": conditions}})
}

fn other_uid(number: &str) -> Uuid {
    Uuid::from_u128(number.parse().expect("a number"))
}

fn found(change: Change) -> Found {
    let name = |text: &str| Some(text.to_owned());
    let fields = vec![".data.a".to_owned()];
    Found { change, manager: name("kubectl-edit"), operation: name("Update"), fields, values: ChangedValues::default() }
}

/// A step as a script writes it, with as much of it as the script says.
pub(super) fn written(step: &Step, expected: &str, contents: &BTreeMap<Digest, String>) -> String {
    let content = |digest: Digest| contents.get(&digest).map_or("?", String::as_str);
    let (verb, more) = match &step.act {
        Act::Apply { inspect_first: true, .. } => ("inspect-and-apply", None),
        Act::Apply { .. } => ("apply", None),
        Act::Correct { writes: true, .. } => ("correct", None),
        Act::Correct { .. } => ("check", None),
        Act::Inspect => ("inspect", None),
        Act::Delete { uid: this } if *this == uid(&step.key.name) => ("delete", None),
        Act::Delete { uid } => ("delete", Some(format!("uid {}", uid.as_u128()))),
        Act::Orphan { version } => ("orphan", Some(format!("v{version}"))),
        Act::Give { version, .. } => ("give", Some(format!("v{version}"))),
    };
    let mut words = vec![verb.to_owned()];
    let shown = step.act.digest().filter(|_| expected.contains('@'));
    words.push(name(&step.key) + &shown.map(|digest| format!("@{}", content(digest))).unwrap_or_default());
    words.extend(more);
    if let Some(last) = step.last_applied.as_ref().filter(|_| expected.contains(" was ")) {
        assert_eq!(last.uid, uid(&step.key.name), "it is known which one was ours");
        words.extend(["was".to_owned(), content(last.digest).to_owned()]);
        words.extend(last.finished.map(|_| "ended".to_owned()));
    }
    words.extend(step.is_applied_once.then(|| "once".to_owned()));
    words.extend(
        step.makes_namespace.as_ref().filter(|_| expected.contains("making")).map(|name| format!("making {name}")),
    );
    words.extend(step.runs_again.then(|| "again".to_owned()));
    words.extend(step.twin.iter().map(|twin| format!("twin {}", name(twin))));
    words.join(" ")
}
