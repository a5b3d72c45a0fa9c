//! Artifacts as the usual tools make them, and as nobody should.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const FLUX: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";

/// A manifest, and the blobs that it names.
#[derive(Debug, Clone)]
pub(crate) struct Artifact {
    pub(crate) manifest: String,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
}

impl Artifact {
    pub(crate) fn new(layers: &[(&str, &[u8], Value)]) -> Self {
        Self::annotated(layers, &json!({}))
    }

    pub(crate) fn annotated(layers: &[(&str, &[u8], Value)], annotations: &Value) -> Self {
        let mut blobs = BTreeMap::from([(sha256(b"{}"), b"{}".to_vec())]);
        let mut described = Vec::new();
        for (media_type, bytes, annotations) in layers {
            let digest = sha256(bytes);
            described.push(json!({
                "mediaType": media_type, "digest": digest, "size": bytes.len(), "annotations": annotations,
            }));
            blobs.insert(digest, bytes.to_vec());
        }
        let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described, "annotations": annotations,
        });
        Self { manifest: manifest.to_string(), blobs }
    }

    /// As `flux push artifact` makes them.
    pub(crate) fn flux(files: &[(&str, &str)]) -> Self {
        let annotations = json!({
            "org.opencontainers.image.created": "2026-03-01T10:00:00Z",
            "org.opencontainers.image.revision": "main@sha1:0123",
            "org.opencontainers.image.source": "https://git.example.com/shop",
        });
        Self::annotated(&[(FLUX, &gzip(&tar(files)), Value::Null)], &annotations)
    }

    pub(crate) fn digest(&self) -> String {
        sha256(self.manifest.as_bytes())
    }

    /// Of the first layer.
    pub(crate) fn layer(&self) -> String {
        let manifest: Value = serde_json::from_str(&self.manifest).expect("JSON");
        manifest["layers"][0]["digest"].as_str().expect("a digest").to_owned()
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

pub(crate) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, content) in files {
        add(&mut tar, EntryType::Regular, path, content);
    }
    tar.into_inner().expect("a tar")
}

/// Of any kind and name, also such as no tool would write.
pub(crate) fn add(tar: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, content: &str) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
        header.set_size(0);
        header.set_cksum();
        tar.append(&header, &b""[..]).expect("an entry");
    } else {
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).expect("an entry");
    }
}

/// One frame that does not say how large it is, as tools that write while they read make them.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("it is packed")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("it is packed");
    encoder.finish().expect("a gzip")
}
