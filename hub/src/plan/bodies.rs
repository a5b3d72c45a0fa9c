//! Objects that are compared: those of the head are in memory, those of what clusters are assigned are stored.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_core::Digest;
use bellwether_core::object::OBJECT_BYTES_MAX;
use bellwether_core::plan::{Step, texts_held};
use bellwether_core::sealed;
use bellwether_proto::compression;
use serde_json::Value;

use crate::Hub;
use crate::bundle::planned::HELD_BYTES_MAX;
use crate::store::StoreError;

/// Compressed, with 1.5 MiB each at the very most.
const OBJECTS_AT_ONCE: usize = 50;

/// How the kind of an object ends, or of one within it, that holds what is hidden.
const KIND_OF_SECRETS: &[u8] = br#"Secret""#;

/// Canonical JSON, by digest. One that is lost, or too much together with the others, is not there; and nothing is beside a
/// Secret that is not: nobody knows what to hide.
pub(super) struct Bodies(BTreeMap<Digest, Vec<u8>>);

impl Bodies {
    /// Secrets first: what they hold is hidden in the others.
    pub(super) async fn load(
        hub: &Hub,
        mut bodies: BTreeMap<Digest, Vec<u8>>,
        steps: &BTreeSet<Step>,
        secrets: &BTreeSet<Digest>,
    ) -> Result<Self, StoreError> {
        let compared: BTreeSet<_> = steps.iter().flat_map(|step| [step.before, step.after]).flatten().collect();
        // Of what is in the head as well nothing is read.
        bodies.retain(|digest, _| compared.contains(digest) || secrets.contains(digest));
        let others = compared.difference(secrets);
        let missing: Vec<_> =
            secrets.iter().chain(others).filter(|digest| !bodies.contains_key(digest)).copied().collect();
        let mut left = HELD_BYTES_MAX;
        'all: for some in missing.chunks(OBJECTS_AT_ONCE) {
            for (digest, frame) in hub.content.load_objects(&hub.requests, some).await? {
                let body = compression::decompress(&frame, OBJECT_BYTES_MAX).filter(|body| Digest::of(body) == digest);
                let Some(body) = body else { continue };
                let Some(rest) = left.checked_sub(body.len()) else { break 'all };
                left = rest;
                bodies.insert(digest, body);
            }
        }
        Ok(Self::beside(secrets, bodies))
    }

    fn beside(secrets: &BTreeSet<Digest>, bodies: BTreeMap<Digest, Vec<u8>>) -> Self {
        let is_known = secrets.iter().all(|digest| bodies.contains_key(digest));
        Self(if is_known { bodies } else { BTreeMap::new() })
    }

    /// Whether all of these could be read, so that it is known what to hide.
    pub(super) fn has_all(&self, secrets: &BTreeSet<Digest>) -> bool {
        secrets.iter().all(|digest| self.0.contains_key(digest))
    }

    pub(super) fn read(&self, digest: Option<Digest>) -> Option<Value> {
        let object: Value = serde_json::from_slice(self.0.get(&digest?)?).ok()?;
        // Of what is sealed, which values changed can be told by their cipher.
        Some(sealed::shape(&object).unwrap_or(object))
    }

    /// What Secrets hold, in each way in which it may stand elsewhere: as it is, in base64, and line by line. Also of those that
    /// stand within another object.
    pub(super) fn texts_of(&self, secrets: &BTreeSet<Digest>) -> BTreeSet<String> {
        let mut texts = BTreeSet::new();
        for (digest, body) in &self.0 {
            let may_hold = || body.windows(KIND_OF_SECRETS.len()).any(|bytes| bytes == KIND_OF_SECRETS);
            if !secrets.contains(digest) && !may_hold() {
                continue;
            }
            let held = self.read(Some(*digest)).map(|object| texts_held(&object)).unwrap_or_default();
            for text in held {
                let decoded = STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                for text in decoded.into_iter().chain([text]) {
                    texts.extend(text.lines().map(|line| line.trim().to_owned()));
                    // Files end with a line break, and what is typed does not.
                    texts.extend([STANDARD.encode(&text), STANDARD.encode(text.trim())]);
                    texts.insert(text);
                }
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::plan::Hidden;
    use serde_json::json;

    use super::*;

    fn stored(objects: &[Value]) -> BTreeMap<Digest, Vec<u8>> {
        let body = |object: &Value| object.to_string().into_bytes();
        objects.iter().map(body).map(|body| (Digest::of(&body), body)).collect()
    }

    #[test]
    fn what_a_secret_holds_is_known_as_it_is_in_base64_and_line_by_line() {
        let secret = json!({"kind": "Secret", "data": {"a": STANDARD.encode("hunter2\nshort-line\nab\n")}});
        let template = json!({"kind": "Template", "spec": {"kind": "Secret", "stringData": {"b": "in-a-template"}}});
        let other = json!({"kind": "ConfigMap", "data": {"c": "told to all"}});
        let all = stored(&[secret.clone(), template, other]);
        let secrets: BTreeSet<_> = stored(&[secret]).into_keys().collect();

        let hidden = Hidden::new(Bodies::beside(&secrets, all).texts_of(&secrets));

        for text in ["x hunter2", "short-line", "in-a-template"] {
            assert!(hidden.is_in(text), "{text}");
        }
        for text in ["hunter2\nshort-line\nab\n", "hunter2\nshort-line\nab", "in-a-template"] {
            assert!(hidden.is_in(&STANDARD.encode(text)), "{text}");
        }
        assert!(!hidden.is_in("ab") && !hidden.is_in("told to all"));
    }

    #[test]
    fn beside_a_secret_that_is_lost_nothing_is_read() {
        let (secret, other) = (json!({"kind": "Secret"}), json!({"kind": "ConfigMap"}));
        let secrets: BTreeSet<_> = stored(std::slice::from_ref(&secret)).into_keys().collect();
        let of_other = stored(std::slice::from_ref(&other));
        let digest = of_other.keys().next().copied();

        assert_eq!(Bodies::beside(&secrets, of_other).read(digest), None);
        assert_eq!(Bodies::beside(&secrets, stored(&[secret, other.clone()])).read(digest), Some(other));
    }
}
