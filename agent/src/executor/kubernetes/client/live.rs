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
    /// Its kind has a subresource for the status.
    pub(crate) has_status: bool,
}

/// To what an object is applied.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Onto<'a> {
    /// Whatever has its name, and it is made when there is nothing.
    #[default]
    Anything,
    /// Nothing: it is made, unless something has its name.
    Nothing,
    /// Exactly the object with this uid.
    One(Uuid),
    /// And nobody has written it since it was read.
    AsRead(&'a Metadata),
}

/// The version that no object has, as etcd itself begins with it: what is there is another one, and what is not there is made.
const OF_NO_OBJECT: &str = "1";

/// How an object of a bundle is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sending<'a> {
    /// A manifest may give a namespace to what has none; kubectl drops it, the API server would refuse it.
    pub(super) drops_namespace: bool,
    /// The API server refuses the apply unless it is about that.
    pub(super) onto: Onto<'a>,
}

impl Sending<'_> {
    pub(super) fn prepare(self, object: &[u8]) -> Result<Vec<u8>, ClusterError> {
        if !self.drops_namespace && matches!(self.onto, Onto::Anything) {
            return Ok(object.to_vec());
        }
        let mut object: Value = serde_json::from_slice(object)
            .map_err(|error| ClusterError::rejected("BadRequest", format!("the object is not JSON: {error}")))?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            if self.drops_namespace {
                metadata.remove("namespace");
            }
            let (uid, version) = match self.onto {
                Onto::Anything => (None, None),
                Onto::Nothing => (None, Some(OF_NO_OBJECT.to_owned())),
                Onto::One(uid) => (Some(uid), None),
                Onto::AsRead(there) => (Some(there.uid), Some(there.resource_version.clone())),
            };
            metadata.extend(uid.map(|uid| ("uid".to_owned(), Value::String(uid.to_string()))));
            metadata.extend(version.map(|version| ("resourceVersion".to_owned(), Value::String(version))));
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
        let sent =
            |sending: Sending<'_>| String::from_utf8(sending.prepare(object).expect("is JSON")).expect("is text");

        let without = sent(Sending { drops_namespace: true, onto: Onto::Anything });
        let of_one = sent(Sending { drops_namespace: false, onto: Onto::One(Uuid::nil()) });
        let there = Metadata { resource_version: "7".to_owned(), ..Metadata::default() };
        let as_read = sent(Sending { drops_namespace: true, onto: Onto::AsRead(&there) });

        assert_eq!(sent(Sending::default()).as_bytes(), object);
        assert_eq!(without, r#"{"kind":"Namespace","metadata":{"name":"a"}}"#);
        let expected = r#"{"kind":"Namespace","metadata":{"name":"a","namespace":"b","uid":"00000000-0000-0000-0000-000000000000"}}"#;
        assert_eq!(of_one, expected);
        let expected = r#"{"kind":"Namespace","metadata":{"name":"a","resourceVersion":"7","uid":"00000000-0000-0000-0000-000000000000"}}"#;
        assert_eq!(as_read, expected);
    }
}
