//! Both ports as clients meet them, over real sockets and TLS.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt as _};
use hyper::body::Incoming;
use hyper::{Request, Response};
use rustls::RootCertStore;
use rustls::client::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::server::ServerConfig;
use rustls::version::{TLS12, TLS13};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::accept::{HANDSHAKE_DEADLINE, HANDSHAKES_MAX, SHAKING, WAITING};
use super::*;
use crate::pki::ca::Authority;
use crate::pki::ca::tests::{agent_request, authority, cluster, now};
use crate::pki::tls::{agents_config, api_config};

const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate's chain, and its key in PKCS#8.
type Credentials = (Vec<Vec<u8>>, Vec<u8>);

struct Port {
    address: SocketAddr,
    config: Arc<ArcSwap<ServerConfig>>,
    known: Known,
    stop: CancellationToken,
    incoming: Pin<Box<dyn Stream<Item = Connection> + Send>>,
}

async fn open_port(config: ServerConfig) -> Port {
    open_port_with(config, AGENTS).await
}

async fn open_port_with(config: ServerConfig, rules: Rules) -> Port {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let (config, stop) = (Arc::new(ArcSwap::from_pointee(config)), CancellationToken::new());
    let known = Known::default();
    let lists = (Arc::clone(&known), Revoked::default());
    let incoming = Box::pin(incoming(listener, Arc::clone(&config), rules, lists, stop.clone()));
    Port { address, config, known, stop, incoming }
}

impl Port {
    fn know(&self, address: &str) {
        self.known.store(Arc::new([address.parse().expect("an address")].into()));
    }
}

async fn agents_port(authority: &Authority) -> Port {
    let server = authority.issue_server(&[], now()).expect("issued");
    open_port(agents_config(authority, &server, None).expect("a configuration")).await
}

fn agent_of(authority: &Authority) -> (Credentials, String) {
    let (key, csr) = agent_request();
    let issued = authority.issue_agent(&csr, cluster(), now(), Duration::from_hours(1)).expect("issued");
    ((issued.chain, key), issued.serial)
}

fn client_config(
    authority: &Authority,
    credentials: Option<Credentials>,
    version: &'static rustls::SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in authority.roots() {
        roots.add(root.into()).expect("a root");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots);
    let mut config = match credentials {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain.into_iter().map(Into::into).collect(), PrivatePkcs8KeyDer::from(key).into())
            .expect("a certificate and its key"),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

type Client = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(address: SocketAddr, config: ClientConfig) -> io::Result<Client> {
    shake(TcpStream::connect(address).await?, config).await
}

