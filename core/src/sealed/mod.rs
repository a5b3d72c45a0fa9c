//! Secrets that SOPS sealed, on their way from a file to the one cluster whose agent opens them.
//!
//! A hub has no key: it lays a namespace, labels and annotations beside such a document (the *overlay*), and sends what was written
//! as one text, in the order in which it was written, because SOPS' MAC goes by that order and canonical JSON has none. Decides
//! what such a document has to be, how much of it there may be, and that what was opened is what it said it was. Deciphers
//! nothing, and never holds a value in an error.

mod ordered;
mod sops;

use serde_json::{Map, Value};

pub use ordered::Ordered;
pub use sops::{AgeKey, PgpKey, Rule, Sops};

use crate::ObjectKey;

/// On an overlay: the document, as JSON in the order in which it was written. Reserved, so that an agent which cannot open it refuses
/// the object instead of applying an empty Secret.
pub const SEALED_ANNOTATION: &str = "bellwether.dev/sealed";

/// The Secret in an agent's namespace that holds its cluster's keys.
pub const KEYS_SECRET: &str = "bellwether-sops-keys";

/// How the entries of that Secret are called that are age identities: `NAME.agekey` opens what is applied into any namespace,
/// and `NAMESPACE_NAME.agekey` what is applied into that one.
pub const AGE_ENTRY: &str = ".agekey";

/// In an entry's name after a namespace, which has none in its own.
pub const NAMESPACE_END: char = '_';

/// What a Secret has at its top. Of anything else an API server keeps nothing, or says what it is in words that may quote it.
const FIELDS: [&str; 7] = ["apiVersion", "kind", "metadata", "type", "immutable", "data", "stringData"];

/// Values that are sealed. A Secret holds a mebibyte, and each costs a hundred bytes of its own: of more, hardly any could
/// hold anything, and each has to be deciphered.
pub const SEALED_VALUES_MAX: usize = 5_000;

/// Before each value that SOPS sealed.
const SEALED_VALUE: &str = "ENC[AES256_GCM,";

