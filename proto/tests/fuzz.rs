//! Messages and journals that are nearly right: read or refused, and never the end of who reads them.

mod mutation;
#[path = "samples/v0_1/mod.rs"]
mod v0_1;

use std::io::Read as _;

use bellwether_core::journal::{Head, Journal, Part};
use bellwether_proto::compression::{compress, decompress, deflate_stream, inflate_stream};
use bellwether_proto::{agent_message, hub_message, v1};
use mutation::mutated;
use proptest::prelude::*;
use prost::Message as _;
use uuid::Uuid;

/// Heads of fields, and lengths that are not theirs.
const PIECES: &[&[u8]] =
    &[b"\x0a", b"\x12", b"\x1a\x00", b"\x22\x10", b"\xff\xff\xff\xff\x0f", b"\x80\x80\x01", b"\x08\x00"];
const JOURNAL_PIECES: &[&[u8]] = &[b"\"", b"{", b"]", b"null", b"\"records\":[]", b"1e999", b"\\ud800", b"\"before\":"];
const BYTES_MAX: usize = 1 << 16;

fn from_agent() -> Vec<Vec<u8>> {
    v0_1::from_agent().into_iter().map(|message| v1::FromAgent::from(message).encode_to_vec()).collect()
}

fn from_hub() -> Vec<Vec<u8>> {
    v0_1::from_hub().into_iter().map(|message| v1::FromHub::from(message).encode_to_vec()).collect()
}

fn journal() -> Vec<Vec<u8>> {
    let frame = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/v0_1/journal.zst"));
    let mut plain = Vec::new();
    inflate_stream(frame.expect("it is there"), 1 << 20).expect("a frame").read_to_end(&mut plain).expect("whole");
    vec![plain]
}

fn load(frame: Vec<u8>) -> Option<Journal> {
    let head = Head { boot: Uuid::nil(), entry: 3, parts: 1 };
    Journal::load(vec![Part { number: 3, head, bytes: frame }], |frame| inflate_stream(frame, 1 << 20)).ok()
}

proptest! {
    #[test]
    fn what_an_agent_may_say_is_refused_or_means_what_it_means_when_it_is_said_again(
        bytes in mutated(from_agent(), PIECES),
    ) {
        let heard = v1::FromAgent::decode(bytes.as_slice()).ok().and_then(|message| agent_message(message).ok());
        if let Some(message) = heard {
            let again = v1::FromAgent::from(message.clone()).encode_to_vec();
            let again = v1::FromAgent::decode(again.as_slice()).expect("our own bytes decode");
            prop_assert_eq!(agent_message(again).expect("what was accepted is accepted"), message);
        }
    }

    #[test]
    fn what_a_hub_may_say_is_refused_or_means_what_it_means_when_it_is_said_again(
        bytes in mutated(from_hub(), PIECES),
    ) {
        let heard = v1::FromHub::decode(bytes.as_slice()).ok().and_then(|message| hub_message(message).ok());
        if let Some(message) = heard {
            let again = v1::FromHub::from(message.clone()).encode_to_vec();
            let again = v1::FromHub::decode(again.as_slice()).expect("our own bytes decode");
            prop_assert_eq!(hub_message(again).expect("what was accepted is accepted"), message);
        }
    }

    #[test]
    fn a_journal_that_was_changed_is_refused_or_read_and_can_be_gone_on_with(
        plain in mutated(journal(), JOURNAL_PIECES),
    ) {
        let frame = deflate_stream(|to| std::io::Write::write_all(to, &plain)).expect("it is memory");
        if let Some(mut journal) = load(frame) {
            for found in journal.inventory() {
                prop_assert_eq!(journal.find(found.assignment.target), Some(found.clone()));
            }
            let entry = journal.plan(Vec::new());
            prop_assert!(entry.write(std::io::sink()).is_ok());
        }
    }

    #[test]
    fn a_damaged_frame_is_refused_or_stays_under_its_bound(
        frame in mutated(vec![compress(&[b'x'; 5_000]), compress(b"{}")], &[b"\x28\xb5\x2f\xfd", b"\x00\x00\x00\xff"]),
    ) {
        prop_assert!(decompress(&frame, BYTES_MAX).is_none_or(|bytes| bytes.len() <= BYTES_MAX));
        let _ = load(frame);
    }
}
