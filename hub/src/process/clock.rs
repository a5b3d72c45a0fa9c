//! The one clock of the hub.

use std::sync::LazyLock;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp, Unit};
use uuid::Uuid;

/// Now, in microseconds: what Postgres keeps. Somebody may set the machine's clock, so this may go back.
pub(crate) fn now() -> Timestamp {
    wall().round(Unit::Microsecond).expect("rounding now stays within jiff's years")
}

/// A time that only goes forward, whatever is done to the machine's clock. For deadlines within this process, never for
/// rows: it says how much later something is, and not when.
pub(crate) fn steady() -> Timestamp {
    static STARTED: LazyLock<(Timestamp, Instant)> = LazyLock::new(|| (Timestamp::now(), Instant::now()));
    let (at, since) = *STARTED;
    at + SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX)
}

#[cfg(not(test))]
fn wall() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
fn wall() -> Timestamp {
    Timestamp::now() + STEPPED.get()
}

#[cfg(test)]
thread_local! {
    static STEPPED: std::cell::Cell<SignedDuration> = const { std::cell::Cell::new(SignedDuration::ZERO) };
}

/// Sets this thread's clock, as an operator or a time server would. A test has a thread of its own.
#[cfg(test)]
pub(crate) fn step(by: SignedDuration) {
    STEPPED.set(by);
}

/// A new id, in the order of time.
pub(crate) fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// The id that follows one change from webhook to report.
pub(crate) fn new_trace() -> String {
    new_id().simple().to_string()
}