/// Why a document cannot be a sealed one that an agent could open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    #[error("its `sops` key has no `{0}` that can be read")]
    Field(&'static str),
    #[error("it was sealed by SOPS {0}, and only versions 3 are known")]
    Version(String),
    #[error("it is no Secret, and only Secrets are opened")]
    Kind,
    #[error("`{0}` is missing or sealed, and has to be readable")]
    Header(String),
    #[error("it has `{0}`, which no Secret has")]
    NotOfASecret(String),
    #[error("its `sops` key has more than one rule, and SOPS writes and reads one")]
    Rules,
    #[error("SOPS sealed no value of it")]
    NothingSealed,
    #[error("it has more than {SEALED_VALUES_MAX} sealed values")]
    TooManyValues,
    #[error("its `sops` key names more than {max} {what}")]
    TooManyKeys { what: &'static str, max: usize },
    #[error("its `sops` key uses `{0}`, which is not supported")]
    Unsupported(&'static str),
    #[error("it is sealed for {0} alone, and only age is supported")]
    OtherKeys(String),
    #[error("the sealed document is no JSON, or repeats a key")]
    Unreadable,
    #[error("what was opened is another object than {0}")]
    Another(String),
}

impl SealedError {
    /// What to do about it.
    pub fn way_out(&self) -> &'static str {
        match self {
            Self::Field(_) | Self::Unreadable => "seal the file anew with `sops encrypt`",
            Self::Version(_) => "seal it anew with a current `sops`",
            Self::Kind => "keep what has to be sealed in a Secret, and refer to that",
            Self::Header(_) => {
                "seal only what a Secret holds: `sops encrypt --encrypted-regex '^(data|stringData)$'`, or say so in `.sops.yaml`"
            }
            Self::NothingSealed => {
                "run `sops encrypt --in-place` on the file before it is committed, and change its secrets: they may be in Git"
            }
            Self::NotOfASecret(_) => {
                "take that out, and seal it again: a Secret has `type`, `immutable`, `data` and `stringData`"
            }
            Self::Rules => "keep one of them in `.sops.yaml`, and seal it anew",
            Self::TooManyValues | Self::TooManyKeys { .. } => "split the Secret",
            Self::Unsupported(_) => "seal it anew without that",
            Self::OtherKeys(_) => {
                "add an age recipient of the cluster: `sops rotate --in-place --add-age RECIPIENT FILE`"
            }
            Self::Another(_) => "seal the document again under its own name and namespace",
        }
    }
}

/// A document that SOPS sealed, of a shape that an agent opens.
#[derive(Clone, PartialEq)]
pub struct Sealed {
    /// All of it but `sops`, as it was written.
    pub fields: Vec<(String, Ordered)>,
    pub sops: Sops,
}

impl Sealed {
    /// Of a document as it was written.
    pub fn of(document: Ordered) -> Result<Self, SealedError> {
        let Ordered::Map(mut fields) = document else { return Err(SealedError::Unreadable) };
        let at = fields.iter().position(|(name, _)| name == "sops").ok_or(SealedError::Field("mac"))?;
        let (_, sops) = fields.remove(at);
        let sealed = Self { fields, sops: Sops::of(&sops)? };
        sealed.check_header()?;
        sealed.check_values()?;
        Ok(sealed)
    }

    /// From the text of an overlay.
    pub fn read(text: &str) -> Result<Self, SealedError> {
        Self::of(serde_json::from_str(text).map_err(|_| SealedError::Unreadable)?)
    }

    /// What it says that it is, which nobody needs a key to read.
    fn check_header(&self) -> Result<(), SealedError> {
        for field in ["apiVersion", "kind"] {
            let text = self.fields.iter().find(|(name, _)| name == field).and_then(|(_, value)| value.text());
            let readable = text.filter(|text| !text.starts_with(SEALED_VALUE));
            match (field, readable) {
                (_, None) => return Err(SealedError::Header(field.to_owned())),
                ("apiVersion", Some(text)) if text != "v1" => return Err(SealedError::Kind),
                ("kind", Some(text)) if text != "Secret" => return Err(SealedError::Kind),
                _ => {}
            }
        }
        if let Some((other, _)) = self.fields.iter().find(|(name, _)| !FIELDS.contains(&name.as_str())) {
            return Err(SealedError::NotOfASecret(other.chars().filter(|it| !it.is_control()).take(60).collect()));
        }
        let metadata = self.fields.iter().find(|(name, _)| name == "metadata").map(|(_, value)| value);
        let name = metadata.and_then(|metadata| metadata.field("name")).and_then(Ordered::text);
        if name.is_none_or(|name| name.is_empty() || name.starts_with(SEALED_VALUE)) {
            return Err(SealedError::Header("metadata.name".to_owned()));
        }
        match metadata.and_then(Ordered::first_sealed) {
            Some(path) => Err(SealedError::Header(format!("metadata.{path}"))),
            None => Ok(()),
        }
    }

    fn check_values(&self) -> Result<(), SealedError> {
        match self.fields.iter().map(|(_, value)| value.count_sealed()).sum::<usize>() {
            0 => Err(SealedError::NothingSealed),
            count if count > SEALED_VALUES_MAX => Err(SealedError::TooManyValues),
            _ => Ok(()),
        }
    }
}

/// Whether a bundle's object is an overlay of a sealed document.
pub fn text_of(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(SEALED_ANNOTATION)?.as_str()
}

/// The overlay with what was opened: all but the metadata is the document's, and the metadata is the overlay's. What was opened has
/// to be the object whose name it goes under. That keeps mistakes from being applied, and nobody who means it: SOPS' MAC covers values
/// in their order and not their keys, so that whoever writes to the repo can make another key of what said the namespace.
pub fn laid_on(opened: Vec<(String, Ordered)>, overlay: &Value) -> Result<Value, SealedError> {
    let object: Map<String, Value> = opened.into_iter().map(|(name, value)| (name, value.into_json())).collect();
    let document = Value::Object(object);
    let (said, is) = (ObjectKey::of(overlay), ObjectKey::of(&document));
    let is_it = said.as_ref().zip(is.as_ref()).is_some_and(|(said, is)| {
        let same_namespace = is.namespace.is_none() || is.namespace == said.namespace;
        same_namespace && (&is.api_version, &is.kind, &is.name) == (&said.api_version, &said.kind, &said.name)
    });
    let (Value::Object(mut object), true) = (document, is_it) else {
        let said = said.map_or_else(|| "it says".to_owned(), |said| said.to_string());
        return Err(SealedError::Another(said));
    };
    let mut metadata = overlay["metadata"].clone();
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(SEALED_ANNOTATION);
    }
    object.insert("metadata".to_owned(), metadata);
    Ok(Value::Object(object))
}

