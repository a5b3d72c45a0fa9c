//! The namespace that a target's objects are in when they name none: it is made where it is absent, if the target asks for
//! that. Decides; asks nobody.
//!
//! It is no object of the target: it has no label, is in no inventory, and goes with nothing. Its annotations say that it was made
//! once, and for whom, as on what a target has left, so that a Namespace of that name in a bundle of the project has it later.

use serde_json::json;

use super::bodies::Body;
use super::metadata::Metadata;
use super::step::Step;
use super::target::Target;
use crate::apply::{APPLY_ANNOTATION, ONCE};
use crate::object::{Identity, OWNER_ANNOTATION, TARGET_LABEL, canonical_json};
use crate::{Name, ObjectKey};

impl Target {
    /// Unless the bundle has it: then it is what Git says, and comes at its time.
    pub(super) fn namespace_to_make(&self) -> Option<Name> {
        let namespace = self.assignment.namespace.as_ref().filter(|_| self.assignment.options.create_namespace)?;
        let is_in_bundle = self.objects.contains(&Identity::of(&namespace_key(namespace.as_str())));
        (!is_in_bundle).then(|| namespace.clone())
    }
}

impl Step {
    /// What is to be made where this namespace is missing for the step's object, and its name; `None`: it is not the target's to
    /// make. `body` is what is applied: its owner is for whom.
    pub fn own_namespace(&self, missing: &str, body: &Body) -> Option<(ObjectKey, Vec<u8>)> {
        self.makes_namespace.as_ref().filter(|namespace| namespace.as_str() == missing)?;
        let owner = Metadata::of(body.bytes()).ok().and_then(|mut it| it.annotations.remove(OWNER_ANNOTATION));
        let mut annotations = json!({APPLY_ANNOTATION: ONCE});
        if let Some(owner) = owner {
            annotations[OWNER_ANNOTATION] = owner.into();
        }
        let metadata = json!({"name": missing, "annotations": annotations});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        Some((namespace_key(missing), canonical_json(&object)))
    }
}

/// Whether what is there says that it was made like this and is nobody's object; its managers say by whom.
pub fn is_made_namespace(key: &ObjectKey, there: &Metadata) -> bool {
    (key.group(), key.kind.as_str()) == ("", "Namespace")
        && there.annotations.get(APPLY_ANNOTATION).is_some_and(|word| word == ONCE)
        && there.annotations.contains_key(OWNER_ANNOTATION)
        && !there.labels.contains_key(TARGET_LABEL)
}

pub(super) fn namespace_key(name: &str) -> ObjectKey {
    let (api_version, kind) = ("v1".to_owned(), "Namespace".to_owned());
    ObjectKey { api_version, kind, namespace: None, name: name.to_owned() }
}
