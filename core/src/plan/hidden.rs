//! What a plan does not tell: what Secrets hold, wherever it stands, and digests of it.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use crate::ObjectKey;
use crate::object::is_secret_kind;

/// Stands in the place of what is not told. It is no base64: an API server takes it for no value of a Secret.
pub const HIDDEN: &str = "(hidden)";

/// What `kubectl apply` was given is repeated there.
const LAST_APPLIED: &str = "kubectl.kubernetes.io~1last-applied-configuration";

/// What SOPS sealed: [`SEALED_ANNOTATION`](crate::sealed::SEALED_ANNOTATION). Its cipher is nothing to be read.
const SEALED: &str = "bellwether.dev~1sealed";

/// Charts have a digest of a ConfigMap or a Secret there, so that pods are made anew with it: who guesses what a Secret holds
/// could see that it is right.
const CHECKSUM: &str = "checksum~1";

/// A shorter value (`true`, `8080`) stands in too many places by chance.
const SHORTEST: usize = 6;

/// By so much of its start a longer text is known: what is searched costs so much at each of its places and no more, whatever
/// a Secret holds, and it is hidden also where the rest of it is missing.
const KNOWN_BYTES_MAX: usize = 128;

/// Texts that stand in Secrets of what is compared, and are hidden wherever else they stand.
///
/// Whoever can push writes the texts and what they are searched in: both may have millions of bytes.
#[derive(Clone, Default)]
pub struct Hidden {
    /// How they begin: hardly any place of another text does so.
    starts: HashSet<[u8; SHORTEST]>,
    /// Sorted, and none begins with another one: so the one that a text begins with, if any, is the last that does not come after
    /// the text.
    texts: Vec<Box<[u8]>>,
}

/// Without the texts.
impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hidden").finish_non_exhaustive()
    }
}

impl Hidden {
    /// Those that are too short are left out.
    pub fn new<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        let known = |text: T| {
            let text: String = text.into();
            let bytes = text.trim().as_bytes();
            (bytes.len() >= SHORTEST).then(|| Box::<[u8]>::from(&bytes[..bytes.len().min(KNOWN_BYTES_MAX)]))
        };
        let sorted: BTreeSet<Box<[u8]>> = texts.into_iter().filter_map(known).collect();
        let mut hidden = Self::default();
        for text in sorted {
            // What begins with a shorter one comes right after it, with nothing between but others that do.
            if !hidden.texts.last().is_some_and(|shorter| text.starts_with(shorter)) {
                hidden.starts.extend(text.first_chunk::<SHORTEST>());
                hidden.texts.push(text);
            }
        }
        hidden
    }

    /// Whether one of them stands in the text.
    pub fn is_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let may_start =
            |window: &[u8]| window.first_chunk::<SHORTEST>().is_some_and(|start| self.starts.contains(start));
        let mut windows = bytes.windows(SHORTEST).enumerate();
        !self.texts.is_empty() && windows.any(|(at, window)| may_start(window) && self.is_start_of(&bytes[at..]))
    }

    /// Whether one of them stands in the value, which may write it in another way than its text does.
    pub fn is_in_value(&self, value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields.iter().any(|(name, field)| self.is_in(name) || self.is_in_value(field)),
            Value::Array(items) => items.iter().any(|item| self.is_in_value(item)),
            Value::String(text) => self.is_in(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// Whether a text that was cut ends with the start of one of them: of fewer bytes nobody learns anything.
    pub fn is_cut_in(&self, text: &str) -> bool {
        const FEWEST: usize = 3;
        let bytes = text.as_bytes();
        (FEWEST..=bytes.len().min(KNOWN_BYTES_MAX)).any(|length| {
            let end = &bytes[bytes.len() - length..];
            let at = self.texts.partition_point(|text| **text < *end);
            self.texts.get(at).is_some_and(|text| text.starts_with(end))
        })
    }

    fn is_start_of(&self, bytes: &[u8]) -> bool {
        let after = self.texts.partition_point(|text| **text <= *bytes);
        after.checked_sub(1).is_some_and(|at| bytes.starts_with(&self.texts[at]))
    }

    /// A JSON pointer with [`HIDDEN`] for names that are not told; says whether there are any.
    pub(super) fn pointer_without(&self, pointer: &str) -> (String, bool) {
        let mut hides = false;
        let names = pointer.split('/').map(|name| {
            let is_hidden = self.is_in(&unescaped(name));
            hides |= is_hidden;
            if is_hidden { HIDDEN } else { name }
        });
        let names: Vec<_> = names.collect();
        (names.join("/"), hides)
    }

    /// The value at that place, with [`HIDDEN`] for what is not told; says whether that is something.
    pub(super) fn without(&self, place: Place<'_>, pointer: &str, value: &Value) -> (Value, bool) {
        match value {
            Value::Object(fields) => {
                let (mut hides, mut unnamed) = (false, 0_usize);
                let mut told = serde_json::Map::new();
                for (name, field) in fields {
                    let place = Place { is_secret: place.is_secret || holds_secrets(value, name), ..place };
                    let (field, is_hidden) = self.without(place, &format!("{pointer}/{}", escaped(name)), field);
                    hides |= is_hidden;
                    let name = if self.is_in(name) {
                        (hides, unnamed) = (true, unnamed + 1);
                        // A map has each name once.
                        if unnamed == 1 { HIDDEN.to_owned() } else { format!("{HIDDEN} {unnamed}") }
                    } else {
                        name.clone()
                    };
                    told.insert(name, field);
                }
                (Value::Object(told), hides)
            }
            Value::Array(items) => {
                let mut hides = false;
                let items = (0_usize..).zip(items).map(|(at, item)| {
                    let (item, hidden) = self.without(place, &format!("{pointer}/{at}"), item);
                    hides |= hidden;
                    item
                });
                (Value::Array(items.collect()), hides)
            }
            _ if place.is_hidden(pointer) => (HIDDEN.into(), true),
            Value::String(text) if self.is_in(text) => (HIDDEN.into(), true),
            Value::Number(number) if self.is_in(&number.to_string()) => (HIDDEN.into(), true),
            other => (other.clone(), false),
        }
    }
}

/// Where a value stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) key: &'a ObjectKey,
    /// It is of what a Secret within the object holds.
    pub(super) is_secret: bool,
}

