//! Who may be connected, for how long, and how much they may send: the same rules at both ports.
//!
//! Anybody can open a connection. Each takes a permit, which is counted by its address until its owner has shown a
//! certificate, and by the cluster afterwards. A connection that asks nothing for a while, or takes nothing of an answer, is
//! closed; so is one on which nothing was shown that counts, soon, and one whose certificate was revoked, at once. One without
//! a certificate at the agents' port may send only what a join needs. Neighbours: `accept` (handshakes), `link` and `http`
//! (which say when something is asked, and what was shown counts).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bellwether_core::ClusterId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Revoked;

/// What one party's connections are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Address(IpAddr),
    /// A network that agents' sessions or good tokens came from.
    Known(IpAddr),
    /// All strangers of an IPv6 site together.
    Site(IpAddr),
    Cluster(ClusterId),
}

/// Whoever has one IPv6 address has all of its /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Party {
    /// Who rents a network of IPv6 is given a /48 for the asking, and has 65,536 of them.
    fn site(self) -> Option<Self> {
        let Self::Address(IpAddr::V6(v6)) = self else { return None };
        let [a, b, c, ..] = v6.segments();
        Some(Self::Site(IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))))
    }
}

/// All networks of a site have as many permits as so many networks elsewhere.
const SITE_NETWORKS: usize = 2;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of all addresses together.
    pub(crate) strangers: usize,
    pub(crate) per_address: usize,
    /// Those who are known are not counted together: each belongs to a cluster that somebody registered.
    pub(crate) per_known: usize,
}

/// The permits of one port.
#[derive(Debug)]
pub(crate) struct Permits {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    strangers: usize,
    by_party: BTreeMap<Party, usize>,
}

impl Taken {
    fn of(&self, party: Party) -> usize {
        self.by_party.get(&party).copied().unwrap_or_default()
    }
}

/// One connection's permit; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    party: Party,
    permits: Arc<Permits>,
}

impl Permits {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// `None`: the party has as many as one may have, or all strangers together have.
    pub(crate) fn take(self: &Arc<Self>, party: Party) -> Option<Permit> {
        let mut taken = self.lock();
        let is_stranger = matches!(party, Party::Address(_));
        let most = if is_stranger { self.limits.per_address } else { self.limits.per_known };
        let is_full =
            taken.of(party) >= most || party.site().is_some_and(|site| taken.of(site) >= most * SITE_NETWORKS);
        if is_full || (is_stranger && taken.strangers >= self.limits.strangers) {
            return None;
        }
        taken.strangers += usize::from(is_stranger);
        for counted in [Some(party), party.site()].into_iter().flatten() {
            *taken.by_party.entry(counted).or_default() += 1;
        }
        Some(Permit { party, permits: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.permits.lock();
        taken.strangers -= usize::from(matches!(self.party, Party::Address(_)));
        for counted in [Some(self.party), self.party.site()].into_iter().flatten() {
            let left = taken.of(counted).saturating_sub(1);
            if left == 0 {
                taken.by_party.remove(&counted);
            } else {
                taken.by_party.insert(counted, left);
            }
        }
    }
}

/// How long a connection may be without a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdleTimeouts {
    pub(crate) before_first: Duration,
    /// Also how long it may take nothing of an answer.
    pub(crate) between: Duration,
    /// After this it is closed as soon as nothing is in hand: while it has shown nothing that counts.
    pub(crate) stranger_age_max: Duration,
    /// And afterwards; `None`: it may live for ever.
    pub(crate) age_max: Option<Duration>,
}

/// What is in hand on one connection.
#[derive(Debug)]
pub(crate) struct Usage {
    timeouts: IdleTimeouts,
    opened_at: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    in_hand: usize,
    /// Of answers that are not taken wholly: when something of each was taken last. In no order, and as few as a connection
    /// has streams.
    untaken: BTreeMap<u64, Instant>,
    answers: u64,
    /// Without anything in hand, it is closed then.
    quiet_until: Instant,
    is_let_in: bool,
}

/// Something is in hand for as long as this lives.
#[derive(Debug)]
pub(crate) struct ActiveRequest(Arc<Usage>);

/// An answer is not taken wholly for as long as this lives.
#[derive(Debug)]
pub(super) struct Untaken {
    usage: Arc<Usage>,
    number: u64,
}

impl Usage {
    fn new(timeouts: IdleTimeouts) -> Arc<Self> {
        let opened_at = Instant::now();
        let quiet_until = opened_at + timeouts.before_first;
        let state = State { in_hand: 0, untaken: BTreeMap::new(), answers: 0, quiet_until, is_let_in: false };
        Arc::new(Self { timeouts, opened_at, state: Mutex::new(state) })
    }

