//! The whole router, without a socket: what holds for every route. What one of them does is tested beside it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::testing::{Api, api, repo, target};
use crate::ports::Peer;
use crate::store::{self, Pool};

/// Every route under /api/v1, by hand: a route that is missing here fails `every_route_is_listed`.
pub(crate) const ROUTES: &[(&str, &str)] = &[
    ("GET", "/whoami"),
    ("GET", "/tokens"),
    ("POST", "/tokens"),
    ("DELETE", "/tokens/a"),
    ("GET", "/clusters"),
    ("POST", "/clusters"),
    ("GET", "/clusters/a"),
    ("DELETE", "/clusters/a"),
    ("GET", "/clusters/a/targets"),
    ("GET", "/clusters/a/apis"),
    ("GET", "/clusters/a/rbac"),
    ("GET", "/clusters/a/definitions"),
    ("GET", "/clusters/a/definitions/a"),
    ("PUT", "/clusters/a/labels"),
    ("PUT", "/clusters/a/annotations"),
    ("POST", "/clusters/a/revoke"),
    ("POST", "/clusters/a/reenroll"),
    ("GET", "/repos"),
    ("GET", "/repos/a"),
    ("PUT", "/repos/a"),
    ("DELETE", "/repos/a"),
    ("PUT", "/repos/a/credential"),
    ("POST", "/repos/a/credential"),
    ("DELETE", "/repos/a/credential"),
    ("POST", "/repos/a/webhook-secret"),
    ("POST", "/repos/a/refresh"),
    ("POST", "/repos/a/accept"),
    ("GET", "/targets"),
    ("GET", "/targets/a"),
    ("PUT", "/targets/a"),
    ("DELETE", "/targets/a"),
    ("GET", "/targets/a/render"),
    ("GET", "/targets/a/explain"),
    ("POST", "/targets/a/plan"),
    ("POST", "/targets/a/refresh"),
    ("POST", "/targets/a/rollback"),
    ("POST", "/targets/a/release"),
    ("GET", "/rollouts"),
    ("GET", "/rollouts/a"),
    ("GET", "/rollouts/a/members"),
    ("POST", "/rollouts/a/intents"),
    ("GET", "/status"),
    ("GET", "/drift"),
    ("GET", "/drift/a"),
    ("GET", "/audit"),
    ("POST", "/audit/verify"),
];

#[crate::store::database_test(migrations = "../migrations")]
async fn no_route_of_the_api_answers_without_a_token(pool: Pool) {
    let api = api(&pool).await;

    for (method, path) in ROUTES {
        for token in [None, Some("bwt_wrong"), Some("")] {
            let (status, body) = api.call(method, &format!("/api/v1{path}"), token, "{}").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}: {body}");
        }
    }
}

/// By which proxies say whom they have let in, and where somebody comes from.
const CLAIMS: &[(&str, &str)] = &[
    ("x-forwarded-user", "admin"),
    ("x-remote-user", "admin"),
    ("remote-user", "admin"),
    ("x-auth-request-user", "admin"),
    ("x-forwarded-groups", "system:masters"),
    ("impersonate-user", "admin"),
    ("x-client-cert", "CN=admin"),
    ("x-forwarded-client-cert", "Subject=\"CN=admin\""),
    ("x-ssl-client-verify", "SUCCESS"),
    ("x-ssl-client-s-dn", "CN=admin"),
    ("x-forwarded-for", "203.0.113.9"),
    ("x-real-ip", "203.0.113.9"),
    ("forwarded", "for=203.0.113.9;proto=https"),
    ("cookie", "token=admin; session=admin"),
];

