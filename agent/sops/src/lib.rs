//! Opens Secrets that SOPS sealed, in memory, with keys that only a cluster has.
//!
//! Takes the overlay that a hub sent and gives the object that is applied. It reads no file, asks no service, and has no error that
//! holds a value. What such a document has to be, and what it has to be called, is decided in [`bellwether_core::sealed`]; `keys` gets
//! at the key of one document, `cipher` at a value, `tree` opens all of them in their order and checks the MAC, and `secret` makes of
//! it what an API server keeps.

mod cipher;
mod keys;
mod secret;
mod tree;

use bellwether_core::object::canonical_json;
use bellwether_core::sealed::{self, Sealed, SealedError};
use serde_json::Value;

pub use keys::{Held, Keys};

/// Why a document was not opened. A recipient is a public key; nothing else of the document is told but where something is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Shape(#[from] SealedError),
    /// Whoever puts one into the cluster heals it.
    #[error("it is sealed for {}, and the cluster has the key of none that opens in namespace {namespace}", .recipients.join(", "))]
    NoKey { recipients: Vec<String>, namespace: String, held: Held },
    #[error("the key that it is sealed with cannot be read, though it is sealed for this cluster")]
    DataKey,
    #[error("`{0}` cannot be opened: it is not sealed, was changed, or comes from another place or document")]
    Value(String),
    #[error("its MAC is another one: something was changed, added, moved or taken out after it was sealed")]
    Mac,
    #[error("its `{0}` is no pattern that can be used")]
    Rule(&'static str),
    #[error("it has more names than are compared with its `{0}`")]
    Names(&'static str),
    #[error("`{field}` has to be {wanted}")]
    Type { field: String, wanted: &'static str },
}

/// The object to apply, as canonical JSON; `None`: the object is none that is sealed. The namespace is the one that it is applied
/// into, whatever it says itself: which of the keys may open it goes by that.
pub fn open(object: &Value, keys: &Keys, namespace: &str) -> Result<Option<Vec<u8>>, OpenError> {
    let Some(text) = sealed::text_of(object) else { return Ok(None) };
    let sealed = Sealed::read(text)?;
    let data_key = keys.data_key(&sealed.sops, namespace)?;
    let opened = tree::open(sealed, &data_key)?;
    let mut object = sealed::laid_on(opened, object)?;
    secret::complete(&mut object)?;
    Ok(Some(canonical_json(&object)))
}
