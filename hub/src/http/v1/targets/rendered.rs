//! What a cluster gets as an answer: a few objects at a time, as neither a large bundle nor a slow reader is to fill the
//! memory; and without what Secrets hold, unless that was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use bellwether_core::api::RenderedTarget;
use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::object::OBJECT_BYTES_MAX;
use bellwether_core::sealed::SEALED_ANNOTATION;
use bellwether_core::{Digest, ObjectKey};
use bellwether_proto::compression;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use crate::Hub;
use crate::store::StoreError;

/// Compressed, with 1.5 MiB each at the very most. Of these one at a time is unpacked.
const OBJECTS_AT_ONCE: usize = 4;

/// It is no base64: an API server takes it for no value of a Secret, should somebody apply what was shown.
const HIDDEN: &str = "(hidden)";

/// What `kubectl apply` was given is repeated here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("an object is stored no more, or cannot be read")]
    Object,
}

pub(super) fn is_secret(key: &ObjectKey) -> bool {
    key.api_version == "v1" && key.kind == "Secret"
}

/// The document, with the objects of the manifest in place of none. Should one be lost meanwhile, the answer ends in the
/// middle, and is no document.
pub(super) fn answer(hub: Arc<Hub>, document: &RenderedTarget, manifest: Manifest, with_secrets: bool) -> Response {
    let empty = serde_json::to_string(document).expect("a document is JSON");
    let head = empty.strip_suffix("]}").expect("its objects come last").to_owned();
    let objects = stream::try_unfold(0, move |at| {
        let (hub, manifest) = (Arc::clone(&hub), manifest.clone());
        async move {
            let some: Vec<_> = manifest.entries().iter().skip(at).take(OBJECTS_AT_ONCE).collect();
            if some.is_empty() {
                return Ok(None);
            }
            let piece = written(&hub, &some, with_secrets).await?;
            let separator = if at == 0 { "" } else { "," };
            Ok::<_, Lost>(Some((format!("{separator}{piece}"), at + OBJECTS_AT_ONCE)))
        }
    });
    let objects = objects.inspect_err(|error| {
        tracing::warn!(error = %crate::chain(error), "what a cluster gets could not be shown whole");
    });
    let ends = |text: String| stream::iter([Ok(text)]);
    let body = ends(head).chain(objects).chain(ends("]}".to_owned()));
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
}

async fn written(hub: &Hub, entries: &[&Entry], with_secrets: bool) -> Result<String, Lost> {
    let digests: Vec<_> = entries.iter().map(|entry| entry.digest).collect();
    let frames: BTreeMap<_, _> = hub.content.load_objects(&hub.requests, &digests).await?.into_iter().collect();
    let mut objects = Vec::new();
    for entry in entries {
        let frame = frames.get(&entry.digest).ok_or(Lost::Object)?;
        let body = compression::decompress(frame, OBJECT_BYTES_MAX).ok_or(Lost::Object)?;
        let body = String::from_utf8(body).ok().filter(|body| Digest::of(body.as_bytes()) == entry.digest);
        let body = body.ok_or(Lost::Object)?;
        let body = if with_secrets || !is_secret(&entry.key) { body } else { without_values(&body)? };
        let digest = serde_json::to_string(&entry.digest).expect("a digest is text");
        objects.push(format!(r#"{{"digest":{digest},"body":{body}}}"#));
    }
    Ok(objects.join(","))
}

/// The names of what a Secret holds, and of each nothing more.
fn without_values(secret: &str) -> Result<String, Lost> {
    let mut secret: Value = serde_json::from_str(secret).map_err(|_| Lost::Object)?;
    for field in ["data", "stringData"] {
        match secret.get_mut(field) {
            Some(Value::Object(values)) => values.values_mut().for_each(|value| *value = HIDDEN.into()),
            Some(other) if !other.is_null() => *other = HIDDEN.into(),
            _ => {}
        }
    }
    for annotation in [LAST_APPLIED, SEALED_ANNOTATION] {
        if let Some(repeated) = secret.pointer_mut("/metadata/annotations").and_then(|all| all.get_mut(annotation)) {
            *repeated = HIDDEN.into();
        }
    }
    Ok(secret.to_string())
}
