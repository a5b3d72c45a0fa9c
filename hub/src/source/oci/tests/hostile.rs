//! Registries and artifacts that mean no good.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tar::{Builder, EntryType};

use super::artifact::{Artifact, FLUX, add, gzip, sha256, tar, zstd};
use super::fake::{Fake, RecordedRequest, serve};
use super::{Local, blocking, remote, tag};
use crate::source::git::{FetchBounds, FetchError, RefError};

/// Of a registry that serves this as `latest`, or what `instead` answers.
async fn pull(
    artifact: Artifact,
    instead: impl Fn(&RecordedRequest, &Artifact) -> Option<Response> + Send + Sync + 'static,
) -> Result<RefError, FetchError> {
    let server = Fake::start(move |asked| {
        instead(asked, &artifact).or_else(|| serve(asked, &BTreeMap::from([("latest", artifact.clone())])))
    })
    .await;
    let at = remote(&server.url());
    let fetched = blocking(move || Local::new().fetch(&at, &[tag("latest")])).await;
    fetched.map(|mut heads| heads.remove(0).outcome.expect_err("it is refused"))
}

async fn refusal_of(layer: &[u8]) -> RefError {
    refusal_of_type(FLUX, layer).await
}

async fn refusal_of_type(media_type: &str, layer: &[u8]) -> RefError {
    pull(Artifact::new(&[(media_type, layer, Value::Null)]), |_, _| None).await.expect("the registry answers")
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_not_taken() {
    let good = || Artifact::flux(&[("a.yaml", "a: 1")]);
    let other = gzip(&tar(&[("a.yaml", "a: 2")]));

    let manifest = pull(good(), |asked, _| {
        let other = Artifact::flux(&[("a.yaml", "a: 3")]);
        let headers = [("docker-content-digest", sha256(b"something else"))];
        asked.line.contains("/manifests/").then(|| (headers, other.manifest).into_response())
    });
    let swapped = pull(good(), move |asked, artifact| {
        asked.line.ends_with(&artifact.layer()).then(|| Bytes::from(other.clone()).into_response())
    });
    let longer = pull(good(), |asked, artifact| {
        let bytes = [&artifact.blobs[&artifact.layer()][..], b"and more"].concat();
        asked.line.ends_with(&artifact.layer()).then(|| Bytes::from(bytes).into_response())
    });
    let shorter = pull(good(), |asked, artifact| {
        let bytes = artifact.blobs[&artifact.layer()][..30].to_vec();
        asked.line.ends_with(&artifact.layer()).then(|| Bytes::from(bytes).into_response())
    });

    for (name, refused) in
        [("manifest", manifest.await), ("swapped", swapped.await), ("longer", longer.await), ("shorter", shorter.await)]
    {
        assert_eq!(refused.expect("the registry answers").code(), "artifact_digest_differs", "{name}");
    }
}

#[tokio::test]
async fn what_would_fill_memory_or_disk_is_refused_while_it_is_small() {
    let bomb = gzip(&vec![0; 300 << 20]);
    assert!(bomb.len() < 4 << 20, "it is small: {}", bomb.len());
    let file = {
        let mut tar = Builder::new(Vec::new());
        let content = " ".repeat(33 << 20);
        add(&mut tar, EntryType::Regular, "a.yaml", &content);
        gzip(&tar.into_inner().expect("a tar"))
    };
    let name = {
        // The name of the entry after it.
        let mut tar = Builder::new(Vec::new());
        add(&mut tar, EntryType::GNULongName, "././@LongLink", &"x".repeat(200 << 20));
        gzip(&tar.into_inner().expect("a tar"))
    };
    let many = {
        let mut tar = Builder::new(Vec::new());
        for number in 0..10_001 {
            add(&mut tar, EntryType::Regular, &format!("{number}.yaml"), "");
        }
        gzip(&tar.into_inner().expect("a tar"))
    };
    let folders = |files: usize, depth: usize| {
        let mut tar = Builder::new(Vec::new());
        for number in 0..files {
            let above = "a/".repeat(depth);
            add(&mut tar, EntryType::Regular, &format!("{number}/{above}f"), "");
        }
        gzip(&tar.into_inner().expect("a tar"))
    };
    let (deep, wide) = (folders(1, 40), folders(400, 30));
    let layers = [
        ("zeros", bomb),
        ("one file", file),
        ("a name", name),
        ("many files", many),
        ("a deep folder", deep),
        ("many folders", wide),
    ];
    for (what, layer) in layers {
        let refused = refusal_of(&layer).await;
        assert_eq!(refused.code(), "artifact_too_large", "{what}: {refused}");
    }
    let huge = json!({"mediaType": FLUX, "digest": sha256(b""), "size": 1_u64 << 40});
    let manifest = json!({"schemaVersion": 2, "layers": [huge]}).to_string();
    let refused = pull(Artifact { manifest, blobs: BTreeMap::new() }, |_, _| None).await.expect("it answers");
    assert_eq!(refused.code(), "artifact_too_large");
}

#[tokio::test]
async fn a_layer_of_zstd_has_the_same_bounds_and_its_window_one_of_its_own() {
    const ZSTD: &str = "application/vnd.cncf.flux.content.v1.tar+zstd";
    let bomb = zstd(&vec![0; 300 << 20]);
    assert!(bomb.len() < 64 << 10, "it is small: {}", bomb.len());
    let one_file = zstd(&tar(&[("a.yaml", &" ".repeat(33 << 20))]));
    let many = {
        let mut tar = Builder::new(Vec::new());
        for number in 0..10_001 {
            add(&mut tar, EntryType::Regular, &format!("{number}.yaml"), "");
        }
        zstd(&tar.into_inner().expect("a tar"))
    };
    let good = tar(&[("a.yaml", "a: 1")]);
    let (whole, short) = (zstd(&good), zstd(&good[..600]));
    // Its reader is to keep 128 MiB.
    let mut wide = zstd::Encoder::new(Vec::new(), 3).expect("an encoder");
    wide.window_log(27).expect("it is allowed");
    std::io::Write::write_all(&mut wide, &good).expect("it is packed");
    let wide = wide.finish().expect("a frame");
    let layers = [
        ("zeros", bomb, "artifact_too_large"),
        ("one file", one_file, "artifact_too_large"),
        ("many files", many, "artifact_too_large"),
        ("a wide window", wide, "artifact_damaged"),
        ("a frame that was cut", whole[..whole.len() - 3].to_vec(), "artifact_damaged"),
        ("a frame of a tar that was cut", short, "artifact_damaged"),
        ("a frame and gzip", [whole, gzip(&good)].concat(), "artifact_damaged"),
        ("gzip", gzip(&good), "artifact_damaged"),
        ("text", b"hello".to_vec(), "artifact_damaged"),
        ("nothing", Vec::new(), "artifact_damaged"),
        ("a tar of nothing", zstd(&tar(&[])), "artifact_unsupported"),
    ];
    for (what, layer, code) in layers {
        let refused = refusal_of_type(ZSTD, &layer).await;
        assert_eq!(refused.code(), code, "{what}: {refused}");
    }
}

#[tokio::test]
async fn what_is_not_a_plain_file_with_a_plain_path_is_refused_by_its_name() {
    let entries: [(&str, EntryType, &str); 13] = [
        ("link.yaml", EntryType::Symlink, "/etc/passwd"),
        ("link.yaml", EntryType::Symlink, "a.yaml"),
        ("hard.yaml", EntryType::Link, "a.yaml"),
        ("device", EntryType::Char, ""),
        ("disk", EntryType::Block, ""),
        ("pipe", EntryType::Fifo, ""),
        ("sparse.yaml", EntryType::GNUSparse, ""),
        ("../up.yaml", EntryType::Regular, "a: 1"),
        ("a/../../up.yaml", EntryType::Regular, "a: 1"),
        ("/etc/absolute.yaml", EntryType::Regular, "a: 1"),
        (".git/config", EntryType::Regular, "a: 1"),
        ("a.yaml", EntryType::Regular, "twice"),
        ("a.yaml/b.yaml", EntryType::Regular, "below a file"),
    ];
    for (path, kind, content) in entries {
        let mut tar = Builder::new(Vec::new());
        add(&mut tar, EntryType::Regular, "a.yaml", "a: 1");
        add(&mut tar, kind, path, content);
        let refused = refusal_of(&gzip(&tar.into_inner().expect("a tar"))).await;
        let told = refused.to_string();
        assert!(
            refused.code() == "artifact_file_refused" || kind == EntryType::GNUSparse,
            "{path}: {} {told}",
            refused.code()
        );
        assert!(told.contains(path) || kind == EntryType::GNUSparse, "{path}: {told}");
    }
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_refused_and_not_asked_for_again() {
    for (what, layer) in
        [("text", b"hello".to_vec()), ("gzip of text", gzip(&[b'x'; 2000])), ("nothing", gzip(&tar(&[])))]
    {
        let refused = refusal_of(&layer).await;
        assert!(["artifact_damaged", "artifact_unsupported"].contains(&refused.code()), "{what}: {refused}");
    }

    let artifact = Artifact::new(&[(FLUX, b"hello", Value::Null)]);
    let server = Fake::start(move |asked| serve(asked, &BTreeMap::from([("latest", artifact.clone())]))).await;
    let at = remote(&server.url());
    let mut local = Local::new();
    for asks in [2, 1] {
        let at = at.clone();
        local = blocking(move || {
            local.fetch_one(&at, tag("latest")).expect_err("refused");
            local
        })
        .await;
        assert_eq!(server.lines().len(), asks, "a second time only for the manifest");
    }
}

#[tokio::test]
async fn an_index_of_one_manifest_is_followed_and_one_of_several_is_not() {
    let index = |entries: usize| {
        let artifact = Artifact::flux(&[("a.yaml", "a: 1")]);
        let one = json!({"mediaType": "x", "digest": artifact.digest(), "size": artifact.manifest.len()});
        (json!({"schemaVersion": 2, "manifests": vec![one; entries]}).to_string(), artifact)
    };
    let server = Fake::start(move |asked| {
        let (one, artifact) = index(1);
        let several = Artifact { manifest: index(2).0, blobs: BTreeMap::new() };
        let one = Artifact { manifest: one, blobs: artifact.blobs.clone() };
        serve(asked, &BTreeMap::from([("one", one), ("two", several), ("inner", artifact)]))
    })
    .await;
    let at = remote(&server.url());
    let heads = blocking(move || Local::new().fetch(&at, &[tag("one"), tag("two")]).expect("it answers")).await;

    assert!(heads[0].outcome.is_ok(), "{:?}", heads[0]);
    assert_eq!(heads[1].outcome.as_ref().expect_err("which?").code(), "artifact_unsupported");
}

#[tokio::test]
async fn what_a_registry_answers_is_told_as_of_a_git_server() {
    let good = || Artifact::flux(&[("a.yaml", "a: 1")]);
    let cases = [
        (StatusCode::UNAUTHORIZED, "git_unauthorized"),
        (StatusCode::FORBIDDEN, "git_unauthorized"),
        (StatusCode::TOO_MANY_REQUESTS, "git_limited"),
        (StatusCode::INTERNAL_SERVER_ERROR, "git_server_failed"),
        (StatusCode::NOT_FOUND, "git_repo_not_found"),
    ];
    for (status, code) in cases {
        for path in ["/v2/", "/blobs/"] {
            let failed = pull(good(), move |asked, _| {
                asked.line.contains(path).then(|| (status, [("retry-after", "7")]).into_response())
            })
            .await;
            if (status, path) == (StatusCode::NOT_FOUND, "/blobs/") {
                assert_eq!(failed.expect("it is of one ref").code(), "artifact_incomplete");
                continue;
            }
            let failed = failed.expect_err("it fails");
            assert_eq!(failed.code(), code, "{status} of {path}: {failed}");
            if let FetchError::Limited { retry_after, .. } = failed {
                assert_eq!(retry_after, Some(Duration::from_secs(7)));
            }
        }
    }
    let page = pull(good(), |_, _| Some("<html>".into_response())).await.expect("it is of one ref");
    assert_eq!(page.code(), "artifact_damaged");
}

#[tokio::test]
async fn nobody_is_led_into_the_hubs_network() {
    let targets = [
        "http://127.0.0.1:1/blob",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]:1/blob",
        "http://[::ffff:10.0.0.1]/blob",
        "http://2130706433/blob",
        "http://localhost:1/blob",
    ];
    for target in targets {
        let artifact = Artifact::flux(&[("a.yaml", "a: 1")]);
        let server = Fake::start(move |asked| {
            let moved = || (StatusCode::TEMPORARY_REDIRECT, [("location", target)]).into_response();
            if asked.line.contains("/blobs/") {
                Some(moved())
            } else {
                serve(asked, &BTreeMap::from([("latest", artifact.clone())]))
            }
        })
        .await;
        let mut at = remote(&server.url());
        at.may_be_private = false;
        let failed = blocking(move || Local::new().fetch(&at, &[tag("latest")])).await.expect_err("refused");
        assert_eq!(failed.code(), "git_private_address", "{target}: {failed}");
    }
    // Nor by the server of tokens.
    let server = Fake::start(|_| {
        let challenge = r#"Bearer realm="http://169.254.169.254/token",service="x""#;
        Some((StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response())
    })
    .await;
    let mut at = remote(&server.url());
    at.may_be_private = false;
    let failed = blocking(move || Local::new().fetch(&at, &[tag("latest")])).await.expect_err("refused");
    assert_eq!(failed.code(), "git_private_address", "{failed}");
}

#[tokio::test]
async fn a_registry_that_leads_in_circles_or_to_something_else_is_left() {
    for (location, code) in [
        ("/v2/team/shop/manifests/latest", "git_server_failed"),
        ("ftp://example.com/x", "git_redirected"),
        ("http://user:secret@example.com/x", "git_redirected"),
    ] {
        let failed = pull(Artifact::flux(&[("a.yaml", "a: 1")]), move |_, _| {
            Some((StatusCode::FOUND, [("location", location)]).into_response())
        })
        .await
        .expect_err("it fails");
        assert_eq!(failed.code(), code, "{location}: {failed}");
        assert!(!failed.to_string().contains("secret"), "{failed}");
    }
}

#[tokio::test]
async fn a_registry_that_falls_silent_is_left_in_time() {
    let artifact = Artifact::flux(&[("a.yaml", "a: 1")]);
    let server = Fake::start(move |asked| {
        let silent = || axum::body::Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        if asked.line.contains("/blobs/") {
            Some(silent().into_response())
        } else {
            serve(asked, &BTreeMap::from([("latest", artifact.clone())]))
        }
    })
    .await;
    let at = remote(&server.url());
    let bounds = FetchBounds { stall: Duration::from_millis(300), ..FetchBounds::default() };
    let failed =
        blocking(move || Local::new().with_bounds(bounds).fetch(&at, &[tag("latest")])).await.expect_err("it fails");
    assert_eq!(failed.code(), "git_deadline", "{failed}");
}
