//! The files of a layer, each written into the mirror as it passes.
//!
//! Whoever pushes an artifact must not be able to fill the hub's memory or disk, nor to have a file appear where it was
//! not put: everything has a bound, and whatever is not a plain file with a plain path is refused by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use bellwether_core::source::is_valid_path;
use flate2::read::MultiGzDecoder;
use gix::ObjectId;
use tar::{Archive, EntryType};

use super::error::{ArtifactError, PullError};
use super::manifest::{Content, Packed, tidy};
use crate::source::git::{Budget, write_file};

/// As many as a target may have.
const FILES_MAX: usize = 10_000;
/// Folders around a file. Each costs an object of Git, whatever is in it, and a path has room for five hundred.
const DEPTH_MAX: usize = 32;

/// Files, and as many folders.
const ENTRIES_MAX: usize = 2 * FILES_MAX;

/// Of a chart with all of its dependencies some hundred KiB; a file of this size is no manifest.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Of all layers, as the files are. It bounds what a small layer can make of itself.
const BYTES_MAX: u64 = 64 << 20;

/// How far back a zstd frame may reach, as a power of two: 32 MiB. A frame of a few bytes says itself how much memory its
/// reader needs. This is what the strongest level of the usual tools asks for.
const WINDOW_LOG_MAX: u32 = 25;

/// The files of an artifact so far.
#[derive(Default)]
pub(super) struct Files {
    pub(super) ids: BTreeMap<String, ObjectId>,
    folders: BTreeSet<String>,
    bytes: u64,
}

pub(super) fn unpack(
    layer: impl Read,
    content: &Content,
    files: &mut Files,
    repo: &gix::Repository,
    budget: &Budget<'_>,
) -> Result<(), PullError> {
    match content {
        Content::File(path) => {
            let bytes = read(layer, path)?;
            files.add(path, &bytes, repo)
        }
        Content::Tar { packed: Packed::Not, is_chart } => unpack_tar(layer, *is_chart, files, repo, budget),
        Content::Tar { packed: Packed::Gzip, is_chart } => {
            unpack_tar(MultiGzDecoder::new(layer), *is_chart, files, repo, budget)
        }
        Content::Tar { packed: Packed::Zstd, is_chart } => {
            let mut frames = zstd::Decoder::new(layer).map_err(|error| damaged(&error))?;
            frames.window_log_max(WINDOW_LOG_MAX).map_err(|error| damaged(&error))?;
            unpack_tar(frames, *is_chart, files, repo, budget)
        }
    }
}

fn unpack_tar(
    tar: impl Read,
    is_chart: bool,
    files: &mut Files,
    repo: &gix::Repository,
    budget: &Budget<'_>,
) -> Result<(), PullError> {
    // A name that a tar spells out over several entries is read whole, so what passes is bounded and not what is kept.
    let left = BYTES_MAX.saturating_sub(files.bytes) + TAR_BYTES_MAX;
    let mut tar = Limited { inner: tar, left, is_over: false };
    let unpacked = unpack_entries(&mut tar, is_chart, files, repo, budget).and_then(|()| {
        // What follows the end of the tar belongs to the layer, too.
        io::copy(&mut tar, &mut io::sink()).map_err(|error| damaged(&error))?;
        Ok(())
    });
    if tar.is_over { Err(too_large().into()) } else { unpacked }
}

fn unpack_entries(
    tar: &mut impl Read,
    is_chart: bool,
    files: &mut Files,
    repo: &gix::Repository,
    budget: &Budget<'_>,
) -> Result<(), PullError> {
    for (before, entry) in Archive::new(tar).entries().map_err(|error| damaged(&error))?.enumerate() {
        budget.check()?;
        let entry = entry.map_err(|error| damaged(&error))?;
        if before >= ENTRIES_MAX {
            return Err(too_many(before + 1).into());
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refused = |reason| ArtifactError::File { file: tidy(&name), reason };
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            EntryType::Symlink | EntryType::Link => return Err(refused("is a link").into()),
            _ => return Err(refused("is neither a file nor a folder").into()),
        }
        let path = place(&name, is_chart).map_err(refused)?;
        let bytes = read(entry, &path)?;
        files.add(&path, &bytes, repo)?;
    }
    Ok(())
}

/// Heads and padding of a tar with as many files as are allowed.
const TAR_BYTES_MAX: u64 = 4 * 1024 * FILES_MAX as u64;

/// Where a file of the tar is in the commit.
fn place(name: &str, is_chart: bool) -> Result<String, &'static str> {
    let path = name.strip_prefix("./").unwrap_or(name);
    let path = match (is_chart, path.split_once('/')) {
        (false, _) => path,
        (true, Some((_, rest))) => rest,
        (true, None) => return Err("lies outside of the chart's folder"),
    };
    if path.is_empty() || !is_valid_path(path) { Err("has a path that leads elsewhere") } else { Ok(path.to_owned()) }
}

fn read(file: impl Read, path: &str) -> Result<Vec<u8>, ArtifactError> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("`{}` has more than {FILE_BYTES_MAX} bytes", tidy(path));
        return Err(ArtifactError::TooLarge { what, max: FILE_BYTES_MAX });
    }
    Ok(bytes)
}

impl Files {
    fn add(&mut self, path: &str, bytes: &[u8], repo: &gix::Repository) -> Result<(), PullError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > BYTES_MAX {
            return Err(too_large().into());
        }
        if self.ids.len() >= FILES_MAX {
            return Err(too_many(self.ids.len() + 1).into());
        }
        let above = || path.match_indices('/').map(|(at, _)| &path[..at]);
        if above().count() > DEPTH_MAX {
            return Err(too_deep(path).into());
        }
        // Two readers must not see different files.
        let is_twice = self.ids.contains_key(path)
            || self.folders.contains(path)
            || above().any(|folder| self.ids.contains_key(folder));
        if is_twice {
            return Err(ArtifactError::File { file: tidy(path), reason: "is there twice" }.into());
        }
        self.folders.extend(above().map(str::to_owned));
        if self.folders.len() > FILES_MAX {
            return Err(too_many_folders().into());
        }
        self.ids.insert(path.to_owned(), write_file(repo, bytes)?);
        Ok(())
    }
}

fn too_large() -> ArtifactError {
    ArtifactError::TooLarge { what: format!("its files have more than {BYTES_MAX} bytes"), max: BYTES_MAX }
}

fn too_many(files: usize) -> ArtifactError {
    ArtifactError::TooLarge { what: format!("it has {files} files or more"), max: FILES_MAX as u64 }
}

fn too_deep(path: &str) -> ArtifactError {
    let what = format!("`{}` lies in more than {DEPTH_MAX} folders", tidy(path));
    ArtifactError::TooLarge { what, max: DEPTH_MAX as u64 }
}

fn too_many_folders() -> ArtifactError {
    ArtifactError::TooLarge { what: format!("it has more than {FILES_MAX} folders"), max: FILES_MAX as u64 }
}

fn damaged(error: &io::Error) -> ArtifactError {
    ArtifactError::Damaged { reason: tidy(&error.to_string()) }
}

/// What comes out of a layer. The libraries below wrap errors, so that it went too far is asked for here.
struct Limited<R> {
    inner: R,
    left: u64,
    is_over: bool,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => {
                self.left = left;
                Ok(read)
            }
            None => {
                self.is_over = true;
                Err(io::Error::other("more than is allowed"))
            }
        }
    }
}
