//! Both ports' TLS: what the hub shows, whom it lets in, and the handshakes.
//!
//! The agents' port takes a client certificate of our own authority or none (`Enroll` comes without one); who may call
//! what with which is for `link` to decide, with `ca::identity_of`. Configurations are read per connection, so a new
//! certificate or revocation list counts from the next handshake on; streams that are open already are for `link` to
//! end. Neighbours: `ca` (certificates), `link` and `http` (which serve what comes out of here).

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt as _, stream};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use secrecy::ExposeSecret as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use crate::pki::ca::{Authority, ServerIdentity, identity_of};
use crate::process::guests::{Guest, Limits, Party, Patience, Place, Places, network};

/// A handshake is two round trips and a millisecond of work; who needs longer is no agent.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// A fleet that reconnects at once keeps both cores busy with a tenth of this, so more would only make each handshake
/// slower than its deadline, and cost memory (30 KiB each). The others wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 256;
/// Without file descriptors `accept` fails at once, every time; this long is enough for a stream to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// People, scripts and webhooks. Below the usual limit of 1,024 descriptors, with room for agents and Postgres.
const HTTP_CONNECTIONS_MAX: usize = 512;
/// Slow senders of headers lose their connection.
const HTTP_HEADERS_DEADLINE: Duration = Duration::from_secs(10);
/// A browser that went away without a word, in the middle of a stream of events, is noticed by this.
const HTTP_PING_EVERY: Duration = Duration::from_secs(30);
const HTTP_PING_DEADLINE: Duration = Duration::from_secs(10);
/// Of one connection: the command line asks one thing after the other, a page in a browser a dozen.
const HTTP_STREAMS_MAX: u32 = 32;
/// A token and a trace; browsers send some cookies.
const HTTP_HEADERS_BYTES: u32 = 16 * 1024;
/// What a connection may have sent without being read by a handler: with the number of connections, this bounds what
/// strangers can fill.
const HTTP_WINDOW_BYTES: u32 = 64 * 1024;
const HTTP_BUFFER_BYTES: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot use the hub's certificate or key")]
    Identity(#[source] rustls::Error),
    #[error("cannot trust the authority's root")]
    Root(#[source] rustls::Error),
    #[error("cannot verify agents' certificates")]
    Verifier(#[from] VerifierBuilderError),
}

/// Where a request of [`serve_http`] came from; one of its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// For the agents' port. With a revocation list, certificates on it end the handshake.
pub(crate) fn agents_config(
    authority: &Authority,
    server: &ServerIdentity,
    revoked: Option<Vec<u8>>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in authority.roots() {
        roots.add(CertificateDer::from(root)).map_err(TlsError::Root)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .with_crls(revoked.map(CertificateRevocationListDer::from))
        // The list is the intermediate's; the intermediate itself is revoked by replacing it.
        .only_check_end_entity_revocation()
        .allow_unauthenticated()
        .build()?;

    let builder = tls13(provider).with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(chain(server), private_key(server)).map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the check of the certificate, and so its revocation.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For the API's port, where nobody needs a certificate.
pub(crate) fn api_config(server: &ServerIdentity) -> Result<ServerConfig, TlsError> {
    let builder = tls13(Arc::new(aws_lc_rs::default_provider())).with_no_client_auth();
    let mut config = builder.with_single_cert(chain(server), private_key(server)).map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn tls13(provider: Arc<CryptoProvider>) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3's cipher suites")
}

fn chain(server: &ServerIdentity) -> Vec<CertificateDer<'static>> {
    server.chain.iter().cloned().map(CertificateDer::from).collect()
}

fn private_key(server: &ServerIdentity) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(server.key.expose_secret().to_vec()).into()
}

/// What one port allows whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) connections: Limits,
    pub(crate) patience: Patience,
    /// What a connection without a certificate may send in all.
    pub(crate) stranger_bytes_max: Option<usize>,
}

/// A join is one small request; an agent's stream stays for as long as the agent lives.
pub(crate) const AGENTS: Rules = Rules {
    // A rack of clusters behind one address joins at once; together they stay well below the usual 1,024 descriptors.
    // A cluster has one stream, and for a moment the one before and a call to renew.
    connections: Limits { strangers: 512, per_address: 128, per_known: 8 },
    patience: Patience { before_first: Duration::from_secs(15), between: Duration::from_secs(15), age_max: None },
    // A token, a request for a certificate (4 KiB at most), and HTTP/2 around them. Times the strangers, it is all the
    // memory that they can take.
    stranger_bytes_max: Some(32 * 1024),
};

/// People, scripts and webhooks.
pub(crate) const API: Rules = Rules {
    connections: Limits { strangers: HTTP_CONNECTIONS_MAX, per_address: 128, per_known: 8 },
    patience: Patience {
        before_first: Duration::from_secs(10),
        between: Duration::from_mins(1),
        // A pool of connections that is never empty would otherwise keep to one hub for ever.
        age_max: Some(Duration::from_hours(1)),
    },
    stranger_bytes_max: None,
};

/// Handshakes at once. What is left of `HANDSHAKES_MAX` is in reserve for addresses that agents' sessions came from. Of
/// these, none has more than an eighth of all: behind it there may be anybody else, too.
const SHAKING: Limits = Limits { strangers: 192, per_address: 16, per_known: HANDSHAKES_MAX / 8 };
/// Connections whose handshake has yet to begin: a fleet that comes back at once waits here for a moment.
const WAITING: Limits = Limits { strangers: 1_024, per_address: 128, per_known: 512 };

/// Networks that the last sessions of the fleet's agents came from, whichever hub they were at.
pub(crate) type Known = Arc<ArcSwap<BTreeSet<IpAddr>>>;

/// A connection that came through its handshake and has a place.
pub(crate) type Connection = Guest<TlsStream<TcpStream>>;

/// The connections that came through their handshake, until `stop`. Nothing ends it before: a failed `accept` or
/// handshake is told in the log. It works only while it is polled.
pub(crate) fn incoming(
    listener: TcpListener,
    config: Arc<ArcSwap<ServerConfig>>,
    rules: Rules,
    known: Known,
    stop: CancellationToken,
) -> impl Stream<Item = Connection> + Send {
    let door = Door {
        listener,
        config,
        rules,
        places: Places::new(rules.connections),
        shaking: Places::new(SHAKING),
        queue: Places::new(WAITING),
        waiting: VecDeque::new(),
        known,
        stop,
        handshakes: JoinSet::new(),
        closed_until: None,
    };
    stream::unfold(door, |mut door| async move {
        let next = door.next().await?;
        Some((next, door))
    })
}

/// Boxed, as is whatever waits for hundreds of them.
type Shaken = Box<(TlsStream<TcpStream>, IpAddr)>;

struct Door {
    listener: TcpListener,
    config: Arc<ArcSwap<ServerConfig>>,
    rules: Rules,
    places: Arc<Places>,
    shaking: Arc<Places>,
    queue: Arc<Places>,
    waiting: VecDeque<(TcpStream, IpAddr, Place)>,
    known: Known,
    stop: CancellationToken,
    handshakes: JoinSet<Option<Shaken>>,
    /// Set while `accept` fails.
    closed_until: Option<Instant>,
}

enum AtDoor {
    Accepted(io::Result<(TcpStream, SocketAddr)>),
    Shaken(Option<Shaken>),
}

impl Door {
    async fn next(&mut self) -> Option<Connection> {
        loop {
            let event = tokio::select! {
                () = self.stop.cancelled() => return None,
                Some(shaken) = self.handshakes.join_next() => AtDoor::Shaken(shaken.ok().flatten()),
                accepted = accept(&self.listener, self.closed_until), if self.handshakes.len() < HANDSHAKES_MAX =>
                    AtDoor::Accepted(accepted),
            };
            match event {
                AtDoor::Shaken(shaken) => {
                    let guest = shaken.and_then(|shaken| self.let_in(shaken.0, shaken.1));
                    self.begin_waiting();
                    if guest.is_some() {
                        return guest;
                    }
                }
                AtDoor::Accepted(Ok((connection, peer))) => self.receive(connection, network(peer.ip())),
                AtDoor::Accepted(Err(error)) => self.pause(&error),
            }
        }
    }

    fn party(&self, address: IpAddr) -> Party {
        if self.known.load().contains(&address) { Party::Known(address) } else { Party::Address(address) }
    }

    /// Begins the handshake, lets it wait for its turn, or closes the connection of somebody who has enough of them.
    fn receive(&mut self, connection: TcpStream, address: IpAddr) {
        if self.closed_until.take().is_some() {
            tracing::info!("connections are accepted again");
        }
        let party = self.party(address);
        if let Some(slot) = self.shaking.take(party) {
            self.shake_hands(connection, address, slot);
        } else if let Some(turn) = self.queue.take(party) {
            self.waiting.push_back((connection, address, turn));
        } else {
            tracing::debug!(%address, "closed a connection: its address, or all strangers together, have too many");
        }
    }

    /// Those that wait and whose party has a slot again, in their order.
    fn begin_waiting(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some((connection, address, turn)) = self.waiting.pop_front() else { return };
            match self.shaking.take(self.party(address)).filter(|_| self.handshakes.len() < HANDSHAKES_MAX) {
                Some(slot) => self.shake_hands(connection, address, slot),
                None => self.waiting.push_back((connection, address, turn)),
            }
        }
    }

    fn shake_hands(&mut self, connection: TcpStream, address: IpAddr, slot: Place) {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        self.handshakes.spawn(async move {
            // Messages are small and somebody waits for each of them.
            let shaken = connection.set_nodelay(true).map(|()| acceptor.accept(connection));
            let shaken = match shaken {
                Ok(handshake) => timeout(HANDSHAKE_DEADLINE, handshake).await.unwrap_or_else(|late| Err(late.into())),
                Err(error) => Err(error),
            };
            drop(slot);
            // Anybody can cause this, at any rate, so it is not for the log of every day.
            let shaken = shaken.inspect_err(|error| tracing::debug!(%address, %error, "a handshake failed"));
            shaken.ok().map(|connection| Box::new((connection, address)))
        });
    }

    fn let_in(&mut self, connection: TlsStream<TcpStream>, address: IpAddr) -> Option<Connection> {
        let leaf = connection.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let cluster = leaf.and_then(|leaf| identity_of(leaf).ok()).map(|identity| identity.cluster);
        let party = cluster.map_or(Party::Address(address), Party::Cluster);
        let place = self.places.take(party)?;
        let bytes_max = self.rules.stranger_bytes_max.filter(|_| cluster.is_none());
        Some(Guest::new(connection, place, self.rules.patience, bytes_max))
    }

    fn pause(&mut self, error: &io::Error) {
        // What a peer did to its own connection does not concern the next one.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            return;
        }
        if self.closed_until.is_none() {
            tracing::warn!(%error, "cannot accept connections; trying again");
        }
        self.closed_until = Some(Instant::now() + ACCEPT_PAUSE);
    }
}

