//! What an artifact consists of.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::cosign;
use super::error::ArtifactError;
use bellwether_core::source::{is_valid_digest, is_valid_path};

/// What is asked for, best first.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// More is a container image, or an attack.
const LAYERS_MAX: usize = 100;

/// Compressed; as much as the files of a target may have in all.
pub(super) const LAYER_BYTES_MAX: u64 = 64 << 20;

const FLUX_CONTENT: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";
const FLUX_CONTENT_ZSTD: &str = "application/vnd.cncf.flux.content.v1.tar+zstd";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const CHART_PROVENANCE: &str = "application/vnd.cncf.helm.chart.provenance.v1.prov";

const TITLE: &str = "org.opencontainers.image.title";
const UNPACK: &str = "io.deis.oras.content.unpack";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    schema_version: u32,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    /// Of an index.
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// How the files of a layer are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Tar {
        packed: Packed,
        /// A chart lies in a folder of its name, which is left out.
        is_chart: bool,
    },
    /// The layer is this file.
    File(String),
}

/// How the bytes of a tar were made fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packed {
    Not,
    Gzip,
    Zstd,
}

impl Manifest {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let damaged = |reason: String| ArtifactError::Damaged { reason };
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| damaged(format!("its manifest is not readable: {error}")))?;
        if manifest.schema_version != 2 {
            let reason = format!("is described in version {} of the manifest's form", manifest.schema_version);
            return Err(ArtifactError::Unsupported { reason });
        }
        Ok(manifest)
    }

    /// Of an index: the manifest that is meant, if it is one.
    pub(super) fn only_manifest(&self) -> Result<Option<&Descriptor>, ArtifactError> {
        let Some(manifests) = &self.manifests else { return Ok(None) };
        match &manifests[..] {
            [only] => only.check().map(Some),
            several => {
                let reason = format!("is an index of {} manifests, of which none is said to be meant", several.len());
                Err(ArtifactError::Unsupported { reason })
            }
        }
    }

    /// The layers that hold files, with what each is.
    pub(super) fn contents(&self) -> Result<Vec<(&Descriptor, Content)>, ArtifactError> {
        let layers = self.layers.as_deref().unwrap_or_default();
        if layers.len() > LAYERS_MAX {
            let what = format!("it has {} layers", layers.len());
            return Err(ArtifactError::TooLarge { what, max: LAYERS_MAX as u64 });
        }
        let mut contents = Vec::new();
        for layer in layers {
            if let Some(content) = layer.content()? {
                contents.push((layer.check()?, content));
            }
        }
        if contents.is_empty() {
            return Err(ArtifactError::Unsupported { reason: "has no layer with files".to_owned() });
        }
        Ok(contents)
    }

    /// What was signed, each with its signature.
    pub(super) fn signatures(&self) -> Vec<(&Descriptor, &str)> {
        let layers = self.layers.as_deref().unwrap_or_default().iter();
        let payloads = layers.filter(|layer| layer.media_type == cosign::PAYLOAD && is_valid_digest(&layer.digest));
        payloads.filter_map(|layer| Some((layer, layer.annotation(cosign::SIGNATURE)?))).collect()
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

impl Descriptor {
    fn check(&self) -> Result<&Self, ArtifactError> {
        if !is_valid_digest(&self.digest) {
            let reason = format!("names `{}` by something else than SHA-256", tidy(&self.digest));
            return Err(ArtifactError::Unsupported { reason });
        }
        if self.size > LAYER_BYTES_MAX {
            let what = format!("a layer has {} bytes", self.size);
            return Err(ArtifactError::TooLarge { what, max: LAYER_BYTES_MAX });
        }
        Ok(self)
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// `None`: it holds no files. `oras push` calls single files a tar unless it is told what they are, and says by
    /// another word which of them it packed.
    fn content(&self) -> Result<Option<Content>, ArtifactError> {
        let tar = |packed| Content::Tar { packed, is_chart: false };
        let is_packed = self.annotation(UNPACK) == Some("true");
        let title = self.annotation(TITLE).filter(|_| !is_packed);
        Ok(Some(match (self.media_type.as_str(), title) {
            (CHART, _) => Content::Tar { packed: Packed::Gzip, is_chart: true },
            (CHART_PROVENANCE, _) => return Ok(None),
            (FLUX_CONTENT, _) | (LAYER_GZIP | DOCKER_LAYER_GZIP, None) => tar(Packed::Gzip),
            (FLUX_CONTENT_ZSTD, _) | (LAYER_ZSTD | DOCKER_LAYER_ZSTD, None) => tar(Packed::Zstd),
            (_, Some(title)) => Content::File(file_name(title)?),
            (LAYER, None) => tar(Packed::Not),
            (other, None) => {
                let reason = format!("has a layer of the type `{}`, which is not known here", tidy(other));
                return Err(ArtifactError::Unsupported { reason });
            }
        }))
    }
}

fn file_name(title: &str) -> Result<String, ArtifactError> {
    let path = title.strip_prefix("./").unwrap_or(title);
    if path.is_empty() || !is_valid_path(path) {
        return Err(ArtifactError::File { file: tidy(title), reason: "has a name that leads elsewhere" });
    }
    Ok(path.to_owned())
}

/// Somebody else's text in a message.
pub(super) fn tidy(text: &str) -> String {
    text.chars().filter(|character| !bellwether_core::report::is_obeyed(*character)).take(200).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest() -> String {
        format!("sha256:{}", "0a".repeat(32))
    }

    fn contents(layers: &Value) -> Result<Vec<Content>, ArtifactError> {
        let manifest = json!({"schemaVersion": 2, "layers": layers}).to_string();
        let manifest = Manifest::read(manifest.as_bytes())?;
        manifest.contents().map(|contents| contents.into_iter().map(|(_, content)| content).collect())
    }

    fn layer(media_type: &str, annotations: &Value) -> Value {
        json!({"mediaType": media_type, "digest": digest(), "size": 1, "annotations": annotations})
    }

    #[test]
    fn what_the_usual_tools_push_is_known() {
        let tar = |packed| Content::Tar { packed, is_chart: false };
        let flux = layer(FLUX_CONTENT, &Value::Null);
        assert_eq!(contents(&json!([flux])), Ok(vec![tar(Packed::Gzip)]));
        let file = layer(LAYER, &json!({TITLE: "./shop.yaml"}));
        assert_eq!(contents(&json!([file])), Ok(vec![Content::File("shop.yaml".to_owned())]));
        let typed = layer("application/yaml", &json!({TITLE: "a/shop.yaml"}));
        assert_eq!(contents(&json!([typed])), Ok(vec![Content::File("a/shop.yaml".to_owned())]));
        let folder = layer(LAYER_GZIP, &json!({TITLE: "shop", UNPACK: "true"}));
        assert_eq!(contents(&json!([folder])), Ok(vec![tar(Packed::Gzip)]));
        let chart = [layer(CHART, &Value::Null), layer(CHART_PROVENANCE, &Value::Null)];
        assert_eq!(contents(&json!(chart)), Ok(vec![Content::Tar { packed: Packed::Gzip, is_chart: true }]));
        let zstd = [FLUX_CONTENT_ZSTD, LAYER_ZSTD, DOCKER_LAYER_ZSTD].map(|media_type| layer(media_type, &Value::Null));
        assert_eq!(contents(&json!(zstd)), Ok(vec![tar(Packed::Zstd); 3]));
    }

    #[test]
    fn what_is_no_artifact_of_files_is_refused_with_the_reason() {
        let code = |layers: &Value| contents(layers).expect_err("refused").code();
        assert_eq!(code(&json!([])), "artifact_unsupported");
        assert_eq!(
            code(&json!([layer("application/vnd.oci.image.layer.v1.tar+xz", &Value::Null)])),
            "artifact_unsupported"
        );
        assert_eq!(code(&json!(vec![layer(FLUX_CONTENT, &Value::Null); 101])), "artifact_too_large");
        for title in ["../x", "/etc/passwd", "", ".git/config", "a\\b"] {
            assert_eq!(code(&json!([layer(LAYER, &json!({TITLE: title}))])), "artifact_file_refused", "{title}");
        }
        let large = json!({"mediaType": FLUX_CONTENT, "digest": digest(), "size": LAYER_BYTES_MAX + 1});
        assert_eq!(code(&json!([large])), "artifact_too_large");
        for wrong in ["sha512:00", "sha256:../../x", "md5:0"] {
            let layer = json!({"mediaType": FLUX_CONTENT, "digest": wrong, "size": 1});
            assert_eq!(code(&json!([layer])), "artifact_unsupported", "{wrong}");
        }
        for text in ["", "[]", "{}", r#"{"schemaVersion": 1}"#, r#"{"schemaVersion": 2, "layers": [{}]}"#] {
            assert!(Manifest::read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_index_is_followed_only_where_it_says_what_is_meant() {
        let one = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(), "size": 1});
        let index = |entries: &[&Value]| {
            let text = json!({"schemaVersion": 2, "manifests": entries}).to_string();
            let manifest = Manifest::read(text.as_bytes()).expect("an index");
            manifest.only_manifest().map(|found| found.map(|found| found.digest.clone()))
        };
        assert_eq!(index(&[&one]), Ok(Some(digest())));
        assert_eq!(index(&[&one, &one]).expect_err("which?").code(), "artifact_unsupported");
        assert_eq!(index(&[]).expect_err("none").code(), "artifact_unsupported");
    }
}
