//! Artifacts that have to be signed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::artifact::Artifact;
use super::docker::DockerRegistry;
use super::fake::{Fake, serve};
use super::{Local, blocking, remote, tag};
use crate::source::git::Remote;
use crate::source::oci::CosignKey;

pub(crate) struct CosignPair(EcdsaKeyPair);

impl CosignPair {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key"))
    }

    pub(crate) fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().expect("it is encoded");
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()))
    }

    /// As `cosign sign --key` makes it.
    pub(crate) fn sign(&self, digest: &str) -> Artifact {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": "registry.example.com/team/shop"},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = payload.to_string();
        let signature = self.0.sign(&SystemRandom::new(), payload.as_bytes()).expect("it signs");
        let annotations = json!({"dev.cosignproject.cosign/signature": STANDARD.encode(signature.as_ref())});
        Artifact::new(&[("application/vnd.dev.cosign.simplesigning.v1+json", payload.as_bytes(), annotations)])
    }
}

pub(crate) fn signature_tag(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

async fn fetch(mut local: Local, at: &Remote) -> (Local, Result<(), &'static str>) {
    let at = at.clone();
    blocking(move || {
        let outcome = local.fetch_one(&at, tag("stable"));
        (local, outcome.map(drop).map_err(|error| error.code()))
    })
    .await
}

#[tokio::test]
async fn with_keys_nothing_is_taken_that_none_of_them_signed() {
    let registry = DockerRegistry::start().await;
    let (ours, other) = (CosignPair::new(), CosignPair::new());
    let (artifact, another) = (Artifact::flux(&[("a.yaml", "a: 1")]), Artifact::flux(&[("a.yaml", "a: 2")]));
    let digest = registry.push("team/shop", "stable", &artifact).await;
    let at = Remote { cosign_keys: vec![ours.pem()], ..remote(&registry.repo_url("team/shop")) };

    let (local, unsigned) = fetch(Local::new(), &at).await;
    assert_eq!(unsigned, Err("artifact_unsigned"));
    registry.push("team/shop", &signature_tag(&artifact.digest()), &other.sign(&digest)).await;
    let (local, by_another) = fetch(local, &at).await;
    assert_eq!(by_another, Err("artifact_signed_by_others"));
    registry.push("team/shop", &signature_tag(&artifact.digest()), &ours.sign(&another.digest())).await;
    let (local, of_another) = fetch(local, &at).await;
    assert_eq!(of_another, Err("artifact_signed_by_others"), "a signature is of one digest only");
    registry.push("team/shop", &signature_tag(&artifact.digest()), &ours.sign(&digest)).await;
    let (local, signed) = fetch(local, &at).await;
    assert_eq!(signed, Ok(()));

    // What was taken is no excuse once other keys are asked for.
    let stricter = Remote { cosign_keys: vec![other.pem()], ..at.clone() };
    let (local, refused) = fetch(local, &stricter).await;
    assert_eq!(refused, Err("artifact_signed_by_others"));
    let (_, both) = fetch(local, &Remote { cosign_keys: vec![other.pem(), ours.pem()], ..at }).await;
    assert_eq!(both, Ok(()));
}

#[tokio::test]
async fn a_signature_that_was_found_good_is_not_asked_for_again() {
    let key = CosignPair::new();
    let artifact = Artifact::flux(&[("a.yaml", "a: 1")]);
    let (name, signature) = (signature_tag(&artifact.digest()), key.sign(&artifact.digest()));
    let tags = Arc::new(Mutex::new(BTreeMap::from([("stable", artifact)])));
    let name: &'static str = name.leak();
    tags.lock().expect("not poisoned").insert(name, signature);
    let server = Fake::start(move |asked| serve(asked, &tags.lock().expect("not poisoned"))).await;
    let at = Remote { cosign_keys: vec![key.pem()], ..remote(&server.url()) };

    let (local, first) = fetch(Local::new(), &at).await;
    assert_eq!((first, server.lines().len()), (Ok(()), 4));
    let (local, again) = fetch(local, &at).await;
    assert_eq!((again, server.lines().len()), (Ok(()), 1));
    let (_, after_a_restart) = fetch(local.reopen(), &at).await;
    assert_eq!((after_a_restart, server.lines().len()), (Ok(()), 3));
}

#[test]
fn only_a_public_key_of_the_right_kind_is_a_key() {
    assert!(CosignKey::read(&CosignPair::new().pem()).is_ok());
    let pem = |der: &[u8]| format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    for text in [
        "",
        "ssh-ed25519 AAAA",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &pem(b"x"),
        &pem(&[]),
    ] {
        assert!(CosignKey::read(text).is_err(), "{text}");
    }
}
