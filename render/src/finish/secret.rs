//! Secrets as an API server keeps them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::Draft;
use crate::error::RenderError;

impl Draft<'_> {
    /// What the API server would do with `stringData` on writing; done here so that drift can be seen.
    pub(super) fn encode_secret(&mut self) -> Result<(), RenderError> {
        if self.object["kind"] != "Secret" || self.object["apiVersion"] != "v1" {
            return Ok(());
        }
        let texts = match self.object.remove("stringData") {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Object(texts)) => texts,
            Some(other) => return Err(self.wrong_type(&["stringData"], &other, "a map")),
        };
        let mut data = match self.object.remove("data") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(data)) => data,
            Some(other) => return Err(self.wrong_type(&["data"], &other, "a map")),
        };
        for (key, value) in texts {
            let Value::String(text) = &value else {
                return Err(self.wrong_type(&["stringData", &key], &value, "a string"));
            };
            data.insert(key, Value::String(STANDARD.encode(text)));
        }
        self.object.insert("data".to_owned(), Value::Object(data));
        Ok(())
    }
}