async fn accept(listener: &TcpListener, closed_until: Option<Instant>) -> io::Result<(TcpStream, SocketAddr)> {
    if let Some(until) = closed_until {
        sleep_until(until).await;
    }
    listener.accept().await
}

/// Answers HTTP on these connections until `stop`, then finishes the requests in hand. How long that may take is the
/// caller's to bound: dropping this drops them.
pub(crate) async fn serve_http<S, B>(
    incoming: impl Stream<Item = Connection> + Send,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    let mut incoming = pin!(incoming);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = incoming.next() => match next {
                Some(connection) => connections.spawn(serve_connection(connection, service.clone(), stop.clone())),
                None => break,
            },
            Some(_) = connections.join_next() => continue,
        };
    }
    while connections.join_next().await.is_some() {}
}

async fn serve_connection<S, B>(connection: Connection, service: S, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    // Gone before its first request.
    let Ok(peer) = connection.connection().get_ref().0.peer_addr().map(Peer) else { return };
    let usage = Arc::clone(connection.usage());
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let (in_hand, answered) = (usage.begin(), service.clone().oneshot(request));
        async move {
            let answer = answered.await;
            drop(in_hand);
            answer
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HTTP_HEADERS_DEADLINE).max_buf_size(HTTP_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP_PING_EVERY)
        .keep_alive_timeout(HTTP_PING_DEADLINE)
        .max_concurrent_streams(HTTP_STREAMS_MAX)
        .max_header_list_size(HTTP_HEADERS_BYTES)
        .initial_stream_window_size(HTTP_WINDOW_BYTES)
        .initial_connection_window_size(HTTP_WINDOW_BYTES);
    let mut served = pin!(builder.serve_connection(TokioIo::new(connection), answer));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &*error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::ca::tests::{agent_request, authority, cluster, now};
    use rustls::client::ClientConfig;
    use rustls::pki_types::ServerName;
    use rustls::version::TLS12;
    use std::pin::Pin;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

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
        let incoming = Box::pin(incoming(listener, Arc::clone(&config), rules, Arc::clone(&known), stop.clone()));
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
                .with_client_auth_cert(
                    chain.into_iter().map(Into::into).collect(),
                    PrivatePkcs8KeyDer::from(key).into(),
                )
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
        let rules = Rules { patience: Patience { before_first: short, between: short, age_max: None }, ..API };
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
        let rules = Rules { patience: Patience { before_first: short, between: short, age_max: None }, ..API };
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
}
