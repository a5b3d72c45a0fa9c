//! What a row of the table says of a kind, and how it is read.
//!
//! A row is data: an ordered list of clauses, of which the first that holds decides. Where none holds, the object is
//! progressing: what a controller says in other words than the row knows is no word of being well. A condition that is
//! about an older generation says that and nothing else.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::Health;
use super::fields::{Condition, Unreadable, conditions_of};
use crate::report::Verdict;

/// A rule for kinds of a group.
///
/// All texts that are compared may name several, as `a|b`, and begin or end with `*` for whatever stands there. Paths are
/// keys with dots between them; a key that has dots itself stands in brackets: `metadata.labels[example.org/a]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) group: &'static str,
    pub(super) kinds: &'static str,
    /// Where the controller says why, in a sentence; empty where conditions do.
    pub(super) why: &'static str,
    pub(super) clauses: &'static [Clause],
}

/// What holds when all that it asks for is so. The first text is why, in our words; empty where what was found says it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clause {
    /// Its manifest asks that nothing be done about it, so there is nothing to wait for. Asked before the observed
    /// generation: a controller that leaves it alone observes none.
    Suspended(&'static [Ask]),
    Healthy(&'static str, &'static [Ask]),
    Progressing(&'static str, &'static [Ask]),
    /// Its controller says that something is wrong, and goes on trying.
    Degraded(&'static str, &'static [Ask]),
    /// Its controller says that this is the end of it.
    Failed(&'static str, &'static [Ask]),
    /// Of each element of the list, or value of the map, at the first path, named by what is at the second: the worst of
    /// them, if one is not healthy. Paths and conditions inside are the element's.
    Each(&'static str, &'static str, &'static [Clause]),
    /// By kstatus' rule for this kind of this group.
    As(&'static str, &'static str),
}

/// What may be so of an object.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    /// A condition of this type has this status.
    Is(&'static str, &'static str),
    /// The same, for this reason.
    For(&'static str, &'static str, &'static str),
    /// The same as the first, of this severity.
    Severe(&'static str, &'static str, &'static str),
    /// There is this text, number or truth value.
    At(&'static str, &'static str),
    Set(&'static str),
    /// Nothing is there, or it is empty.
    Unset(&'static str),
    /// The first number, or length of a list, is not less than the second. What is not there is 0 in the first, and 1 in
    /// the second, as `replicas` is.
    Reaches(&'static str, &'static str),
    /// Both are there and equal.
    Same(&'static str, &'static str),
    /// Both are there and not equal.
    Differ(&'static str, &'static str),
    /// Both are there, and differ in more than what a program leaves out that has nothing to say: null, false, 0 and empty.
    Unlike(&'static str, &'static str),
    /// A text such as `2/2`, and not `0/0`.
    Full(&'static str),
}

/// A row, so that a table of them has one a line.
pub(super) const fn row(
    group: &'static str,
    kinds: &'static str,
    why: &'static str,
    clauses: &'static [Clause],
) -> Row {
    Row { group, kinds, why, clauses }
}

/// What a row comes to.
#[derive(Debug)]
pub(super) enum Decision {
    Health(Health),
    /// kstatus is asked, as if it were of this group and kind.
    As(&'static str, &'static str),
}

/// What clauses are asked of: an object, or an element of a list in one.
struct Scope<'a> {
    value: &'a Value,
    conditions: Vec<Condition<'a>>,
    /// Of the object.
    generation: Option<i64>,
}

/// What answered an ask.
enum Found<'a> {
    Condition(Condition<'a>),
    Text(&'static str, Cow<'a, str>),
    Nothing,
}

impl Row {
    pub(super) fn is_of(&self, group: &str, kind: &str) -> bool {
        fits(self.group, group) && fits(self.kinds, kind)
    }

    /// That its manifest asks for nothing to be done.
    pub(super) fn suspended(&self, object: &Value) -> Option<Health> {
        self.clauses.iter().find_map(|clause| {
            let Clause::Suspended(asks) = clause else { return None };
            let scope = Scope { value: object, conditions: Vec::new(), generation: None };
            let path = asks.iter().find_map(|ask| if let Ask::At(path, _) = ask { Some(*path) } else { None })?;
            let is_asked = asks.iter().all(|ask| ask.of(&scope).is_some());
            is_asked.then(|| Health::healthy(format!("suspended by its manifest ({path})")))
        })
    }

    pub(super) fn decide(&self, object: &Value) -> Result<Decision, Unreadable> {
        let status = object.get("status").unwrap_or(&Value::Null);
        let generation = super::integer(object, &["metadata", "generation"])?;
        let scope = Scope { value: object, conditions: conditions_of(status)?, generation };
        Ok(self.first(self.clauses, &scope)?.unwrap_or_else(|| Decision::Health(self.undecided(self.clauses, &scope))))
    }

    fn first(&self, clauses: &'static [Clause], scope: &Scope<'_>) -> Result<Option<Decision>, Unreadable> {
        for clause in clauses {
            let (verdict, words, asks) = match *clause {
                Clause::Suspended(_) => continue,
                Clause::As(group, kind) => return Ok(Some(Decision::As(group, kind))),
                Clause::Each(list, name, inner) => match self.worst(list, name, inner, scope)? {
                    Some(health) => return Ok(Some(Decision::Health(health))),
                    None => continue,
                },
                Clause::Healthy(words, asks) => (Verdict::Healthy, words, asks),
                Clause::Progressing(words, asks) => (Verdict::Progressing, words, asks),
                Clause::Degraded(words, asks) => (Verdict::Degraded, words, asks),
                Clause::Failed(words, asks) => (Verdict::Failed, words, asks),
            };
            let found: Option<Vec<_>> = asks.iter().map(|ask| ask.of(scope)).collect();
            if let Some(found) = found {
                return Ok(Some(Decision::Health(self.say(verdict, words, &found, scope))));
            }
        }
        Ok(None)
    }

    fn say(&self, verdict: Verdict, words: &str, found: &[Found<'_>], scope: &Scope<'_>) -> Health {
        let outdated = found.iter().find_map(|one| match one {
            Found::Condition(condition) => condition.outdated(scope.generation),
            _ => None,
        });
        if let Some(outdated) = outdated {
            return Health::progressing(outdated);
        }
        let why = text_at(scope.value, self.why).filter(|why| !why.is_empty() && verdict != Verdict::Healthy);
        let said = found.iter().find_map(Found::in_words).map(Cow::Owned);
        let words = Some(Cow::Borrowed(words)).filter(|words| !words.is_empty()).or(said);
        let words: Vec<_> = words.into_iter().chain(why).collect();
        Health::new(verdict, if words.is_empty() { "there".to_owned() } else { words.join(": ") })
    }

    /// Of the elements at the path; `None` when there are none, or all are healthy.
    fn worst(
        &self,
        list: &str,
        name: &str,
        clauses: &'static [Clause],
        scope: &Scope<'_>,
    ) -> Result<Option<Health>, Unreadable> {
        let at = at(scope.value, list);
        let elements: Vec<(Cow<'_, str>, &Value)> = match at {
            Some(Value::Array(elements)) => {
                let named = |(index, element): (usize, _)| {
                    let name = text_at(element, name).filter(|name| !name.is_empty());
                    (name.unwrap_or_else(|| Cow::Owned((index + 1).to_string())), element)
                };
                elements.iter().enumerate().map(named).collect()
            }
            Some(Value::Object(fields)) => fields.iter().map(|(key, value)| (key.as_str().into(), value)).collect(),
            _ => return Ok(None),
        };
        let what = list.rsplit('.').next().unwrap_or(list);
        let mut worst: Option<Health> = None;
        for (name, value) in elements {
            let inner = Scope { value, conditions: conditions_of(value)?, generation: scope.generation };
            let health = match self.first(clauses, &inner)? {
                Some(Decision::Health(health)) => health,
                _ => self.undecided(clauses, &inner),
            };
            if health.verdict > worst.as_ref().map_or(Verdict::Healthy, |worst| worst.verdict) {
                worst = Some(Health::new(health.verdict, format!("{what} {name}: {}", health.message)));
            }
        }
        Ok(worst)
    }

    /// Nothing that the row knows is said: what it is that keeps it from being healthy.
    fn undecided(&self, clauses: &[Clause], scope: &Scope<'_>) -> Health {
        let asks =
            clauses.iter().filter_map(|clause| if let Clause::Healthy(_, asks) = *clause { Some(asks) } else { None });
        let lacking = asks.flatten().filter(|ask| ask.of(scope).is_none()).find_map(|ask| ask.instead(scope));
        let not_true = || scope.conditions.iter().find(|one| one.status != "True").copied().map(Found::Condition);
        match lacking.or_else(not_true) {
            Some(found) => self.say(Verdict::Progressing, "", &[found], scope),
            None => self.say(Verdict::Progressing, "its controller has not said yet that it is well", &[], scope),
        }
    }
}

impl Ask {
    /// What makes it so; `None`: it is not.
    fn of<'a>(&self, scope: &Scope<'a>) -> Option<Found<'a>> {
        let condition = |kind: &str, status: &str, is_it: &dyn Fn(&Condition<'_>) -> bool| {
            let is_so = |one: &&Condition<'_>| fits(kind, one.kind) && fits(status, one.status) && is_it(one);
            scope.conditions.iter().find(is_so).copied().map(Found::Condition)
        };
        let value = scope.value;
        let is_so = |it: bool| it.then_some(Found::Nothing);
        match *self {
            Self::Is(kind, status) => condition(kind, status, &|_| true),
            Self::For(kind, status, reason) => condition(kind, status, &|one| fits(reason, one.reason)),
            Self::Severe(kind, status, severity) => condition(kind, status, &|one| fits(severity, one.severity)),
            Self::At(path, texts) => {
                text_at(value, path).filter(|text| fits(texts, text)).map(|text| Found::Text(path, text))
            }
            Self::Set(path) => is_so(is_set(value, path)),
            Self::Unset(path) => is_so(!is_set(value, path)),
            Self::Reaches(first, second) => {
                let is = number(value, first).unwrap_or(0);
                let wanted = number(value, second).unwrap_or(1);
                (is >= wanted).then(|| Found::Text(first, Cow::Owned(format!("{is}/{wanted}"))))
            }
            Self::Same(first, second) => is_so(compare(value, first, second) == Some(Ordering::Equal)),
            Self::Differ(first, second) => {
                is_so(compare(value, first, second).is_some_and(|order| order != Ordering::Equal))
            }
            Self::Unlike(first, second) => {
                let both = at(value, first).zip(at(value, second));
                is_so(both.is_some_and(|(first, second)| told(first) != told(second)))
            }
            Self::Full(path) => {
                let text = text_at(value, path)?;
                let is_full = text.split_once('/').is_some_and(|(is, wanted)| is == wanted && is != "0");
                is_full.then_some(Found::Text(path, text))
            }
        }
    }
}

impl Ask {
    /// What there is in the place of what is asked for.
    fn instead<'a>(&self, scope: &Scope<'a>) -> Option<Found<'a>> {
        match *self {
            Self::At(path, _) | Self::Full(path) => {
                text_at(scope.value, path).filter(|text| !text.is_empty()).map(|text| Found::Text(path, text))
            }
            Self::Is(kind, _) | Self::For(kind, ..) | Self::Severe(kind, ..) => {
                scope.conditions.iter().find(|one| fits(kind, one.kind)).copied().map(Found::Condition)
            }
            Self::Reaches(first, second) => {
                let is = number(scope.value, first).unwrap_or(0);
                let wanted = number(scope.value, second).unwrap_or(1);
                Some(Found::Text(first, Cow::Owned(format!("{is}/{wanted}"))))
            }
            Self::Set(_) | Self::Unset(_) | Self::Same(..) | Self::Differ(..) | Self::Unlike(..) => None,
        }
    }
}

impl Found<'_> {
    fn in_words(&self) -> Option<String> {
        match self {
            Self::Condition(condition) => Some(condition.in_words()),
            Self::Text(_, text) if text.is_empty() => None,
            Self::Text(path, text) => Some(format!("{}: {text}", path.strip_prefix("status.").unwrap_or(path))),
            Self::Nothing => None,
        }
    }
}

