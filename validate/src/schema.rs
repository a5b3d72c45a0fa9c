//! The built-in kinds of the Kubernetes versions that are carried.
//!
//! `schemas/generate` makes the files from Kubernetes' own OpenAPI documents.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bellwether_render::yaml::Node;
use serde::Deserialize;

use crate::fields::Checker;
use crate::path::{Problem, Trail};

/// By minor version of Kubernetes 1, oldest first.
const CARRIED: &[(u32, &[u8])] = &[
    (31, include_bytes!("../schemas/1.31.json.zst")),
    (32, include_bytes!("../schemas/1.32.json.zst")),
    (33, include_bytes!("../schemas/1.33.json.zst")),
    (34, include_bytes!("../schemas/1.34.json.zst")),
    (35, include_bytes!("../schemas/1.35.json.zst")),
    (36, include_bytes!("../schemas/1.36.json.zst")),
    (37, include_bytes!("../schemas/1.37.json.zst")),
];

/// Unpacked they have 80 KB.
const UNPACKED_MAX: usize = 4 << 20;

/// A version of Kubernetes whose schemas are carried: `1.33`. A patch of it is passed over, as it changes no schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    minor: u32,
}

/// It is no version, or its schemas are not carried.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the schemas of Kubernetes `{text}` are not carried; those of 1.{oldest} to 1.{newest} are")]
pub struct UnknownVersion {
    text: String,
    oldest: u32,
    newest: u32,
}

impl Version {
    pub fn newest() -> Self {
        Self { minor: CARRIED[CARRIED.len() - 1].0 }
    }

    /// Oldest first.
    pub fn carried() -> impl DoubleEndedIterator<Item = Self> {
        CARRIED.iter().map(|&(minor, _)| Self { minor })
    }

    pub(crate) fn minor(self) -> u32 {
        self.minor
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let minor = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("1"), Some(minor), patch, None) if patch.is_none_or(|patch| patch.parse::<u32>().is_ok()) => minor,
            _ => "",
        };
        let version = minor.parse().ok().map(|minor| Self { minor });
        let (oldest, newest) = (CARRIED[0].0, Self::newest().minor);
        version.filter(|version| Self::carried().any(|carried| carried == *version)).ok_or_else(|| UnknownVersion {
            text: text.chars().take(40).collect(),
            oldest,
            newest,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

/// The schemas of one version.
#[derive(Debug, Clone)]
pub struct Schemas {
    version: Version,
    kinds: BTreeMap<(String, String, String), Kind>,
    types: Vec<Fields>,
}

/// A kind of one version of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) fields: usize,
    pub(crate) is_namespaced: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Fields {
    #[serde(rename = "f", default)]
    pub(crate) known: BTreeMap<String, Form>,
    #[serde(rename = "r", default)]
    pub(crate) required: Vec<String>,
    /// Of lists whose items are told apart, by which of their fields; by none where the whole item is meant.
    #[serde(rename = "k", default)]
    pub(crate) keys: BTreeMap<String, Vec<String>>,
}

/// What a field may hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Form {
    Type(usize),
    Scalar(Scalar),
    List([Box<Form>; 1]),
    Map {
        #[serde(rename = "m")]
        values: Box<Form>,
    },
    Enum {
        #[serde(rename = "e")]
        texts: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Scalar {
    #[serde(rename = "s")]
    Text,
    #[serde(rename = "b")]
    Bool,
    #[serde(rename = "i")]
    Int32,
    #[serde(rename = "l")]
    Int64,
    #[serde(rename = "d")]
    Float,
    /// As base64.
    #[serde(rename = "y")]
    Bytes,
    #[serde(rename = "t")]
    Time,
    #[serde(rename = "q")]
    Quantity,
    #[serde(rename = "x")]
    IntOrText,
    /// A map of which nothing is known.
    #[serde(rename = "o")]
    AnyMap,
    #[serde(rename = "*")]
    Any,
}

#[derive(Deserialize)]
struct Written {
    kinds: Vec<WrittenKind>,
    types: Vec<Fields>,
}

#[derive(Deserialize)]
struct WrittenKind {
    group: String,
    version: String,
    kind: String,
    #[serde(rename = "type")]
    fields: usize,
    #[serde(default)]
    namespaced: bool,
}

impl Schemas {
    pub fn load(version: Version) -> Self {
        let packed = CARRIED.iter().find(|&&(minor, _)| minor == version.minor).map_or(&[][..], |&(_, packed)| packed);
        let text =
            zstd::bulk::decompress(packed, UNPACKED_MAX).expect("it was packed by the generator, and a test reads it");
        let written: Written =
            serde_json::from_slice(&text).expect("it was written by the generator, and a test reads it");
        let kinds = written.kinds.into_iter();
        let kinds = kinds.map(|of| {
            let kind = Kind { fields: of.fields, is_namespaced: of.namespaced };
            ((of.group, of.version, of.kind), kind)
        });
        Self { version, kinds: kinds.collect(), types: written.types }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// `apps/v1`, `Deployment`.
    pub(crate) fn kind(&self, api_version: &str, kind: &str) -> Option<Kind> {
        let (group, version) = split(api_version);
        self.kinds.get(&(group.to_owned(), version.to_owned(), kind.to_owned())).copied()
    }

    /// Versions of the group that have the kind, and kinds of the version that are called nearly so.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.kinds.keys().map(|(group, version, kind)| (group.as_str(), version.as_str(), kind.as_str()))
    }

    /// What the schema says is wrong with an object; `None` without a schema for it.
    pub fn check(&self, root: &Node, api_version: &str, kind: &str) -> Option<Vec<Problem>> {
        let kind = self.kind(api_version, kind)?;
        let mut trail = Trail::default();
        Checker::new(self, false).object(&mut trail, root, self.fields(kind.fields));
        Some(trail.into_problems())
    }

    pub(crate) fn fields(&self, number: usize) -> &Fields {
        &self.types[number]
    }

    /// What `metadata` is of every kind.
    pub(crate) fn metadata(&self) -> Option<&Form> {
        let kind = self.kind("v1", "ConfigMap")?;
        self.fields(kind.fields).known.get("metadata")
    }
}

/// Group and version.
pub(crate) fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_carried_version_can_be_read() {
        for version in Version::carried() {
            let schemas = Schemas::load(version);

            let deployment = schemas.kind("apps/v1", "Deployment").expect("every version has it");
            assert!(deployment.is_namespaced);
            let fields = schemas.fields(deployment.fields);
            let Form::Type(spec) = fields.known["spec"] else { panic!("{version}") };
            assert_eq!(schemas.fields(spec).required, ["selector", "template"], "{version}");
            assert!(matches!(fields.known["kind"], Form::Scalar(Scalar::Text)));
            assert!(!schemas.kind("v1", "Namespace").expect("every version has it").is_namespaced);
            assert!(matches!(schemas.metadata(), Some(Form::Type(_))));
            let most = schemas.types.len();
            let refers_well = |form: &Form| !matches!(form, Form::Type(number) if *number >= most);
            assert!(schemas.types.iter().all(|fields| fields.known.values().all(refers_well)), "{version}");
        }
    }

    #[test]
    fn a_version_is_read_with_or_without_its_patch() {
        for text in ["1.33", "v1.33", "1.33.4"] {
            assert_eq!(text.parse::<Version>().map(|version| version.to_string()), Ok("1.33".to_owned()));
        }
        for text in ["1.7", "2.33", "1", "1.33.x", "1.33.1.1", ""] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert_eq!(Version::carried().last(), Some(Version::newest()));
    }
}
