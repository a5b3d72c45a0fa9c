//! Charts of Helm repositories.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bellwether_core::source::GitRef;

use super::artifact::{gzip, sha256, tar};
use super::fake::{Fake, Identity, RecordedRequest};
use super::{Local, digest, fetch, pairs, remote, tag};
use crate::source::git::{RefError, Remote};

fn archive(version: &str) -> Vec<u8> {
    gzip(&tar(&[("shop/Chart.yaml", &format!("version: {version}")), ("shop/templates/a.yaml", "a: 1")]))
}

/// An entry as `helm repo index` writes it.
fn entry(version: &str, url: &str, digest: &str) -> String {
    format!(
        "  - apiVersion: v2\n    created: \"2026-03-01T10:00:00Z\"\n    digest: {}\n    name: shop\n    urls:\n    - {url}\n    \
         version: {version}\n",
        digest.trim_start_matches("sha256:")
    )
}

fn index(entries: &[String]) -> String {
    format!("apiVersion: v1\nentries:\n  other:\n  - version: 9.0.0\n    urls: [x]\n  shop:\n{}", entries.concat())
}

fn semver(range: &str) -> GitRef {
    GitRef::Semver(range.to_owned())
}

/// A Helm repository below `/charts`, whose index is `index`.
fn answer(asked: &RecordedRequest, index: &str) -> Option<Response> {
    let path = asked.line.strip_prefix("GET /charts/")?;
    if path == "index.yaml" {
        let etag = format!("\"{}\"", sha256(index.as_bytes()));
        let known = asked.headers.get("if-none-match").and_then(|value| value.to_str().ok());
        let is_known = known == Some(&*etag);
        let body = if is_known { String::new() } else { index.to_owned() };
        let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        return Some((status, [("etag", etag)], body).into_response());
    }
    let version = path.strip_prefix("shop-")?.strip_suffix(".tgz")?;
    Some(Bytes::from(archive(version)).into_response())
}

fn of(server: &Fake, scheme: &str) -> Remote {
    Remote { chart: Some("shop".to_owned()), ..remote(&format!("{scheme}://{}/charts", server.address)) }
}

#[tokio::test]
async fn a_chart_of_a_helm_repository_is_followed_by_version_and_by_range() {
    let good = |version: &str| entry(version, &format!("shop-{version}.tgz"), &sha256(&archive(version)));
    let text = Arc::new(Mutex::new(index(&[good("1.2.0"), good("1.10.0"), good("2.0.0-rc.1")])));
    let server = Fake::start({
        let text = text.clone();
        move |asked| answer(asked, &text.lock().expect("not poisoned"))
    })
    .await;
    let at = of(&server, "http");
    let wanted =
        || vec![semver("1.x"), tag("1.2.0"), tag("1.2"), semver(">=2"), digest(&sha256(b"")), GitRef::default()];

    let (local, heads) = fetch(Local::new(), &at, wanted()).await;
    let heads = heads.expect("it answers");

    let outcome = |at: usize| (heads[at].tag.as_deref(), heads[at].outcome.as_ref().map(drop).map_err(RefError::code));
    assert_eq!(outcome(0), (Some("1.10.0"), Ok(())));
    assert_eq!(outcome(1), (None, Ok(())));
    let missing = ["tag_not_found", "version_not_found", "ref_of_other_source", "ref_of_other_source"];
    for (at, code) in (2..).zip(missing) {
        assert_eq!(outcome(at), (None, Err(code)));
    }
    let commit = heads[0].outcome.as_ref().expect("a commit");
    assert_eq!(local.files(commit), pairs(&[("Chart.yaml", "version: 1.10.0"), ("templates/a.yaml", "a: 1")]));
    assert_eq!(commit.subject, format!("shop 1.10.0 ({})", sha256(&archive("1.10.0"))));
    assert_eq!(server.lines().len(), 3);

    let (local, same) = fetch(local, &at, wanted()).await;
    assert_eq!(same.expect("it answers")[0], heads[0]);
    assert_eq!(server.lines(), ["GET /charts/index.yaml"], "nothing new is one request");

    *text.lock().expect("not poisoned") = index(&[good("1.2.0"), good("1.10.0"), good("1.11.0")]);
    let (_, moved) = fetch(local, &at, wanted()).await;
    assert_eq!(moved.expect("it answers")[0].tag.as_deref(), Some("1.11.0"));
    assert_eq!(server.lines(), ["GET /charts/index.yaml", "GET /charts/shop-1.11.0.tgz"]);
}

