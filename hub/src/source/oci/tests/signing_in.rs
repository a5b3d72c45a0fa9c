//! Tokens: where they come from, and who never sees them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::artifact::Artifact;
use super::fake::{Fake, Identity, RecordedRequest, serve};
use super::{Local, blocking, remote, tag};
use crate::source::git::{FetchError, Remote};

const PASSWORD: &str = "robot:N0bodyMayReadThis";

fn basic() -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(PASSWORD))
}

async fn fetch(mut local: Local, at: &Remote) -> (Local, Result<(), FetchError>) {
    let at = at.clone();
    blocking(move || {
        let fetched = local.fetch(&at, &[tag("latest")]).map(|heads| {
            for head in heads {
                head.outcome.expect("a commit");
            }
        });
        (local, fetched)
    })
    .await
}

fn challenge(realm: &str) -> Response {
    let text =
        format!(r#"Bearer realm="{realm}",service="registry.example.com",scope="repository:other/thing:pull,push""#);
    (StatusCode::UNAUTHORIZED, [("www-authenticate", text)]).into_response()
}

/// A registry that wants the tokens of `realm`, numbered from one, of which only the newest is good.
async fn registry(identity: &Identity, realm: String, good: Arc<AtomicUsize>, store: String) -> Fake {
    let artifact = Artifact::flux(&[("a.yaml", "a: 1")]);
    let answer = move |asked: &RecordedRequest| {
        let wanted = format!("Bearer token-{}", good.load(Ordering::Relaxed));
        if asked.authorization() != Some(&*wanted) {
            return Some(challenge(&realm));
        }
        if asked.line.contains("/blobs/") {
            let path = asked.line.split_once(' ').expect("a line").1;
            let location = format!("{store}{path}");
            return Some((StatusCode::TEMPORARY_REDIRECT, [("location", location)]).into_response());
        }
        serve(asked, &BTreeMap::from([("latest", artifact.clone())]))
    };
    Fake::start_tls(identity, answer).await
}

#[tokio::test]
async fn a_credential_goes_to_the_registry_and_its_server_of_tokens_and_to_no_store_of_blobs() {
    let identity = Identity::new();
    let artifact = Artifact::flux(&[("a.yaml", "a: 1")]);
    let store =
        Fake::start_tls(&identity, move |asked| serve(asked, &BTreeMap::from([("latest", artifact.clone())]))).await;
    let good = Arc::new(AtomicUsize::new(0));
    let realm = Fake::start_tls(&identity, {
        let good = good.clone();
        move |_| {
            let token = format!("token-{}", good.fetch_add(1, Ordering::Relaxed) + 1);
            Some(axum::Json(serde_json::json!({"access_token": token})).into_response())
        }
    })
    .await;
    let (realm_url, store_url) = (format!("https://{}/token", realm.address), format!("https://{}", store.address));
    let server = registry(&identity, realm_url, good.clone(), store_url).await;
    let at = Remote { ca_pem: Some(identity.ca.clone()), credential: Some(PASSWORD.into()), ..remote(&server.url()) };

    let (local, fetched) = fetch(Local::new(), &at).await;
    fetched.expect("it is let in");

    let asked = realm.asked();
    assert_eq!(asked.len(), 1, "one token for all of a fetch");
    assert_eq!(asked[0].authorization(), Some(&*basic()));
    let line = &asked[0].line;
    assert!(line.contains("service=registry.example.com"), "{line}");
    assert!(
        line.contains("scope=repository%3Ateam%2Fshop%3Apull") && !line.contains("push"),
        "only what is needed: {line}"
    );
    let of_store = store.asked();
    assert_eq!(of_store.len(), 1);
    assert_eq!(of_store[0].authorization(), None, "a store is told nothing");
    assert!(server.asked().iter().all(|asked| asked.authorization() != Some(&*basic())), "a token is enough");

    // It is kept, until it is refused.
    let (local, fetched) = fetch(local, &at).await;
    fetched.expect("it is let in");
    assert_eq!((realm.asked().len(), server.asked().len()), (0, 1));
    good.fetch_add(10, Ordering::Relaxed);
    let (_, fetched) = fetch(local, &at).await;
    fetched.expect("it is let in");
    assert_eq!((realm.asked().len(), server.asked().len()), (1, 2));
}

#[tokio::test]
async fn without_a_credential_a_token_is_asked_for_all_the_same() {
    let artifact = Artifact::flux(&[("a.yaml", "a: 1")]);
    let realm = Fake::start(|_| Some(axum::Json(serde_json::json!({"token": "anybody"})).into_response())).await;
    let realm_url = format!("http://{}/token", realm.address);
    let server = Fake::start(move |asked| match asked.authorization() {
        Some("Bearer anybody") => serve(asked, &BTreeMap::from([("latest", artifact.clone())])),
        _ => Some(challenge(&realm_url)),
    })
    .await;

    let (_, fetched) = fetch(Local::new(), &remote(&server.url())).await;

    fetched.expect("it is let in");
    assert_eq!(realm.asked()[0].authorization(), None);
}

#[tokio::test]
async fn a_password_is_never_sent_in_clear_text_wherever_a_registry_leads() {
    let identity = Identity::new();
    let plain = Fake::start(|_| Some(axum::Json(serde_json::json!({"token": "x"})).into_response())).await;
    let realm = format!("http://{}/token", plain.address);
    let server = Fake::start_tls(&identity, move |_| Some(challenge(&realm))).await;
    let at = Remote { ca_pem: Some(identity.ca.clone()), credential: Some(PASSWORD.into()), ..remote(&server.url()) };

    let (_, refused) = fetch(Local::new(), &at).await;
    assert_eq!(refused.expect_err("it is clear text").code(), "git_redirected");
    assert!(plain.asked().is_empty());

    let at = Remote { credential: Some(PASSWORD.into()), ..remote(&plain.url()) };
    let (_, refused) = fetch(Local::new(), &at).await;
    assert_eq!(refused.expect_err("it is clear text").code(), "git_token_needs_https");
    assert!(plain.asked().is_empty());
}

#[tokio::test]
async fn a_registry_that_refuses_again_and_again_is_asked_once_more_and_no_oftener() {
    let identity = Identity::new();
    let realm =
        Fake::start_tls(&identity, |_| Some(axum::Json(serde_json::json!({"token": "x"})).into_response())).await;
    let realm_url = format!("https://{}/token", realm.address);
    let server = Fake::start_tls(&identity, move |_| Some(challenge(&realm_url))).await;
    let at = Remote { ca_pem: Some(identity.ca.clone()), credential: Some(PASSWORD.into()), ..remote(&server.url()) };

    let (_, refused) = fetch(Local::new(), &at).await;

    let refused = refused.expect_err("it is refused");
    assert!(matches!(refused, FetchError::Unauthorized { with_token: true, .. }), "{refused:?}");
    assert!(!format!("{refused:?} {refused}").contains("N0body"));
    assert_eq!((realm.asked().len(), server.asked().len()), (1, 2));
}
