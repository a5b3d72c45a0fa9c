//! With a server that can be told to misbehave.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, http};
use futures_util::StreamExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use secrecy::SecretString;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::upstream::{Local, Upstream, branch, remote};
use crate::source::git::budget::FetchBounds;
use crate::source::git::{FetchError, ReadError, RefError, Remote};

#[derive(Clone)]
enum Mood {
    Serve,
    /// As a Git before 2.18 does.
    ServeOldProtocol,
    Answer(StatusCode),
    Redirect(String),
    Page,
    /// To a fetch; before that it serves.
    AnswerFetch(Bytes),
    /// A listing of `main` at this commit and of so many more branches.
    ListMany(String, usize),
    Hang,
    /// When it is asked for a history.
    HangHistory,
    /// A piece every 100 ms.
    Trickle,
}

struct Shared {
    root: std::path::PathBuf,
    mood: Mutex<Mood>,
    token: Mutex<Option<String>>,
    requests: Mutex<Vec<(String, HeaderMap)>>,
}

struct Server {
    runtime: Option<Runtime>,
    address: SocketAddr,
    shared: Arc<Shared>,
    ca_pem: Option<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Server {
    fn start(upstream: &Upstream) -> Self {
        Self::listen(upstream, None)
    }

    fn start_tls(upstream: &Upstream) -> Self {
        Self::start_tls_as(upstream, &["127.0.0.1"], |_| {})
    }

    /// With a certificate for these names, changed before it is signed.
    fn start_tls_as(upstream: &Upstream, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("valid names");
        change(&mut params);
        let certificate = params.signed_by(&key, &issuer).expect("a certificate").der().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .expect("a pair");
        let mut server = Self::listen(upstream, Some(TlsAcceptor::from(Arc::new(config))));
        server.ca_pem = Some(ca_pem);
        server
    }

    fn listen(upstream: &Upstream, acceptor: Option<TlsAcceptor>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let shared = Arc::new(Shared {
            root: upstream.folder().parent().expect("a parent").to_owned(),
            mood: Mutex::new(Mood::Serve),
            token: Mutex::default(),
            requests: Mutex::default(),
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let service = TowerToHyperService::new(Router::new().fallback(answer).with_state(Arc::clone(&shared)));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (service, acceptor) = (service.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = match acceptor {
                        None => server.serve_connection(TokioIo::new(stream), service).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
                            Err(_) => return,
                        },
                    };
                });
            }
        });
        Self { runtime: Some(runtime), address, shared, ca_pem: None }
    }

    fn remote(&self) -> Remote {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        Remote { ca_pem: self.ca_pem.clone(), ..remote(&format!("{scheme}://{}/shop.git", self.address)) }
    }

    fn set(&self, mood: Mood) {
        *self.shared.mood.lock().expect("not poisoned") = mood;
    }

    fn requests(&self) -> Vec<(String, HeaderMap)> {
        std::mem::take(&mut *self.shared.requests.lock().expect("not poisoned"))
    }

    fn request_lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|(line, _)| line).collect()
    }

    fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.runtime.as_ref().expect("it runs").enter()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str).to_owned();
    shared.requests.lock().expect("not poisoned").push((format!("{} {target}", parts.method), parts.headers.clone()));
    let wanted = shared.token.lock().expect("not poisoned").clone();
    if parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) != wanted.as_deref() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mood = shared.mood.lock().expect("not poisoned").clone();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let trickles = matches!(mood, Mood::Trickle);
    let protocol = match mood {
        Mood::Serve | Mood::Trickle => {
            parts.headers.get("git-protocol").and_then(|value| value.to_str().ok()).unwrap_or_default()
        }
        Mood::ServeOldProtocol => "",
        Mood::Answer(status) => return (status, [(header::RETRY_AFTER, "7")]).into_response(),
        Mood::Redirect(to) if parts.uri.path().starts_with("/shop.git") => {
            let rest = target.replacen("/shop.git", "", 1);
            return (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, format!("{to}{rest}"))]).into_response();
        }
        Mood::Page => return "<html>".into_response(),
        Mood::AnswerFetch(answer) if body.windows(13).any(|bytes| bytes == b"command=fetch") => {
            return ([(header::CONTENT_TYPE, "application/x-git-upload-pack-result")], answer).into_response();
        }
        Mood::ListMany(main, more) if body.windows(15).any(|bytes| bytes == b"command=ls-refs") => {
            return ([(header::CONTENT_TYPE, "application/x-git-upload-pack-result")], listing(&main, more))
                .into_response();
        }
        Mood::HangHistory if body.windows(11).any(|bytes| bytes == b"deepen 1000") => std::future::pending().await,
        Mood::Redirect(_) | Mood::AnswerFetch(_) | Mood::ListMany(..) | Mood::HangHistory => "version=2",
        Mood::Hang => std::future::pending().await,
    };
    let mut response = serve(&shared.root, &parts, protocol, &body).await;
    if trickles {
        let body = to_bytes(std::mem::take(response.body_mut()), usize::MAX).await.expect("a body");
        *response.body_mut() = trickle(&body);
    }
    response
}

