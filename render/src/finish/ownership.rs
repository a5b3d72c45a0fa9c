//! Whose an object is: the marks of its target, and nothing that only an API server may write.

use bellwether_core::object::{OWNER_ANNOTATION, TARGET_LABEL};
use serde_json::{Map, Value};

use super::Draft;
use crate::Recipe;
use crate::error::RenderError;

/// What an API server writes into metadata, and nobody else may.
const SERVER_SET: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];

impl Draft<'_> {
    pub(super) fn complete_metadata(&mut self, recipe: &Recipe) -> Result<(), RenderError> {
        let target = recipe.target.as_uuid().simple().to_string();
        for field in SERVER_SET {
            self.metadata().remove(field);
        }
        self.complete_texts("labels", TARGET_LABEL, target)?;
        self.complete_texts("annotations", OWNER_ANNOTATION, recipe.owner.clone())
    }

    /// Adds to `metadata.labels` or `metadata.annotations`, of which every value must be a string.
    fn complete_texts(&mut self, field: &str, key: &str, value: String) -> Result<(), RenderError> {
        let mut texts = match self.metadata().remove(field) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(texts)) => texts,
            Some(other) => return Err(self.wrong_type(&["metadata", field], &other, "a map")),
        };
        if let Some((name, other)) = texts.iter().find(|(_, value)| !value.is_string()) {
            return Err(self.wrong_type(&["metadata", field, name], other, "a string"));
        }
        texts.insert(key.to_owned(), Value::String(value));
        self.metadata().insert(field.to_owned(), Value::Object(texts));
        Ok(())
    }
}
