//! Single files at URLs.

use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use bellwether_core::source::{GitRef, HEAD};

use super::artifact::sha256;
use super::fake::{Fake, RecordedRequest};
use super::{Local, fetch, pairs, remote, tag};
use crate::source::git::{FetchError, RefError, Remote};

const PATH: &str = "/v1/install.yaml";

fn head() -> GitRef {
    GitRef::Named(HEAD.to_owned())
}

/// Without what is known already.
fn answer(asked: &RecordedRequest, text: &str) -> Option<Response> {
    asked.line.ends_with(PATH).then(|| {
        let etag = format!("\"{}\"", sha256(text.as_bytes()));
        let is_known = asked.headers.get("if-none-match").is_some_and(|known| known.as_bytes() == etag.as_bytes());
        let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let body = if is_known { String::new() } else { text.to_owned() };
        (status, [("etag", etag)], body).into_response()
    })
}

fn at(server: &Fake) -> Remote {
    remote(&format!("http://{}{PATH}", server.address))
}

#[tokio::test]
async fn a_single_file_is_a_commit_of_what_is_in_it_and_is_read_again_only_when_it_is_another() {
    let text = Arc::new(Mutex::new("a: 1".to_owned()));
    let server = Fake::start({
        let text = text.clone();
        move |asked| answer(asked, &text.lock().expect("not poisoned"))
    })
    .await;
    let at = at(&server);

    let (local, heads) = fetch(Local::new(), &at, vec![head(), tag("v1"), GitRef::default()]).await;
    let heads = heads.expect("it answers");
    let first = heads[0].outcome.as_ref().expect("a commit");
    assert_eq!(local.files(first), pairs(&[("install.yaml", "a: 1")]));
    assert_eq!(first.subject, format!("install.yaml ({})", sha256(b"a: 1")));
    for other in &heads[1..] {
        assert_eq!(other.outcome, Err(RefError::OfFile));
    }

    let (local, same) = fetch(local, &at, vec![head()]).await;
    assert_eq!(same.expect("it answers"), heads[..1]);
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "one request each");
    assert!(asked[1].headers.contains_key("if-none-match"), "nothing is sent of what did not change");

    "a: 2".clone_into(&mut text.lock().expect("not poisoned"));
    let (local, moved) = fetch(local, &at, vec![head()]).await;
    let moved = moved.expect("it answers").remove(0).outcome.expect("a commit");
    assert_eq!(local.files(&moved), pairs(&[("install.yaml", "a: 2")]));

    // Whoever fetches it, and in whatever order.
    let (_, elsewhere) = fetch(Local::new(), &at, vec![head()]).await;
    assert_eq!(elsewhere.expect("it answers")[0].outcome.as_ref(), Ok(&moved));
    let (_, nobody) = fetch(local.reopen(), &at, Vec::new()).await;
    assert!(nobody.is_ok_and(|heads| heads.is_empty()), "that it is there is found out without anybody who reads it");
}

#[tokio::test]
async fn a_file_that_is_too_large_not_there_or_led_inside_the_network_is_not_taken() {
    let refused = async |answer: fn(&RecordedRequest) -> Option<Response>, may_be_private: bool| {
        let server = Fake::start(answer).await;
        let at = Remote { may_be_private, ..at(&server) };
        fetch(Local::new(), &at, vec![head()]).await.1.expect_err("it is refused")
    };

    let large = refused(|asked| answer(asked, &"a".repeat((16 << 20) + 1)), true).await;
    assert!(matches!(large, FetchError::TooLarge { max, .. } if max == 16 << 20), "{large:?}");
    let missing = refused(|_| None, true).await;
    assert_eq!(missing.code(), "git_repo_not_found", "{missing:?}");
    let inside = refused(|_| Some(Redirect::temporary("http://10.0.0.7/v1/install.yaml").into_response()), false).await;
    assert!(matches!(inside, FetchError::Private { .. }), "{inside:?}");
    let elsewhere = refused(|_| Some(Redirect::temporary("file:///etc/install.yaml").into_response()), true).await;
    assert!(matches!(elsewhere, FetchError::Redirected { .. }), "{elsewhere:?}");
}
