//! Who calls at the agents' port.

use bellwether_core::{ClusterId, Digest};
use jiff::{SignedDuration, Timestamp};

use crate::process::rate::{Buckets, Rate};

/// Of streams and renewals that begin with one certificate: an agent whose connection breaks again and again waits between
/// its tries, for longer each time.
pub(crate) const CALLS: Rate = Rate { at_once: 10, every: SignedDuration::from_secs(5) };

/// Who is at the other end, as the handshake verified.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) cluster: ClusterId,
    /// Of the certificate.
    pub(super) serial: String,
    /// Of the certificate.
    pub(super) not_after: Timestamp,
    /// The digest of the certificate's public key.
    pub(super) key: Digest,
    pub(super) address: String,
}

impl Caller {
    /// Before anything is asked of the database: each call costs it several transactions. Counted by the certificate, so that
    /// one which counts no more spends nothing of what its cluster's next one may; and few are good at a time.
    pub(super) fn may_call(&self, calls: &Buckets<String>) -> bool {
        let may = calls.may(&self.serial);
        if may {
            calls.take(self.serial.clone());
        }
        may
    }
}
