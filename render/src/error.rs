//! What can be wrong with manifests, told so that the person who wrote them can correct them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bellwether_core::ObjectKey;
use bellwether_core::apply::{APPLY_ANNOTATION, ONCE, PHASE_ANNOTATION};
use bellwether_core::bundle::OBJECTS_MAX;
use bellwether_core::object::OBJECT_BYTES_MAX;
use bellwether_core::parameters::{CLUSTER_FACTS_PREFIX, Values, fact_of};
use bellwether_core::replace::REPLACE_ANNOTATION;
use bellwether_core::sealed::SealedError;

use crate::engine::variables::nearest;
use crate::exports;
use crate::external::EngineError;
use crate::ignore;
use crate::yaml::{Problem, YamlError};

impl<E> Failure<E> {
    /// Too much was asked for.
    pub(crate) fn is_over_limit(&self) -> bool {
        matches!(self, Self::Render(RenderError::ReadsTooLarge { .. } | RenderError::TooManyLookUps { .. }))
    }
}

/// Why a sealed document is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedAs {
    #[error(transparent)]
    Itself(#[from] SealedError),
    #[error("it is one of several documents in a file, which SOPS seals together")]
    OneOfSeveral,
    #[error("Helm made it, or a generator, and its MAC goes by the order in which a file has it")]
    Made,
    #[error("Kustomize changes `{0}`, which its MAC covers")]
    Changed(String),
}

impl SealedAs {
    fn way_out(&self) -> &'static str {
        match self {
            Self::Itself(error) => error.way_out(),
            Self::OneOfSeveral => "give each document a file, and seal that",
            Self::Made => {
                "keep it as a file of its own, in a plain folder or listed in `resources:` of a kustomization"
            }
            Self::Changed(_) => {
                "a kustomization may give it labels, annotations, and a namespace if it says none; write the rest into the file before it is sealed"
            }
        }
    }
}

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// From 1.
    Line { file: Arc<str>, line: u32 },
    /// An object that an engine made, and the file that it made it from. Nobody wrote the lines of such an object.
    Object { file: Arc<str>, object: Arc<str> },
    /// A line that such an object has something of.
    Written { file: Arc<str>, line: u32, object: Arc<str> },
    /// A field of the target's own spec.
    Field { path: Arc<str> },
}

impl Place {
    /// Relative to the repo's root.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Line { file, .. } | Self::Object { file, .. } | Self::Written { file, .. } => Some(file),
            Self::Field { .. } => None,
        }
    }

    pub fn line(&self) -> Option<u32> {
        match self {
            Self::Line { line, .. } | Self::Written { line, .. } => Some(*line),
            Self::Object { .. } | Self::Field { .. } => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{file}:{line}"),
            Self::Object { file, object } => write!(f, "{file} ({object})"),
            Self::Written { file, line, object } => write!(f, "{file}:{line} ({object})"),
            Self::Field { path } => write!(f, "{path}"),
        }
    }
}

/// Why nothing was rendered: what is wrong with the manifests, or why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Failure<E> {
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Files(E),
    /// What is to be read of another repo cannot be found.
    #[error("{at}: {error}")]
    Source { at: Place, error: E },
}