#[crate::store::database_test(migrations = "../migrations")]
async fn no_header_but_a_tokens_says_who_somebody_is_or_where_they_come_from(pool: Pool) {
    let api = api(&pool).await;
    let (status, created) = api.ask("POST", "/tokens", r#"{"name": "eve", "role": "viewer"}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let created: Value = serde_json::from_str(&created).expect("a document");
    let viewer = created["secret"].as_str().expect("it is shown once");

    for (method, path) in ROUTES {
        let path = format!("/api/v1{path}");
        let (status, body) = api.call_with(CLAIMS, method, &path, None, "{}").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}: {body}");
        let (claimed, _) = api.call_with(CLAIMS, method, &path, Some(viewer), "{}").await;
        let (plain, _) = api.call(method, &path, Some(viewer), "{}").await;
        assert_eq!(claimed, plain, "{method} {path}");
    }

    let (_, said) = api.call_with(CLAIMS, "GET", "/api/v1/whoami", Some(viewer), "").await;
    assert!(said.contains("eve") && !said.contains("admin"), "{said}");
    let mut db = pool.acquire().await.expect("a connection");
    let known = store::tokens::list_networks(&mut db, 100, crate::process::clock::now()).await.expect("they are read");
    assert_eq!(known, ["127.0.0.1"]);
}

#[test]
fn every_route_is_listed() {
    let source = include_str!("mod.rs");
    let nested = source.split("let api = Router::new()").nth(1).and_then(|rest| rest.split(".fallback").next());
    let nested = nested.expect("the API's routes stand together");
    let methods =
        ["get(", "post(", "put(", "delete("].map(|method| nested.matches(method).count()).iter().sum::<usize>();

    assert_eq!(methods, ROUTES.len(), "a route was added or removed: list it in ROUTES");
}