/// What Git itself answers of the repositories in a folder.
async fn serve(root: &Path, parts: &Parts, protocol: &str, body: &[u8]) -> Response {
    let mut child = Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_PROJECT_ROOT", root)
        .envs([("GIT_HTTP_EXPORT_ALL", "1"), ("GIT_PROTOCOL", protocol)])
        .env("PATH_INFO", parts.uri.path().replacen("/moved", "/shop.git", 1))
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", parts.method.as_str())
        .env(
            "CONTENT_TYPE",
            parts.headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or_default()),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("git starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(body).await.expect("git reads");
    drop(input);
    let output = child.wait_with_output().await.expect("git ends").stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("headers");
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        response = match name {
            "Status" => response.status(&value[..3]),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).expect("a response")
}

/// Serves a repository by http, for as long as the test's runtime runs, and says where.
pub(crate) async fn start_serving(upstream: &Upstream) -> String {
    let root = upstream.folder().parent().expect("a parent").to_owned();
    let answer = move |request: Request| {
        let root = root.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.expect("a body");
            serve(&root, &parts, "version=2", &body).await
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    format!("http://{address}/shop.git")
}

fn listing(main: &str, more: usize) -> Body {
    let line = |text: String| format!("{:04x}{text}", text.len() + 4);
    let main = line(format!("{main} refs/heads/main\n"));
    let others = (0..more).map(move |number| line(format!("{} refs/heads/x{number:08}\n", "1".repeat(40))));
    let lines = [main].into_iter().chain(others).chain(["0000".to_owned()]);
    Body::from_stream(futures_util::stream::iter(lines.map(Ok::<_, std::convert::Infallible>)))
}

fn trickle(body: &[u8]) -> Body {
    let pieces: Vec<Vec<u8>> = body.chunks(body.len() / 15 + 1).map(<[u8]>::to_vec).collect();
    let pieces = futures_util::stream::iter(pieces).then(|piece| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, std::convert::Infallible>(piece)
    });
    Body::from_stream(pieces)
}

fn upstream() -> Upstream {
    let upstream = Upstream::new();
    upstream.push("main", "One", &[("shop/a.yaml", "a: 1"), ("other/b.yaml", "b: 1")]);
    upstream
}

fn failure(local: &mut Local, remote: &Remote) -> FetchError {
    local.fetch(remote, &[branch("main")]).expect_err("it must fail")
}

#[test]
fn a_fetch_without_news_is_one_request_and_a_push_two() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let (mut local, remote) = (Local::new(), server.remote());
    let (get, post) = ("GET /shop.git/info/refs?service=git-upload-pack", "POST /shop.git/git-upload-pack");

    local.fetch_main(&remote);
    assert_eq!(server.request_lines(), [get, post, post]);

    local.fetch_main(&remote);
    assert_eq!(server.request_lines(), [post]);

    let id = upstream.push("main", "Two", &[("shop/a.yaml", "a: 2")]);
    assert_eq!(local.fetch_main(&remote).id, id);
    assert_eq!(server.request_lines(), [post, post]);
}

