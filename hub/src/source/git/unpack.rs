//! Stores what a server sends.
//!
//! A push of a few files becomes single objects, as Git itself does it: a pack per push would soon be thousands of
//! packs, each a file to search on every read. Whatever is bigger becomes a pack with its index. Either way an object
//! is named by what it holds, so damage on the way cannot go unseen, and a commit is stored after what it needs: a
//! commit that is there is complete.

use std::collections::HashMap;
use std::io::{self, BufRead, Cursor, Read};

use gix::ObjectId;
use gix::objs::{Find, Kind, Write};
use gix::odb::HeaderExt;
use gix::odb::pack::data::decode::entry::ResolvedBase;
use gix::odb::pack::data::input::{BytesToEntriesIter, EntryDataMode, Mode};
use gix::odb::pack::{self, data};

use super::budget::Budget;
use super::error::{Cause, FetchError, find_cause};
use super::scan::{OBJECT_BYTES_MAX, Scan};
use super::{HASH, mirror, protocol};

/// Git's own `transfer.unpackLimit`.
const LOOSE_OBJECTS_MAX: u32 = 100;

/// Compressed and inflated; what is bigger is not held in memory at once.
const LOOSE_BYTES_MAX: usize = 8 << 20;

/// Deltas are resolved side by side; each thread may hold an object of the greatest size.
const THREADS_MAX: usize = 2;

/// What is sent and not yet stored.
type Objects = Vec<(Kind, Vec<u8>)>;

/// How it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stored {
    Loose,
    Pack,
}

pub(super) fn unpack(
    pack: &mut dyn BufRead,
    repo: &gix::Repository,
    budget: &Budget<'_>,
) -> Result<Stored, FetchError> {
    let size_of = |id: &ObjectId| repo.objects.header(id).ok().map(|header| header.size());
    let mut scan = Scan::new(pack, budget.inflated_bytes_max(), &size_of);
    let stored = store(&mut scan, repo, budget);
    match scan.into_verdict() {
        Some(verdict) => Err(verdict),
        None => stored,
    }
}

fn store(pack: &mut dyn BufRead, repo: &gix::Repository, budget: &Budget<'_>) -> Result<Stored, FetchError> {
    let mut head = Vec::with_capacity(64 << 10);
    let enough = (LOOSE_BYTES_MAX + 1) as u64;
    pack.take(data::header::SIZE as u64).read_to_end(&mut head).map_err(protocol)?;
    if object_count(&head)? <= LOOSE_OBJECTS_MAX {
        pack.take(enough).read_to_end(&mut head).map_err(protocol)?;
        if head.len() <= LOOSE_BYTES_MAX && write_loose(&head, repo)? {
            return Ok(Stored::Loose);
        }
    }
    write_pack(&mut Cursor::new(head).chain(pack), repo, budget)?;
    Ok(Stored::Pack)
}

fn object_count(head: &[u8]) -> Result<u32, FetchError> {
    let header = head.try_into().map_err(|_| protocol("the pack has no header"))?;
    let (_, objects) = data::header::decode(header).map_err(protocol)?;
    Ok(objects)
}

/// Whether everything is stored now; if not, nothing is, and the pack is one for [`write_pack`].
fn write_loose(bytes: &[u8], repo: &gix::Repository) -> Result<bool, FetchError> {
    let Some(mut objects) = decode_all(bytes, repo).map_err(protocol)? else { return Ok(false) };
    // Trees and blobs first.
    objects.sort_by_key(|(kind, _)| matches!(kind, Kind::Commit | Kind::Tag));
    for (kind, content) in objects {
        repo.objects.write_buf(kind, &content).map_err(mirror)?;
    }
    Ok(true)
}

/// `None` if it is too much for memory, or needs an object that comes later or not at all.
fn decode_all(bytes: &[u8], repo: &gix::Repository) -> Result<Option<Objects>, Cause> {
    // The first pass finds where entries begin and checks the sum over the whole pack.
    let entries = BytesToEntriesIter::new_from_header(bytes, Mode::Verify, EntryDataMode::Ignore, HASH)?;
    let offsets: Vec<u64> = entries.map(|entry| Ok(entry?.pack_offset)).collect::<Result<_, Cause>>()?;
    let pack = data::File::from_data(bytes, "received".into(), HASH)?.with_alloc_limit_bytes(Some(LOOSE_BYTES_MAX));
    let mut inflate = gix::zlib::Inflate::default();
    let mut known: HashMap<ObjectId, u64> = HashMap::new();
    let mut objects = Vec::with_capacity(offsets.len());
    let mut bytes_left = LOOSE_BYTES_MAX;
    for offset in offsets {
        let resolve = |id: &gix::oid, out: &mut Vec<u8>| match known.get(id) {
            Some(offset) => Ok(Some(ResolvedBase::InPack(pack.entry(*offset)?))),
            None => Ok(repo
                .objects
                .try_find(id, out)?
                .map(|found| (found.kind, found.data.len()))
                .map(|(kind, end)| ResolvedBase::OutOfPack { kind, end })),
        };
        let mut content = Vec::new();
        let entry = pack.entry(offset)?;
        let Ok(outcome) = pack.decode_entry(entry, &mut content, &mut inflate, &resolve, &mut pack::cache::Never)
        else {
            return Ok(None);
        };
        let Some(left) = bytes_left.checked_sub(content.len()) else { return Ok(None) };
        bytes_left = left;
        // It was as large as all of its deltas.
        content.shrink_to_fit();
        known.insert(gix::objs::compute_hash(HASH, outcome.kind, &content)?, offset);
        objects.push((outcome.kind, content));
    }
    Ok(Some(objects))
}

fn write_pack(pack: &mut dyn BufRead, repo: &gix::Repository, budget: &Budget<'_>) -> Result<(), FetchError> {
    let folder = repo.objects.store_ref().path().join("pack");
    let options = pack::bundle::write::Options {
        thread_limit: Some(THREADS_MAX),
        iteration_mode: Mode::Verify,
        alloc_limit_bytes: usize::try_from(OBJECT_BYTES_MAX).ok(),
        ..Default::default()
    };
    let bases = repo.objects.clone();
    let written = budget.watch(|interrupt| {
        let mut progress = gix::progress::Discard;
        pack::Bundle::write_to_directory(pack, Some(&folder), &mut progress, interrupt, Some(bases), HASH, options)
    });
    let written = written.map_err(|source| match budget.check() {
        Err(over) => over,
        Ok(()) if is_of_the_disk(&source) => mirror(source),
        Ok(()) => protocol(source),
    })?;
    // It protects a pack from `git gc`, which never runs here.
    if let Some(keep) = written.keep_path {
        std::fs::remove_file(keep).map_err(mirror)?;
    }
    Ok(())
}

/// The rest is the pack's fault.
fn is_of_the_disk(error: &gix::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};

    let kind = find_cause::<io::Error>(error).map(io::Error::kind);
    matches!(kind, Some(NotFound | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull))
}
