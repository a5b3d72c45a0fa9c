//! Whose an object is: the marks of its target, and nothing that only an API server may write.

use bellwether_core::ObjectKey;
use bellwether_core::hooks::{HOOK_ANNOTATION, UPGRADE};
use bellwether_core::object::{OWNER_ANNOTATION, TARGET_LABEL};
use bellwether_core::reserved::{is_of_an_agent, is_reserved};
use serde_json::{Map, Value};

use super::{Draft, empty_for_null};
use crate::error::RenderError;
use crate::{Marks, Recipe};

/// What an API server writes into metadata, and nobody else may.
const SERVER_SET: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];

impl Draft<'_> {
    pub(super) fn complete_metadata(&mut self, recipe: &Recipe) -> Result<(), RenderError> {
        for field in SERVER_SET {
            self.metadata().remove(field);
        }
        let target = |marks: &Marks| (TARGET_LABEL, marks.target.as_uuid().simple().to_string());
        self.complete_texts("labels", recipe.marks.as_ref().map(target))?;
        self.complete_texts("annotations", recipe.marks.as_ref().map(|marks| (OWNER_ANNOTATION, marks.owner.clone())))
    }

    /// An agent's namespace holds its journal and its identity. A target that wrote there, or over the rights that it
    /// was installed with, could take the agent over or keep it from starting again.
    pub(super) fn check_not_the_agents(&self, key: &ObjectKey, recipe: &Recipe) -> Result<(), RenderError> {
        if is_of_an_agent(key, |name| recipe.agents.contains(name)) {
            return Err(RenderError::OfTheAgent { at: self.origin.start(), key: Box::new(key.clone()) });
        }
        Ok(())
    }

    /// Adds to `metadata.labels` or `metadata.annotations`, of which every value must be a string.
    fn complete_texts(&mut self, field: &str, added: Option<(&str, String)>) -> Result<(), RenderError> {
        let is_there = self.metadata().get(field).is_some_and(|texts| !texts.is_null());
        let mut texts = match self.metadata().remove(field) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(mut texts)) => {
                texts.values_mut().for_each(empty_for_null);
                texts
            }
            Some(other) => return Err(self.wrong_type(&["metadata", field], &other, "a map")),
        };
        if let Some((name, other)) = texts.iter().find(|(_, value)| !value.is_string()) {
            return Err(self.wrong_type(&["metadata", field, name], other, "a string"));
        }
        // What `bellwether render` printed may be committed.
        let is_printed = |name: &str, value: &Value| (name, value.as_str()) == (HOOK_ANNOTATION, Some(UPGRADE));
        if let Some((name, _)) = texts.iter().find(|(name, value)| is_reserved(name) && !is_printed(name, value)) {
            let at = self.origin.place_of(&["metadata", field, name]);
            return Err(RenderError::MetadataReserved { at, field: format!("metadata.{field}.{name}") });
        }
        texts.extend(added.map(|(key, value)| (key.to_owned(), Value::String(value))));
        if texts.is_empty() && !is_there {
            return Ok(());
        }
        self.metadata().insert(field.to_owned(), Value::Object(texts));
        Ok(())
    }
}