    pub(crate) fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.lock().in_hand += 1;
        ActiveRequest(Arc::clone(self))
    }

    pub(super) fn answer(self: &Arc<Self>) -> Untaken {
        let mut state = self.lock();
        state.answers += 1;
        let number = state.answers;
        state.untaken.insert(number, Instant::now());
        Untaken { usage: Arc::clone(self), number }
    }

    /// Whoever is at the other end has shown a certificate or a token that counts.
    pub(crate) fn let_in(&self) {
        self.lock().is_let_in = true;
    }

    /// When it is to be closed, if nothing happens before.
    fn closes_at(&self) -> Option<Instant> {
        let state = self.lock();
        if let Some(stalled_at) = state.untaken.values().min() {
            return Some(*stalled_at + self.timeouts.between);
        }
        if state.in_hand > 0 {
            return None;
        }
        let age_max = if state.is_let_in { self.timeouts.age_max } else { Some(self.timeouts.stranger_age_max) };
        Some(age_max.map_or(state.quiet_until, |age| state.quiet_until.min(self.opened_at + age)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActiveRequest {
    /// Whoever asked has shown a certificate that counts.
    pub(crate) fn let_in(&self) {
        self.0.let_in();
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_hand -= 1;
        state.quiet_until = Instant::now() + self.0.timeouts.between;
    }
}

impl Untaken {
    /// Something of it was taken.
    pub(super) fn went_on(&self) {
        self.usage.lock().untaken.insert(self.number, Instant::now());
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        let mut state = self.usage.lock();
        state.untaken.remove(&self.number);
        state.quiet_until = Instant::now() + self.usage.timeouts.between;
    }
}

/// The certificate that a connection came with, which may come to stand on the list.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) serial: String,
    pub(super) revoked: Revoked,
}

impl Shown {
    fn is_revoked(&self) -> bool {
        self.revoked.load().contains(&self.serial)
    }
}

/// A connection that keeps to the rules: reading and writing fail once its owner was quiet for too long, and reading once
/// it sent too much. Quiet is also who takes no answer, and then nobody reads.
#[derive(Debug)]
pub(crate) struct LimitedConnection<T> {
    connection: T,
    usage: Arc<Usage>,
    wake: Pin<Box<Sleep>>,
    /// Bytes that it may still send; `None`: as many as it likes.
    bytes_left: Option<usize>,
    shown: Option<Shown>,
    _permit: Permit,
}

impl<T> LimitedConnection<T> {
    pub(super) fn new(connection: T, place: Permit, timeouts: IdleTimeouts) -> Self {
        let usage = Usage::new(timeouts);
        let wake = Box::pin(sleep_until(Instant::now() + timeouts.before_first));
        Self { connection, usage, wake, bytes_left: None, shown: None, _permit: place }
    }

    /// Of a stranger.
    pub(super) fn sending_at_most(self, bytes: Option<usize>) -> Self {
        Self { bytes_left: bytes, ..self }
    }

    pub(super) fn showing(self, shown: Shown) -> Self {
        Self { shown: Some(shown), ..self }
    }

    pub(crate) fn connection(&self) -> &T {
        &self.connection
    }

    pub(crate) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Fails when it is to be closed, and wakes its task then.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.poll_closed(context) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "nothing that counts happened for too long"))
            }
            Poll::Pending => Ok(()),
        }
    }

    /// Ready when it is to be closed. What is in hand keeps it open, and it is looked at again later. A revoked certificate is
    /// seen as soon as anything is said: what says nothing is closed soon anyway, as its streams are cut.
    fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.shown.as_ref().is_some_and(Shown::is_revoked) {
            return Poll::Ready(());
        }
        loop {
            let now = Instant::now();
            match self.usage.closes_at() {
                Some(at) if at <= now => return Poll::Ready(()),
                Some(at) => self.wake.as_mut().reset(at),
                None => self.wake.as_mut().reset(now + self.usage.timeouts.between),
            }
            if self.wake.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LimitedConnection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let limited = &mut *self;
        limited.check(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut limited.connection).poll_read(context, buffer);
        let Some(left) = &mut limited.bytes_left else { return read };
        match left.checked_sub(buffer.filled().len() - before) {
            Some(rest) => *left = rest,
            None => {
                // Whoever reads counts on it that a failure brought nothing.
                buffer.set_filled(before);
                return Poll::Ready(Err(io::Error::other("more was sent than a stranger may")));
            }
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LimitedConnection<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const LIMITS: Limits = Limits { strangers: 3, per_address: 2, per_known: 1 };
    const PATIENCE: IdleTimeouts = IdleTimeouts {
        before_first: Duration::from_millis(50),
        between: Duration::from_millis(50),
        stranger_age_max: LONG,
        age_max: None,
    };
    const LONG: Duration = Duration::from_secs(20);

    fn at(address: &str) -> Party {
        Party::Address(network(address.parse().expect("an address")))
    }

    #[test]
    fn one_address_leaves_places_to_others_and_strangers_leave_them_to_clusters() {
        let permits = Permits::new(LIMITS);
        let cluster = Party::Cluster(ClusterId::new(uuid::Uuid::nil()));

        let mine: Vec<_> = (0..3).filter_map(|_| permits.take(at("192.0.2.1"))).collect();
        let other = permits.take(at("192.0.2.2"));
        let third = permits.take(at("192.0.2.3"));
        let known = permits.take(cluster);

        assert_eq!(mine.len(), 2);
        assert!(other.is_some() && third.is_none() && known.is_some());
        assert!(permits.take(cluster).is_none());
        drop(mine);
        assert!(permits.take(at("192.0.2.3")).is_some(), "a place that was left is free");
    }

    #[test]
    fn all_addresses_of_one_network_are_one_party() {
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    }

    #[test]
    fn all_networks_of_one_site_leave_places_to_others() {
        let limits = Limits { strangers: 100, per_address: 10, per_known: 10 };
        let permits = Permits::new(limits);

        let site = |number: usize| at(&format!("2001:db8:1:{number:x}::1"));
        let mine: Vec<_> = (0..200).filter_map(|number| permits.take(site(number))).collect();

        assert!(mine.len() <= 2 * limits.per_address, "{} of {}", mine.len(), limits.strangers);
        assert!(permits.take(at("2001:db8:2:1::1")).is_some());
        drop(mine);
        assert!(permits.take(site(0)).is_some(), "a place that was left is free");
    }

    fn limited(bytes_max: Option<usize>) -> (LimitedConnection<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let place = Permits::new(LIMITS).take(at("192.0.2.1")).expect("it is empty");
        (LimitedConnection::new(ours, place, PATIENCE).sending_at_most(bytes_max), theirs)
    }

    #[tokio::test]
    async fn who_asks_nothing_is_closed_and_who_is_answered_is_not() {
        let (mut silent, _their_end) = limited(None);
        assert_eq!(silent.read_u8().await.expect_err("closed").kind(), io::ErrorKind::TimedOut);

        let (mut busy, _their_end) = limited(None);
        let in_hand = busy.usage().begin();
        let while_in_hand = tokio::time::timeout(PATIENCE.before_first * 4, busy.read_u8()).await;
        assert!(while_in_hand.is_err(), "closed although something was in hand");
        drop(in_hand);
        assert!(tokio::time::timeout(LONG, busy.read_u8()).await.expect("closed in time").is_err());
    }

    #[tokio::test]
    async fn who_takes_nothing_of_an_answer_is_closed_and_who_takes_some_is_not() {
        let (mut one, _their_end) = limited(None);
        let untaken = one.usage().answer();
        let other = one.usage().begin();
        let taking = async {
            loop {
                tokio::time::sleep(PATIENCE.between / 5).await;
                untaken.went_on();
            }
        };
        let while_taken = async { tokio::time::timeout(PATIENCE.between * 8, one.read_u8()).await };
        tokio::select! {
            closed = while_taken => assert!(closed.is_err(), "closed although it was taken"),
            () = taking => {}
        }

        let closed = tokio::time::timeout(LONG, one.read_u8()).await;

        assert!(closed.expect("closed in time").is_err());
        drop(other);
    }

    #[tokio::test]
    async fn who_sends_a_byte_now_and_then_is_closed_too() {
        let (mut slow, mut their_end) = limited(None);
        let dripping = tokio::spawn(async move { while their_end.write_u8(0).await.is_ok() {} });

        let closed = tokio::time::timeout(LONG, async { while slow.read_u8().await.is_ok() {} }).await;

        assert!(closed.is_ok(), "each byte won it more time");
        drop(slow);
        dripping.await.expect("no panic");
    }

    #[tokio::test]
    async fn who_takes_no_answer_is_closed_while_nobody_reads() {
        let (mut writer, _their_end) = limited(None);

        let closed = tokio::time::timeout(LONG, async { while writer.write_all(&[0; 1 << 12]).await.is_ok() {} }).await;

        assert!(closed.is_ok(), "it waits for ever");
    }

    #[tokio::test]
    async fn a_stranger_may_send_only_so_much() {
        let (mut stranger, mut their_end) = limited(Some(1_000));
        their_end.write_all(&[0; 1_001]).await.expect("written");

        let mut all = Vec::new();
        let read = stranger.read_to_end(&mut all).await;

        assert!(read.is_err(), "{} bytes came through", all.len());
    }
}
