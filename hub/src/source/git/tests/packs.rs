//! Packs that no Git would send.

use std::io::Write;
use std::sync::atomic::AtomicBool;

use gix::objs::Kind;
use gix::odb::pack::Bundle;
use gix::zlib::Compression;
use gix::zlib::stream::deflate;

use super::upstream::Local;
use crate::source::git::FetchError;
use crate::source::git::budget::{Budget, FetchBounds};
use crate::source::git::read::load;
use crate::source::git::unpack;

const MIB: usize = 1 << 20;

/// A pack with one blob of zeros, and what is added to it.
pub(super) struct Pack {
    bytes: Vec<u8>,
    objects: u32,
    last_at: usize,
    last_bytes: usize,
}

impl Pack {
    pub(super) fn of_zeros(bytes: usize) -> Self {
        let mut pack = Self { bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(), objects: 0, last_at: 0, last_bytes: bytes };
        pack.begin(3, bytes);
        pack.deflate(&vec![0; bytes]);
        pack
    }

    fn begin(&mut self, kind: u8, bytes: usize) {
        self.last_at = self.bytes.len();
        self.objects += 1;
        let (mut byte, mut rest) = (kind << 4 | u8::try_from(bytes & 0x0f).expect("four bits"), bytes >> 4);
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            byte = u8::try_from(rest & 0x7f).expect("seven bits");
            rest >>= 7;
        }
        self.bytes.push(byte);
    }

    fn deflate(&mut self, content: &[u8]) {
        self.bytes.extend(deflated(content));
    }

    /// The last object with one byte more.
    fn add_delta(&mut self) {
        let base_at = self.last_at;
        let base_bytes = self.last_bytes;
        self.last_bytes += 1;
        let mut delta = [size(base_bytes), size(self.last_bytes)].concat();
        let mut at = 0;
        while at < base_bytes {
            let part = (base_bytes - at).min(0x00ff_ffff);
            delta.push(0xff);
            delta.extend(u32::try_from(at).expect("small").to_le_bytes());
            delta.extend(&u32::try_from(part).expect("small").to_le_bytes()[..3]);
            at += part;
        }
        delta.extend([1, b'x']);
        self.begin(6, delta.len());
        self.bytes.extend(distance(self.last_at - base_at));
        self.deflate(&delta);
    }

    /// The last object with another last byte, the number of objects, made by a wordy delta.
    fn add_wordy_delta(&mut self) {
        let base_at = self.last_at;
        let delta = wordy_delta(self.last_bytes, u8::try_from(self.objects).expect("a few"));
        self.begin(6, delta.len());
        self.bytes.extend(distance(self.last_at - base_at));
        self.deflate(&delta);
    }

    pub(super) fn with_deltas(mut self, number: usize) -> Self {
        for _ in 0..number {
            self.add_delta();
        }
        self
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&self.objects.to_be_bytes());
        with_sum(self.bytes)
    }
}

fn deflated(content: &[u8]) -> Vec<u8> {
    let mut writer = deflate::Write::new(Vec::new(), Compression::BEST_SPEED);
    writer.write_all(content).expect("it is memory");
    writer.flush().expect("it is memory");
    writer.into_inner()
}

/// Zeros and a last byte out of an object of the same size, copied byte by byte: each takes eight.
fn wordy_delta(bytes: usize, last: u8) -> Vec<u8> {
    let copy_one = [0xff, 0, 0, 0, 0, 1, 0, 0];
    [size(bytes), size(bytes), copy_one.repeat(bytes - 1), vec![1, last]].concat()
}

fn with_sum(mut pack: Vec<u8>) -> Vec<u8> {
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
    hasher.update(&pack);
    pack.extend(hasher.try_finalize().expect("a sum").as_bytes());
    pack
}

/// The same with the sum that it should have.
pub(super) fn seal_again(mut pack: Vec<u8>) -> Vec<u8> {
    pack.truncate(pack.len().saturating_sub(20));
    with_sum(pack)
}

fn size(mut bytes: usize) -> Vec<u8> {
    let mut text = Vec::new();
    while bytes >= 0x80 {
        text.push(u8::try_from(bytes & 0x7f).expect("seven bits") | 0x80);
        bytes >>= 7;
    }
    text.push(u8::try_from(bytes).expect("seven bits"));
    text
}

fn distance(mut bytes: usize) -> Vec<u8> {
    let mut text = vec![u8::try_from(bytes & 0x7f).expect("seven bits")];
    bytes >>= 7;
    while bytes > 0 {
        bytes -= 1;
        text.insert(0, u8::try_from(bytes & 0x7f).expect("seven bits") | 0x80);
        bytes >>= 7;
    }
    text
}

fn unpack(pack: &[u8]) -> Result<(), FetchError> {
    unpack_into(&Local::new(), pack)
}