async fn shake(stream: TcpStream, config: ClientConfig) -> io::Result<Client> {
    let name = ServerName::try_from(crate::pki::ca::HUB_NAME).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Both ends of a connection, or what the client was told. In TLS 1.3 a client learns that its certificate was
/// refused only when it reads.
async fn meet(port: &mut Port, config: ClientConfig) -> Result<(Connection, Client), String> {
    meet_from("127.0.0.1:0", port, config).await
}

async fn meet_from(from: &str, port: &mut Port, config: ClientConfig) -> Result<(Connection, Client), String> {
    let address = port.address;
    let refused = async {
        let mut client = shake(connect_from(from, address).await, config).await?;
        let mut byte = [0];
        client.read_exact(&mut byte).await?;
        Ok::<_, io::Error>(client)
    };
    let accepted = async {
        let mut connection = port.incoming.next().await.expect("not stopped");
        connection.write_all(b"!").await.expect("written");
        connection.flush().await.expect("written");
        connection
    };
    let both = async {
        let (mut refused, mut accepted) = (pin!(refused), pin!(accepted));
        tokio::select! {
            client = refused.as_mut() => match client {
                Ok(client) => Ok((accepted.await, client)),
                Err(error) => Err(error.to_string()),
            },
            connection = accepted.as_mut() => Ok((connection, refused.await.expect("accepted"))),
        }
    };
    timeout(PATIENCE, both).await.expect("in time")
}

#[tokio::test]
async fn an_agents_certificate_comes_through_and_is_seen() {
    let authority = authority();
    let mut port = agents_port(&authority).await;
    let (credentials, serial) = agent_of(&authority);

    let (connection, client) =
        meet(&mut port, client_config(&authority, Some(credentials), &TLS13)).await.expect("let in");

    let session = connection.connection().get_ref().1;
    let shown = session.peer_certificates().expect("a certificate");
    let identity = crate::pki::ca::identity_of(&shown[0]).expect("an agent's");
    assert_eq!((identity.cluster, identity.serial), (cluster(), serial));
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    let chain = client.get_ref().1.peer_certificates().expect("a chain");
    assert_eq!(chain.len(), 3);
    assert_eq!(hex::encode(bellwether_core::Digest::of(&chain[2]).as_bytes()), authority.fingerprint());
}

#[tokio::test]
async fn who_has_no_certificate_comes_through_without_one() {
    let authority = authority();
    let mut port = agents_port(&authority).await;

    let (connection, _client) = meet(&mut port, client_config(&authority, None, &TLS13)).await.expect("let in");

    assert!(connection.connection().get_ref().1.peer_certificates().is_none());
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let mut port = agents_port(&ours).await;
    let (credentials, _) = agent_of(&theirs);

    let refused = meet(&mut port, client_config(&ours, Some(credentials), &TLS13)).await;

    let error = refused.expect_err("refused");
    assert!(error.contains("alert"), "{error}");
}

#[tokio::test]
async fn certificates_that_are_not_for_clients_are_refused() {
    let authority = authority();
    let mut port = agents_port(&authority).await;
    let server = authority.issue_server(&[], now()).expect("issued");
    let key = server.key.expose_secret().to_vec();

    let refused = meet(&mut port, client_config(&authority, Some((server.chain, key)), &TLS13)).await;

    assert!(refused.is_err());
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_refused() {
    let authority = authority();
    let mut port = agents_port(&authority).await;
    let (key, csr) = agent_request();
    let long_ago = now().checked_sub(Duration::from_hours(2)).expect("in range");
    let issued = authority.issue_agent(&csr, cluster(), long_ago, Duration::from_hours(1)).expect("issued");

    let refused = meet(&mut port, client_config(&authority, Some((issued.chain, key)), &TLS13)).await;

    let error = refused.expect_err("refused");
    assert!(error.contains("CertificateExpired"), "{error}");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_from_the_next_handshake_on_and_others_are_not() {
    let authority = authority();
    let mut port = agents_port(&authority).await;
    let ((chain, key), serial) = agent_of(&authority);
    let config = client_config(&authority, Some((chain.clone(), key.clone())), &TLS13);
    meet(&mut port, config.clone()).await.expect("let in");

    let server = authority.issue_server(&[], now()).expect("issued");
    let list = authority.revocation_list(&[serial], now()).expect("a list");
    port.config.store(Arc::new(agents_config(&authority, &server, Some(list)).expect("a configuration")));

    // With the earlier session, and with a new one.
    for config in [config, client_config(&authority, Some((chain, key)), &TLS13)] {
        let error = meet(&mut port, config).await.expect_err("refused");
        assert!(error.contains("CertificateRevoked"), "{error}");
    }
    let (other, _) = agent_of(&authority);
    meet(&mut port, client_config(&authority, Some(other), &TLS13)).await.expect("let in");
}

#[tokio::test]
async fn no_port_speaks_tls_1_2() {
    let authority = authority();
    let server = authority.issue_server(&[], now()).expect("issued");
    let api = open_port(api_config(&server).expect("a configuration")).await;
    for mut port in [agents_port(&authority).await, api] {
        let refused = meet(&mut port, client_config(&authority, None, &TLS12)).await;

        let error = refused.expect_err("refused");
        assert!(error.contains("ProtocolVersion"), "{error}");
    }
}

async fn connect_from(from: &str, address: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(from.parse().expect("an address")).expect("all of 127.0.0.0/8 is this machine's");
    socket.connect(address).await.expect("connected")
}

/// The port works only while it is polled, and the kernel's queue is shorter than what is done here.
async fn with_nobody_let_in<T>(port: &mut Port, done: impl Future<Output = T>) -> T {
    let done = async {
        tokio::select! {
            done = done => done,
            _ = port.incoming.next() => panic!("somebody was let in"),
        }
    };
    timeout(PATIENCE, done).await.expect("in time")
}

async fn silent_connections(port: &mut Port, from: impl Fn(usize) -> String) -> Vec<TcpStream> {
    many_silent_connections(port, 2 * HANDSHAKES_MAX, from).await
}

async fn many_silent_connections(
    port: &mut Port,
    connections: usize,
    from: impl Fn(usize) -> String,
) -> Vec<TcpStream> {
    let address = port.address;
    let connecting = async {
        let mut silent = Vec::new();
        for number in 0..connections {
            silent.push(connect_from(&from(number), address).await);
        }
        silent
    };
    with_nobody_let_in(port, connecting).await
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn silent_strangers_keep_no_other_address_out() {
    let authority = authority();
    let mut port = agents_port(&authority).await;
    let mut silent = silent_connections(&mut port, |_| "127.0.0.2:0".to_owned()).await;
    silent[0].write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let began = Instant::now();

    meet(&mut port, client_config(&authority, None, &TLS13)).await.expect("let in");

    assert!(began.elapsed() < HANDSHAKE_DEADLINE, "it had to wait until they were gone");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn addresses_of_agents_have_slots_when_strangers_hold_all_of_theirs() {
    let authority = authority();
    let mut port = agents_port(&authority).await;
    let (credentials, _) = agent_of(&authority);
    let config = client_config(&authority, Some(credentials), &TLS13);
    port.know("127.0.0.1");
    let _silent = silent_connections(&mut port, |number| format!("127.0.1.{}:0", 1 + number % 64)).await;
    let began = Instant::now();

    meet(&mut port, config).await.expect("let in");

    assert!(began.elapsed() < HANDSHAKE_DEADLINE, "it had to wait until they were gone");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_address_of_one_agent_keeps_no_other_agent_out() {
    let authority = authority();
    let mut port = agents_port(&authority).await;
    let (credentials, _) = agent_of(&authority);
    let config = client_config(&authority, Some(credentials), &TLS13);
    port.know("127.0.0.1");
    // More than have a slot within four deadlines, if one address may have all slots.
    let _silent = many_silent_connections(&mut port, 4 * HANDSHAKES_MAX, |_| "127.0.0.1:0".to_owned()).await;
    let began = Instant::now();

    meet_from("127.0.0.3:0", &mut port, config).await.expect("let in");

    assert!(began.elapsed() < HANDSHAKE_DEADLINE, "it had to wait until they were gone");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_address_that_sessions_came_from_is_let_in_though_strangers_hold_all_of_theirs() {
    crate::process::rlimit::raise();
    let authority = authority();
    let mut port = agents_port(&authority).await;
    let (credentials, _) = agent_of(&authority);
    port.know("127.0.0.1");
    let all_of_theirs = SHAKING.strangers + WAITING.strangers;
    let _silent =
        many_silent_connections(&mut port, all_of_theirs, |number| format!("127.0.1.{}:0", 1 + number % 64)).await;
    let began = Instant::now();

    let config = client_config(&authority, Some(credentials), &TLS13);
    meet(&mut port, config).await.expect("let in");

    assert!(began.elapsed() < HANDSHAKE_DEADLINE, "it had to wait until they were gone");
}

#[tokio::test]
async fn one_cluster_has_few_connections() {
    let authority = authority();
    let mut port = agents_port(&authority).await;
    let (credentials, _) = agent_of(&authority);
    let config = client_config(&authority, Some(credentials), &TLS13);
    let mut held = Vec::new();
    for _ in 0..AGENTS.connections.per_known {
        held.push(meet(&mut port, config.clone()).await.expect("let in"));
    }

    let address = port.address;
    let closed = async {
        let mut client = connect(address, config).await.expect("its handshake is done before it is counted");
        client.read_u8().await.is_err()
    };
    assert!(with_nobody_let_in(&mut port, closed).await);
}

/// What a client gets that sends this and then nothing more.
async fn sent(address: SocketAddr, config: ClientConfig, bytes: &[u8]) -> Vec<u8> {
    let mut client = connect(address, config).await.expect("connected");
    client.write_all(bytes).await.expect("written");
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("it is closed in time");
    answer
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_closed() {
    let authority = authority();
    let server = authority.issue_server(&[], now()).expect("issued");
    let short = Duration::from_millis(100);
    let rules = Rules { timeouts: IdleTimeouts { before_first: short, between: short, ..API.timeouts }, ..API };
    let Port { address, stop, incoming, .. } =
        open_port_with(api_config(&server).expect("a configuration"), rules).await;
    let service =
        tower::service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new("bell".to_owned())) });
    let serving = tokio::spawn(serve_http(incoming, service, stop.clone()));
    let h2 = client_config(&authority, None, &TLS13);
    let mut h1 = h2.clone();
    h1.alpn_protocols = vec![b"http/1.1".to_vec()];

    // Nothing at all; half of what tells HTTP/2 from HTTP/1; a client of HTTP/2 without requests; half a header; and
    // one that was answered and keeps the connection.
    assert!(sent(address, h1.clone(), b"").await.is_empty());
    assert!(sent(address, h1.clone(), b"PRI * HT").await.is_empty());
    sent(address, h2, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    sent(address, h1.clone(), b"GET / HTTP/1.1\r\nho").await;
    let answered = sent(address, h1, b"GET / HTTP/1.1\r\nhost: hub\r\n\r\n").await;

    assert!(answered.starts_with(b"HTTP/1.1 200"));
    stop.cancel();
    timeout(PATIENCE, serving).await.expect("in time").expect("no panic");
}

#[tokio::test]
async fn a_client_that_takes_none_of_its_answers_is_closed_and_keeps_no_hub_from_ending() {
    let authority = authority();
    let server = authority.issue_server(&[], now()).expect("issued");
    let short = Duration::from_millis(300);
    let rules = Rules { timeouts: IdleTimeouts { before_first: short, between: short, ..API.timeouts }, ..API };
    let Port { address, stop, incoming, .. } =
        open_port_with(api_config(&server).expect("a configuration"), rules).await;
    let answer = "bell".repeat(10_000);
    let service = tower::service_fn(move |_: Request<Incoming>| {
        let answer = answer.clone();
        async { Ok::<_, Infallible>(Response::new(answer)) }
    });
    let serving = tokio::spawn(serve_http(incoming, service, stop.clone()));
    let mut config = client_config(&authority, None, &TLS13);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut greedy = connect(address, config.clone()).await.expect("connected");
    let requests = b"GET / HTTP/1.1\r\nhost: hub\r\n\r\n".repeat(2_000);

    // A failure to write is how a client that does not read hears that it was closed.
    let closed = timeout(PATIENCE, async { while greedy.write_all(&requests).await.is_ok() {} }).await;
    assert!(closed.is_ok(), "it holds its place for ever");

    let mut greedy = connect(address, config).await.expect("connected");
    let asking = tokio::spawn(async move { while greedy.write_all(&requests).await.is_ok() {} });
    stop.cancel();
    timeout(PATIENCE, serving).await.expect("in time").expect("no panic");
    asking.await.expect("no panic");
}

#[tokio::test]
async fn a_stopped_port_takes_nobody_and_ends() {
    let authority = authority();
    let mut port = agents_port(&authority).await;
    port.stop.cancel();

    assert!(timeout(PATIENCE, port.incoming.next()).await.expect("in time").is_none());
    assert!(TcpStream::connect(port.address).await.is_err());
}

#[tokio::test]
async fn http_is_answered_and_the_request_in_hand_is_finished_before_the_end() {
    let authority = authority();
    let server = authority.issue_server(&[], now()).expect("issued");
    let Port { address, stop, incoming, .. } = open_port(api_config(&server).expect("a configuration")).await;
    let asked = Arc::new(tokio::sync::Notify::new());
    let service = tower::service_fn({
        let (asked, stop) = (Arc::clone(&asked), stop.clone());
        move |request: Request<Incoming>| {
            let (asked, stop) = (Arc::clone(&asked), stop.clone());
            async move {
                asked.notify_one();
                stop.cancelled().await;
                let peer = request.extensions().get::<Peer>().expect("a peer").0;
                Ok::<_, Infallible>(Response::new(format!("bell {}", peer.ip())))
            }
        }
    });
    let serving = tokio::spawn(serve_http(incoming, service, stop.clone()));
    let mut config = client_config(&authority, None, &TLS13);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut client = connect(address, config).await.expect("connected");
    client.write_all(b"GET / HTTP/1.1\r\nhost: hub\r\n\r\n").await.expect("written");
    asked.notified().await;

    stop.cancel();

    let mut answer = String::new();
    // The server closes without TLS' own goodbye, which a client may hold against it; the answer is there.
    let _ = timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("in time");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("bell 127.0.0.1"), "{answer}");
    timeout(PATIENCE, serving).await.expect("in time").expect("no panic");
}

/// Connections that came through their handshake, from as many addresses.
async fn let_in(port: &mut Port, config: &ClientConfig, count: usize) -> Vec<(Connection, Client)> {
    let mut held = Vec::new();
    for number in 0..count {
        let from = format!("127.0.2.{}:0", 1 + number % 64);
        held.push(meet_from(&from, port, config.clone()).await.expect("let in"));
    }
    held
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_network_that_is_known_is_let_in_though_strangers_hold_all_places() {
    let authority = authority();
    let server = authority.issue_server(&[], now()).expect("issued");
    let config = client_config(&authority, None, &TLS13);
    for rules in [AGENTS, API] {
        let rules = Rules { connections: Limits { strangers: 8, ..rules.connections }, ..rules };
        let mut port = open_port_with(agents_config(&authority, &server, None).expect("a configuration"), rules).await;
        port.know("127.0.0.1");
        let _strangers = let_in(&mut port, &config, rules.connections.strangers).await;

        let address = port.address;
        let another = async {
            let stream = connect_from("127.0.3.1:0", address).await;
            let mut client = shake(stream, config.clone()).await.expect("its handshake is done before it is counted");
            client.read_u8().await.is_err()
        };
        assert!(with_nobody_let_in(&mut port, another).await, "there are no places for strangers");
        let known = timeout(PATIENCE, meet(&mut port, config.clone())).await;
        assert!(known.is_ok_and(|met| met.is_ok()), "a known network has no places of its own");
    }
}

#[tokio::test]
async fn who_shows_nothing_that_counts_is_closed_though_it_asks_again_and_again() {
    let authority = authority();
    let server = authority.issue_server(&[], now()).expect("issued");
    let (short, long) = (Duration::from_millis(500), Duration::from_mins(1));
    let timeouts = IdleTimeouts { before_first: long, between: long, stranger_age_max: short, age_max: None };
    let rules = Rules { timeouts, ..API };
    let Port { address, stop, incoming, .. } =
        open_port_with(api_config(&server).expect("a configuration"), rules).await;
    let service = tower::service_fn(|request: Request<Incoming>| async move {
        if request.uri().path() == "/good" {
            request.extensions().get::<Arc<Usage>>().expect("it came on a connection").let_in();
        }
        Ok::<_, Infallible>(Response::new("bell".to_owned()))
    });
    let serving = tokio::spawn(serve_http(incoming, service, stop.clone()));
    let mut config = client_config(&authority, None, &TLS13);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let ask_for = async |path: &str, how_long: Duration| {
        let mut client = connect(address, config.clone()).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: hub\r\n\r\n");
        let began = Instant::now();
        let mut pace = tokio::time::interval(short / 20);
        let mut answer = vec![0; 1 << 12];
        while began.elapsed() < how_long {
            if client.write_all(request.as_bytes()).await.is_err()
                || !client.read(&mut answer).await.is_ok_and(|read| read > 0)
            {
                return true;
            }
            pace.tick().await;
        }
        false
    };

    assert!(ask_for("/", PATIENCE / 4).await, "a stranger keeps its place for as long as it likes");
    assert!(!ask_for("/good", short * 4).await, "who is known was closed");
    stop.cancel();
    timeout(PATIENCE, serving).await.expect("in time").expect("no panic");
}

/// A client of HTTP/2 that takes so many bytes of each answer before it is asked for more.
async fn h2_client(
    address: SocketAddr,
    config: ClientConfig,
    window: u32,
) -> hyper::client::conn::http2::SendRequest<String> {
    let client = connect(address, config).await.expect("connected");
    let mut builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let io = hyper_util::rt::TokioIo::new(client);
    let (client, connection) = builder.handshake(io).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn answers_that_nobody_takes_close_their_connection_though_others_are_asked_for() {
    let authority = authority();
    let server = authority.issue_server(&[], now()).expect("issued");
    let short = Duration::from_secs(1);
    let timeouts = IdleTimeouts { before_first: short, between: short, ..API.timeouts };
    let rules = Rules { timeouts, ..API };
    let Port { address, stop, incoming, .. } =
        open_port_with(api_config(&server).expect("a configuration"), rules).await;
    let service = tower::service_fn(|request: Request<Incoming>| async move {
        let bytes = if request.uri().path() == "/large" { 100_000 } else { 1 };
        Ok::<_, Infallible>(Response::new("b".repeat(bytes)))
    });
    let serving = tokio::spawn(serve_http(incoming, service, stop.clone()));
    let mut client = h2_client(address, client_config(&authority, None, &TLS13), 1_000).await;
    let mut ask = async |path: &str| {
        client.ready().await?;
        let request = Request::get(format!("https://hub{path}")).body(String::new()).expect("is a request");
        client.send_request(request).await
    };

    let _untaken = ask("/large").await.expect("answered");
    let asked_again = async {
        let mut pace = tokio::time::interval(short / 10);
        while ask("/small").await.is_ok() {
            pace.tick().await;
        }
    };

    assert!(timeout(short * 8, asked_again).await.is_ok(), "it keeps its answer for as long as it likes");
    stop.cancel();
    timeout(PATIENCE, serving).await.expect("in time").expect("no panic");
}

#[tokio::test]
async fn an_answer_that_is_taken_slowly_is_taken_whole() {
    let authority = authority();
    let server = authority.issue_server(&[], now()).expect("issued");
    let short = Duration::from_secs(2);
    let timeouts = IdleTimeouts { before_first: short, between: short, ..API.timeouts };
    let rules = Rules { timeouts, ..API };
    let Port { address, stop, incoming, .. } =
        open_port_with(api_config(&server).expect("a configuration"), rules).await;
    let service =
        tower::service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new("b".repeat(600_000))) });
    let serving = tokio::spawn(serve_http(incoming, service, stop.clone()));
    let mut client = h2_client(address, client_config(&authority, None, &TLS13), 20_000).await;
    client.ready().await.expect("it is open");
    let request = Request::get("https://hub/").body(String::new()).expect("is a request");
    let answer = client.send_request(request).await.expect("answered");
    assert_eq!(answer.headers()["content-length"], "600000");

    let (mut body, mut taken, began) = (answer.into_body(), 0, Instant::now());
    let mut pace = tokio::time::interval(short / 30);
    while let Some(frame) =
        std::future::poll_fn(|context| hyper::body::Body::poll_frame(Pin::new(&mut body), context)).await
    {
        let frame = frame.unwrap_or_else(|error| panic!("after {taken} bytes and {:?}: {error:?}", began.elapsed()));
        taken += frame.data_ref().map_or(0, hyper::body::Bytes::len);
        pace.tick().await;
    }

    assert_eq!(taken, 600_000);
    assert!(began.elapsed() > short, "it was not slow");
    stop.cancel();
    timeout(PATIENCE, serving).await.expect("in time").expect("no panic");
}
