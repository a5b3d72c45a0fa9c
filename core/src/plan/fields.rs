//! What is another in an object, field by field.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::PlanField;
use super::hidden::{HIDDEN, Hidden, Place, escaped, holds_secrets};
use crate::ObjectKey;

/// Of one object; further ones are counted.
const FIELDS_MAX: usize = 50;

/// Of one value, about what a screen shows.
const VALUE_BYTES_MAX: usize = 2 * 1024;

/// Of what is new as a whole, with all of its values.
const WHOLE_BYTES_MAX: usize = 32 * 1024;

/// Lines of a text that are told around those that differ.
const AROUND: usize = 2;

/// By which items of lists are known, the first that all of both lists have, each another one: an item that comes before others
/// changes none of them.
const NAMES: [&str; 6] = ["name", "mountPath", "containerPort", "port", "key", "host"];

/// A place where two objects differ, and what is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Both<'a> {
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    /// It is of what a Secret holds, which may stand within another object.
    is_secret: bool,
}

impl<'a> Both<'a> {
    /// What is in the place of that name; of one that is no map nothing.
    fn field(self, name: &str) -> Self {
        let is_held = |value: Option<&Value>| value.is_some_and(|value| holds_secrets(value, name));
        let of = |value: Option<&'a Value>| value.and_then(|value| value.get(name));
        let is_secret = self.is_secret || is_held(self.before) || is_held(self.after);
        Self { before: of(self.before), after: of(self.after), is_secret }
    }

    fn item(self, before: Option<&'a Value>, after: Option<&'a Value>) -> Self {
        Self { before, after, is_secret: self.is_secret }
    }
}

/// Of what there is only before or only after the whole.
pub(super) fn between<'a>((before, after): (Option<&'a Value>, Option<&'a Value>)) -> Vec<(String, Both<'a>)> {
    let mut found = Vec::new();
    walk("", Both { before, after, is_secret: false }, &mut found);
    found
}

fn walk<'a>(pointer: &str, both: Both<'a>, found: &mut Vec<(String, Both<'a>)>) {
    match (both.before, both.after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for name in names {
                walk(&format!("{pointer}/{}", escaped(name)), both.field(name), found);
            }
        }
        (Some(Value::Array(items)), Some(Value::Array(others))) => {
            let known = found.len();
            let pairs = match NAMES.iter().find_map(|name| Some((named(items, name)?, named(others, name)?))) {
                Some((names, other_names)) => by_names(&names, &other_names),
                None => by_places(items, others),
            };
            for (before, after) in pairs {
                let Some(place) = after.or(before) else { continue };
                let item = both.item(before.map(|place| &items[place]), after.map(|place| &others[place]));
                walk(&format!("{pointer}/{place}"), item, found);
            }
            // Only their order is another.
            if found.len() == known {
                found.push((pointer.to_owned(), both));
            }
        }
        _ => found.push((pointer.to_owned(), both)),
    }
}

/// The place of each item by what it has there, if each has another one: a list may have a hundred thousand.
type Places = BTreeMap<String, usize>;

fn named(items: &[Value], name: &str) -> Option<Places> {
    let mut places = Places::new();
    for (place, item) in items.iter().enumerate() {
        let it = item.get(name).filter(|it| !it.is_object() && !it.is_array())?;
        if places.insert(it.to_string(), place).is_some() {
            return None;
        }
    }
    Some(places)
}

/// The places of an item before and after.
type Pair = (Option<usize>, Option<usize>);

/// First those that are there after.
fn by_names(names: &Places, other_names: &Places) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = other_names.iter().map(|(name, at)| (names.get(name).copied(), Some(*at))).collect();
    pairs.sort_by_key(|(_, after)| *after);
    let gone = names.iter().filter(|(name, _)| !other_names.contains_key(*name));
    let mut gone: Vec<Pair> = gone.map(|(_, at)| (Some(*at), None)).collect();
    gone.sort();
    pairs.extend(gone);
    pairs
}

/// Without what both lists begin and end with.
fn by_places(items: &[Value], others: &[Value]) -> Vec<Pair> {
    let (start, end) = shared(items, others);
    let (items_end, others_end) = (items.len() - end, others.len() - end);
    let within = |place: usize, end: usize| (place < end).then_some(place);
    (start..items_end.max(others_end)).map(|place| (within(place, items_end), within(place, others_end))).collect()
}

/// How many are the same at the start, and at the end of the rest.
fn shared<T: PartialEq>(one: &[T], other: &[T]) -> (usize, usize) {
    let start = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let (one, other) = (&one[start..], &other[start..]);
    (start, one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count())
}

