//! Handshakes: whose turn it is, and who is let in.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::{Stream, stream};
use rustls::server::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::limited::{LimitedConnection, Shown};
use super::permits::{Limits, Party, Permit, Permits, network};
use super::{Known, Revoked, Rules};
use crate::pki::ca::identity_of;

/// A handshake is two round trips and a millisecond of work; who needs longer is no agent.
pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// A fleet that reconnects at once keeps both cores busy with a tenth of this, so more would only make each handshake
/// slower than its deadline, and cost memory (30 KiB each). The others wait in the kernel's queue.
pub(super) const HANDSHAKES_MAX: usize = 256;
/// Without file descriptors `accept` fails at once, every time; this long is enough for a stream to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Handshakes at once. What is left of `HANDSHAKES_MAX` is in reserve for networks that are known. Of
/// these, none has more than an eighth of all: behind it there may be anybody else, too.
pub(super) const SHAKING: Limits = Limits { strangers: 192, per_address: 16, per_known: HANDSHAKES_MAX / 8 };
/// Connections whose handshake has yet to begin: a fleet that comes back at once waits here for a moment.
pub(super) const WAITING: Limits = Limits { strangers: 1_024, per_address: 128, per_known: 512 };

/// A connection that came through its handshake and has a place.
pub(crate) type Connection = LimitedConnection<TlsStream<TcpStream>>;

/// The connections that came through their handshake, until `stop`. Nothing ends it before: a failed `accept` or
/// handshake is told in the log. It works only while it is polled.
pub(crate) fn incoming(
    listener: TcpListener,
    config: Arc<ArcSwap<ServerConfig>>,
    rules: Rules,
    (known, revoked): (Known, Revoked),
    stop: CancellationToken,
) -> impl Stream<Item = Connection> + Send {
    let acceptor = Acceptor {
        listener,
        config,
        rules,
        permits: Permits::new(rules.connections),
        shaking: Permits::new(SHAKING),
        queue: Permits::new(WAITING),
        waiting: VecDeque::new(),
        known,
        revoked,
        stop,
        handshakes: JoinSet::new(),
        closed_until: None,
    };
    stream::unfold(acceptor, |mut acceptor| async move {
        let next = acceptor.next().await?;
        Some((next, acceptor))
    })
}

/// Boxed, as is whatever waits for hundreds of them.
type Shaken = Box<(TlsStream<TcpStream>, IpAddr)>;

struct Acceptor {
    listener: TcpListener,
    config: Arc<ArcSwap<ServerConfig>>,
    rules: Rules,
    permits: Arc<Permits>,
    shaking: Arc<Permits>,
    queue: Arc<Permits>,
    waiting: VecDeque<(TcpStream, IpAddr, Permit)>,
    known: Known,
    revoked: Revoked,
    stop: CancellationToken,
    handshakes: JoinSet<Option<Shaken>>,
    /// Set while `accept` fails.
    closed_until: Option<Instant>,
}

enum Event {
    Accepted(io::Result<(TcpStream, SocketAddr)>),
    Shaken(Option<Shaken>),
}

impl Acceptor {
    async fn next(&mut self) -> Option<Connection> {
        loop {
            let event = tokio::select! {
                () = self.stop.cancelled() => return None,
                Some(shaken) = self.handshakes.join_next() => Event::Shaken(shaken.ok().flatten()),
                accepted = accept(&self.listener, self.closed_until), if self.handshakes.len() < HANDSHAKES_MAX =>
                    Event::Accepted(accepted),
            };
            match event {
                Event::Shaken(shaken) => {
                    let limited = shaken.and_then(|shaken| self.admit(shaken.0, shaken.1));
                    self.begin_waiting();
                    if limited.is_some() {
                        return limited;
                    }
                }
                Event::Accepted(Ok((connection, peer))) => self.receive(connection, network(peer.ip())),
                Event::Accepted(Err(error)) => self.pause(&error),
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

    fn shake_hands(&mut self, connection: TcpStream, address: IpAddr, slot: Permit) {
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

    fn admit(&mut self, connection: TlsStream<TcpStream>, address: IpAddr) -> Option<Connection> {
        let leaf = connection.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let Some(identity) = leaf.and_then(|leaf| identity_of(leaf).ok()) else {
            let place =
                self.permits.take(self.party(address)).or_else(|| self.permits.take(Party::Address(address)))?;
            let connection = LimitedConnection::new(connection, place, self.rules.timeouts);
            return Some(connection.sending_at_most(self.rules.stranger_bytes_max));
        };
        let place = self.permits.take(Party::Cluster(identity.cluster))?;
        let shown = Shown { serial: identity.serial, revoked: Arc::clone(&self.revoked) };
        Some(LimitedConnection::new(connection, place, self.rules.timeouts).showing(shown))
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
