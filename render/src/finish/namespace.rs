//! Where an object lives: the namespace that it names, or the target's.

use bellwether_core::{Name, ObjectKey};
use serde_json::Value;

use super::Draft;
use super::scopes::{Scope, Scopes};
use crate::Recipe;
use crate::error::RenderError;

impl Draft<'_> {
    pub(super) fn place_in_namespace(&mut self, recipe: &Recipe, scopes: &Scopes) -> Result<ObjectKey, RenderError> {
        let path = ["metadata", "namespace"];
        let written = match self.metadata().remove("namespace") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text).filter(|text| !text.is_empty()),
            Some(other) => return Err(self.wrong_type(&path, &other, "a string")),
        };
        if let Some(written) = written.as_ref().filter(|written| written.parse::<Name>().is_err()) {
            return Err(self.not_a_segment("metadata.namespace", &path, written));
        }
        let mut key = self.key();
        let scope = scopes.of(&key);
        key.namespace = match scope {
            // An API server passes over a namespace here; so the same object is not written twice.
            Scope::Cluster => None,
            Scope::Namespaced | Scope::Unknown => written.or_else(|| recipe.namespace.clone()),
        };
        if let Some(namespace) = &key.namespace {
            self.metadata().insert("namespace".to_owned(), Value::from(namespace.as_str()));
        } else if scope == Scope::Namespaced {
            let at = self.origin.start();
            return Err(RenderError::NamespaceMissing { at, key: Box::new(key) });
        }
        Ok(key)
    }
}