/// Whether it is one of these, each with `*` at its beginning or end.
fn fits(patterns: &str, text: &str) -> bool {
    patterns.split('|').any(|pattern| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => text.ends_with(end),
        (None, Some(beginning)) => text.starts_with(beginning),
        (None, None) => pattern == text,
    })
}

/// What is at a path; null is nothing.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let mut rest = path;
    let mut here = value;
    while !rest.is_empty() {
        let key;
        (key, rest) = match rest.strip_prefix('[') {
            Some(quoted) => quoted.split_once(']').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        rest = rest.strip_prefix('.').unwrap_or(rest);
        here = here.get(key)?;
    }
    Some(here).filter(|here| !here.is_null())
}

fn text_at<'a>(value: &'a Value, path: &str) -> Option<Cow<'a, str>> {
    if path.is_empty() {
        return None;
    }
    match at(value, path)? {
        Value::String(text) => Some(Cow::Borrowed(text)),
        scalar @ (Value::Number(_) | Value::Bool(_)) => Some(Cow::Owned(scalar.to_string())),
        _ => None,
    }
}

/// A value without what says nothing.
fn told(value: &Value) -> Value {
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    };
    match value {
        Value::Array(elements) => elements.iter().map(told).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), told(value)));
            Value::Object(fields.filter(|(_, value)| says(value)).collect())
        }
        scalar => scalar.clone(),
    }
}