impl Place<'_> {
    /// Whether nothing of what stands at a pointer of the object is told.
    pub(super) fn is_hidden(self, pointer: &str) -> bool {
        let below =
            |field: &str| pointer.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if self.is_secret || is_secret_kind(&self.key.kind) && (below("/data") || below("/stringData")) {
            return true;
        }
        let annotation = pointer.rsplit_once("/annotations/").map(|(_, name)| name);
        annotation.is_some_and(|name| name == LAST_APPLIED || name == SEALED || name.starts_with(CHECKSUM))
    }
}

/// Whether the field of that name of a map is what a Secret holds.
pub(super) fn holds_secrets(map: &Value, name: &str) -> bool {
    matches!(name, "data" | "stringData") && map["kind"].as_str().is_some_and(is_secret_kind)
}

/// All that Secrets hold as texts: that of the object, if it is one, and of those that stand within it, as in a template that
/// a controller makes Secrets of.
pub fn texts_held(object: &Value) -> Vec<String> {
    let mut texts = Vec::new();
    collect(object, false, &mut texts);
    texts
}

fn collect(value: &Value, is_secret: bool, texts: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                collect(field, is_secret || holds_secrets(value, name), texts);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, is_secret, texts)),
        Value::String(text) if is_secret => texts.push(text.clone()),
        Value::Number(number) if is_secret => texts.push(number.to_string()),
        _ => {}
    }
}

