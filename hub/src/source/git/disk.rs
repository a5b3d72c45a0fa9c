//! A mirror's folder: opened, checked after a crash, made anew, measured, removed; and the list of tips in it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use gix::ObjectId;

use super::error::{Cause, FetchError};
use super::scan::READ_BYTES_MAX;
use super::{HASH, mirror};

/// Commits offered as "have": enough for the branches of a repo, few enough for one small request.
pub(super) const TIPS_MAX: usize = 16;

/// A thousand lines, read once at start.
const TIPS_BYTES_MAX: u64 = 41_000;

fn options() -> gix::open::Options {
    // The store counts its packs when it is opened, and takes no more than there is then room for; one fetch may bring
    // several.
    let slots = gix::odb::store::init::Slots::AsNeededByDiskState { multiplier: 2.0, minimum: 256 };
    gix::open::Options::isolated()
        .open_path_as_is(true)
        .strict_config(true)
        .config_overrides([format!("gitoxide.objects.allocLimit={READ_BYTES_MAX}")])
        .object_store_slots(slots)
}

pub(super) fn open(folder: &Path) -> Result<gix::ThreadSafeRepository, Cause> {
    sweep(folder)?;
    check_packs(&folder.join("objects/pack"))?;
    let repo = gix::ThreadSafeRepository::open_opts(folder, options())?;
    if !repo.to_thread_local().is_bare() {
        return Err("it is not bare".into());
    }
    Ok(repo)
}

/// Where a mirror is made anew, and where the one before it is until it is removed.
pub(super) fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut path = folder.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A mirror, and what a renewal that was cut off left beside it.
pub(crate) fn remove_mirror(folder: &Path) -> io::Result<()> {
    remove(folder)?;
    remove(&beside(folder, "new"))?;
    remove(&beside(folder, "history"))?;
    remove(&beside(folder, "old"))
}

/// What a mirror's objects take on the disk.
pub(crate) fn mirror_bytes(folder: &Path) -> io::Result<u64> {
    measure(&folder.join("objects")).map(|size| size.bytes)
}

#[derive(Debug, Default)]
pub(super) struct Size {
    pub(super) loose: usize,
    pub(super) packs: usize,
    pub(super) bytes: u64,
}

pub(super) fn measure(objects: &Path) -> io::Result<Size> {
    let mut size = Size::default();
    for folder in fs::read_dir(objects)? {
        let folder = folder?;
        let is_of_packs = folder.file_name() == "pack";
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            size.bytes += file.metadata()?.len();
            if !is_of_packs {
                size.loose += 1;
            } else if file.path().extension().is_some_and(|end| end == "pack") {
                size.packs += 1;
            }
        }
    }
    Ok(size)
}

pub(super) fn create(folder: &Path, reason: &str) -> Result<gix::ThreadSafeRepository, FetchError> {
    if folder.exists() {
        tracing::warn!(folder = %folder.display(), reason, "a mirror is made anew");
    }
    let removed = if folder.is_dir() { fs::remove_dir_all(folder) } else { fs::remove_file(folder) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(mirror(error)),
        _ => make_private(folder).map_err(mirror)?,
    }
    let bare = gix::create::Kind::Bare;
    gix::ThreadSafeRepository::init_opts(folder, bare, gix::create::Options::default(), options()).map_err(mirror)
}

/// What a private repo holds is for nobody else on this machine.
fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What a killed hub left half-written.
fn sweep(folder: &Path) -> io::Result<()> {
    for folder in [folder.join("objects"), folder.join("objects/pack")] {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".tmp") {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// After a crash a pack may be shorter than its index says. Both end with the sum over the pack; damage in the middle of a pack
/// is found when the object there is read.
pub(super) fn check_packs(folder: &Path) -> Result<(), Cause> {
    let sum_bytes = HASH.len_in_bytes();
    for entry in fs::read_dir(folder)? {
        let index = entry?.path();
        if index.extension().is_some_and(|extension| extension == "idx") {
            let pack_end = read_end(&index.with_extension("pack"), sum_bytes)?;
            let index_end = read_end(&index, 2 * sum_bytes)?;
            if pack_end != index_end[..sum_bytes] {
                return Err(format!("{} does not belong to its pack", index.display()).into());
            }
            if !has_its_sum(&index)? {
                return Err(format!("{} is damaged", index.display()).into());
            }
        }
    }
    Ok(())
}

/// An index ends with the sum over itself. What a damaged one does not tell any more would be fetched in vain: the pack that
/// brings it has the name of the one that is there, whose index stays.
fn has_its_sum(index: &Path) -> io::Result<bool> {
    use std::io::Read;

    let mut file = fs::File::open(index)?;
    let bytes = file.metadata()?.len().saturating_sub(HASH.len_in_bytes() as u64);
    let (mut before, mut hasher, mut part) = ((&mut file).take(bytes), gix::hash::hasher(HASH), vec![0; 64 * 1024]);
    loop {
        match before.read(&mut part)? {
            0 => break,
            read => hasher.update(&part[..read]),
        }
    }
    let mut sum = Vec::new();
    file.read_to_end(&mut sum)?;
    Ok(hasher.try_finalize().map_err(io::Error::other)?.as_bytes() == sum)
}

fn read_end(file: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};

    let mut file = fs::File::open(file)?;
    let mut end = vec![0; bytes];
    file.seek(SeekFrom::End(-(i64::try_from(bytes).map_err(io::Error::other)?)))?;
    file.read_exact(&mut end)?;
    Ok(end)
}

/// Without them the first fetch after a restart would bring everything again. They are a hint, so anything unreadable
/// is left out.
pub(super) fn read_tips(folder: &Path, repo: &gix::Repository) -> Vec<ObjectId> {
    let text = fs::read(tips_file(folder)).unwrap_or_default();
    let ids = text.split(|byte| *byte == b'\n').filter_map(|line| ObjectId::from_hex(line).ok());
    let mut tips: Vec<ObjectId> = Vec::new();
    for id in ids.rev() {
        if tips.len() < TIPS_MAX && !tips.contains(&id) && repo.has_object(id) {
            tips.insert(0, id);
        }
    }
    tips
}

/// One line more, and from time to time a new file: replacing the file with every push would wait for the disk.
pub(super) fn write_tips(folder: &Path, tips: &[ObjectId], new: &[ObjectId]) -> io::Result<()> {
    let list = |tips: &[ObjectId]| tips.iter().fold(String::new(), |text, tip| text + &tip.to_string() + "\n");
    let mut file = fs::File::options().create(true).append(true).open(tips_file(folder))?;
    if file.metadata()?.len() < TIPS_BYTES_MAX {
        file.write_all(list(new).as_bytes())
    } else {
        fs::write(tips_file(folder), list(tips))
    }
}

fn tips_file(folder: &Path) -> PathBuf {
    folder.join("bellwether-tips")
}
