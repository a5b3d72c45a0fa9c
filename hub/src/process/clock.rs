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

#[cfg(not(test))]
fn wall_id() -> Uuid {
    Uuid::now_v7()
}

/// As a process gives that began after the clock was set: within one, ids never go back.
#[cfg(test)]
fn wall_id() -> Uuid {
    if STEPPED.get().is_zero() {
        return Uuid::now_v7();
    }
    let wall = wall();
    let (seconds, nanos) = (wall.as_second().unsigned_abs(), wall.subsec_nanosecond().unsigned_abs());
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
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

/// A new id, in the order of time as this machine's clock tells it: other machines' ids, and those from before somebody set
/// the clock, may be greater. What is asked for "the newest" of gets its ids from [`new_id_after`].
pub(crate) fn new_id() -> Uuid {
    wall_id()
}

/// An id that is greater than the newest of its subject, whatever any machine's clock says: made under the subject's lock, such
/// ids are in the order in which they were made. Two that follow the same one differ by chance all the same.
pub(crate) fn new_id_after(newest: Option<Uuid>) -> Uuid {
    let now = new_id();
    let step = 1 + (now.as_u128() & u128::from(u32::MAX));
    newest.map_or(now, |newest| now.max(Uuid::from_u128(newest.as_u128().saturating_add(step))))
}

/// The id that follows one change from webhook to report.
pub(crate) fn new_trace() -> String {
    new_id().simple().to_string()
}
