//! A Secret as an API server keeps it. What that would refuse is refused here: its errors quote values, ours name fields.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::OpenError;

/// Puts `stringData` into `data`, as an API server does on writing, so that drift can be seen.
pub(crate) fn complete(secret: &mut Value) -> Result<(), OpenError> {
    check(secret, "type", "a text", |value| value.is_string() || value.is_null())?;
    check(secret, "immutable", "`true` or `false`", |value| value.is_boolean() || value.is_null())?;
    let data = take_texts(secret, "data")?;
    let is_base64 = |text: &str| STANDARD.decode(text.replace(['\r', '\n'], "")).is_ok();
    if let Some((key, _)) = data.iter().flatten().find(|(_, text)| !is_base64(text)) {
        return Err(OpenError::Type { field: format!("data.{key}"), wanted: "base64, or to stand in `stringData`" });
    }
    let texts = take_texts(secret, "stringData")?;
    if data.is_none() && texts.is_none() {
        return Ok(());
    }
    let encoded = texts.into_iter().flatten().map(|(key, text)| (key, STANDARD.encode(text)));
    let fields = data.into_iter().flatten().chain(encoded).map(|(key, text)| (key, Value::String(text)));
    secret["data"] = Value::Object(fields.collect::<Map<_, _>>());
    Ok(())
}

fn check(secret: &Value, field: &str, wanted: &'static str, is_it: fn(&Value) -> bool) -> Result<(), OpenError> {
    if secret.get(field).is_none_or(is_it) { Ok(()) } else { Err(OpenError::Type { field: field.to_owned(), wanted }) }
}

/// Takes a map out of the object, of which every value must be a text.
fn take_texts(secret: &mut Value, field: &str) -> Result<Option<Vec<(String, String)>>, OpenError> {
    let fields = match secret.as_object_mut().and_then(|secret| secret.remove(field)) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(OpenError::Type { field: field.to_owned(), wanted: "a map" }),
    };
    let texts = fields.into_iter().map(|(key, value)| match value {
        Value::String(text) => Ok((key, text)),
        Value::Null => Ok((key, String::new())),
        _ => Err(OpenError::Type {
            field: format!("{field}.{key}"),
            wanted: "a text: put it into quotes before it is sealed",
        }),
    });
    texts.collect::<Result<_, _>>().map(Some)
}
