//! Reading single fields of an object's JSON.
//!
//! A field that is not there is nothing; one of another type than Kubernetes gives it makes the object unreadable.

use serde_json::Value;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Unreadable {
    #[error("`{0}` is not a whole number")]
    Integer(String),
    #[error("`status.conditions` is not a list of conditions")]
    Conditions,
    #[error("pod phase `{0}` is not known")]
    Phase(String),
}

/// One of `status.conditions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition<'a> {
    pub(super) kind: &'a str,
    pub(super) status: &'a str,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
    /// Empty but for kinds of two families, which tell by it what is an error and what only takes time.
    pub(super) severity: &'a str,
    /// Empty for conditions that do not say; RFC 3339 in UTC, so that times compare as texts.
    pub(super) updated_at: &'a str,
    /// The generation that it is about, of conditions that say so.
    pub(super) observed: Option<i64>,
}

impl Condition<'_> {
    /// `Ready is False: Reason: message`, as far as it says them.
    pub(super) fn in_words(&self) -> String {
        let mut words = format!("{} is {}", self.kind, self.status);
        for part in [self.reason, self.message].into_iter().filter(|part| !part.is_empty()) {
            words.push_str(": ");
            words.push_str(part);
        }
        words
    }

    /// In words, when it is about an older generation than this: then it says nothing about the object as it is.
    pub(super) fn outdated(&self, generation: Option<i64>) -> Option<String> {
        let (generation, observed) = generation.zip(self.observed)?;
        let kind = self.kind;
        (observed < generation).then(|| format!("{kind} is about generation {observed}, the object is at {generation}"))
    }
}

pub(super) fn field<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key)).filter(|value| !value.is_null())
}

pub(super) fn text<'a>(object: &'a Value, path: &[&str]) -> Option<&'a str> {
    field(object, path)?.as_str()
}

/// Strict: a null there is not the same as nothing there. Only digits may be a text: Argo's Rollout keeps its observed
/// generation so.
pub(super) fn integer(object: &Value, path: &[&str]) -> Result<Option<i64>, Unreadable> {
    let Some(value) = path.iter().try_fold(object, |value, key| value.get(key)) else { return Ok(None) };
    whole(value).map(Some).ok_or_else(|| Unreadable::Integer(path.join(".")))
}

fn whole(value: &Value) -> Option<i64> {
    let digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    value.as_i64().or_else(|| value.as_str().filter(digits)?.parse().ok())
}

/// The number there, or the one that stands for its absence.
pub(super) fn number(object: &Value, path: &[&str], absent: i64) -> i64 {
    field(object, path).and_then(Value::as_i64).unwrap_or(absent)
}

pub(super) fn conditions(object: &Value) -> Result<Vec<Condition<'_>>, Unreadable> {
    field(object, &["status"]).map_or(Ok(Vec::new()), conditions_of)
}

/// Those of a status, or of one of the parts of a status that have some of their own.
pub(super) fn conditions_of(status: &Value) -> Result<Vec<Condition<'_>>, Unreadable> {
    let Some(conditions) = field(status, &["conditions"]) else { return Ok(Vec::new()) };
    conditions.as_array().ok_or(Unreadable::Conditions)?.iter().map(condition).collect()
}

fn condition(value: &Value) -> Result<Condition<'_>, Unreadable> {
    let part = |key: &str| match value.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(part) => part.as_str().ok_or(Unreadable::Conditions),
    };
    if !value.is_object() {
        return Err(Unreadable::Conditions);
    }
    Ok(Condition {
        kind: part("type")?,
        status: part("status")?,
        reason: part("reason")?,
        message: part("message")?,
        severity: value.get("severity").and_then(Value::as_str).unwrap_or_default(),
        // Few kinds have one, and each writes it in its own way: a time that cannot be read is none.
        updated_at: value.get("lastUpdateTime").and_then(Value::as_str).unwrap_or_default(),
        observed: value.get("observedGeneration").and_then(whole),
    })
}
