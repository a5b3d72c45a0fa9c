//! Valid bytes, with a few things wrong: what a reader has to withstand that nobody would write by hand.
//!
//! The fuzz tests of `proto`, `render` and `hub` share it. How many cases are run is `PROPTEST_CASES` (256), never a clock:
//! the same count is the same work on every machine. `./dev fuzz` raises it.

use proptest::prelude::*;
use proptest::sample::Index;

/// One thing that goes wrong. Places are shares of whatever length there is by then.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    /// Bytes of one place once more at another.
    Copy(Index, Index, Index),
    Truncate(Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << (bit % 8),
            Self::Set(at, byte) => bytes[at.index(length)] = *byte,
            Self::Insert(at, more) => {
                let at = at.index(length);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(from, to) => {
                let (from, to) = ordered(from.index(length), to.index(length));
                bytes.drain(from..to);
            }
            Self::Copy(from, to, at) => {
                let (from, to) = ordered(from.index(length), to.index(length));
                let piece = bytes[from..to].to_vec();
                let at = at.index(length);
                bytes.splice(at..at, piece);
            }
            Self::Truncate(at) => bytes.truncate(at.index(length)),
        }
    }
}

fn ordered(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

/// `pieces` are what the format is made of: one of them in the wrong place is worth more than random bytes.
fn change(pieces: &'static [&'static [u8]]) -> impl Strategy<Value = Change> {
    let place = any::<Index>;
    // The ends of a byte, and of what a continued number may be.
    let byte = prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 0x7f, 0x80, 0xff])];
    let more =
        prop_oneof![prop::collection::vec(any::<u8>(), 1..8), prop::sample::select(pieces).prop_map(<[u8]>::to_vec),];
    prop_oneof![
        (place(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (place(), byte).prop_map(|(at, byte)| Change::Set(at, byte)),
        (place(), more).prop_map(|(at, more)| Change::Insert(at, more)),
        (place(), place()).prop_map(|(from, to)| Change::Remove(from, to)),
        (place(), place(), place()).prop_map(|(from, to, at)| Change::Copy(from, to, at)),
        place().prop_map(Change::Truncate),
    ]
}

/// One of the valid inputs with up to eight changes; sometimes with none, so that what is valid stays tried too.
pub(crate) fn mutated(valid: Vec<Vec<u8>>, pieces: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec(change(pieces), 0..8);
    (prop::sample::select(valid), changes).prop_map(|(mut bytes, changes)| {
        for change in changes {
            change.apply(&mut bytes);
        }
        bytes
    })
}
