//! What a field was made, and what it is to be: as people are shown it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::without_what_the_server_writes;
use crate::object::is_secret_kind;
use crate::plan::{HIDDEN, Hidden};

/// Values that one drift tells. With their paths they are a few kilobytes in each direction, and a message of so many
/// short ones has fewer fields than any message may have.
pub const VALUES_MAX: usize = 16;
/// Of one value, as JSON: a long command line, an image with its digest, a small list.
pub const VALUE_BYTES_MAX: usize = 256;
/// Of all texts of a drift's values: 5,000 drifts of a cluster in a day are 20 MB.
pub const VALUES_BYTES_MAX: usize = 4 * 1024;

/// Holds whole objects as text, and says nothing by itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A field that somebody changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedValue {
    /// As the API server names fields: `.spec.template.spec.containers[name="web"].image`.
    pub path: String,
    /// What somebody made it, as JSON; `None`: nothing is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What the target wants, as JSON; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// One of them is longer than is told: it ends in `…`, and is no JSON.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

/// What can be told of the fields that somebody changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedValues {
    pub values: Vec<ChangedValue>,
    /// There are others, which were too many or too long together, or are in a Secret.
    #[serde(default)]
    pub are_more: bool,
}

/// What an object is compared with.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// The object as it is after a correction, or would be: what only the found one has was added.
    After(&'a Value),
    /// What we send, which the API server may write in another way: of that only what stands at these paths, or below them.
    Sent(&'a Value, &'a [String]),
}

/// What differs, value by value; of a Secret nothing, wherever it stands, since its values leave no cluster. At most
/// [`VALUES_MAX`] of at most [`VALUES_BYTES_MAX`] together.
pub fn changed_values(wanted: Wanted<'_>, found: &Value) -> ChangedValues {
    changed_values_without(&Hidden::default(), wanted, found)
}

/// The same, without what is hidden: that is searched for before anything is cut, as half of it would be told otherwise.
pub fn changed_values_without(hidden: &Hidden, wanted: Wanted<'_>, found: &Value) -> ChangedValues {
    let (wanted, only) = match wanted {
        Wanted::After(after) => (after, None),
        Wanted::Sent(sent, paths) => (sent, Some(paths)),
    };
    let (wanted, found) = (without_what_the_server_writes(wanted), without_what_the_server_writes(found));
    let mut comparison = Comparison { hidden, only, told: ChangedValues::default(), bytes_left: VALUES_BYTES_MAX };
    comparison.compare(Some(&wanted), Some(&found), &mut String::new());
    comparison.told
}

/// By its kind alone, at any depth: others' kinds carry whole manifests, and one that is called so is as likely to hold one.
fn is_secret(fields: &Map<String, Value>) -> bool {
    fields.get("kind").and_then(Value::as_str).is_some_and(is_secret_kind)
}

/// Or its last applied configuration, which may be one's.
fn holds_a_secret(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            is_secret(fields) || fields.contains_key(LAST_APPLIED) || fields.values().any(holds_a_secret)
        }
        Value::Array(items) => items.iter().any(holds_a_secret),
        _ => false,
    }
}

fn is_at_or_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

struct Comparison<'a> {
    hidden: &'a Hidden,
    /// `None`: all counts, also what was added.
    only: Option<&'a [String]>,
    told: ChangedValues,
    bytes_left: usize,
}

