//! With a server that can be told to misbehave.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, http};
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
use crate::source::git::{FetchError, Remote};

#[derive(Clone)]
enum Mood {
    Serve,
    /// As a Git before 2.18 does.
    ServeOldProtocol,
    Answer(StatusCode),
    Redirect(String),
    Page,
    Hang,
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
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("valid names");
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
    let protocol = match mood {
        Mood::Serve => parts.headers.get("git-protocol").and_then(|value| value.to_str().ok()).unwrap_or_default(),
        Mood::ServeOldProtocol => "",
        Mood::Answer(status) => return (status, [(header::RETRY_AFTER, "7")]).into_response(),
        Mood::Redirect(to) if parts.uri.path().starts_with("/shop.git") => {
            let rest = target.replacen("/shop.git", "", 1);
            return (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, format!("{to}{rest}"))]).into_response();
        }
        Mood::Redirect(_) => "version=2",
        Mood::Page => return "<html>".into_response(),
        Mood::Hang => std::future::pending().await,
    };
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let mut child = Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_PROJECT_ROOT", &shared.root)
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
    input.write_all(&body).await.expect("git reads");
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

fn upstream() -> Upstream {
    let upstream = Upstream::new();
    upstream.push("main", "One", &[("shop/a.yaml", "a: 1"), ("other/b.yaml", "b: 1")]);
    upstream
}

fn failure(local: &mut Local, remote: &Remote) -> FetchError {
    local.fetch(remote, &[branch("main")]).expect_err("it must fail")
}

#[test]
fn a_look_is_one_request_and_a_push_two() {
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
fn a_private_repo_behind_a_private_authority_is_fetched_with_its_token() {
    let upstream = upstream();
    let server = Server::start_tls(&upstream);
    let _runtime = server.enter();
    *server.shared.token.lock().expect("not poisoned") = Some("Basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0".to_owned());
    let remote = Remote { token: Some(SecretString::from("secret")), ..server.remote() };
    let mut local = Local::new();

    local.fetch_main(&remote);

    // The first request holds it: asking to be asked would cost a round trip.
    assert_eq!(server.requests().len(), 3);
    let wrong = Remote { token: Some(SecretString::from("wrong")), ..remote.clone() };
    assert!(matches!(failure(&mut local, &wrong), FetchError::Unauthorized { with_token: true, .. }));
    let without = Remote { token: None, ..remote.clone() };
    assert!(matches!(failure(&mut local, &without), FetchError::Unauthorized { with_token: false, .. }));
    assert!(!format!("{remote:?}").contains("secret"));
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
fn a_token_never_travels_in_clear_text() {
    let upstream = upstream();
    let server = Server::start(&upstream);
    let _runtime = server.enter();

    let error = failure(&mut Local::new(), &Remote { token: Some(SecretString::from("secret")), ..server.remote() });

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
fn a_look_asks_the_server_even_if_nothing_is_wanted() {
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