fn is_set(value: &Value, path: &str) -> bool {
    at(value, path).is_some_and(|it| match it {
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    })
}

fn number(value: &Value, path: &str) -> Option<i64> {
    match at(value, path)? {
        Value::Array(elements) => i64::try_from(elements.len()).ok(),
        Value::String(digits) => digits.parse().ok(),
        number => number.as_i64(),
    }
}

fn compare(value: &Value, first: &str, second: &str) -> Option<Ordering> {
    Some(text_at(value, first)?.cmp(&text_at(value, second)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_fits_by_its_beginning_its_end_or_as_a_whole() {
        assert!(fits("a|b", "b") && !fits("a|b", "ab") && fits("*", "x"));
        assert!(fits("*.crossplane.io", "s3.aws.crossplane.io") && !fits("*.crossplane.io", "crossplane.io"));
        assert!(fits("Err*", "ErrInit") && !fits("Err*", "NoErr"));
    }

    #[test]
    fn a_path_reads_keys_with_dots_in_brackets() {
        let object = json!({"metadata": {"labels": {"example.org/a": "x"}}, "status": {"a": {"b": 2}, "none": null}});

        assert_eq!(text_at(&object, "metadata.labels[example.org/a]").as_deref(), Some("x"));
        assert_eq!(text_at(&object, "status.a.b").as_deref(), Some("2"));
        assert_eq!((text_at(&object, "status.none"), text_at(&object, "status.a.c")), (None, None));
        assert_eq!(text_at(&object, ""), None);
    }
}
