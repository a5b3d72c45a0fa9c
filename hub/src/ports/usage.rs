//! What is in hand on a connection, and when it is to be closed if nothing happens.
//!
//! A connection that asks nothing for a while, or takes nothing of an answer, is closed; so is one on which nothing was
//! shown that counts, soon. `link` and `http` say when something is asked, and that what was shown counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

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
    pub(crate) fn new(timeouts: IdleTimeouts) -> Arc<Self> {
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

    pub(super) fn between(&self) -> Duration {
        self.timeouts.between
    }

    /// When it is to be closed, if nothing happens before.
    pub(super) fn closes_at(&self) -> Option<Instant> {
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