#[test]
fn a_push_that_was_told_of_is_one_request_where_the_server_takes_names() {
    let upstream = upstream();
    upstream.git(["config", "uploadpack.allowRefInWant", "true"], b"");
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let (mut local, remote) = (Local::new(), server.remote());
    let post = "POST /shop.git/git-upload-pack";
    local.fetch_main(&remote);
    local.mirror.expect_news(true);
    server.requests();

    let id = upstream.push("main", "Two", &[("shop/a.yaml", "a: 2")]);
    assert_eq!(local.fetch_main(&remote).id, id);
    assert_eq!(server.request_lines(), [post]);

    // It was told of twice.
    assert_eq!(local.fetch_main(&remote).id, id);
    assert_eq!(server.request_lines(), [post]);

    upstream.git(["update-ref", "-d", "refs/heads/main"], b"");
    let heads = local.fetch(&remote, &[branch("main")]).expect("the server answers");
    assert!(matches!(heads[0].outcome, Err(RefError::NoSuchBranch { .. })), "{heads:?}");
}

#[test]
fn a_private_repo_behind_a_private_authority_is_fetched_with_its_token() {
    let upstream = upstream();
    let server = Server::start_tls(&upstream);
    let _runtime = server.enter();
    *server.shared.token.lock().expect("not poisoned") = Some("Basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0".to_owned());
    let remote = Remote { credential: Some(SecretString::from("secret")), ..server.remote() };
    let mut local = Local::new();

    local.fetch_main(&remote);

    // The first request holds it: asking to be asked would cost a round trip.
    assert_eq!(server.requests().len(), 3);
    let wrong = Remote { credential: Some(SecretString::from("wrong")), ..remote.clone() };
    assert!(matches!(failure(&mut local, &wrong), FetchError::Unauthorized { with_token: true, .. }));
    let without = Remote { credential: None, ..remote.clone() };
    assert!(matches!(failure(&mut local, &without), FetchError::Unauthorized { with_token: false, .. }));
    assert!(!format!("{remote:?}").contains("secret"));
}