#[test]
fn the_routes_that_need_no_token_are_few_and_named() {
    let source = include_str!("mod.rs");
    let outside = source.split(".nest(\"/api/v1\", api)").nth(1).expect("the API's routes are nested");
    let open: Vec<_> = outside.split(".route(\"").skip(1).filter_map(|route| route.split('"').next()).collect();

    assert_eq!(open, ["/hooks/v1/{repo}", "/livez", "/readyz", "/metrics"], "an open route answers strangers");
    assert_eq!(source.matches("Router::new()").count(), 2, "these two are all");
    assert_eq!(source.matches(".nest(").count(), 1);
    assert_eq!(source.matches(".merge(").count(), source.matches(".merge(change(").count(), "methods of one route");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_unknown_field_suggests_the_nearest(pool: Pool) {
    let api = api(&pool).await;

    let body =
        r#"{"apiVersion":"bellwether.dev/v1","kind":"Target","metadata":{"name":"a"},"spec":{"repo":"r","pth":"x"}}"#;
    let (status, problem) = api.problem("PUT", "/targets/a", body).await;

    assert_eq!((status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "unknown_field"));
    assert_eq!(problem.hint.as_deref(), Some("did you mean `path`?"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_of_the_wrong_kind_is_told_with_its_field(pool: Pool) {
    let api = api(&pool).await;
    let target = |spec: Value| {
        json!({"apiVersion": "bellwether.dev/v1", "kind": "Target", "metadata": {"name": "a"}, "spec": spec})
            .to_string()
    };

    for (spec, told) in [
        (json!({"repo": "r", "ref": {"branch": "a", "tag": "b"}}), "`spec.ref`: `branch` and `tag` are both given"),
        (
            json!({"repo": "r", "ref": "main"}),
            "`spec.ref`: invalid type: string \"main\", expected a map with `branch`",
        ),
        (
            json!({"repo": "r", "rollout": {"waves": [{"name": "a"}, {"name": "b", "soak": 10}]}}),
            "`spec.rollout.waves[1].soak`: invalid type: integer `10`, expected a length of time with its unit",
        ),
        (
            json!({"repo": "r", "rollout": {"onFailure": "rolback"}}),
            "`spec.rollout.onFailure`: unknown variant `rolback`",
        ),
    ] {
        let (status, problem) = api.problem("PUT", "/targets/a", &target(spec)).await;
        assert_eq!((status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "body_invalid"));
        assert!(problem.detail.starts_with(told), "{}", problem.detail);
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn bad_input_is_refused_by_name(pool: Pool) {
    let api = api(&pool).await;
    let repo = |url: &str| {
        format!(
            r#"{{"apiVersion":"bellwether.dev/v1","kind":"Repo","metadata":{{"name":"a"}},"spec":{{"url":"{url}"}}}}"#
        )
    };

    for (method, path, body, code) in [
        ("PUT", "/repos/a", repo("ssh://-oProxyCommand=x/"), "repo_url_invalid"),
        ("PUT", "/repos/A", repo("https://example.org/a"), "name_invalid"),
        ("PUT", "/repos/b", repo("https://example.org/a"), "name_differs"),
        ("PUT", "/repos/a", "{".to_owned(), "body_invalid"),
        ("POST", "/clusters", r#"{"name":"a","labels":{"a b":"c"}}"#.to_owned(), "label_invalid"),
        ("POST", "/clusters", r#"{"name":"a","ttlSeconds":9999999}"#.to_owned(), "ttl_invalid"),
        ("POST", "/clusters", r#"{"name":"a","namespace":"kube-system"}"#.to_owned(), "namespace_shared"),
        ("GET", "/clusters?cursor=!", String::new(), "cursor_invalid"),
        ("GET", "/audit?actr=me", String::new(), "query_invalid"),
        ("GET", "/audit?action=rolout", String::new(), "query_invalid"),
        ("GET", "/rollouts/none", String::new(), "rollout_not_found"),
        ("GET", "/nothing", String::new(), "no_such_route"),
    ] {
        let (status, problem) = api.problem(method, path, &body).await;
        assert!(status.is_client_error(), "{method} {path}: {status}");
        assert_eq!(problem.code, code, "{method} {path}: {}", problem.detail);
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_with_a_wrong_signature_wakes_nothing(pool: Pool) {
    let api = api(&pool).await;

    let (status, body) = api.call("POST", "/hooks/v1/none", None, "{}").await;

    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body.contains("signature_invalid"), "{body}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_problem_names_its_cause(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    api.ask("PUT", "/targets/shop", &target(&json!({"repo": "apps"}))).await;

    let (status, problem) = api.problem("POST", "/targets/shop/rollback", r#"{"reason":"a\u0000b"}"#).await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "text_invalid"));
    let long = json!({"reason": "x".repeat(5_000)}).to_string();
    let (status, problem) = api.problem("POST", "/targets/shop/rollback", &long).await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "text_invalid"));

    let strange = json!({format!("pa\u{202e}{}", "x".repeat(5_000)): 1}).to_string();
    let (_, problem) = api.problem("PUT", "/targets/shop", &strange).await;
    assert!(problem.detail.len() <= 1_024 && !problem.detail.contains('\u{202e}'), "{problem:?}");

    let mut holder = store::begin(&pool).await.expect("a transaction");
    store::execute_in(&mut holder, "lock table repos in access exclusive mode").await.expect("locked");
    let (status, problem) = api.problem("PUT", "/repos/apps", &repo("https://git.example.org/b.git", None)).await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "busy"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_token_is_shown_once_reads_as_its_role_says_and_ends_when_revoked(pool: Pool) {
    let api = api(&pool).await;
    let (status, created) = api.ask("POST", "/tokens", r#"{"name":"wallboard","ttlSeconds":600}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let created: Value = serde_json::from_str(&created).expect("a document");
    let viewer = created["secret"].as_str().expect("the token").to_owned();
    let as_viewer = async |method, path| api.call(method, &format!("/api/v1{path}"), Some(&viewer), "{}").await.0;

    assert_eq!(as_viewer("GET", "/clusters").await, StatusCode::OK);
    for (method, path) in ROUTES.iter().filter(|(method, path)| *method != "GET" && *path != "/audit/verify") {
        assert_eq!(as_viewer(method, path).await, StatusCode::FORBIDDEN, "{method} {path}");
    }
    let (_, listed) = api.ask("GET", "/tokens", "").await;
    assert!(!listed.contains(&viewer) && listed.contains("lastUsedAt\":\""), "{listed}");
    assert_eq!(api.ask("DELETE", "/tokens/admin", "").await.0, StatusCode::CONFLICT, "one would be locked out");

    assert_eq!(api.ask("DELETE", "/tokens/wallboard", "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(as_viewer("GET", "/clusters").await, StatusCode::UNAUTHORIZED);
    assert_eq!(api.audited("token.revoked").await.len(), 1);
}

/// Asked once, it is told again although no connection is free any more.
async fn expect_remembered(pool: &Pool, path: &str) {
    let api = api(pool).await;
    let mut held = Vec::new();
    for _ in 1..store::VITAL_CONNECTIONS_MAX {
        held.push(api.hub.vital.acquire().await.expect("a connection"));
    }
    assert_eq!(api.call("GET", path, None, "").await.0, StatusCode::OK);
    held.push(api.hub.vital.acquire().await.expect("the last one"));

    let all = async {
        for _ in 0..200 {
            assert_eq!(api.call("GET", path, None, "").await.0, StatusCode::OK);
        }
    };

    tokio::time::timeout(std::time::Duration::from_millis(900), all).await.expect("nobody waits for a connection");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn readiness_is_asked_of_the_database_once_in_a_while(pool: Pool) {
    expect_remembered(&pool, "/readyz").await;
}

#[crate::store::database_test(migrations = "../migrations")]
async fn figures_are_asked_of_the_database_once_in_a_while(pool: Pool) {
    expect_remembered(&pool, "/metrics").await;
}

#[crate::store::database_test(migrations = "../migrations")]
async fn people_who_ask_for_much_and_stages_that_work_much_do_not_wait_for_each_other(pool: Pool) {
    let api = api(&pool).await;
    assert_eq!(api.ask("GET", "/clusters", "").await.0, StatusCode::OK);
    let mut held = Vec::new();

    for _ in 0..api.hub.requests.options().get_max_connections() {
        held.push(api.hub.requests.acquire().await.expect("a connection"));
    }
    let stage = tokio::time::timeout(std::time::Duration::from_secs(2), api.hub.pool.acquire()).await;
    let stage = stage.is_ok_and(|connection| connection.is_ok());
    held.clear();
    for _ in 0..api.hub.pool.options().get_max_connections() {
        held.push(api.hub.pool.acquire().await.expect("a connection"));
    }
    let page = api.ask("GET", "/clusters", "");
    let page = tokio::time::timeout(std::time::Duration::from_secs(2), page).await;

    assert!(stage, "it waits for nobody who asks");
    assert_eq!(page.expect("it waits for no stage").0, StatusCode::OK);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_without_the_right_signature_is_read_to_no_end_and_buffered_by_nobody(pool: Pool) {
    let api = api(&pool).await;
    let (_, created) = api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    let created: Value = serde_json::from_str(&created).expect("a document");
    let secret = created["webhookSecret"].as_str().expect("shown once").to_owned();
    let post = async |path: &str, signature: Option<String>, body: Body| {
        let mut request = Request::builder().method("POST").uri(path);
        if let Some(signature) = signature {
            request = request.header("x-signature", format!("sha256={signature}"));
        }
        let address = "127.0.0.1:1".parse().expect("is an address");
        let request = request.extension(Peer(address)).body(body).expect("is a request");
        api.router.clone().oneshot(request).await.expect("answered").status()
    };
    let never = || Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let sign = |body: &[u8]| {
        let mut hashed = crate::pki::seal::HmacSha256::new(secret.as_bytes());
        hashed.update(body);
        hex::encode(hashed.bytes())
    };

    assert_eq!(post("/hooks/v1/apps", None, never()).await, StatusCode::UNAUTHORIZED, "no signature, nothing read");
    let wrong = "0".repeat(64);
    for path in ["/hooks/v1/apps", "/hooks/v1/none"] {
        assert_eq!(post(path, Some(wrong.clone()), Body::from("{}")).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    let large = vec![b'x'; 26 << 20];
    assert_eq!(post("/hooks/v1/apps", Some(sign(&large)), Body::from(large)).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(post("/hooks/v1/apps", Some(sign(b"{}")), Body::from("{}")).await, StatusCode::ACCEPTED);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn those_who_read_leave_most_connections_to_decisions(pool: Pool) {
    let api = Arc::new(api(&pool).await);
    let (status, body) = api.ask("POST", "/tokens", r#"{"name":"wallboard"}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let viewer = serde_json::from_str::<Value>(&body).expect("JSON")["secret"].as_str().expect("a token").to_owned();
    api.call("GET", "/api/v1/whoami", Some(&viewer), "").await;
    // What reads the log waits for it from now on, with its connection in hand.
    let mut holder = store::begin(&pool).await.expect("a transaction");
    store::lock_table(&mut holder, "audit_entries").await.expect("it is held");

    let mut asked = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (api, token) = (api.clone(), if number % 4 == 0 { api.token.clone() } else { viewer.clone() });
        asked.spawn(async move {
            let (method, path) = if number % 2 == 0 { ("POST", "/audit/verify") } else { ("GET", "/audit") };
            api.call(method, &format!("/api/v1{path}"), Some(&token), "").await
        });
    }
    let reading = "select count(*) from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock'";
    let mut db = api.hub.pool.acquire().await.expect("a connection");
    let (mut held_most, mut answered) = (0, 0);
    while answered < 40 {
        held_most = held_most.max(store::ask_number(&mut db, reading).await.expect("it is read"));
        let next = tokio::time::timeout(std::time::Duration::from_millis(5), asked.join_next()).await;
        answered += usize::from(next.is_ok());
    }

    assert!(held_most > 0, "nobody read the log");
    // Beside those who read the log is one who checks it.
    let most = i64::from(store::REQUEST_CONNECTIONS_MAX) / 2 + 1;
    assert!(held_most <= most, "{held_most} of {}", store::REQUEST_CONNECTIONS_MAX);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_has_a_good_token_does_not_wait_for_those_who_guess(pool: Pool) {
    let api = Arc::new(api(&pool).await);
    api.ask("GET", "/whoami", "").await;
    let mut guessing = Vec::new();
    for number in 0..6 {
        guessing.push(api.hub.strangers.turn(Some([192, 0, 2, number].into())).await.expect("it is free"));
    }
    let mut guesses = tokio::task::JoinSet::new();
    for (method, path) in [("GET", "/status"), ("POST", "/audit/verify")].repeat(4) {
        let api = api.clone();
        guesses.spawn(async move { api.call(method, &format!("/api/v1{path}"), Some("bwt_guessed"), "").await });
    }
    tokio::task::yield_now().await;

    for (method, path) in [("GET", "/whoami"), ("GET", "/status"), ("POST", "/audit/verify")] {
        let answered = tokio::time::timeout(std::time::Duration::from_secs(1), api.ask(method, path, "")).await;
        assert!(answered.is_ok_and(|(status, _)| status == StatusCode::OK), "{method} {path} waits for strangers");
    }

    drop(guessing);
    while let Some(guess) = guesses.join_next().await {
        assert_eq!(guess.expect("no panic").0, StatusCode::UNAUTHORIZED);
    }
}

/// The API's port of this hub, open, and a client of it that takes so many bytes of each answer before it is asked for more.
async fn dial(
    api: &Api,
    window: u32,
) -> (hyper::client::conn::http2::SendRequest<String>, tokio_util::sync::DropGuard) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::spawn(super::serve(api.hub.clone(), listener, stop.clone()));
    let mut roots = rustls::RootCertStore::empty();
    for root in api.hub.authority.roots() {
        roots.add(root.into()).expect("a root");
    }
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = rustls::pki_types::ServerName::try_from(crate::pki::ca::HUB_NAME).expect("a name");
    let tcp = tokio::net::TcpStream::connect(address).await.expect("connected");
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("it is the hub");
    let mut builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (client, connection) = builder.handshake(hyper_util::rt::TokioIo::new(tls)).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    (client, stop.drop_guard())
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_token_whose_answers_nobody_takes_is_made_no_more_of_them(pool: Pool) {
    let api = api(&pool).await;
    api.ask("GET", "/whoami", "").await;
    let (mut client, _stop) = dial(&api, 1_000).await;
    let token = api.token.clone();
    #[expect(clippy::async_yields_async, reason = "who asks does not wait for the answer")]
    let mut ask = async || {
        client.ready().await.expect("it is open");
        let request = Request::get("https://hub/api/v1/tokens").header("authorization", format!("Bearer {token}"));
        client.send_request(request.body(String::new()).expect("is a request"))
    };
    for number in 0..20 {
        api.ask("POST", "/tokens", &json!({"name": format!("t{number}")}).to_string()).await;
    }

    let mut untaken = Vec::new();
    for _ in 0..4 {
        let answer = ask().await.await.expect("it is answered");
        assert_eq!(answer.status(), StatusCode::OK);
        untaken.push(answer);
    }
    let mut fifth = std::pin::pin!(ask().await);
    let early = tokio::time::timeout(std::time::Duration::from_secs(1), &mut fifth).await;
    assert!(early.is_err(), "a fifth answer lies in memory");

    let mut taken = 0;
    let mut body = untaken.remove(0).into_body();
    while let Some(frame) =
        std::future::poll_fn(|context| hyper::body::Body::poll_frame(std::pin::Pin::new(&mut body), context)).await
    {
        taken += frame.expect("it comes").data_ref().map_or(0, hyper::body::Bytes::len);
    }
    assert!(taken > 1_000, "{taken} bytes were no reason to wait");
    let fifth = tokio::time::timeout(std::time::Duration::from_secs(4), fifth).await;
    assert_eq!(fifth.expect("one was taken").expect("answered").status(), StatusCode::OK);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn of_tokens_only_their_hashes_are_stored(pool: Pool) {
    let api = api(&pool).await;
    let (_, created) = api.ask("POST", "/tokens", r#"{"name":"wallboard"}"#).await;
    let (status, registered) = api.ask("POST", "/clusters", r#"{"name":"c1"}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{registered}");
    let of = |body: &str, field: &str| {
        let body: Value = serde_json::from_str(body).expect("JSON");
        body[field].as_str().expect("it is shown once").to_owned()
    };
    let shown = [api.token.trim().to_owned(), of(&created, "secret"), of(&registered, "token")];

    let everything = "select string_agg(query_to_xml(format('select * from %I.%I', schemaname, tablename),
                                                     true, false, '')::text, '')
                        from pg_tables where schemaname = 'public'";
    let mut db = pool.acquire().await.expect("a connection");
    store::ask_text(&mut db, "select set_config('xmlbinary', 'hex', false)").await.expect("it is set");
    let stored = store::ask_text(&mut db, everything).await.expect("an intruder can").to_lowercase();

    assert!(stored.contains("wallboard") && stored.contains(&hex::encode("wallboard")), "not all was read");
    for secret in shown {
        assert!(
            !stored.contains(&secret.to_lowercase()) && !stored.contains(&hex::encode(&secret)),
            "a token is stored"
        );
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn where_good_tokens_come_from_is_known_after_a_restart_and_of_no_other(pool: Pool) {
    let api = api(&pool).await;
    let known = async || {
        crate::pki::revocations::refresh_known(&api.hub).await.expect("the rows can be read");
        api.hub.trust.known_callers.load().iter().map(ToString::to_string).collect::<Vec<_>>()
    };

    api.call("GET", "/api/v1/whoami", Some("bwt_guessed"), "").await;
    assert!(known().await.is_empty());
    api.ask("GET", "/whoami", "").await;
    assert_eq!(known().await, ["127.0.0.1"]);
    store::execute_raw(&pool, "update api_tokens set expires_at = now() - interval '1 h'")
        .await
        .expect("it is written");
    assert!(known().await.is_empty());
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_forged_webhook_is_answered_before_it_stands_in_the_log(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.com/apps.git", None)).await;
    let mut holder = pool.begin().await.expect("a transaction");
    store::lock_table(&mut holder, "audit_outbox").await.expect("it is held");

    assert_eq!(api.hook("wrong", b"{}").await, StatusCode::UNAUTHORIZED);

    drop(holder);
    let written = async {
        while api.audited("webhook.refused").await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), written).await.expect("it is written");
}
