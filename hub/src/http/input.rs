//! What people send: JSON bodies and names in paths, with refusals that say what is wrong and what was meant.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bellwether_core::{Name, nearest};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Refusal;
use crate::Hub;

/// A JSON body. Unknown fields are refused by the documents; the nearest known one is suggested.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Hub>> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, hub: &Arc<Hub>) -> Result<Self, Refusal> {
        let bytes = tokio::time::timeout(BODY_DEADLINE, Bytes::from_request(request, hub))
            .await
            .map_err(|_| too_slow())?
            .map_err(|rejection| Refusal::new(rejection.status(), "body_unreadable", rejection.body_text()))?;
        check_text(&bytes)?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let read = serde_path_to_error::deserialize(&mut json).map_err(|error| unreadable(&error))?;
        json.end().map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "body_invalid", plain(&error.to_string())))?;
        Ok(Self(read))
    }
}

/// What is wrong, and in which field: `spec.rollout.waves[0].soak`. Of a field that nobody knows the name is in the message.
fn unreadable(error: &serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    let message = error.inner().to_string();
    let hint = suggest(&message);
    if message.starts_with("unknown field") {
        return Refusal::new(StatusCode::BAD_REQUEST, "unknown_field", plain(&message)).maybe_hint(hint);
    }
    let text = match error.path().to_string() {
        // The whole body.
        path if path == "." => plain(&message),
        path => format!("`{path}`: {}", plain(&message)),
    };
    Refusal::new(StatusCode::BAD_REQUEST, "body_invalid", text).maybe_hint(hint)
}

/// A megabyte over a slow line; who needs longer holds a connection for nothing.
pub(super) const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// A reason is read by people, and kept for ever.
const REASON_BYTES_MAX: usize = 4 * 1024;

pub(super) fn too_slow() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "the body did not arrive within 10 s")
}

/// What no row can hold, or nobody wants to read. A body that is no JSON is told by whoever reads it.
fn check_text(body: &[u8]) -> Result<(), Refusal> {
    let refused = |detail: String| Err(Refusal::new(StatusCode::BAD_REQUEST, "text_invalid", detail));
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Ok(()) };
    if holds_nul(&value) {
        return refused("a text holds the character U+0000, which cannot be stored".to_owned());
    }
    match value.get("reason").and_then(Value::as_str) {
        Some(reason) if reason.len() > REASON_BYTES_MAX => {
            refused(format!("`reason` has {} bytes, more than {REASON_BYTES_MAX}", reason.len()))
        }
        _ => Ok(()),
    }
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// Without the place in the JSON, which the person never saw.
fn plain(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(text, _)| text).to_owned()
}

/// "unknown field `replcias`, expected one of `replicas`, `image`" → the nearest of those that were expected.
fn suggest(message: &str) -> Option<String> {
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    let nearest = nearest(unknown, words)?;
    Some(format!("did you mean `{nearest}`?"))
}

/// The `{name}` of a path.
pub(super) struct Named(pub(super) Name);

impl FromRequestParts<Arc<Hub>> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Refusal> {
        let Path(text) = Path::<String>::from_request_parts(parts, hub)
            .await
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "name_invalid", "the path has no name"))?;
        let name = text.parse::<Name>();
        name.map(Self).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "name_invalid", error.to_string()))
    }
}

/// `?a=b`, with refusals like those of bodies.
pub(super) struct QueryParams<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Hub>> for QueryParams<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Refusal> {
        let Query(parameters) = Query::<T>::from_request_parts(parts, hub).await.map_err(|rejection| {
            let message = rejection.body_text();
            Refusal::new(StatusCode::BAD_REQUEST, "query_invalid", message.clone()).maybe_hint(suggest(&message))
        })?;
        Ok(Self(parameters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_field_is_suggested() {
        let message = "unknown field `replcias`, expected one of `replicas`, `image` at line 1 column 9";

        assert_eq!(suggest(message).as_deref(), Some("did you mean `replicas`?"));
        assert_eq!(suggest("unknown field `zzz`, expected `replicas` at line 1 column 9"), None);
        assert_eq!(plain(message), "unknown field `replcias`, expected one of `replicas`, `image`");
    }
}
