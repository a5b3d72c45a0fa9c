//! Secrets as an API server keeps them. What it would refuse is refused here: its errors quote values, ours name fields.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Draft, empty_for_null};
use crate::error::RenderError;
use crate::yaml::is_go_base64;

impl Draft<'_> {
    /// What the API server would do with `stringData` on writing; done here so that drift can be seen.
    pub(super) fn complete_secret(&mut self) -> Result<(), RenderError> {
        if self.object["kind"] != "Secret" || self.object["apiVersion"] != "v1" {
            return Ok(());
        }
        let data = self.take_texts("data")?;
        if let Some((key, _)) = data.iter().flatten().find(|(_, text)| !is_go_base64(text)) {
            let at = self.origin.place_of(&["data", key]);
            return Err(RenderError::NotBase64 { at, field: format!("data.{key}") });
        }
        let texts = self.take_texts("stringData")?;
        if data.is_none() && texts.is_none() {
            return Ok(());
        }
        let encoded = texts.into_iter().flatten().map(|(key, text)| (key, STANDARD.encode(text)));
        let fields = data.into_iter().flatten().chain(encoded).map(|(key, text)| (key, Value::String(text)));
        self.object.insert("data".to_owned(), Value::Object(fields.collect::<Map<_, _>>()));
        Ok(())
    }

    /// Takes a map out of the object, of which every value must be a string.
    fn take_texts(&mut self, field: &str) -> Result<Option<Vec<(String, String)>>, RenderError> {
        let fields = match self.object.remove(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(fields)) => fields,
            Some(other) => return Err(self.wrong_type(&[field], &other, "a map")),
        };
        let texts = fields.into_iter().map(|(key, mut value)| {
            empty_for_null(&mut value);
            match value {
                Value::String(text) => Ok((key, text)),
                other => Err(self.wrong_type(&[field, &key], &other, "a string")),
            }
        });
        texts.collect::<Result<_, _>>().map(Some)
    }
}
