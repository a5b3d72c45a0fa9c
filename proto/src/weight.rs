//! What a message becomes in memory, weighed before it does.
//!
//! A list's element may be two bytes on the wire and 160 once it is read, so a bound on bytes alone bounds nothing: the
//! fields are counted first, without keeping any.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::v1::{Certificate, EnrollRequest, FromAgent, FromHub, RenewRequest};

/// Fields that any message may have, however short they are: a report has at most 60, a Hello 70.
const FEW: usize = 128;
/// Bytes that more fields than these have each, taken together: an object that is asked for has 34, a target of an
/// inventory 60. So a message becomes ten times its bytes at most.
const FIELD_BYTES: usize = 32;

/// A message that comes from the other end.
pub(crate) trait Received {
    /// Whether so many bytes may have so many fields, those of the messages in it. The hub's own are trusted for what they
    /// become, as they are for what they say; and what has no lists is no larger than its bytes.
    fn is_sound(_fields: usize, _bytes: usize) -> bool {
        true
    }
}

impl Received for FromAgent {
    fn is_sound(fields: usize, bytes: usize) -> bool {
        fields <= FEW + bytes / FIELD_BYTES
    }
}

impl Received for EnrollRequest {}
impl Received for RenewRequest {}
impl Received for Certificate {}
impl Received for FromHub {}

/// The fields of the messages in this one, as far as it can be read: that far it would be kept while it is.
pub(crate) fn count_fields(mut message: &[u8]) -> usize {
    let mut fields = 0;
    while let Ok((tag, wire_type)) = decode_key(&mut message) {
        let rest = message;
        if skip_field(wire_type, tag, &mut message, DecodeContext::default()).is_err() {
            // What goes beyond the end may be a message as far as it goes.
            message = &[];
        }
        if wire_type == WireType::LengthDelimited {
            fields += count_own_fields(&rest[..rest.len() - message.len()]);
        }
    }
    fields
}

/// Of a message behind its length.
fn count_own_fields(mut message: &[u8]) -> usize {
    let mut fields = 0;
    if decode_varint(&mut message).is_err() {
        return 0;
    }
    while let Ok((tag, wire_type)) = decode_key(&mut message) {
        fields += 1;
        if skip_field(wire_type, tag, &mut message, DecodeContext::default()).is_err() {
            break;
        }
    }
    fields
}