#[test]
fn a_private_repo_of_a_host_that_has_users_is_fetched_with_user_and_password() {
    let upstream = upstream();
    let server = Server::start_tls(&upstream);
    let _runtime = server.enter();
    *server.shared.token.lock().expect("not poisoned") = Some("Basic YWRhOmx8b3ZlOmxhY2U=".to_owned());
    let remote = Remote { credential: Some(SecretString::from("ada:l|ove:lace")), ..server.remote() };

    Local::new().fetch_main(&remote);

    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_server_whose_authority_is_not_known_is_not_trusted() {
    let upstream = upstream();
    let server = Server::start_tls(&upstream);
    let other = Server::start_tls(&upstream);
    let _runtime = server.enter();
    let mut local = Local::new();

    for ca_pem in [None, other.ca_pem.clone()] {
        let error = failure(&mut local, &Remote { ca_pem, ..server.remote() });
        assert_eq!(error.code(), "git_untrusted", "{error:?}");
    }
    for ca_pem in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let error = failure(&mut local, &Remote { ca_pem: Some(ca_pem.to_owned()), ..server.remote() });
        assert_eq!(error.code(), "git_invalid_ca", "{ca_pem}: {error:?}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_certificate_that_has_ended_or_is_another_hosts_gets_no_token() {
    let upstream = upstream();
    let ended = Server::start_tls_as(&upstream, &["127.0.0.1"], |certificate| {
        certificate.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let anothers = Server::start_tls_as(&upstream, &["git.example.org", "127.0.0.2"], |_| {});
    let _runtime = ended.enter();
    let mut local = Local::new();

    for server in [&ended, &anothers] {
        let remote = Remote { credential: Some(SecretString::from("secret")), ..server.remote() };
        let error = failure(&mut local, &remote);
        assert_eq!(error.code(), "git_untrusted", "{error:?}");
        assert_eq!(server.requests().len(), 0);
    }
}

#[test]
fn a_token_never_travels_in_clear_text() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();

    let error =
        failure(&mut Local::new(), &Remote { credential: Some(SecretString::from("secret")), ..server.remote() });

    assert_eq!(error.code(), "git_token_needs_https");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_redirect_is_followed_on_the_same_host_only() {
    let upstream = upstream();
    let (server, elsewhere) = (Server::start(&upstream), Server::start(&upstream));
    let _runtime = server.enter();
    let mut local = Local::new();

    server.set(Mood::Redirect(format!("http://{}/shop.git", elsewhere.address)));
    let error = failure(&mut local, &server.remote());
    assert_eq!((error.code(), elsewhere.requests().len()), ("git_redirected", 0), "{error:?}");

    server.requests();
    server.set(Mood::Redirect("/moved".to_owned()));
    local.fetch_main(&server.remote());
    let post = "POST /moved/git-upload-pack";
    assert_eq!(server.request_lines()[2..], [post, post]);
}

#[test]
fn what_comes_before_a_pack_has_the_bound_of_a_listing() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let mut local = Local::new();
    let line = format!("0035shallow {}\n", "1".repeat(40));
    let answer = ["0011shallow-info\n", &line.repeat((17 << 20) / line.len()), "0000"].concat();
    server.set(Mood::AnswerFetch(answer.into()));

    let error = failure(&mut local, &server.remote());

    assert_eq!(error.code(), "git_too_large", "{error:?}");
    server.set(Mood::Serve);
    local.fetch_main(&server.remote());
}

#[test]
fn what_the_server_answers_becomes_a_code_and_a_hint() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let mut local = Local::new();
    let cases = [
        (Mood::Answer(StatusCode::NOT_FOUND), "git_repo_not_found"),
        (Mood::Answer(StatusCode::UNAUTHORIZED), "git_unauthorized"),
        (Mood::Answer(StatusCode::FORBIDDEN), "git_unauthorized"),
        (Mood::Answer(StatusCode::TOO_MANY_REQUESTS), "git_limited"),
        (Mood::Answer(StatusCode::SERVICE_UNAVAILABLE), "git_limited"),
        (Mood::Answer(StatusCode::INTERNAL_SERVER_ERROR), "git_server_failed"),
        (Mood::Page, "git_not_a_server"),
        (Mood::ServeOldProtocol, "git_unsupported"),
    ];

    for (mood, code) in cases {
        // Both at the first contact and in the middle of a conversation that went well so far.
        for known in [false, true] {
            if known {
                server.set(Mood::Serve);
                local.fetch_main(&server.remote());
                if code == "git_unsupported" {
                    continue;
                }
            }
            server.set(mood.clone());
            let error = failure(&mut local, &server.remote());
            assert_eq!(error.code(), code, "{error:?}");
            assert!(error.hint().is_some());
        }
    }
    let gone = remote("http://127.0.0.1:1/shop.git");
    assert_eq!(failure(&mut local, &gone).code(), "git_unreachable");
    server.set(Mood::Serve);
    let missing = remote(&format!("http://{}/nothing.git", server.address));
    assert_eq!(failure(&mut local, &missing).code(), "git_repo_not_found");
}

#[test]
fn a_silent_server_is_left_at_the_deadline_or_at_a_stop() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    server.set(Mood::Hang);
    let mut local = Local::new();
    let wanted = [branch("main")];
    let began = Instant::now();

    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let thread = std::thread::spawn(move || flag.store(true, Ordering::Relaxed));
    let stopped = local.mirror.fetch(&server.remote(), &wanted, &stop);
    thread.join().expect("it only stores");
    let bounds = FetchBounds { deadline: Duration::from_millis(200), ..FetchBounds::default() };
    local.mirror = local.mirror.with_bounds(bounds);
    let late = failure(&mut local, &server.remote());

    assert!(matches!(stopped, Err(FetchError::Stopped)), "{stopped:?}");
    assert_eq!(late.code(), "git_deadline");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_slow_server_is_waited_for_as_long_as_something_comes() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let mut local = Local::new();
    let bounds = FetchBounds { stall: Duration::from_millis(900), ..FetchBounds::default() };
    local.mirror = local.mirror.with_bounds(bounds);
    server.set(Mood::Trickle);
    let began = Instant::now();

    local.fetch_main(&server.remote());

    assert!(began.elapsed() > bounds.stall, "each answer alone takes longer than a silence may");
    server.set(Mood::Hang);
    let error = failure(&mut local, &server.remote());
    assert!(matches!(error, FetchError::Stalled { .. }), "{error:?}");
}

#[test]
fn a_name_that_leads_inside_is_refused_when_it_is_connected_to() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let inside = remote(&format!("http://localhost:{}/shop.git", server.address.port()));

    let error = failure(&mut Local::new(), &Remote { may_be_private: false, ..inside.clone() });

    assert_eq!((error.code(), server.requests().len()), ("git_private_address", 0), "{error:?}");
    Local::new().fetch_main(&inside);
}