/// See `helm/README.md`.
#[tokio::test]
async fn an_index_and_charts_that_helm_itself_wrote_are_read() {
    let archives: [(&str, &[u8]); 2] = [
        ("shop-1.2.0.tgz", include_bytes!("helm/shop-1.2.0.tgz")),
        ("shop-1.10.0.tgz", include_bytes!("helm/shop-1.10.0.tgz")),
    ];
    let server = Fake::start(move |asked| match asked.line.strip_prefix("GET /charts/")? {
        "index.yaml" => Some(include_str!("helm/index.yaml").into_response()),
        path => archives.iter().find(|(name, _)| *name == path).map(|(_, bytes)| bytes.into_response()),
    })
    .await;

    let (local, heads) =
        fetch(Local::new(), &of(&server, "http"), vec![semver("1.x"), tag("1.2.0"), tag("9.0.0")]).await;
    let heads = heads.expect("it answers");

    assert_eq!(heads[0].tag.as_deref(), Some("1.10.0"));
    let newest = heads[0].outcome.as_ref().expect("a commit");
    assert_eq!(newest.subject, format!("shop 1.10.0 ({})", sha256(archives[1].1)));
    let files = local.files(newest);
    let names: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["Chart.yaml", "templates/a.yaml", "values.yaml"]);
    assert!(heads[1].outcome.is_ok());
    assert_eq!(heads[2].outcome.as_ref().map(drop).map_err(RefError::code), Err("tag_not_found"), "of another chart");
}

#[tokio::test]
async fn what_is_no_helm_repository_and_a_chart_that_is_not_there_are_told() {
    let server = Fake::start(|asked| answer(asked, &index(&[]).replace("shop:", "shops: []"))).await;
    let page = Fake::start(|_| Some("<html>".into_response())).await;
    let nothing = Fake::start(|_| None).await;

    let (_, missing) = fetch(Local::new(), &of(&server, "http"), Vec::new()).await;
    let missing = missing.expect_err("no such chart");
    assert_eq!((missing.code(), missing.hint().as_deref()), ("chart_not_found", Some("did you mean `shops`?")));
    let (_, page) = fetch(Local::new(), &of(&page, "http"), Vec::new()).await;
    assert_eq!(page.expect_err("a page").code(), "helm_not_a_repository");
    let (_, nothing) = fetch(Local::new(), &of(&nothing, "http"), Vec::new()).await;
    assert_eq!(nothing.expect_err("nothing").code(), "git_repo_not_found");
}

#[tokio::test]
async fn an_archive_that_is_not_what_the_index_says_is_not_taken() {
    let server = Fake::start(|asked| {
        let wrong = entry("1.0.0", "shop-1.0.0.tgz", &sha256(b"something else"));
        let gone = entry("2.0.0", "gone.tgz", &sha256(b""));
        let inside = entry("3.0.0", "http://169.254.169.254/shop-3.0.0.tgz", &sha256(b""));
        answer(asked, &index(&[wrong, gone, inside]))
    })
    .await;
    let mut at = of(&server, "http");
    let (_, heads) = fetch(Local::new(), &at, vec![tag("1.0.0"), tag("2.0.0")]).await;
    let codes: Vec<_> = heads
        .expect("it answers")
        .into_iter()
        .map(|head| head.outcome.map(drop).map_err(|error| error.code()))
        .collect();
    assert_eq!(codes, [Err("artifact_digest_differs"), Err("artifact_incomplete")]);

    at.may_be_private = false;
    let (_, refused) = fetch(Local::new(), &at, vec![tag("3.0.0")]).await;
    assert_eq!(refused.expect_err("it leads inside").code(), "git_private_address");
}

#[tokio::test]
async fn a_private_helm_repository_is_given_its_password_and_the_host_of_its_archives_is_not() {
    let identity = Identity::new();
    let store = Fake::start_tls(&identity, |asked| answer(asked, "")).await;
    let elsewhere = format!("https://{}/charts/shop-1.0.0.tgz", store.address);
    let server = Fake::start_tls(&identity, move |asked| {
        let text = index(&[entry("1.0.0", &elsewhere, &sha256(&archive("1.0.0")))]);
        let challenge = || (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"charts\"")]).into_response();
        if asked.authorization().is_none() { Some(challenge()) } else { answer(asked, &text) }
    })
    .await;
    let at = Remote {
        ca_pem: Some(identity.ca.clone()),
        credential: Some("ada:N0bodyMayReadThis".into()),
        ..of(&server, "https")
    };

    let (_, heads) = fetch(Local::new(), &at, vec![tag("1.0.0")]).await;

    heads.expect("it is let in").remove(0).outcome.expect("a commit");
    let asked = server.asked();
    assert_eq!(asked.iter().map(|asked| asked.authorization().is_some()).collect::<Vec<_>>(), [false, true]);
    assert!(store.asked().iter().all(|asked| asked.authorization().is_none()));
}