/// Whether pods are made anew by themselves, since what they are made of is another.
pub(super) fn restarts(key: &ObjectKey, after: Option<&Value>, found: &[(String, Both<'_>)]) -> bool {
    let has_pods = key.group() == "apps" && matches!(&*key.kind, "Deployment" | "StatefulSet" | "DaemonSet");
    let on_delete = after.is_some_and(|after| after["spec"]["updateStrategy"]["type"] == "OnDelete");
    let is_of_pods = |pointer: &str| pointer == "/spec/template" || pointer.starts_with("/spec/template/");
    has_pods && !on_delete && found.iter().any(|(pointer, _)| is_of_pods(pointer))
}

/// Whether something else is another than names, labels and annotations, which can always change.
pub(super) fn are_any_of_content(found: &[(String, Both<'_>)]) -> bool {
    found.iter().any(|(pointer, _)| pointer != "/metadata" && !pointer.starts_with("/metadata/"))
}

/// As they are told, and how many more there are.
pub(super) fn told(key: &ObjectKey, found: Vec<(String, Both<'_>)>, hidden: &Hidden) -> (Vec<PlanField>, usize) {
    let more = found.len().saturating_sub(FIELDS_MAX);
    (found.into_iter().take(FIELDS_MAX).map(|(pointer, both)| field(key, &pointer, both, hidden)).collect(), more)
}

fn field(key: &ObjectKey, pointer: &str, both: Both<'_>, hidden: &Hidden) -> PlanField {
    let place = Place { key, is_secret: both.is_secret };
    let (told_pointer, hides_name) = hidden.pointer_without(pointer);
    if let (Some(Value::String(one)), Some(Value::String(other))) = (both.before, both.after)
        && (one.contains('\n') || other.contains('\n'))
        && !place.is_hidden(pointer)
    {
        let told = lines(told_pointer, one, other, hidden);
        return PlanField { hidden: told.hidden || hides_name, ..told };
    }
    let (mut hides, mut cuts) = (hides_name, false);
    let mut tell = |value: &Value| {
        let (value, is_hidden) = hidden.without(place, pointer, value);
        let (value, is_cut) = bounded(value);
        hides |= is_hidden;
        cuts |= is_cut;
        value
    };
    let (before, after) = (both.before.map(&mut tell), both.after.map(&mut tell));
    PlanField { pointer: told_pointer, before, after, line: None, hidden: hides, cut: cuts }
}

/// Of texts with many lines what differs.
fn lines(pointer: String, before: &str, after: &str, hidden: &Hidden) -> PlanField {
    let (one, other): (Vec<_>, Vec<_>) = (before.split('\n').collect(), after.split('\n').collect());
    let (start, end) = shared(&one, &other);
    let (start, end) = (start.saturating_sub(AROUND), end.saturating_sub(AROUND));
    let (mut hides, mut cuts) = (false, false);
    let mut tell = |lines: &[&str]| {
        let told: Vec<_> =
            lines[start..lines.len() - end].iter().map(|line| if hidden.is_in(line) { HIDDEN } else { line }).collect();
        let mut told = told.join("\n");
        hides |= told.contains(HIDDEN);
        // One that has several lines itself.
        if hidden.is_in(&told) {
            (told, hides) = (HIDDEN.to_owned(), true);
        }
        let (told, is_cut) = cut(&told, VALUE_BYTES_MAX);
        cuts |= is_cut;
        Value::String(told)
    };
    let (before, after) = (tell(&one), tell(&other));
    PlanField { pointer, before: Some(before), after: Some(after), line: Some(start + 1), hidden: hides, cut: cuts }
}

/// With long texts cut, and without anything where it is too long all the same.
fn bounded(value: Value) -> (Value, bool) {
    let (value, is_cut) = with_short_texts(value);
    let bytes = serde_json::to_vec(&value).map_or(0, |bytes| bytes.len());
    if bytes <= WHOLE_BYTES_MAX {
        (value, is_cut)
    } else {
        (format!("({bytes} bytes, which are not shown)").into(), true)
    }
}

fn with_short_texts(value: Value) -> (Value, bool) {
    let mut is_any_cut = false;
    let mut shorter = |value: Value| {
        let (value, is_cut) = with_short_texts(value);
        is_any_cut |= is_cut;
        value
    };
    let value = match value {
        Value::String(text) => {
            let (text, is_cut) = cut(&text, VALUE_BYTES_MAX);
            return (text.into(), is_cut);
        }
        Value::Array(items) => items.into_iter().map(shorter).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, shorter(value))).collect())
        }
        other => other,
    };
    (value, is_any_cut)
}

/// To so many bytes, at a character's border; says whether something is left out.
fn cut(text: &str, bytes_max: usize) -> (String, bool) {
    if text.len() <= bytes_max {
        return (text.to_owned(), false);
    }
    let end = text.floor_char_boundary(bytes_max);
    (format!("{}… ({} more bytes)", &text[..end], text.len() - end), true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key() -> ObjectKey {
        ObjectKey { api_version: "v1".into(), kind: "ConfigMap".into(), namespace: None, name: "a".into() }
    }

    fn diff(before: &Value, after: &Value) -> Vec<PlanField> {
        let hidden = Hidden::new(["hunter2 is it"]);
        told(&key(), between((Some(before), Some(after))), &hidden).0
    }

    fn words(before: &Value, after: &Value) -> Vec<String> {
        let word = |value: &Option<Value>| value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let told = diff(before, after);
        told.iter().map(|field| format!("{} {} {}", field.pointer, word(&field.before), word(&field.after))).collect()
    }

    #[test]
    fn fields_are_told_by_their_pointers() {
        let before = json!({"a": {"b/c": 1, "same": [1]}, "gone": true});
        let after = json!({"a": {"b/c": 2, "same": [1]}, "new": {"x": 1}});

        assert_eq!(words(&before, &after), ["/a/b~1c 1 2", "/gone true -", "/new - {\"x\":1}"]);
    }

    #[test]
    fn an_item_that_comes_before_others_changes_none_of_them() {
        let item = |name: &str, value: i64| json!({"name": name, "value": value});
        let before = json!([item("a", 1), item("b", 1), item("c", 1)]);
        let after = json!([item("new", 1), item("a", 1), item("c", 2)]);

        let told = words(&before, &after);

        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("/0 - ") && told[1] == "/2/value 1 2" && told[2].starts_with("/1 {"), "{told:?}");
        assert_eq!(words(&json!(["a", "b", "c"]), &json!(["a", "x", "b", "c"])), ["/1 - \"x\""]);
    }

    #[test]
    fn an_order_that_changes_is_told() {
        let (one, other) = (json!({"name": "a"}), json!({"name": "b"}));

        assert_eq!(diff(&json!({"l": [one, other]}), &json!({"l": [other, one]}))[0].pointer, "/l");
    }

    #[test]
    fn of_texts_with_many_lines_those_that_differ_are_told_with_some_around() {
        let text = |line: &str| {
            (0..100).map(|at| if at == 50 { line.to_owned() } else { format!("line {at}\n") }).collect::<String>()
        };

        let told = diff(&json!({"a": text("one\n")}), &json!({"a": text("two\nthree\n")}));

        assert_eq!(told[0].before, Some(json!("line 48\nline 49\none\nline 51\nline 52")));
        assert_eq!(told[0].after, Some(json!("line 48\nline 49\ntwo\nthree\nline 51\nline 52")));
        assert_eq!((told[0].line, told[0].cut, told[0].hidden), (Some(49), false, false));
    }

    #[test]
    fn a_line_that_holds_a_secret_is_hidden_and_the_others_are_told() {
        let told =
            diff(&json!({"a": "x: 1\npassword: hunter2 is it\n"}), &json!({"a": "x: 2\npassword: hunter2 is it\n"}));

        assert_eq!(told[0].after, Some(json!("x: 2\n(hidden)\n")));
        assert!(told[0].hidden);
    }

    #[test]
    fn what_a_secret_within_another_object_holds_is_hidden_field_by_field() {
        let template = |value: &str| {
            let secret = json!({"kind": "Secret", "type": value, "data": {"a": value, "b": {"c": 1}}});
            json!({"spec": {"list": [{"kind": "ConfigMap", "data": {"a": value}}, secret]}})
        };

        let told = words(&template("one"), &template("two"));

        let expected = [
            "/spec/list/0/data/a \"one\" \"two\"",
            "/spec/list/1/data/a \"(hidden)\" \"(hidden)\"",
            "/spec/list/1/type \"one\" \"two\"",
        ];
        assert_eq!(told, expected);
        let lines = words(&template("a: 1\n"), &template("a: 2\n"));
        assert_eq!(lines[1], "/spec/list/1/data/a \"(hidden)\" \"(hidden)\"", "also of many lines nothing is told");
    }

    #[test]
    fn a_pointer_names_no_text_of_a_secret() {
        let told = diff(&json!({}), &json!({"of hunter2 is it": 1, "a/b": 2}));

        assert_eq!((&*told[0].pointer, told[0].hidden), ("/a~1b", false));
        assert_eq!((&*told[1].pointer, told[1].hidden), ("/(hidden)", true));
    }

    #[test]
    fn what_is_long_is_cut_and_says_so() {
        let told = diff(&json!({"a": "x".repeat(10_000)}), &json!({"a": "y"}));
        let text = told[0].before.as_ref().and_then(Value::as_str).expect("a text");
        assert!(told[0].cut && text.len() < 2_200 && text.ends_with("(7952 more bytes)"), "{text}");

        let many: serde_json::Map<_, _> = (0..100).map(|at| (format!("k{at}"), json!("x".repeat(1_000)))).collect();
        let told = diff(&json!({}), &json!({"a": many}));
        assert!(told[0].cut && told[0].after.as_ref().is_some_and(|after| after.to_string().len() < 100));

        let many: serde_json::Map<_, _> = (0..80).map(|at| (format!("k{at}"), json!(1))).collect();
        let hidden = Hidden::default();
        let (empty, many) = (json!({}), Value::Object(many));
        let found = between((Some(&empty), Some(&many)));
        assert_eq!(
            (super::told(&key(), found.clone(), &hidden).0.len(), super::told(&key(), found, &hidden).1),
            (50, 30)
        );
    }
}