#[test]
fn a_listing_of_a_hundred_thousand_refs_is_read_and_one_of_a_million_is_not() {
    let upstream = upstream();
    let id = upstream.push("main", "Two", &[("shop/a.yaml", "a: 2")]);
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let mut local = Local::new();

    server.set(Mood::ListMany(id.clone(), 1_000_000));
    let error = failure(&mut local, &server.remote());
    assert_eq!(error.code(), "git_too_large", "{error:?}");

    server.set(Mood::ListMany(id.clone(), 100_000));
    assert_eq!(local.fetch_main(&server.remote()).id, id);
    server.set(Mood::Serve);
    assert_eq!(local.fetch_main(&server.remote()).id, id);
}

/// Text that does not compress well.
fn noise(bytes: usize) -> String {
    let numbers = (0..).map(|number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string());
    let mut text = String::new();
    for number in numbers {
        if text.len() >= bytes {
            break;
        }
        text.push_str(&number);
    }
    text
}

#[test]
fn a_large_file_that_no_target_needs_is_not_sent_by_a_server_that_can_leave_it_out() {
    let upstream = upstream();
    upstream.git(["config", "uploadpack.allowFilter", "true"], b"");
    let id = upstream.push("main", "A film", &[("docs/tour.mp4", &noise(3 << 20)), ("shop/a.yaml", "a: 2")]);
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let mut local = Local::new();
    local.mirror = local.mirror.with_bounds(FetchBounds { pack_bytes_max: 100_000, ..FetchBounds::default() });

    local.fetch_main(&server.remote());

    assert_eq!(local.files(&id, "shop"), [("a.yaml".to_owned(), "a: 2".to_owned())]);
}

#[test]
fn a_large_file_that_a_target_needs_comes_with_the_fetch_after_it_was_missed() {
    let upstream = upstream();
    upstream.git(["config", "uploadpack.allowFilter", "true"], b"");
    let large = noise(3 << 20);
    let id = upstream.push("main", "Large", &[("shop/crds.yaml", &large)]);
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let mut local = Local::new();
    local.fetch_main(&server.remote());

    let missed = local.mirror.reader().read_folder(&id, "shop", &|_, _| false).expect_err("it was left out");
    local.fetch_main(&server.remote());

    assert!(matches!(missed, ReadError::NotFetched), "{missed:?}");
    let files = local.files(&id, "shop");
    assert_eq!((files.len(), files[1].1 == large), (2, true));
    // What was asked for is not asked for again.
    server.requests();
    local.fetch_main(&server.remote());
    assert_eq!(server.request_lines(), ["POST /shop.git/git-upload-pack"]);
}

#[test]
fn a_file_that_is_too_large_for_one_target_stops_no_other() {
    let upstream = upstream();
    upstream.git(["config", "uploadpack.allowFilter", "true"], b"");
    let huge = "0".repeat(102 << 20);
    let id = upstream.push("main", "Huge", &[("shop/huge.yaml", &huge), ("other/b.yaml", "b: 2")]);
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    let missed = local.mirror.reader().read_folder(&id, "shop", &|_, _| false).expect_err("it was left out");
    assert!(matches!(missed, ReadError::NotFetched), "{missed:?}");

    local.fetch_main(&upstream.remote());

    let refused = local.mirror.reader().read_folder(&id, "shop", &|_, _| false).expect_err("it is too large");
    assert!(matches!(&refused, ReadError::FileTooLarge { file, .. } if file == "shop/huge.yaml"), "{refused:?}");
    assert_eq!(local.files(&id, "other"), [("b.yaml".to_owned(), "b: 2".to_owned())]);
}

