//! Looks through a pack while it arrives, before anything in it is put together.
//!
//! A delta says how to make an object from another one, so a pack of a few KB can stand for gigabytes. What each entry
//! will come to stands in its first bytes: an object that is too large, too many of them, or a line of deltas that could
//! not be held in memory, in what it makes or in what it says, is refused here. Nothing is kept but a few numbers per entry.

use std::io::{self, BufRead, Read};

use gix::ObjectId;
use gix::odb::pack::data;
use gix::zlib::{Decompress, FlushDecompress, Status};

use super::error::FetchError;
use super::protocol;

/// GitHub takes no larger file, so a repo that lives there fits. It bounds what a forged size can make us allocate.
pub(super) const OBJECT_BYTES_MAX: u64 = 101 << 20;

/// A big monorepo has 300,000 files. Each costs some 100 bytes of memory while a pack is stored.
const OBJECTS_MAX: u32 = 2_000_000;

/// An object and all that it is made from: what one thread may hold at once. A line of fifty versions, as Git makes
/// them, of a file of 5 MiB.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// What gix takes to read one object: the largest of its line twice, and all deltas of the line. Two of the largest that
/// are allowed fit, with a delta between them. Mirrors are opened with it too, for what came before it was looked at.
pub(super) const READ_BYTES_MAX: u64 = 256 << 20;

/// Git makes lines of 50, and of 250 when it is told to be thorough.
const DEPTH_MAX: u32 = 500;

/// An entry begins with its size (10 bytes) and the id or the distance of what it is made from (20 bytes).
const ENTRY_HEAD_BYTES_MAX: usize = 32;

/// A delta begins with two sizes.
const DELTA_HEAD_BYTES_MAX: usize = 20;

/// Passes a pack on, and fails where it goes too far.
pub(super) struct Scan<'a, R> {
    pack: R,
    /// Of what `pack` holds ready, so much was looked at.
    scanned: usize,
    checker: Checker<'a>,
    verdict: Option<FetchError>,
}

impl<'a, R: BufRead> Scan<'a, R> {
    /// `size_of` knows the objects that are here already.
    pub(super) fn new(pack: R, inflated_bytes_max: u64, size_of: &'a dyn Fn(&ObjectId) -> Option<u64>) -> Self {
        Self { pack, scanned: 0, checker: Checker::new(inflated_bytes_max, size_of), verdict: None }
    }

    /// Why reading failed, if it was for what was found here.
    pub(super) fn into_verdict(self) -> Option<FetchError> {
        self.verdict
    }
}

impl<R: BufRead> Read for Scan<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?.read(buffer)?;
        self.consume(bytes);
        Ok(bytes)
    }
}

impl<R: BufRead> BufRead for Scan<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let ready = self.pack.fill_buf()?;
        if let Err(error) = self.checker.feed(&ready[self.scanned..]) {
            let text = error.to_string();
            self.verdict.get_or_insert(error);
            return Err(io::Error::other(text));
        }
        self.scanned = ready.len();
        Ok(ready)
    }

    fn consume(&mut self, bytes: usize) {
        self.scanned = self.scanned.saturating_sub(bytes);
        self.pack.consume(bytes);
    }
}

/// An entry that was passed: where it began, and its line.
struct Place {
    offset: u64,
    line: Line,
}

/// An object and all that it is made from.
#[derive(Default, Clone, Copy)]
struct Line {
    /// All objects of it.
    bytes: u64,
    largest: u64,
    /// All deltas of it, which may be far more than they make: a byte of an object can take eight of a delta.
    delta_bytes: u64,
    depth: u32,
}

impl Line {
    fn of(bytes: u64) -> Self {
        Self { bytes, largest: bytes, ..Self::default() }
    }

    fn then(self, delta_bytes: u64, bytes: u64) -> Self {
        Self {
            bytes: self.bytes + bytes,
            largest: self.largest.max(bytes),
            delta_bytes: self.delta_bytes + delta_bytes,
            depth: self.depth + 1,
        }
    }

    fn check(self) -> Result<(), FetchError> {
        at_most(self.bytes, LINE_BYTES_MAX, |number| {
            format!("an object and what it is made from have {number} bytes")
        })?;
        at_most(2 * self.largest + self.delta_bytes, READ_BYTES_MAX, |number| {
            format!("to read an object takes {number} bytes")
        })?;
        at_most(self.depth.into(), DEPTH_MAX.into(), |number| format!("an object is made in {number} steps"))
    }
}

