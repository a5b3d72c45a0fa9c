//! How large what comes out may be.

use bellwether_core::object::{OBJECT_BYTES_MAX, canonical_json};
use bellwether_core::{Digest, ObjectKey};
use serde_json::Value;

use super::Origin;
use crate::RenderedObject;
use crate::error::RenderError;

/// The object's bytes and their digest, if an API server would take so many.
pub(super) fn sealed(origin: Origin<'_>, key: ObjectKey, object: &Value) -> Result<RenderedObject, RenderError> {
    let body = canonical_json(object);
    if body.len() > OBJECT_BYTES_MAX {
        return Err(RenderError::TooLarge { at: origin.start(), key: key.to_string() });
    }
    let digest = Digest::of(&body);
    Ok(RenderedObject { key, body, digest })
}
