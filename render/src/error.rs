//! What can be wrong with manifests, told so that the person who wrote them can correct them.

use std::fmt;
use std::sync::Arc;

use bellwether_core::ObjectKey;
use bellwether_core::bundle::OBJECTS_MAX;
use bellwether_core::object::OBJECT_BYTES_MAX;

use crate::yaml::{Problem, YamlError};

/// A line of a file, from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Why a target's files give no objects for a cluster, at the first thing that is wrong. Beyond names, no variant holds
/// a parameter's or a manifest's value: it could be a secret, and errors are shown and logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error(transparent)]
    Yaml(#[from] YamlError),
    #[error("the files have {bytes} bytes together, more than {max}")]
    SourcesTooLarge { bytes: usize, max: usize },
    #[error("{at}: a document is {found}, not an object")]
    NotAnObject { at: Place, found: &'static str },
    #[error("{at}: an object has no {field}")]
    WithoutField { at: Place, field: &'static str },
    #[error("{at}: {field} is {found}, not {wanted}")]
    WrongType { at: Place, field: String, found: &'static str, wanted: &'static str },
    #[error("{at}: {field} `{text}` could not stand in an API path")]
    NotAPathSegment { at: Place, field: &'static str, text: String },
    #[error("{at}: metadata.generateName would make a new object with every apply")]
    GeneratedName { at: Place },
    #[error("{key} stands twice: at {first} and at {second}")]
    Duplicate { key: Box<ObjectKey>, first: Place, second: Place },
    #[error("{at}: {key} is larger than the {OBJECT_BYTES_MAX} bytes of one object")]
    TooLarge { at: Place, key: String },
    #[error("the target has more than the {OBJECTS_MAX} objects of one bundle")]
    TooMany,
    #[error("{at}: {key} needs a namespace, and neither it nor its target names one")]
    NamespaceMissing { at: Place, key: Box<ObjectKey> },
    #[error("{at}: variable `{name}` has no value and no default")]
    VariableUnset { at: Place, name: String, nearest: Option<String> },
    #[error("{at}: `${{{name}` is not continued as a reference")]
    VariableMalformed { at: Place, name: String },
    #[error("{at}: {field} is not base64")]
    NotBase64 { at: Place, field: String },
    #[error("{at}: {field} is Bellwether's own")]
    MetadataReserved { at: Place, field: String },
    #[error("{at}: {key} belongs to the cluster's agent")]
    OfTheAgent { at: Place, key: Box<ObjectKey> },
    #[error("`{file}` is a pointer of Git LFS, not the file itself")]
    LfsPointer { file: String },
    #[error("the target renders to more than {max} bytes for a cluster")]
    BundleTooLarge { max: usize },
    #[error("{at}: a variable makes key `{key}` equal to another key of the map")]
    VariableRepeatsKey { at: Place, key: String },
}

impl RenderError {
    /// Stable, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Yaml(error) => error.problem.code(),
            Self::SourcesTooLarge { .. } => "sources_too_large",
            Self::NotAnObject { .. } => "object_invalid",
            Self::WithoutField { field: "apiVersion", .. } => "object_without_api_version",
            Self::WithoutField { field: "kind", .. } => "object_without_kind",
            Self::WithoutField { .. } => "object_without_name",
            Self::WrongType { .. } => "field_type_wrong",
            Self::NotAPathSegment { .. } => "object_name_invalid",
            Self::GeneratedName { .. } => "object_name_generated",
            Self::Duplicate { .. } => "object_duplicate",
            Self::TooLarge { .. } => "object_too_large",
            Self::TooMany => "objects_too_many",
            Self::NamespaceMissing { .. } => "namespace_missing",
            Self::VariableUnset { .. } => "variable_unset",
            Self::VariableMalformed { .. } => "variable_malformed",
            Self::NotBase64 { .. } => "field_not_base64",
            Self::MetadataReserved { .. } => "metadata_reserved",
            Self::OfTheAgent { .. } => "object_of_the_agent",
            Self::LfsPointer { .. } => "file_lfs_pointer",
            Self::BundleTooLarge { .. } => "bundle_too_large",
            Self::VariableRepeatsKey { .. } => "variable_repeats_key",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::VariableUnset { name, nearest: Some(nearest), .. } => {
                return Some(format!("did you mean `{nearest}`? else set `{name}` in the target's parameters"));
            }
            Self::VariableUnset { name, nearest: None, .. } => {
                return Some(format!(
                    "set `{name}` in the target's parameters, write `${{{name}:-default}}`, or `$${{{name}}}` if it is not meant for Bellwether"
                ));
            }
            Self::VariableMalformed { name, .. } => {
                return Some(format!(
                    "write `${{{name}}}` or `${{{name}:-default}}`, or `$${{{name}…` if it is not meant for Bellwether; annotation `bellwether.dev/substitute: disabled` leaves the whole object alone"
                ));
            }
            Self::Yaml(error) => error.problem.hint(),
            Self::SourcesTooLarge { .. } => "point the target's path at the folder of the manifests",
            Self::NotAnObject { .. } => {
                "every document needs apiVersion, kind and metadata.name; keep other files out of the target's path"
            }
            Self::WithoutField { field: "metadata.name", .. } => "add metadata.name",
            Self::WithoutField { .. } => {
                "every document needs apiVersion and kind; keep other files out of the target's path"
            }
            Self::WrongType { wanted: "a string", .. } => "put it in quotes",
            Self::WrongType { .. } => "correct its type",
            Self::NotAPathSegment { .. } => "use a name that the Kubernetes API accepts",
            Self::GeneratedName { .. } => "give the object a metadata.name",
            Self::Duplicate { .. } => "remove one, or rename it",
            Self::TooLarge { .. } => "split it; Kubernetes stores no larger object",
            Self::TooMany | Self::BundleTooLarge { .. } => "split the target",
            Self::NamespaceMissing { .. } => "set metadata.namespace, or `namespace:` in the target's spec",
            Self::NotBase64 { .. } => "encode it as base64, or write it as text under stringData",
            Self::MetadataReserved { .. } => "remove it; Bellwether sets its labels and annotations itself",
            Self::OfTheAgent { .. } => {
                "use another namespace and name; agents are installed by `bellwether cluster register`"
            }
            Self::LfsPointer { .. } => "keep manifests out of Git LFS: what it points to is not fetched",
            Self::VariableRepeatsKey { .. } => "give the keys names that stay different for every cluster",
        };
        Some(fixed.to_owned())
    }

    /// The file that is to be corrected, relative to the repo's root; `None` when the whole is meant.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Yaml(error) => Some(&error.file),
            Self::LfsPointer { file } => Some(file),
            _ => self.place().map(|place| &*place.file),
        }
    }

    /// From 1.
    pub fn line(&self) -> Option<u32> {
        match self {
            Self::Yaml(YamlError { problem: Problem::FileTooLarge { .. }, .. }) => None,
            Self::Yaml(error) => u32::try_from(error.at.line).ok(),
            _ => self.place().map(|place| place.line),
        }
    }

    fn place(&self) -> Option<&Place> {
        match self {
            Self::NotAnObject { at, .. }
            | Self::WithoutField { at, .. }
            | Self::WrongType { at, .. }
            | Self::NotAPathSegment { at, .. }
            | Self::GeneratedName { at }
            | Self::Duplicate { second: at, .. }
            | Self::TooLarge { at, .. }
            | Self::NamespaceMissing { at, .. }
            | Self::VariableUnset { at, .. }
            | Self::VariableMalformed { at, .. }
            | Self::NotBase64 { at, .. }
            | Self::MetadataReserved { at, .. }
            | Self::OfTheAgent { at, .. }
            | Self::VariableRepeatsKey { at, .. } => Some(at),
            Self::Yaml(_)
            | Self::SourcesTooLarge { .. }
            | Self::TooMany
            | Self::LfsPointer { .. }
            | Self::BundleTooLarge { .. } => None,
        }
    }
}
