//! What people send: JSON bodies and names in paths, with refusals that say what is wrong and what was meant.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bellwether_core::Name;
use serde::de::DeserializeOwned;

use super::problem::Refusal;
use crate::Hub;

/// A JSON body. Unknown fields are refused by the documents; the nearest known one is suggested.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Hub>> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, hub: &Arc<Hub>) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, hub)
            .await
            .map_err(|rejection| Refusal::new(rejection.status(), "body_unreadable", rejection.body_text()))?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let message = error.to_string();
            let code = if message.starts_with("unknown field") { "unknown_field" } else { "body_invalid" };
            Refusal::new(StatusCode::BAD_REQUEST, code, plain(&message)).maybe_hint(suggest(&message))
        })
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

/// The candidate that is most like a word, if one is like it at all.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|&(likeness, _)| likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
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
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Hub>> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Refusal> {
        let Query(asked) = Query::<T>::from_request_parts(parts, hub).await.map_err(|rejection| {
            let message = rejection.body_text();
            Refusal::new(StatusCode::BAD_REQUEST, "query_invalid", message.clone()).maybe_hint(suggest(&message))
        })?;
        Ok(Self(asked))
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
