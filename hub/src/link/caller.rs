//! Who calls at the agents' port.

use bellwether_core::{ClusterId, Digest};
use jiff::Timestamp;

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