/// As JSON pointers have it.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(hidden: &Hidden, kind: &str, pointer: &str, value: &Value) -> (Value, bool) {
        let key = ObjectKey { api_version: "v1".into(), kind: kind.into(), namespace: None, name: "a".into() };
        hidden.without(Place { key: &key, is_secret: false }, pointer, value)
    }

    #[test]
    fn what_a_secret_holds_is_hidden_in_it_and_wherever_else_it_stands() {
        let hidden = Hidden::new(["hunter2", "yes", "  "]);
        let secret = json!({"kind": "Secret", "type": "Opaque", "data": {"a": "aHVudGVyMg==", "b": {"c": 1}},
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x", "other": "told"}}});

        let (shown, hides) = told(&hidden, "Secret", "", &secret);

        assert!(hides);
        assert_eq!(shown["data"], json!({"a": HIDDEN, "b": {"c": HIDDEN}}));
        assert_eq!(shown["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"], HIDDEN);
        assert_eq!((&shown["type"], &shown["metadata"]["annotations"]["other"]), (&json!("Opaque"), &json!("told")));
        let map = json!({"data": {"url": "postgres://a:hunter2@db", "b": "yes it is"}});
        let (shown, _) = told(&hidden, "ConfigMap", "", &map);
        assert_eq!(shown, json!({"data": {"url": HIDDEN, "b": "yes it is"}}));
    }

    #[test]
    fn a_digest_of_a_secret_is_told_in_no_annotation() {
        let pod = json!({"annotations": {"checksum/secret": "0123", "prometheus.io/scrape": "true"}});

        let (shown, hides) = told(&Hidden::default(), "Deployment", "/spec/template/metadata", &pod);

        assert!(hides);
        assert_eq!(shown, json!({"annotations": {"checksum/secret": HIDDEN, "prometheus.io/scrape": "true"}}));
    }

    #[test]
    fn what_a_secret_within_another_object_holds_is_hidden_and_known() {
        let held = json!({"a": "hunter2", "b": {"c": [1_234_567, true]}});
        let secret = json!({"kind": "SopsSecret", "type": "a", "stringData": held});
        let template = json!({"spec": {"template": [secret, {"kind": "ConfigMap", "data": {"a": "told"}}]}});

        let (shown, hides) = told(&Hidden::default(), "Template", "", &template);

        assert!(hides);
        let within = &shown["spec"]["template"];
        assert_eq!(within[0]["stringData"], json!({"a": HIDDEN, "b": {"c": [HIDDEN, HIDDEN]}}));
        assert_eq!((&within[0]["type"], &within[1]["data"]["a"]), (&json!("a"), &json!("told")));
        assert_eq!(texts_held(&template), ["hunter2", "1234567"]);
    }

    #[test]
    fn numbers_and_names_that_are_texts_of_a_secret_are_hidden_too() {
        let hidden = Hidden::new(["123456", "hunter2"]);
        let map = json!({"data": {"port": 123_456, "hunter2": "a", "my-hunter2": "b", "other": 12_345}});

        let (shown, hides) = told(&hidden, "Template", "", &map);

        assert!(hides);
        let expected = json!({"data": {"port": HIDDEN, "(hidden)": "a", "(hidden) 2": "b", "other": 12_345}});
        assert_eq!(shown, expected);
        assert_eq!(hidden.pointer_without("/data/hunter2/x"), ("/data/(hidden)/x".to_owned(), true));
        assert_eq!(hidden.pointer_without("/data/a~1b"), ("/data/a~1b".to_owned(), false));
    }

    #[test]
    fn each_text_is_found_wherever_it_stands_and_nothing_else() {
        let texts = ["aaaaaa", "aaaaaab", "aaaaac", "abcdefgh", "abcdefxyz", "zzzzzz-long"];
        let hidden = Hidden::new(texts);

        for text in texts {
            assert!(hidden.is_in(text) && hidden.is_in(&format!("é{text}é")), "{text}");
        }
        for other in ["", "aaaaa", "aaaaab", "abcdefg", "abcdefxy", "zzzzzz", "zzzzzz-lon", "ab cdefgh"] {
            assert!(!hidden.is_in(other), "{other}");
        }
        assert!(!Hidden::default().is_in("aaaaaa"));
    }

    #[test]
    fn a_long_text_is_known_by_how_it_begins() {
        let long = "0123456789".repeat(100);
        let hidden = Hidden::new([long.clone()]);

        assert!(hidden.is_in(&long) && hidden.is_in(&long[..KNOWN_BYTES_MAX]));
        assert!(!hidden.is_in(&long[..KNOWN_BYTES_MAX - 1]));
    }

    #[test]
    fn the_texts_are_printed_by_nobody() {
        assert!(!format!("{:?}", Hidden::new(["hunter2"])).contains("hunter"));
    }
}