impl Comparison<'_> {
    fn compare(&mut self, wanted: Option<&Value>, found: Option<&Value>, path: &mut String) {
        match (wanted, found) {
            (Some(Value::Object(wanted)), Some(Value::Object(found))) if !is_secret(wanted) && !is_secret(found) => {
                self.compare_fields(wanted, found, path);
            }
            (Some(Value::Array(wanted)), Some(Value::Array(found))) => self.compare_items(wanted, found, path),
            _ if wanted == found || (wanted.is_none() && self.only.is_some()) => {}
            _ => self.note(wanted, found, path),
        }
    }

    fn compare_fields(&mut self, wanted: &Map<String, Value>, found: &Map<String, Value>, path: &mut String) {
        let added = found.keys().filter(|key| !wanted.contains_key(*key));
        for key in wanted.keys().chain(added).filter(|key| *key != LAST_APPLIED) {
            self.below(&format!(".{key}"), (wanted.get(key), found.get(key)), path);
        }
    }

    /// Items that have names are compared by those, others by their places while there are as many.
    fn compare_items(&mut self, wanted: &[Value], found: &[Value], path: &mut String) {
        let Some((wanted_names, found_names)) = names(wanted).zip(names(found)) else {
            if wanted.len() == found.len() {
                for (place, both) in wanted.iter().zip(found).enumerate() {
                    self.below(&format!("[{place}]"), (Some(both.0), Some(both.1)), path);
                }
            } else {
                self.note(Some(&Value::from(wanted)), Some(&Value::from(found)), path);
            }
            return;
        };
        let item = |items: &[Value], name: &str| items.iter().find(|item| item["name"] == name).cloned();
        let added = found_names.iter().filter(|name| !wanted_names.contains(name));
        for name in wanted_names.iter().chain(added) {
            let (wanted, found) = (item(wanted, name), item(found, name));
            let selector = format!("[name={}]", Value::from(*name));
            self.below(&selector, (wanted.as_ref(), found.as_ref()), path);
        }
    }

    fn below(&mut self, step: &str, (wanted, found): (Option<&Value>, Option<&Value>), path: &mut String) {
        let length = path.len();
        path.push_str(step);
        self.compare(wanted, found, path);
        path.truncate(length);
    }

    fn note(&mut self, wanted: Option<&Value>, found: Option<&Value>, path: &str) {
        if self.only.is_some_and(|only| !only.iter().any(|place| is_at_or_below(path, place))) {
            return;
        }
        let is_hidden = [wanted, found].into_iter().flatten().any(holds_a_secret);
        let is_named = self.hidden.is_in(path) || self.hidden.is_in(&path.replace('\\', ""));
        if is_hidden || is_named || self.told.values.len() >= VALUES_MAX {
            self.told.are_more = true;
            return;
        }
        let mut is_cut = false;
        let mut shown = |value: Option<&Value>| {
            let value = value.filter(|value| !value.is_null())?;
            let text = value.to_string();
            if self.hidden.is_in(&text) || self.hidden.is_in_value(value) {
                return Some(format!("\"{HIDDEN}\""));
            }
            is_cut |= text.len() > VALUE_BYTES_MAX;
            Some(cut(text))
        };
        let (found, wanted) = (shown(found), shown(wanted));
        let bytes = path.len() + [&found, &wanted].into_iter().flatten().map(String::len).sum::<usize>();
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                self.told.values.push(ChangedValue { path: path.to_owned(), found, wanted, is_cut });
            }
            None => self.told.are_more = true,
        }
    }
}

/// Of items that each have another one.
fn names(items: &[Value]) -> Option<Vec<&str>> {
    let names: Vec<_> = items.iter().map(|item| item["name"].as_str()).collect::<Option<_>>()?;
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    (distinct.len() == names.len()).then_some(names)
}

