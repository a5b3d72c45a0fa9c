//! What a plan does not tell: what Secrets hold, wherever it stands, and digests of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::ObjectKey;

/// Stands in the place of what is not told. It is no base64: an API server takes it for no value of a Secret.
pub const HIDDEN: &str = "(hidden)";

/// What `kubectl apply` was given is repeated there.
const LAST_APPLIED: &str = "kubectl.kubernetes.io~1last-applied-configuration";

/// Charts have a digest of a ConfigMap or a Secret there, so that pods are made anew with it: who guesses what a Secret holds
/// could see that it is right.
const CHECKSUM: &str = "checksum~1";

/// A shorter value (`true`, `8080`) stands in too many places by chance.
const SHORTEST: usize = 6;

/// Texts that stand in Secrets of what is compared, and are hidden wherever else they stand.
#[derive(Clone, Default)]
pub struct Hidden {
    /// By how they begin, so that a text is looked through once.
    texts: BTreeMap<[u8; SHORTEST], BTreeSet<String>>,
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
        let mut hidden = Self::default();
        for text in texts {
            let text: String = text.into().trim().to_owned();
            if let Some(start) = text.as_bytes().first_chunk::<SHORTEST>() {
                hidden.texts.entry(*start).or_default().insert(text);
            }
        }
        hidden
    }

    /// Whether one of them stands in the text.
    pub fn is_in(&self, text: &str) -> bool {
        let starts_at = |(at, window): (usize, &[u8])| {
            let window: &[u8; SHORTEST] = window.try_into().expect("windows have that length");
            let known = self.texts.get(window)?;
            known.iter().any(|known| text.as_bytes()[at..].starts_with(known.as_bytes())).then_some(())
        };
        !self.texts.is_empty() && text.as_bytes().windows(SHORTEST).enumerate().find_map(starts_at).is_some()
    }

    /// Whether nothing of what stands at a pointer of an object is told.
    pub(super) fn is_place(key: &ObjectKey, pointer: &str) -> bool {
        // Whatever group the kind is of: what is called so holds secrets.
        let below =
            |field: &str| pointer.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if key.kind == "Secret" && (below("/data") || below("/stringData")) {
            return true;
        }
        let annotation = pointer.rsplit_once("/annotations/").map(|(_, name)| name);
        annotation.is_some_and(|name| name == LAST_APPLIED || name.starts_with(CHECKSUM))
    }

    /// The value at that place, with [`HIDDEN`] for what is not told; says whether that is something.
    pub(super) fn without(&self, key: &ObjectKey, pointer: &str, value: &Value) -> (Value, bool) {
        match value {
            Value::Object(fields) => {
                let mut hides = false;
                let fields = fields.iter().map(|(name, value)| {
                    let (value, hidden) = self.without(key, &format!("{pointer}/{}", escaped(name)), value);
                    hides |= hidden;
                    (name.clone(), value)
                });
                (Value::Object(fields.collect()), hides)
            }
            Value::Array(items) => {
                let mut hides = false;
                let items = (0_usize..).zip(items).map(|(place, item)| {
                    let (item, hidden) = self.without(key, &format!("{pointer}/{place}"), item);
                    hides |= hidden;
                    item
                });
                (Value::Array(items.collect()), hides)
            }
            _ if Self::is_place(key, pointer) => (HIDDEN.into(), true),
            Value::String(text) if self.is_in(text) => (HIDDEN.into(), true),
            other => (other.clone(), false),
        }
    }
}

/// As JSON pointers have it.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(kind: &str) -> ObjectKey {
        ObjectKey { api_version: "v1".into(), kind: kind.into(), namespace: None, name: "a".into() }
    }

    #[test]
    fn what_a_secret_holds_is_hidden_in_it_and_wherever_else_it_stands() {
        let hidden = Hidden::new(["hunter2", "yes", "  "]);
        let secret = json!({"kind": "Secret", "type": "Opaque", "data": {"a": "aHVudGVyMg==", "b": {"c": 1}},
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x", "other": "told"}}});

        let (told, hides) = hidden.without(&key("Secret"), "", &secret);

        assert!(hides);
        assert_eq!(told["data"], json!({"a": HIDDEN, "b": {"c": HIDDEN}}));
        assert_eq!(told["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"], HIDDEN);
        assert_eq!((&told["type"], &told["metadata"]["annotations"]["other"]), (&json!("Opaque"), &json!("told")));
        let map = json!({"data": {"url": "postgres://a:hunter2@db", "b": "yes it is"}});
        let (told, _) = hidden.without(&key("ConfigMap"), "", &map);
        assert_eq!(told, json!({"data": {"url": HIDDEN, "b": "yes it is"}}));
    }

    #[test]
    fn a_digest_of_a_secret_is_told_in_no_annotation() {
        let pod = json!({"annotations": {"checksum/secret": "0123", "prometheus.io/scrape": "true"}});

        let (told, hides) = Hidden::default().without(&key("Deployment"), "/spec/template/metadata", &pod);

        assert!(hides);
        assert_eq!(told, json!({"annotations": {"checksum/secret": HIDDEN, "prometheus.io/scrape": "true"}}));
    }

    #[test]
    fn the_texts_are_printed_by_nobody() {
        assert!(!format!("{:?}", Hidden::new(["hunter2"])).contains("hunter"));
    }
}
