//! Streams whose agents have said Hello, and those whose agents have said all: what waits to be written down together.

use std::time::Instant;

use bellwether_core::session::{Hello, Listing, ProfileWanted, Want};
use bellwether_core::{ClusterId, SessionNumber};

use super::caller::Caller;
use crate::process::together::Together;
use crate::store::StoreError;

/// Of one transaction: with what their clusters are to run, a few megabytes.
const HELLOS_MAX: usize = 64;
/// Of one transaction, of a few statements.
const CAUGHT_UP_MAX: usize = 500;

/// Of this hub.
pub(crate) struct Arrivals {
    pub(super) hellos: Together<Arrival, Result<Option<Greeted>, StoreError>>,
    pub(super) caught_up: Together<CaughtUp, Result<(), StoreError>>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { hellos: Together::new(HELLOS_MAX), caught_up: Together::new(CAUGHT_UP_MAX) }
    }
}

/// A stream whose agent said Hello.
pub(super) struct Arrival {
    pub(super) caller: Caller,
    pub(super) number: SessionNumber,
    pub(super) hello: Hello,
}

/// A stream whose agent has told what it had kept to itself.
pub(super) struct CaughtUp {
    pub(super) cluster: ClusterId,
    pub(super) number: SessionNumber,
}

/// What the rows say to it.
pub(super) struct Greeted {
    pub(super) want: Want,
    pub(super) profile: ProfileWanted,
    /// Two agents take turns with its identity, and neither is told anything.
    pub(super) is_contested: bool,
    /// What its cluster is to run, as of then; `None`: see above.
    pub(super) listing: Option<(Instant, Listing)>,
}
