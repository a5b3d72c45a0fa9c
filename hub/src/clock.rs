//! The one clock of the hub.

use jiff::{Timestamp, Unit};
use uuid::Uuid;

/// Now, in microseconds: what Postgres keeps.
pub(crate) fn now() -> Timestamp {
    Timestamp::now().round(Unit::Microsecond).expect("rounding now stays within jiff's years")
}

/// A new id, in the order of time.
pub(crate) fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// The id that follows one change from webhook to report.
pub(crate) fn new_trace() -> String {
    new_id().simple().to_string()
}