enum Base {
    None,
    At(u64),
    Named(ObjectId),
}

/// The entry whose content is passing.
struct Entry {
    offset: u64,
    /// Inflated: of the object, or of the delta.
    bytes: u64,
    base: Base,
    /// Of a delta.
    head: Vec<u8>,
}

enum Part {
    PackHead,
    EntryHead,
    Content(Entry),
    End,
}

struct Checker<'a> {
    size_of: &'a dyn Fn(&ObjectId) -> Option<u64>,
    inflated_bytes_max: u64,
    part: Part,
    /// Of a head that is not whole yet.
    held: Vec<u8>,
    offset: u64,
    entries_left: u32,
    inflate: Decompress,
    scratch: Vec<u8>,
    places: Vec<Place>,
    /// Objects, and the deltas that make some of them.
    inflated_bytes: u64,
    deltas: u32,
    /// There are deltas on objects that come later, if at all.
    is_unplaced: bool,
}

impl<'a> Checker<'a> {
    fn new(inflated_bytes_max: u64, size_of: &'a dyn Fn(&ObjectId) -> Option<u64>) -> Self {
        Self {
            size_of,
            inflated_bytes_max,
            part: Part::PackHead,
            held: Vec::new(),
            offset: 0,
            entries_left: 0,
            inflate: Decompress::new(),
            scratch: vec![0; 32 << 10],
            places: Vec::new(),
            inflated_bytes: 0,
            deltas: 0,
            is_unplaced: false,
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), FetchError> {
        while !bytes.is_empty() {
            let used = match self.part {
                Part::PackHead => self.pass_pack_head(bytes)?,
                Part::EntryHead => self.pass_entry_head(bytes[0])?,
                Part::Content(_) => self.pass_content(bytes)?,
                Part::End => return Ok(()),
            };
            self.offset += used as u64;
            bytes = &bytes[used..];
        }
        Ok(())
    }

    fn pass_pack_head(&mut self, bytes: &[u8]) -> Result<usize, FetchError> {
        let used = bytes.len().min(data::header::SIZE - self.held.len());
        self.held.extend_from_slice(&bytes[..used]);
        if let Ok(head) = <&[u8; data::header::SIZE]>::try_from(&self.held[..]) {
            let (_, objects) = data::header::decode(head).map_err(protocol)?;
            at_most(objects.into(), OBJECTS_MAX.into(), |number| format!("there are {number} objects"))?;
            self.entries_left = objects;
            self.held.clear();
            self.part = if objects == 0 { Part::End } else { Part::EntryHead };
        }
        Ok(used)
    }

    fn pass_entry_head(&mut self, byte: u8) -> Result<usize, FetchError> {
        let offset = self.offset - self.held.len() as u64;
        self.held.push(byte);
        if let Some((bytes, base)) = parse_entry_head(&self.held, offset)? {
            at_most(bytes, OBJECT_BYTES_MAX, object)?;
            self.held.clear();
            self.inflate.reset();
            self.part = Part::Content(Entry { offset, bytes, base, head: Vec::new() });
        } else if self.held.len() >= ENTRY_HEAD_BYTES_MAX {
            return Err(protocol("an entry of the pack has no end of its head"));
        }
        Ok(1)
    }

    fn pass_content(&mut self, bytes: &[u8]) -> Result<usize, FetchError> {
        let Part::Content(entry) = &mut self.part else { return Ok(0) };
        let before = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(bytes, &mut self.scratch, FlushDecompress::None).map_err(protocol)?;
        let used = usize::try_from(self.inflate.total_in() - before.0).map_err(protocol)?;
        let made = usize::try_from(self.inflate.total_out() - before.1).map_err(protocol)?;
        let room = DELTA_HEAD_BYTES_MAX - entry.head.len();
        entry.head.extend_from_slice(&self.scratch[..made.min(room)]);
        if self.inflate.total_out() > entry.bytes || (used == 0 && made == 0 && status != Status::StreamEnd) {
            return Err(protocol("an entry of the pack is not what its head says"));
        }
        if status == Status::StreamEnd {
            self.place()?;
        }
        Ok(used)
    }

    /// The entry has passed.
    fn place(&mut self) -> Result<(), FetchError> {
        self.entries_left -= 1;
        let next = if self.entries_left == 0 { Part::End } else { Part::EntryHead };
        let Part::Content(entry) = std::mem::replace(&mut self.part, next) else { return Ok(()) };
        let line = self.line_of(&entry)?;
        line.check()?;
        // What these are made from is not known, so they could all be one line.
        if self.is_unplaced && (self.inflated_bytes > LINE_BYTES_MAX || self.deltas > DEPTH_MAX) {
            return Err(protocol("too many deltas are made from what is neither here nor before them"));
        }
        self.places.push(Place { offset: entry.offset, line });
        Ok(())
    }

    fn line_of(&mut self, entry: &Entry) -> Result<Line, FetchError> {
        let below = match entry.base {
            Base::None => {
                self.add_inflated(entry.bytes)?;
                return Ok(Line::of(entry.bytes));
            }
            Base::At(offset) => {
                let found = self.places.binary_search_by_key(&offset, |place| place.offset);
                self.places[found.map_err(|_| protocol("a delta is made from nothing"))?].line
            }
            Base::Named(id) => match (self.size_of)(&id) {
                Some(bytes) => {
                    // It is put into the pack.
                    self.add_inflated(bytes)?;
                    Line::of(bytes)
                }
                None => {
                    self.is_unplaced = true;
                    Line::default()
                }
            },
        };
        let bytes = delta_result(&entry.head).ok_or_else(|| protocol("a delta has no sizes"))?;
        at_most(bytes, OBJECT_BYTES_MAX, object)?;
        self.deltas += 1;
        self.add_inflated(entry.bytes + bytes)?;
        Ok(below.then(entry.bytes, bytes))
    }

    fn add_inflated(&mut self, bytes: u64) -> Result<(), FetchError> {
        self.inflated_bytes += bytes;
        at_most(self.inflated_bytes, self.inflated_bytes_max, |number| format!("all objects have {number} bytes"))
    }
}

fn object(bytes: u64) -> String {
    format!("a file or folder listing has {bytes} bytes")
}

fn at_most(number: u64, max: u64, what: impl FnOnce(u64) -> String) -> Result<(), FetchError> {
    if number > max { Err(FetchError::TooLarge { what: what(number), max }) } else { Ok(()) }
}

/// Size and base; `None` while bytes are missing.
fn parse_entry_head(held: &[u8], offset: u64) -> Result<Option<(u64, Base)>, FetchError> {
    let Some(size_bytes) = held.iter().position(|byte| byte & 0x80 == 0).map(|end| end + 1) else { return Ok(None) };
    let mut size = u64::from(held[0] & 0x0f);
    for (place, byte) in (0u32..).zip(&held[1..size_bytes]) {
        size |= u64::from(byte & 0x7f).checked_shl(4 + 7 * place).unwrap_or(u64::MAX);
    }
    let rest = &held[size_bytes..];
    let base = match (held[0] >> 4) & 0x07 {
        1..=4 => Some(Base::None),
        6 => parse_distance(rest)?.map(|distance| offset.checked_sub(distance).map_or(Base::At(u64::MAX), Base::At)),
        7 => gix::oid::try_from_bytes(rest).ok().map(|id| Base::Named(id.to_owned())),
        _ => return Err(protocol("an entry of the pack is of no known kind")),
    };
    Ok(base.map(|base| (size, base)))
}

/// Git's own way to write a distance: each further byte counts from one.
fn parse_distance(bytes: &[u8]) -> Result<Option<u64>, FetchError> {
    let mut distance = 0u64;
    for (place, byte) in bytes.iter().enumerate() {
        let above = if place == 0 { 0 } else { distance.saturating_add(1) };
        distance = above.checked_mul(128).ok_or_else(|| protocol("a delta is made from nothing"))?;
        distance |= u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(Some(distance));
        }
    }
    Ok(None)
}

/// The second of the two sizes that a delta begins with.
fn delta_result(head: &[u8]) -> Option<u64> {
    let (_, rest) = parse_size(head)?;
    parse_size(rest).map(|(size, _)| size)
}

fn parse_size(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    let mut size = 0u64;
    for (place, byte) in (0u32..).zip(&bytes[..=end]) {
        size |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
    }
    Some((size, &bytes[end + 1..]))
}
