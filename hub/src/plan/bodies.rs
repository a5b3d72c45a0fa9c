//! Objects that are compared: those of the head are in memory, those of what clusters are assigned are stored.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_core::Digest;
use bellwether_core::object::OBJECT_BYTES_MAX;
use bellwether_core::plan::Step;
use bellwether_proto::compression;
use serde_json::Value;

use crate::Hub;
use crate::bundle::planned::HELD_BYTES_MAX;
use crate::store::StoreError;

/// Compressed, with 1.5 MiB each at the very most.
const OBJECTS_AT_ONCE: usize = 50;

/// A line of a Secret's text that is shorter says nothing by itself: `replicas: 3`, `[database]`.
const LINE_BYTES_MIN: usize = 16;

/// Canonical JSON, by digest. One that is lost, or too much together with the others, is not there.
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
        for some in missing.chunks(OBJECTS_AT_ONCE) {
            for (digest, frame) in hub.content.load_objects(&hub.requests, some).await? {
                let body = compression::decompress(&frame, OBJECT_BYTES_MAX).filter(|body| Digest::of(body) == digest);
                let Some(body) = body else { continue };
                let Some(rest) = left.checked_sub(body.len()) else { return Ok(Self(bodies)) };
                left = rest;
                bodies.insert(digest, body);
            }
        }
        Ok(Self(bodies))
    }

    pub(super) fn read(&self, digest: Option<Digest>) -> Option<Value> {
        serde_json::from_slice(self.0.get(&digest?)?).ok()
    }

    /// What Secrets hold, in each way in which it may stand elsewhere: as it is, in base64, and line by line.
    pub(super) fn texts_of(&self, secrets: &BTreeSet<Digest>) -> BTreeSet<String> {
        let mut texts = BTreeSet::new();
        for secret in secrets.iter().filter_map(|digest| self.read(Some(*digest))) {
            for field in ["data", "stringData"] {
                let Some(values) = secret[field].as_object() else { continue };
                for text in values.values().filter_map(Value::as_str) {
                    texts.insert(text.to_owned());
                    let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                    for text in decoded.iter().map(String::as_str).chain([text]) {
                        let lines = text.lines().map(str::trim).filter(|line| line.len() >= LINE_BYTES_MIN);
                        texts.extend(lines.map(str::to_owned));
                    }
                    texts.extend(decoded);
                }
            }
        }
        texts
    }
}