pub(super) fn unpack_into(local: &Local, pack: &[u8]) -> Result<(), FetchError> {
    let stop = AtomicBool::new(false);
    let budget = Budget::new(FetchBounds { pack_bytes_max: 64 << 20, ..FetchBounds::default() }, &stop);
    let repo = local.mirror.repo.to_thread_local();
    unpack::unpack(&mut &*pack, &repo, &budget).map(drop)
}

fn refusal(pack: &[u8]) -> (&'static str, String) {
    let error = unpack(pack).expect_err("it must be refused");
    (error.code(), error.to_string())
}

#[test]
fn a_small_pack_of_deltas_that_unfold_to_gigabytes_is_refused_before_they_do() {
    let pack = Pack::of_zeros(20 * MIB).with_deltas(150).finish();
    assert!(pack.len() < MIB, "{}", pack.len());

    let (code, text) = refusal(&pack);

    assert_eq!(code, "git_too_large");
    assert!(text.contains("all objects") || text.contains("made from"), "{text}");
}

#[test]
fn many_small_objects_that_are_too_much_together_are_refused() {
    // 512 MiB is what the bounds of these tests come to.
    let mut pack = Pack::of_zeros(6 * MIB);
    for _ in 0..90 {
        pack.begin(3, 6 * MIB);
        pack.deflate(&vec![0; 6 * MIB]);
    }

    let (code, text) = refusal(&pack.finish());

    assert_eq!(code, "git_too_large");
    assert!(text.contains("all objects"), "{text}");
}

#[test]
fn a_long_line_of_deltas_is_refused_and_one_that_git_would_write_is_stored() {
    let (code, text) = refusal(&Pack::of_zeros(10).with_deltas(600).finish());
    assert_eq!(code, "git_too_large");
    assert!(text.contains("steps"), "{text}");

    unpack(&Pack::of_zeros(10).with_deltas(250).finish()).expect("it is a good pack");
    unpack(&Pack::of_zeros(10).with_deltas(50).finish()).expect("it is a good pack");
}

#[test]
fn a_line_whose_deltas_are_too_much_to_read_is_refused_though_what_they_make_is_little() {
    let mut pack = Pack::of_zeros(MIB);
    for _ in 0..40 {
        pack.add_wordy_delta();
    }
    let pack = pack.finish();
    assert!(pack.len() < 4 * MIB, "{}", pack.len());

    let (code, text) = refusal(&pack);

    assert_eq!(code, "git_too_large");
    assert!(text.contains("to read an object"), "{text}");
}

#[test]
fn deltas_count_among_what_a_pack_unfolds_to() {
    let mut pack = Pack::of_zeros(4 * MIB);
    let (base_at, delta) = (pack.last_at, wordy_delta(4 * MIB, 1));
    let deflated = deflated(&delta);
    for _ in 0..16 {
        pack.begin(6, delta.len());
        pack.bytes.extend(distance(pack.last_at - base_at));
        pack.bytes.extend(&deflated);
    }

    let (code, text) = refusal(&pack.finish());

    assert_eq!(code, "git_too_large");
    assert!(text.contains("all objects"), "{text}");
}

/// What came before the bound was looked at lies in mirrors.
#[test]
fn reading_an_object_takes_no_more_than_its_bound_and_keeps_no_more_than_the_object() {
    let read = |deltas: u8| {
        let local = Local::new();
        let mut pack = Pack::of_zeros(MIB);
        for _ in 0..deltas {
            pack.add_wordy_delta();
        }
        let folder = local.path().join("objects/pack");
        let options = gix::odb::pack::bundle::write::Options { thread_limit: Some(1), ..Default::default() };
        let none = None::<gix::odb::HandleArc>;
        let (progress, stop) = (&mut gix::progress::Discard, AtomicBool::new(false));
        let hash = gix::hash::Kind::Sha1;
        Bundle::write_to_directory(&mut &*pack.finish(), Some(&folder), progress, &stop, none, hash, options)
            .expect("it is a good pack");
        let local = local.reopen();
        let repo = local.mirror.repo.to_thread_local();
        let id = gix::objs::compute_hash(hash, Kind::Blob, &[vec![0; MIB - 1], vec![deltas]].concat());
        let id = id.expect("a sum");
        load(&repo, id, Kind::Blob, 64 << 20)
    };

    let bytes = read(3).expect("it is little");
    assert_eq!((bytes.len(), bytes.capacity()), (MIB, MIB));
    assert_eq!(read(40).expect_err("it is too much").code(), "git_mirror_damaged");
}

#[test]
fn an_object_over_the_bound_is_refused_by_what_its_head_says() {
    let mut pack = Pack::of_zeros(1);
    pack.begin(3, 200 * MIB);
    pack.deflate(b"less than that");

    let (code, text) = refusal(&pack.finish());

    assert_eq!(code, "git_too_large");
    assert!(text.contains("209715200"), "{text}");
}

#[test]
fn an_object_that_is_more_than_its_head_says_is_refused() {
    let mut pack = Pack::of_zeros(1);
    pack.begin(3, 10);
    pack.deflate(&vec![0; MIB]);

    assert_eq!(refusal(&pack.finish()).0, "git_protocol");
}