/// Why a target's files give no objects for a cluster, at the first thing that is wrong. Beyond names, no variant holds
/// a parameter's or a manifest's value: it could be a secret, and errors are shown and logged. What an engine says is its
/// own words, and what a chart says in them is the chart's.
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
    #[error("{at}: the annotation `{PHASE_ANNOTATION}` is no whole number")]
    PhaseInvalid { at: Place },
    #[error("{at}: the annotation `{APPLY_ANNOTATION}` may only say `{ONCE}`")]
    ApplyInvalid { at: Place },
    #[error("{at}: the annotation `{REPLACE_ANNOTATION}` may only say `immutable` or `never`")]
    ReplaceInvalid { at: Place },
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
    #[error("{at}: the fact `{fact}` of cluster {cluster} is not known yet")]
    FactUnknown { at: Place, fact: String, cluster: String },
    #[error("{at}: `${{{name}` is not continued as a reference")]
    VariableMalformed { at: Place, name: String },
    #[error("{at}: the function of variable `{name}` gives nothing: {problem}")]
    VariableMisused { at: Place, name: String, problem: &'static str },
    #[error("{at}: variable `{name}` stands {problem}, where it is not one value or a part of one")]
    VariableMisplaced { at: Place, name: String, problem: &'static str },
    #[error("{at}: {field} is not base64")]
    NotBase64 { at: Place, field: String },
    #[error("{at}: {field} is Bellwether's own")]
    MetadataReserved { at: Place, field: String },
    #[error("{at}: {key} belongs to the cluster's agent")]
    OfTheAgent { at: Place, key: Box<ObjectKey> },
    #[error("`{file}` is a pointer of Git LFS, not the file itself")]
    LfsPointer { file: String },
    #[error("{at}: {object} is sealed by SOPS, and no agent could open it: {why}")]
    Sealed { at: Place, object: Arc<str>, why: SealedAs },
    #[error("the target renders to more than {max} bytes for a cluster")]
    BundleTooLarge { max: usize },
    #[error("{at}: a variable makes key `{key}` equal to another key of the map")]
    VariableRepeatsKey { at: Place, key: String },
    #[error("{at}: it is no name of a chart, no range of versions, or no ref of a repository")]
    SourceInvalid { at: Place },
    #[error("`{file}` and what was read before it have more than {max} bytes together")]
    ReadsTooLarge { file: String, max: usize },
    #[error("more than {max} files were looked for")]
    TooManyLookUps { max: usize },
    #[error("{at}: `{text}` does not lead into the repo")]
    ValuesFile { at: Place, text: String },
    #[error("{at} is another each time it is rendered; the chart calls {functions}")]
    Volatile { at: Place, functions: String },
    #[error("only its hub knows what is frozen for this target")]
    FrozenElsewhere,
    #[error("`{file}`: {reason}")]
    ParameterFile { file: String, reason: String },
    #[error("there is no file `{file}` with parameters")]
    ParameterFileMissing { file: String },
    #[error("`{file}` has too many lines for so many files, or a line with too many `*`")]
    IgnoreFile { file: String },
    #[error("`{file}` is left out of what its repo exports: `{by}` has the attribute `export-ignore`")]
    ExportIgnored { file: String, by: String },
    #[error(
        "`{file}` has more than {} bytes, or with those above it more than {} lines about what is exported, or one with too \
         many `*`, or too many for so many files",
        exports::BYTES_MAX,
        exports::LINES_MAX
    )]
    Attributes { file: String },
    #[error("`{file}` belongs to a chart, which is in a folder of plain manifests")]
    ChartBelow { file: String },
    #[error("what `{file}` makes cannot be read: {problem}")]
    Made { file: Arc<str>, problem: Problem },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl RenderError {
    /// With the line where a variable is written, for what is wrong with one in an object that an engine made.
    pub(crate) fn written_at(mut self, find: impl FnOnce(&str) -> Option<(Arc<str>, u32)>) -> Self {
        if let Self::VariableUnset { at, name, .. }
        | Self::VariableMalformed { at, name }
        | Self::VariableMisused { at, name, .. } = &mut self
            && let Place::Object { object, .. } = at
            && let Some((file, line)) = find(name)
        {
            *at = Place::Written { file, line, object: object.clone() };
        }
        self
    }

    /// What a variable without value and default is.
    pub(crate) fn unset(at: Place, name: &str, values: &Values) -> Self {
        match fact_of(name) {
            Some(fact) => {
                let cluster = values.find("cluster.name").and_then(|name| name.as_str()).unwrap_or_default();
                Self::FactUnknown { at, fact: fact.to_owned(), cluster: cluster.to_owned() }
            }
            None => {
                let nearest = nearest(name, values.names()).map(str::to_owned);
                Self::VariableUnset { at, name: name.to_owned(), nearest }
            }
        }
    }

    /// Stable, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Yaml(error) => error.problem.code(),
            Self::SourcesTooLarge { .. } | Self::ReadsTooLarge { .. } => "sources_too_large",
            Self::NotAnObject { .. } => "object_invalid",
            Self::WithoutField { field: "apiVersion", .. } => "object_without_api_version",
            Self::WithoutField { field: "kind", .. } => "object_without_kind",
            Self::WithoutField { .. } => "object_without_name",
            Self::WrongType { .. } => "field_type_wrong",
            Self::NotAPathSegment { .. } => "object_name_invalid",
            Self::PhaseInvalid { .. } => "object_phase_invalid",
            Self::ApplyInvalid { .. } => "object_apply_invalid",
            Self::ReplaceInvalid { .. } => "object_replace_invalid",
            Self::GeneratedName { .. } => "object_name_generated",
            Self::Duplicate { .. } => "object_duplicate",
            Self::TooLarge { .. } => "object_too_large",
            Self::TooMany => "objects_too_many",
            Self::NamespaceMissing { .. } => "namespace_missing",
            Self::VariableUnset { .. } => "variable_unset",
            Self::FactUnknown { .. } => "fact_unknown",
            Self::VariableMalformed { .. } => "variable_malformed",
            Self::VariableMisused { .. } => "variable_misused",
            Self::VariableMisplaced { .. } => "variable_misplaced",
            Self::NotBase64 { .. } => "field_not_base64",
            Self::MetadataReserved { .. } => "metadata_reserved",
            Self::OfTheAgent { .. } => "object_of_the_agent",
            Self::LfsPointer { .. } => "file_lfs_pointer",
            Self::Sealed { .. } => "object_sealed",
            Self::BundleTooLarge { .. } => "bundle_too_large",
            Self::VariableRepeatsKey { .. } => "variable_repeats_key",
            Self::TooManyLookUps { .. } => "too_many_look_ups",
            Self::SourceInvalid { .. } => "ref_invalid",
            Self::ValuesFile { .. } => "values_file_invalid",
            Self::ParameterFile { .. } => "parameter_file_invalid",
            Self::ParameterFileMissing { .. } => "parameter_file_missing",
            Self::Volatile { .. } => "helm_volatile",
            Self::FrozenElsewhere => "helm_frozen",
            Self::IgnoreFile { .. } => "ignore_file_invalid",
            Self::ExportIgnored { .. } => "file_export_ignored",
            Self::Attributes { .. } => "files_too_large",
            Self::ChartBelow { .. } => "chart_in_folder",
            Self::Made { problem, .. } => problem.code(),
            Self::Engine(error) => error.code(),
        }
    }

    /// What to do about it.
    #[expect(clippy::too_many_lines, reason = "it is a list of what to do")]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        let fixed = match self {
            Self::VariableUnset { name, nearest: Some(nearest), .. } => {
                return Some(format!("did you mean `{nearest}`? else set `{name}` in the target's parameters").into());
            }
            Self::VariableUnset { name, nearest: None, .. } => {
                return Some(format!(
                    "set `{name}` in the target's parameters, write `${{{name}:-default}}`, or `$${{{name}}}` if it is not meant for Bellwether"
                ).into());
            }
            Self::FactUnknown { fact, cluster, .. } => {
                return Some(format!(
                    "`bellwether cluster show {cluster}` lists what its agent says; what is not a word of at most 63 letters, digits \
                     and `._+-` is only shown. Or write `${{{CLUSTER_FACTS_PREFIX}{fact}:-default}}`"
                ).into());
            }
            Self::VariableMalformed { name, .. } => {
                return Some(format!(
                    "write `${{{name}}}`, `${{{name}:-default}}` or another form of the docs (`:+` is none), or `$${{{name}…` if it is not meant for Bellwether; annotation `bellwether.dev/substitute: disabled` leaves the whole object alone"
                ).into());
            }
            Self::Engine(error) => return error.hint(),
            Self::Yaml(YamlError { file, problem: Problem::Syntax(_), .. }) => {
                return Some(format!("correct it, or {}", left_out(file)).into());
            }
            Self::NotAnObject { at: Place::Line { file, .. }, .. }
            | Self::WithoutField { at: Place::Line { file, .. }, field: "apiVersion" | "kind" } => {
                return Some(
                    format!(
                        "every document needs apiVersion, kind and metadata.name; if this file is no manifest, {}",
                        left_out(file)
                    )
                    .into(),
                );
            }
            Self::ChartBelow { file } => {
                let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
                return Some(
                    format!("make a target of its own for the chart, and {}", left_out(&format!("{folder}/"))).into(),
                );
            }
            Self::Yaml(error) => return error.problem.hint(),
            Self::IgnoreFile { .. } => "write fewer and shorter patterns; a folder that is left out needs one line",
            Self::ExportIgnored { .. } => {
                "take it out of `.gitattributes` if it is to be deployed, or name it in `.bellwetherignore` if it is not"
            }
            Self::Attributes { .. } => "write patterns in place of single files",
            Self::SourceInvalid { .. } => {
                "write a chart's version as Helm does, such as 1.2.3 or ~1.2, and `?ref=` as a branch, a tag or a whole commit"
            }
            Self::ParameterFile { .. } => "write each parameter as `name: value` at the start of a line",
            Self::ParameterFileMissing { .. } => {
                "add it, or correct `render.parameterFiles`; paths are read from the repo's root on"
            }
            Self::Volatile { .. } => {
                "give in `values` what the chart would make by itself, such as a password or a certificate, or the name of a Secret that has it; or let the hub keep it, with `volatile: freeze` in `render.helm`"
            }
            Self::FrozenElsewhere => "ask the hub what it has for a cluster: bellwether render TARGET --cluster NAME",
            Self::Made { problem: Problem::Syntax(_), .. } => {
                "correct what it makes; `bellwether render` shows the rest"
            }
            Self::Made { problem, .. } => return problem.hint(),
            Self::ReadsTooLarge { .. } | Self::TooManyLookUps { .. } => {
                "keep out of the target's folder, and of the bases it names, what it does not need"
            }
            Self::ValuesFile { .. } => "a parameter may choose a file, and not a place outside the repo",
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
            Self::PhaseInvalid { .. } => "write a whole number in quotes, such as \"1\" or \"-1\"",
            Self::ApplyInvalid { .. } => {
                "write `once`, or take the annotation off for an object that is kept as it is written"
            }
            Self::ReplaceInvalid { .. } => {
                "write `immutable` or `never`, or take the annotation off for an object that is kept as its target says"
            }
            Self::GeneratedName { .. } => "give the object a metadata.name; only hooks are named by their content",
            Self::Duplicate { .. } => "remove one, or rename it",
            Self::TooLarge { .. } => "split it; Kubernetes stores no larger object",
            Self::TooMany | Self::BundleTooLarge { .. } => "split the target",
            Self::NamespaceMissing { .. } => "set metadata.namespace, or `namespace:` in the target's spec",
            Self::NotBase64 { .. } => "encode it as base64, or write it as text under stringData",
            Self::MetadataReserved { .. } => "remove it; Bellwether sets its labels and annotations itself",
            Self::OfTheAgent { .. } => {
                "use another namespace and name; agents are installed by `bellwether cluster register`"
            }
            Self::LfsPointer { .. } => {
                "what it points to is not fetched: keep it out of Git LFS, or name it in `.bellwetherignore`, or a chart's `.helmignore`, if nothing is made of it"
            }
            Self::Sealed { at, why, .. } => {
                let left_out = at.file().map_or_else(String::new, |file| format!("; until then {}", left_out(file)));
                return Some(format!("{}{left_out}", why.way_out()).into());
            }
            Self::VariableMisused { .. } => {
                "offsets and lengths are whole numbers of bytes; a long value takes a short pattern"
            }
            Self::VariableMisplaced { .. } => {
                "give the value a setting of its own, with no `\\` before the variable: what is in it is escaped anyway"
            }
            Self::VariableRepeatsKey { .. } => "give the keys names that stay different for every cluster",
        };
        Some(Cow::Borrowed(fixed))
    }

    /// The file that is to be corrected, relative to the repo's root; `None` when the whole is meant.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Yaml(error) => Some(&error.file),
            Self::LfsPointer { file }
            | Self::ReadsTooLarge { file, .. }
            | Self::IgnoreFile { file }
            | Self::ExportIgnored { file, .. }
            | Self::Attributes { file }
            | Self::ParameterFile { file, .. }
            | Self::ParameterFileMissing { file }
            | Self::ChartBelow { file } => Some(file),
            Self::Made { file, .. } => Some(file),
            Self::Engine(error) => error.file(),
            _ => self.place().and_then(Place::file),
        }
    }

    /// From 1.
    pub fn line(&self) -> Option<u32> {
        match self {
            Self::Yaml(YamlError { problem: Problem::FileTooLarge { .. }, .. }) => None,
            Self::Yaml(error) => u32::try_from(error.at.line).ok(),
            Self::Engine(error) => error.line(),
            _ => self.place().and_then(Place::line),
        }
    }

    /// The object that an engine made, by kind and name, if it is about one.
    pub fn object(&self) -> Option<&str> {
        match self.place()? {
            Place::Object { object, .. } | Place::Written { object, .. } => Some(object),
            Place::Line { .. } | Place::Field { .. } => None,
        }
    }

    fn place(&self) -> Option<&Place> {
        match self {
            Self::NotAnObject { at, .. }
            | Self::WithoutField { at, .. }
            | Self::WrongType { at, .. }
            | Self::NotAPathSegment { at, .. }
            | Self::PhaseInvalid { at }
            | Self::ApplyInvalid { at }
            | Self::ReplaceInvalid { at }
            | Self::GeneratedName { at }
            | Self::Duplicate { second: at, .. }
            | Self::TooLarge { at, .. }
            | Self::NamespaceMissing { at, .. }
            | Self::VariableUnset { at, .. }
            | Self::FactUnknown { at, .. }
            | Self::VariableMalformed { at, .. }
            | Self::VariableMisused { at, .. }
            | Self::VariableMisplaced { at, .. }
            | Self::Sealed { at, .. }
            | Self::NotBase64 { at, .. }
            | Self::MetadataReserved { at, .. }
            | Self::OfTheAgent { at, .. }
            | Self::VariableRepeatsKey { at, .. }
            | Self::Volatile { at, .. }
            | Self::SourceInvalid { at }
            | Self::ValuesFile { at, .. } => Some(at),
            Self::Yaml(_)
            | Self::SourcesTooLarge { .. }
            | Self::TooMany
            | Self::LfsPointer { .. }
            | Self::BundleTooLarge { .. }
            | Self::ReadsTooLarge { .. }
            | Self::TooManyLookUps { .. }
            | Self::Made { .. }
            | Self::IgnoreFile { .. }
            | Self::ExportIgnored { .. }
            | Self::Attributes { .. }
            | Self::ParameterFile { .. }
            | Self::ParameterFileMissing { .. }
            | Self::FrozenElsewhere
            | Self::ChartBelow { .. }
            | Self::Engine(_) => None,
        }
    }
}

/// How a file that is no manifest is kept out.
fn left_out(path: &str) -> String {
    format!("write `{}` into `{}` at the root of the repo", ignore::line_for(path), ignore::FILE)
}
