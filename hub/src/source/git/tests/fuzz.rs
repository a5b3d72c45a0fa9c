//! Packs that are nearly right: stored whole or refused, whatever their sum says.

#[path = "../../../../../proto/tests/mutation/mod.rs"]
mod mutation;

use std::sync::LazyLock;

use mutation::mutated;
use proptest::prelude::*;

use super::packs::{Pack, seal_again, unpack_into};
use super::upstream::Local;

/// Heads of entries, and lengths that go on.
const PIECES: &[&[u8]] =
    &[b"\x30\x78\x01", b"\x60\x01", b"\x70", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x01", b"\x78\x9c", b"PACK"];

/// All cases share a mirror: what one of them stored must not help another to less than a whole object.
static MIRROR: LazyLock<Local> = LazyLock::new(Local::new);

fn packs() -> Vec<Vec<u8>> {
    vec![
        Pack::of_zeros(40).finish(),
        Pack::of_zeros(3_000).with_deltas(3).finish(),
        Pack::of_zeros(10).with_deltas(120).finish(),
    ]
}

proptest! {
    #[test]
    fn a_changed_pack_is_stored_or_refused_and_its_objects_are_what_their_names_say(
        bytes in mutated(packs(), PIECES),
        is_sealed in any::<bool>(),
    ) {
        // With a right sum at its end, what is inside is looked at too.
        let pack = if is_sealed { seal_again(bytes) } else { bytes };
        if let Err(error) = unpack_into(&MIRROR, &pack) {
            prop_assert!(["git_protocol", "git_too_large", "git_timeout"].contains(&error.code()), "{}: {error}", error.code());
        }
    }
}
