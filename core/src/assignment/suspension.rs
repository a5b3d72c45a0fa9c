//! What an annotation asks for. It is a person's text, so it is cut and cleaned before anything else is done with it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SUSPENSION_BYTES_MAX;
use crate::Digest;
use crate::report::{Suspended, bounded_text};
use crate::rollout::HumanDuration;

/// Somebody of the cluster has stopped what the agent does, as it stands in the status of the object that says so. There it
/// outlives the agent's process, so that a restart makes no suspension longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspension {
    /// When the agent saw it first: `until=2h` counts from then.
    pub since: Timestamp,
    /// It ends by itself; `None`: when somebody takes the annotation away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The manager of the annotation's field, which is a program's name as a rule.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Why the text cannot be read. It suspends all the same, and for as long as it stands: whoever wrote it wanted something
    /// to stop, and to go on over his hands is the worse mistake.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
    /// Tells the text from another one.
    pub of: String,
}

/// The annotation, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// At most [`SUSPENSION_BYTES_MAX`].
    text: String,
    /// Of the whole text.
    of: String,
    by: String,
}

impl Asked {
    pub(super) fn new(text: &str, by: &str) -> Self {
        let of = Digest::of(text.as_bytes()).short();
        Self { text: bounded_text(text.trim(), SUSPENSION_BYTES_MAX), of, by: bounded_text(by, 64) }
    }
}

impl Suspension {
    /// What is asked for, seen now; `before` is what is known of the annotation since earlier. `None`: nothing is.
    pub(super) fn read(asked: &Asked, before: Option<&Self>, now: Timestamp) -> Option<Self> {
        if matches!(asked.text.as_str(), "false" | "no" | "off") {
            return None;
        }
        if let Some(before) = before.filter(|before| before.of == asked.of) {
            return Some(before.clone());
        }
        let (until, reason, problem) = match parse(&asked.text, now) {
            Ok((until, reason)) => (until, reason, String::new()),
            Err(problem) => (None, String::new(), problem),
        };
        Some(Self { since: now, until, reason, by: asked.by.clone(), problem, of: asked.of.clone() })
    }

    /// As the hub is told.
    pub fn told(&self) -> Suspended {
        let reason = match self.problem.as_str() {
            "" => self.reason.clone(),
            problem => {
                bounded_text(&format!("with no end, as its annotation cannot be read: {problem}"), SUSPENSION_BYTES_MAX)
            }
        };
        Suspended { since: self.since, until: self.until, reason, by: self.by.clone() }
    }

    /// It has ended by itself.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl std::fmt::Display for Suspension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.told().fmt(f)
    }
}

/// `true`, or `until=` and `reason=` in any order; a reason goes on to the end, or to an `until=`.
fn parse(text: &str, now: Timestamp) -> Result<(Option<Timestamp>, String), String> {
    if text == "true" {
        return Ok((None, String::new()));
    }
    let (mut until, mut reason) = (None, Vec::new());
    for word in text.split_whitespace() {
        match word.split_once('=') {
            Some(("until", at)) if until.is_none() => until = Some(time(at, now)?),
            Some(("reason", first)) if reason.is_empty() => reason.push(first),
            _ if !reason.is_empty() => reason.push(word),
            _ => return Err(format!("`{}` is neither `true` nor `until=…` nor `reason=…`", shown(word))),
        }
    }
    if until.is_none() && reason.is_empty() {
        return Err("it is empty: say `true`, or `until=2h reason=…`".to_owned());
    }
    Ok((until, reason.join(" ")))
}

fn time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let length = text.parse::<HumanDuration>().ok().filter(|length| !length.is_zero());
    let at = length.map(|length| now.saturating_add(length.duration()).unwrap_or(Timestamp::MAX));
    at.or_else(|| text.parse().ok())
        .ok_or_else(|| format!("`{}` is neither a length of time such as `2h` nor a time of RFC 3339", shown(text)))
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn read(text: &str) -> Option<Suspension> {
        Suspension::read(&Asked::new(text, "kubectl-annotate"), None, at(100))
    }

    #[test]
    fn a_suspension_says_until_when_and_why_in_any_order() {
        for text in ["until=2h reason=INC-42 the disk is full", "reason=INC-42 the disk is full until=2h"] {
            let suspension = read(text).expect("it suspends");

            assert_eq!((suspension.until, suspension.reason.as_str()), (Some(at(7300)), "INC-42 the disk is full"));
            assert!(suspension.problem.is_empty() && suspension.by == "kubectl-annotate");
        }
        let by_time = read("until=1970-01-01T00:03:00Z").expect("it suspends");
        assert_eq!(by_time.until, Some(at(180)));
        assert_eq!(read("true").map(|it| (it.until, it.problem)), Some((None, String::new())));
        assert_eq!(read("reason=x").map(|it| it.until), Some(None));
    }

    #[test]
    fn a_text_that_cannot_be_read_suspends_with_no_end_and_only_false_does_not() {
        for text in ["", "2h", "until=soon", "until=0s", "yes please", "until=1h until=2h"] {
            let suspension = read(text).expect("it suspends");

            assert!(suspension.until.is_none() && !suspension.problem.is_empty(), "{text}: {suspension:?}");
        }
        assert_eq!(read("false"), None);
    }

    #[test]
    fn a_text_that_is_seen_again_is_not_counted_anew_and_another_one_is() {
        let first = read("until=2h").expect("it suspends");
        let again = |text: &str| Suspension::read(&Asked::new(text, "x"), Some(&first), at(5000));

        assert_eq!(again("until=2h"), Some(first.clone()));
        assert_eq!(again("until=3h").and_then(|it| it.until), Some(at(5000 + 3 * 3600)));
        assert!(!first.is_over(at(7299)) && first.is_over(at(7300)));
    }

    #[test]
    fn a_suspension_is_cut_and_obeyed_by_no_terminal() {
        let suspension = read(&format!("reason=\u{1b}[31mred\u{202e}{}", "x".repeat(100_000))).expect("it suspends");

        assert!(suspension.reason.len() <= SUSPENSION_BYTES_MAX, "{}", suspension.reason.len());
        assert!(!suspension.reason.contains(crate::report::is_obeyed), "{}", suspension.reason);
    }
}
