//! How large what comes out may be.

use bellwether_core::object::{OBJECT_BYTES_MAX, canonical_json};
use bellwether_core::{Digest, ObjectKey};
use serde_json::Value;

use super::Origin;
use crate::RenderedObject;
use crate::error::RenderError;

/// What a target renders to for one cluster, uncompressed: an agent takes no more compressed before it is told what for,
/// and a hub holds as much in memory for each render that it works on.
const BUNDLE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the objects of one bundle have together, counted as they are made.
#[derive(Default)]
pub(crate) struct BundleLimit {
    bytes: usize,
}

impl BundleLimit {
    pub(crate) fn add(&mut self, object: &RenderedObject) -> Result<(), RenderError> {
        self.bytes += object.body.len();
        if self.bytes > BUNDLE_BYTES_MAX { Err(RenderError::BundleTooLarge { max: BUNDLE_BYTES_MAX }) } else { Ok(()) }
    }
}

/// The object's bytes and their digest, if an API server would take so many.
pub(super) fn sealed(origin: Origin<'_>, key: ObjectKey, object: &Value) -> Result<RenderedObject, RenderError> {
    let body = canonical_json(object);
    if body.len() > OBJECT_BYTES_MAX {
        return Err(RenderError::TooLarge { at: origin.start(), key: key.to_string() });
    }
    let digest = Digest::of(&body);
    Ok(RenderedObject { key, body, digest, place: origin.start() })
}
