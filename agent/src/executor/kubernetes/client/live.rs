//! An object as the API server has it, and how one is sent.

use bellwether_core::object::canonical_json;
use bellwether_core::reconcile::Metadata;
use serde_json::Value;
use uuid::Uuid;

use super::ClusterError;

/// What the API server answered to an apply.
pub(crate) struct Live {
    pub(crate) metadata: Metadata,
    /// The whole object, for those rules that need it.
    pub(crate) body: Vec<u8>,
}

/// How an object of a bundle is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sending {
    /// A manifest may give a namespace to what has none; kubectl drops it, the API server would refuse it.
    pub(super) drops_namespace: bool,
    /// The API server refuses the apply unless it is about the object with this uid.
    pub(super) uid: Option<Uuid>,
}

impl Sending {
    pub(super) fn prepare(self, object: &[u8]) -> Result<Vec<u8>, ClusterError> {
        if !self.drops_namespace && self.uid.is_none() {
            return Ok(object.to_vec());
        }
        let mut object: Value = serde_json::from_slice(object).map_err(|error| ClusterError::Rejected {
            reason: "BadRequest".to_owned(),
            message: format!("the object is not JSON: {error}"),
        })?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            if self.drops_namespace {
                metadata.remove("namespace");
            }
            if let Some(uid) = self.uid {
                metadata.insert("uid".to_owned(), Value::String(uid.to_string()));
            }
        }
        Ok(canonical_json(&object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_is_changed() {
        let object = br#"{"kind":"Namespace","metadata":{"name":"a","namespace":"b"}}"#;
        let sent = |sending: Sending| String::from_utf8(sending.prepare(object).expect("is JSON")).expect("is text");

        let uid = Some(Uuid::nil());
        let without = sent(Sending { drops_namespace: true, uid: None });
        let of_one = sent(Sending { drops_namespace: false, uid });

        assert_eq!(sent(Sending::default()).as_bytes(), object);
        assert_eq!(without, r#"{"kind":"Namespace","metadata":{"name":"a"}}"#);
        let expected = r#"{"kind":"Namespace","metadata":{"name":"a","namespace":"b","uid":"00000000-0000-0000-0000-000000000000"}}"#;
        assert_eq!(of_one, expected);
    }
}