#[test]
fn a_pack_that_was_too_large_is_not_sent_again_until_the_branch_moves() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let mut local = Local::new();
    let first = local.fetch_main(&server.remote());
    upstream.push("main", "A film", &[("docs/tour.mp4", &"0".repeat(102 << 20))]);
    let error = failure(&mut local, &server.remote());
    assert_eq!(error.code(), "git_too_large");
    assert!(error.to_string().contains("106954752 bytes"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("LFS")));
    server.requests();

    assert_eq!(failure(&mut local, &server.remote()).code(), "git_too_large");

    assert!(server.request_lines().len() <= 2, "a listing, and no pack");
    upstream.git(["update-ref", "refs/heads/main", &first.id], b"");
    let id = upstream.push("main", "No film", &[("shop/a.yaml", "a: 3")]);
    assert_eq!(local.fetch_main(&server.remote()).id, id);
}

#[test]
fn all_suggestions_for_missing_refs_cost_one_listing() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let mut local = Local::new();
    local.fetch_main(&server.remote());
    server.requests();
    let gone: Vec<_> = (1..=5).map(|number| branch(&format!("gone-{number}"))).collect();

    let heads = local.fetch(&server.remote(), &gone).expect("the server answers");

    assert!(heads.iter().all(|head| head.outcome.is_err()));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_pack_over_the_bound_is_left_and_the_mirror_stays_usable() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let mut local = Local::new();
    let first = local.fetch_main(&server.remote());
    let noise: Vec<String> =
        (0..200_000u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string()).collect();
    upstream.push("main", "Large", &[("a.yaml", &noise.concat())]);
    local.mirror = local.mirror.with_bounds(FetchBounds { pack_bytes_max: 100_000, ..FetchBounds::default() });

    let error = failure(&mut local, &server.remote());

    assert_eq!(error.code(), "git_too_large");
    assert_eq!(local.files(&first.id, "shop").len(), 1);
    local.mirror = local.mirror.with_bounds(FetchBounds::default());
    assert_eq!(local.fetch_main(&server.remote()).subject, "Large");
}

#[test]
fn a_kept_connection_that_the_server_closed_is_no_failure() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let client = Runtime::new().expect("a runtime");
    let _runtime = client.enter();
    let (mut local, remote) = (Local::new(), server.remote());
    local.fetch_main(&remote);
    let address = server.address;
    drop(server);
    assert_eq!(failure(&mut local, &remote).code(), "git_unreachable");

    let again = Server::start(&upstream);

    let moved = Remote { url: again.remote().url, ..remote };
    assert_ne!(again.address, address);
    local.fetch_main(&moved);
}

#[test]
fn a_fetch_asks_the_server_even_if_nothing_is_wanted() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();
    let mut local = Local::new();

    for _ in 0..2 {
        assert_eq!(local.fetch(&server.remote(), &[]).expect("it is there"), []);
    }
    server.set(Mood::Answer(StatusCode::NOT_FOUND));

    assert_eq!(local.fetch(&server.remote(), &[]).expect_err("it is gone").code(), "git_repo_not_found");
}

#[test]
fn a_history_that_does_not_come_in_time_is_unknown_and_keeps_no_other_branch_back() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _guard = server.enter();
    let remote = server.remote();
    let mut local = Local::new();
    local.mirror =
        local.mirror.with_bounds(FetchBounds { stall: Duration::from_millis(900), ..FetchBounds::default() });
    let old = local.fetch_main(&remote).id;
    let blob = upstream.blob(b"a: 9");
    let forced = upstream.push_tree("main", &upstream.tree(&[("100644", b"a.yaml", &blob)]));
    let prod = upstream.push("prod", "Two", &[("shop/a.yaml", "a: 2")]);
    server.set(Mood::HangHistory);
    let bases = [("refs/heads/main".to_owned(), old)].into();

    local.mirror.ask_whether(&bases, &std::collections::BTreeMap::new());
    let heads = local.fetch(&remote, &[branch("main"), branch("prod")]).expect("the rest is known");

    let ids: Vec<_> = heads.iter().map(|head| head.outcome.as_ref().expect("it is there").id.clone()).collect();
    assert_eq!(ids, [forced.clone(), prod]);
    assert_eq!(heads[0].builds_on, None);
    server.requests();
    let waiting = [("refs/heads/main".to_owned(), forced)].into();
    local.mirror.ask_whether(&bases, &waiting);
    local.fetch(&remote, &[branch("main")]).expect("it is there");
    assert!(server.requests().len() <= 2, "of what waits already no history is asked for again");
}
