//! The bytes of the objects that current assignments name, each once, for as long as one names it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;

use crate::Digest;
use crate::apply::{self, APPLY_ANNOTATION, ONCE, PHASE_ANNOTATION, Phase};
use crate::bundle::Entry;
use crate::hooks::{self, DeletePolicy, HOOK_ANNOTATION, UPGRADE};

/// An object as a bundle has it. It may be a Secret's, so nothing of it is ever printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(Arc<[u8]>);

impl Body {
    /// Its canonical JSON: what is sent to the API server, but for what is [yielded](crate::yielded).
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Arc<[u8]>> for Body {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

/// How an object asks to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) phase: Phase,
    /// It is only made where it is absent, and then left.
    pub(super) is_once: bool,
    pub(super) hook: Option<Hook>,
}

/// What a hook asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) policy: DeletePolicy,
    pub(super) occasion: Occasion,
}

/// With which bundles a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    Any,
    /// With the one that a target is installed with.
    Installation,
    /// With all others.
    Upgrades,
}

#[derive(Debug, Default)]
pub(super) struct Bodies {
    stored: HashMap<Digest, StoredBody>,
}

#[derive(Debug, Default)]
struct StoredBody {
    /// `None` when it was named and never came.
    bytes: Option<Body>,
    manner: Option<Manner>,
    /// How many lines of current assignments name it.
    names: usize,
}

impl Bodies {
    /// Counts what an assignment names. `arrived` has the bodies of those that are not stored already.
    pub(super) fn hold(&mut self, entries: &[Entry], arrived: &BTreeMap<Digest, Arc<[u8]>>) {
        for entry in entries {
            let stored = self.stored.entry(entry.digest).or_default();
            stored.names += 1;
            if stored.bytes.is_none()
                && let Some(body) = arrived.get(&entry.digest)
            {
                stored.manner = read_manner(entry, body);
                stored.bytes = Some(Arc::clone(body).into());
            }
        }
    }

    pub(super) fn release(&mut self, entries: &[Entry]) {
        for entry in entries {
            let Some(stored) = self.stored.get_mut(&entry.digest) else { continue };
            stored.names -= 1;
            if stored.names == 0 {
                self.stored.remove(&entry.digest);
            }
        }
    }

    pub(super) fn manner(&self, entry: &Entry) -> Manner {
        let known = self.stored.get(&entry.digest).and_then(|stored| stored.manner);
        let phase = || apply::phase(&entry.key, &BTreeMap::new());
        known.unwrap_or_else(|| Manner { phase: phase(), is_once: false, hook: None })
    }

    pub(super) fn find(&self, digest: Digest) -> Option<Body> {
        self.stored.get(&digest)?.bytes.clone()
    }
}

fn read_manner(entry: &Entry, body: &[u8]) -> Option<Manner> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    let object: Object = serde_json::from_slice(body).ok()?;
    let annotations = object.metadata.annotations.unwrap_or_default();
    let is_once = annotations.get(APPLY_ANNOTATION).is_some_and(|value| value == ONCE);
    let annotation = |name: &str| annotations.get(name).map(String::as_str);
    let occasion = match annotation(HOOK_ANNOTATION) {
        Some(UPGRADE) => Occasion::Upgrades,
        // What says itself when it is applied is as any other object.
        _ if annotation(PHASE_ANNOTATION).is_none() && hooks::is_of_installations(annotation) => Occasion::Installation,
        _ => Occasion::Any,
    };
    let hook = hooks::time(annotation).map(|_| Hook { policy: hooks::delete_policy(annotation), occasion });
    Some(Manner { phase: apply::phase(&entry.key, &annotations), is_once, hook })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectKey;

    fn entry(body: &str) -> Entry {
        let key = ObjectKey {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            namespace: None,
            name: body.to_owned(),
        };
        Entry { key, digest: Digest::of(body.as_bytes()) }
    }

    fn arrived(bodies: &[&str]) -> BTreeMap<Digest, Arc<[u8]>> {
        bodies.iter().map(|body| (Digest::of(body.as_bytes()), body.as_bytes().into())).collect()
    }

    #[test]
    fn a_body_stays_while_somebody_names_it() {
        let mut bodies = Bodies::default();
        let (a, b) = (entry("a"), entry("b"));

        bodies.hold(&[a.clone(), b.clone()], &arrived(&["a", "b"]));
        bodies.hold(std::slice::from_ref(&a), &arrived(&[]));
        bodies.release(&[a.clone(), b.clone()]);

        assert_eq!(bodies.find(a.digest).as_ref().map(Body::bytes), Some(&b"a"[..]));
        assert_eq!(bodies.find(b.digest), None);
    }

    #[test]
    fn phase_and_manner_are_what_the_annotations_say() {
        let mut bodies = Bodies::default();
        let body = r#"{"metadata":{"annotations":{"bellwether.dev/phase":"3","bellwether.dev/apply":"once"}}}"#;
        let (late, plain) = (entry(body), entry("{}"));

        bodies.hold(&[late.clone(), plain.clone()], &arrived(&[body, "{}"]));

        assert_eq!(bodies.manner(&late), Manner { phase: Phase::Main(3), is_once: true, hook: None });
        assert_eq!(bodies.manner(&plain), Manner { phase: Phase::Main(0), is_once: false, hook: None });
    }

    #[test]
    fn a_body_that_never_came_is_not_found_and_may_come_later() {
        let mut bodies = Bodies::default();
        let a = entry("a");

        bodies.hold(std::slice::from_ref(&a), &arrived(&[]));
        assert_eq!(bodies.find(a.digest), None);

        bodies.hold(std::slice::from_ref(&a), &arrived(&["a"]));
        bodies.release(std::slice::from_ref(&a));
        assert_eq!(bodies.find(a.digest).as_ref().map(Body::bytes), Some(&b"a"[..]));
    }
}