fn cut(mut text: String) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() > VALUE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(VALUE_BYTES_MAX - ELLIPSIS.len()));
        text.push_str(ELLIPSIS);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(wanted: Wanted<'_>, found: &Value) -> Vec<String> {
        let values = changed_values(wanted, found).values.into_iter();
        let nothing = || "nothing".to_owned();
        values
            .map(|one| {
                format!("{} {} → {}", one.path, one.wanted.unwrap_or_else(nothing), one.found.unwrap_or_else(nothing))
            })
            .collect()
    }

    #[test]
    fn what_differs_is_told_by_its_value_and_by_the_names_of_items() {
        let container = |name: &str, image: &str| json!({"name": name, "image": image});
        let workload = |replicas: u32, containers: Vec<Value>| {
            json!({"kind": "Deployment", "metadata": {"generation": replicas}, "status": {"replicas": replicas},
                   "spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}}})
        };
        let after = workload(3, vec![container("web", "shop:1"), container("log", "log:1")]);
        let found = workload(5, vec![container("log", "log:1"), container("web", "shop:2"), container("sh", "sh:1")]);

        let containers = ".spec.template.spec.containers";
        let of_both = [".spec.replicas 3 → 5", &format!("{containers}[name=\"web\"].image \"shop:1\" → \"shop:2\"")];
        let added = format!("{containers}[name=\"sh\"] nothing → {{\"image\":\"sh:1\",\"name\":\"sh\"}}");
        assert_eq!(told(Wanted::After(&after), &found), [of_both[0], of_both[1], &added]);
        let places = [".spec.replicas".to_owned(), containers.to_owned()];
        assert_eq!(
            told(Wanted::Sent(&after, &places), &found),
            of_both,
            "what only others say is theirs, as far as we know"
        );
        let one = &places[..1];
        assert_eq!(told(Wanted::Sent(&after, one), &found), of_both[..1], "a value may only be written in another way");
        assert!(told(Wanted::After(&after), &after).is_empty());
    }

    #[test]
    fn lists_without_names_are_compared_by_place_or_told_whole() {
        let object = |list: Value| json!({"kind": "Widget", "spec": {"list": list}});
        let after = object(json!([1, 2]));

        assert_eq!(told(Wanted::After(&after), &object(json!([1, 3]))), [".spec.list[1] 2 → 3"]);
        assert_eq!(told(Wanted::After(&after), &object(json!([1]))), [".spec.list [1,2] → [1]"]);
        assert_eq!(told(Wanted::After(&after), &object(json!(null))), [".spec.list [1,2] → nothing"]);
    }

    #[test]
    fn of_a_secret_no_value_is_told() {
        let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "data": {"password": value}});

        let work = |value: &str| json!({"kind": "ManifestWork", "spec": {"manifests": [secret(value)], "more": value}});
        let annotated = |of: Value| json!({"kind": "ConfigMap", "metadata": {"annotations": of}});
        let last = annotated(json!({LAST_APPLIED: secret("b25l").to_string()}));
        let nothing = ChangedValues { values: Vec::new(), are_more: true };

        assert_eq!(changed_values(Wanted::After(&secret("b25l")), &secret("dHdv")), nothing);
        assert_eq!(told(Wanted::After(&work("a")), &work("b")), [".spec.more \"a\" → \"b\""]);
        assert!(changed_values(Wanted::After(&work("a")), &work("b")).are_more);
        assert_eq!(changed_values(Wanted::After(&annotated(json!(null))), &last), nothing);
    }

    #[test]
    fn what_is_told_of_values_has_a_bound() {
        let text = |fill: char| fill.to_string().repeat(10_000);
        let map =
            |fill: char| (0..100).map(|place| (format!("k{place}"), Value::from(text(fill)))).collect::<Map<_, _>>();
        let object = |fill: char| json!({"kind": "ConfigMap", "data": map(fill)});

        let ChangedValues { values, are_more } = changed_values(Wanted::After(&object('ä')), &object('b'));

        assert!(are_more, "nothing is left out without a word");
        let texts = values.iter().flat_map(|one| [Some(&one.path), one.found.as_ref(), one.wanted.as_ref()]);
        let bytes: usize = texts.flatten().map(String::len).sum();
        assert!(bytes <= VALUES_BYTES_MAX && values.len() <= VALUES_MAX && values.len() > 4, "{}", values.len());
        assert!(values.iter().all(|one| one.is_cut && one.found.as_ref().is_some_and(|text| text.ends_with('…'))));
        let many: Map<_, _> = (0..100).map(|place| (format!("k{place}"), Value::from(place))).collect();
        let none = json!({"kind": "ConfigMap", "data": {}});
        let told = changed_values(Wanted::After(&json!({"kind": "ConfigMap", "data": many})), &none);
        assert_eq!((told.values.len(), told.are_more), (VALUES_MAX, true));
    }
}
