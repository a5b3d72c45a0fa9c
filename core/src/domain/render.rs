//! How the files of a target become objects: which engine, and what is asked of Helm.
//!
//! Rows hold these as they serialise here; what people write is `api::WrittenRender`. Neighbours: `parameters` are what
//! `${…}` in them means; the crate `render` asks the engine.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Name;
use crate::source::is_valid_path;

/// Of a Helm release: what it adds to names has to fit into 63 characters, too.
const RELEASE_BYTES_MAX: usize = 53;

/// Of inline values, as JSON. Charts have some hundred values of a line each; what is larger is a file in the repo.
const VALUES_BYTES_MAX: usize = 256 * 1024;

/// Files of values, of which each goes over the one before.
const VALUES_FILES_MAX: usize = 50;

/// What a target says of its render.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderOptions {
    #[serde(default, skip_serializing_if = "RenderKind::is_auto")]
    pub kind: RenderKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helm: Option<HelmOptions>,
}

/// Which engine makes objects of the files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RenderKind {
    /// What the folder is: one with a `kustomization.yaml` is Kustomize's, one with a `Chart.yaml` is Helm's.
    #[default]
    Auto,
    Plain,
    Kustomize,
    Helm,
}

/// What is asked of Helm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelmOptions {
    /// The target's name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Name>,
    /// Over all files. Texts in it may have `${…}`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub values: Map<String, Value>,
    /// Paths in the repo, a later one over an earlier; they may have `${…}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values_files: Vec<String>,
    /// What the chart keeps in `crds/`.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub include_crds: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

impl Default for HelmOptions {
    fn default() -> Self {
        Self { release: None, values: Map::new(), values_files: Vec::new(), include_crds: true }
    }
}

impl RenderKind {
    /// Serde gives a reference.
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// Why render options are refused. No variant holds a value: it could be a secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRender {
    #[error("`render.helm` is for Helm, and `render.kind` says otherwise")]
    NotHelm,
    #[error("`render.helm.release` is longer than the {RELEASE_BYTES_MAX} characters of a release's name")]
    Release,
    #[error("`render.helm.values` has {bytes} bytes, more than {VALUES_BYTES_MAX}")]
    Values { bytes: usize },
    #[error("`render.helm.valuesFiles` has more than {VALUES_FILES_MAX} files")]
    TooManyFiles,
    #[error("`{path}` of `render.helm.valuesFiles` does not lead into the repo")]
    ValuesFile { path: String },
}

impl InvalidRender {
    /// Stable, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotHelm => "render_kind_differs",
            Self::Release => "helm_release_invalid",
            Self::Values { .. } => "helm_values_too_large",
            Self::TooManyFiles | Self::ValuesFile { .. } => "values_file_invalid",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::NotHelm => "leave one of them out",
            Self::Release => "choose a shorter one; it is the target's name when left out",
            Self::Values { .. } => "keep them in a file of the repo, and name it in `valuesFiles`",
            Self::TooManyFiles => "put some of them together",
            Self::ValuesFile { .. } => {
                "write it from the repo's root on, without `..`, and without `/` at its start, such as apps/shop/values-eu.yaml"
            }
        }))
    }
}

impl RenderOptions {
    /// Nothing that anybody chose.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Options for Helm are a choice of Helm.
    pub fn stated_kind(&self) -> RenderKind {
        if self.kind == RenderKind::Auto && self.helm.is_some() { RenderKind::Helm } else { self.kind }
    }

    /// Refuses what could never render. What `${…}` comes to is looked at for each cluster.
    pub fn check(&self) -> Result<(), InvalidRender> {
        let Some(helm) = &self.helm else { return Ok(()) };
        if self.stated_kind() != RenderKind::Helm {
            return Err(InvalidRender::NotHelm);
        }
        if helm.release.as_ref().is_some_and(|release| release.as_str().len() > RELEASE_BYTES_MAX) {
            return Err(InvalidRender::Release);
        }
        let bytes = serde_json::to_vec(&helm.values).map_or(usize::MAX, |json| json.len());
        if bytes > VALUES_BYTES_MAX {
            return Err(InvalidRender::Values { bytes });
        }
        if helm.values_files.len() > VALUES_FILES_MAX {
            return Err(InvalidRender::TooManyFiles);
        }
        match helm.values_files.iter().find(|path| path.is_empty() || !is_valid_path(path)) {
            Some(path) => Err(InvalidRender::ValuesFile { path: path.chars().take(80).collect() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(options: Value) -> Result<(), InvalidRender> {
        serde_json::from_value::<RenderOptions>(options).expect("options").check()
    }

    #[test]
    fn what_could_never_render_is_refused() {
        assert_eq!(check(json!({})), Ok(()));
        assert_eq!(check(json!({"helm": {"release": "shop", "valuesFiles": ["a/${cluster.name}.yaml"]}})), Ok(()));
        assert_eq!(check(json!({"kind": "kustomize", "helm": {}})), Err(InvalidRender::NotHelm));
        assert_eq!(check(json!({"helm": {"release": "x".repeat(54)}})), Err(InvalidRender::Release));
        for path in ["", "../values.yaml", "/etc/passwd", "a/../b", ".git/config"] {
            let refused = check(json!({"helm": {"valuesFiles": [path]}}));
            assert_eq!(refused, Err(InvalidRender::ValuesFile { path: path.to_owned() }));
        }
        let large = check(json!({"helm": {"values": {"a": "x".repeat(VALUES_BYTES_MAX)}}}));
        assert!(matches!(large, Err(InvalidRender::Values { .. })));
        assert_eq!(check(json!({"helm": {"valuesFiles": vec!["a"; 51]}})), Err(InvalidRender::TooManyFiles));
    }

    #[test]
    fn options_for_helm_are_a_choice_of_helm() {
        let kind = |options: Value| serde_json::from_value::<RenderOptions>(options).expect("options").stated_kind();

        assert_eq!(kind(json!({"helm": {}})), RenderKind::Helm);
        assert_eq!(kind(json!({})), RenderKind::Auto);
        assert_eq!(kind(json!({"kind": "plain"})), RenderKind::Plain);
    }
}