/// An overlay with the names of what is sealed in their places, each with its cipher: what fields it sets, and whether one changed,
/// can be told without a key. `None`: the object is no such overlay.
pub fn shape(object: &Value) -> Option<Value> {
    let Ok(Ordered::Map(fields)) = serde_json::from_str(text_of(object)?) else { return None };
    let mut shape: Map<String, Value> = fields.into_iter().map(|(name, value)| (name, value.into_json())).collect();
    shape.remove("sops");
    // As an API server keeps it, and as it is opened.
    if let Some(Value::Object(texts)) = shape.remove("stringData")
        && let Some(data) = shape.entry("data").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
    {
        data.extend(texts);
    }
    let mut metadata = object["metadata"].clone();
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(SEALED_ANNOTATION);
    }
    shape.insert("metadata".to_owned(), metadata);
    Some(Value::Object(shape))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VALUE: &str = "ENC[AES256_GCM,data:YQ==,iv:YQ==,tag:YQ==,type:str]";

    fn text(header: &str, sops: &str) -> String {
        format!(r#"{{{header},"stringData":{{"b":"{VALUE}","a":"x"}},"data":{{"c":"{VALUE}"}},"sops":{{{sops}}}}}"#)
    }

    fn header() -> &'static str {
        r#""apiVersion":"v1","kind":"Secret","metadata":{"name":"db","namespace":"shop"}"#
    }

    fn sops() -> String {
        format!(
            r#""mac":"{VALUE}","lastmodified":"2026-01-01T00:00:00Z","version":"3.11.0","age":[{{"recipient":"age1x","enc":"y"}}]"#
        )
    }

    fn refused(header: &str, sops: &str) -> String {
        Sealed::read(&text(header, sops)).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_an_agent_could_open_is_read_in_the_order_of_writing() {
        let sealed = Sealed::read(&text(header(), &sops())).expect("is one");

        let names: Vec<_> = sealed.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["apiVersion", "kind", "metadata", "stringData", "data"]);
        assert_eq!(sealed.sops.age[0].recipient, "age1x");
    }

    #[test]
    fn what_nobody_could_open_is_told_by_what_is_wrong_with_it() {
        let other =
            |kind: &str, name: &str| format!(r#""apiVersion":"v1","kind":"{kind}","metadata":{{"name":"{name}"}}"#);
        let with = |more: &str| format!("{},{more}", sops());
        let kms =
            sops().replace("\"age\"", "\"unknown\"") + r#","kms":[{"arn":"a"}],"hc_vault":[{"vault_address":"b"}]"#;

        assert!(refused(header(), r#""mac":"x""#).contains("lastmodified"));
        assert!(refused(header(), &sops().replace("3.11.0", "2.0")).contains("versions 3"));
        assert!(refused(&other("ConfigMap", "a"), &sops()).contains("only Secrets"));
        assert!(refused(&other("Secret", VALUE), &sops()).contains("metadata.name"));
        assert!(refused(&other(VALUE, "a"), &sops()).contains("`kind`"));
        assert!(refused(header(), &with(r#""key_groups":[{"age":[]}],"shamir_threshold":2"#)).contains("key_groups"));
        assert_eq!(refused(header(), &with(r#""shamir_threshold":2"#)), "", "of one group it says nothing");
        let two = with(r#""encrypted_suffix":"a","encrypted_regex":"b""#);
        assert_eq!(Sealed::read(&text(header(), &two)).err(), Some(SealedError::Rules));
        let more = format!(r#"{},"status":{{"a":"b"}}"#, header());
        assert!(refused(&more, &sops()).contains("`status`, which no Secret has"));
        assert!(refused(header(), &with(r#""encrypted_comment_regex":"x""#)).contains("encrypted_comment_regex"));
        assert!(refused(header(), &kms).contains("AWS KMS, Vault"), "{}", refused(header(), &kms));
        let plain = text(header(), &sops()).replacen(VALUE, "x", 2);
        assert_eq!(Sealed::read(&plain).err(), Some(SealedError::NothingSealed));
        assert_eq!(Sealed::read("{}{").err(), Some(SealedError::Unreadable));
        let twice = text(header(), &sops()).replacen("\"a\":", "\"b\":", 1);
        assert_eq!(Sealed::read(&twice).err(), Some(SealedError::Unreadable), "which of the two was sealed?");
    }

    #[test]
    fn more_values_than_a_secret_could_hold_are_refused() {
        let many: Vec<_> = (0..=SEALED_VALUES_MAX).map(|at| format!(r#""k{at}":"{VALUE}""#)).collect();
        let text = format!(r#"{{{},"data":{{{}}},"sops":{{{}}}}}"#, header(), many.join(","), sops());

        assert_eq!(Sealed::read(&text).err(), Some(SealedError::TooManyValues));
    }

    #[test]
    fn what_is_opened_is_applied_under_its_own_name_and_namespace_alone() {
        let overlay = |namespace: &str, name: &str| {
            let metadata = json!({"name": name, "namespace": namespace, "labels": {"bellwether.dev/target": "7"},
                "annotations": {"a": "b", SEALED_ANNOTATION: "x"}});
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
        };
        let opened = |text: &str| match serde_json::from_str(text).expect("is JSON") {
            Ordered::Map(fields) => fields,
            _ => Vec::new(),
        };
        let full = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db","namespace":"shop","uid":"x"},"data":{"a":"eA=="}}"#;
        let anywhere = full.replace(r#","namespace":"shop""#, "");

        let object = laid_on(opened(full), &overlay("shop", "db")).expect("is it");

        assert_eq!(object["data"]["a"], "eA==");
        let metadata = json!({"name": "db", "namespace": "shop", "labels": {"bellwether.dev/target": "7"}, "annotations": {"a": "b"}});
        assert_eq!(object["metadata"], metadata, "it is the overlay's");
        assert!(laid_on(opened(full), &overlay("other", "db")).is_err());
        assert!(laid_on(opened(full), &overlay("shop", "other")).is_err());
        assert!(laid_on(opened(&anywhere), &overlay("other", "db")).is_ok());
        assert!(laid_on(opened(&full.replace("Secret", "ConfigMap")), &overlay("shop", "db")).is_err());
    }

    #[test]
    fn the_shape_has_the_fields_that_an_open_one_sets() {
        let metadata = json!({"name": "db", "annotations": {SEALED_ANNOTATION: text(header(), &sops())}});
        let shape = shape(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})).expect("is an overlay");

        assert_eq!(shape["data"], json!({"a": "x", "b": VALUE, "c": VALUE}));
        assert_eq!((&shape["metadata"], shape.get("sops")), (&json!({"name": "db", "annotations": {}}), None));
    }
}
