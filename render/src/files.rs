//! What a render may ask of a commit, and the record of what it asked.
//!
//! Whoever has the files implements [`Files`]; nothing here reads. Links are no files: an implementation refuses them with
//! an error of its own. Everything that was answered is an input, absences included, and is asked for once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellwether_core::render::Source;
use bellwether_core::source::is_valid_path;

use crate::engine::made::below;
use crate::engine::plain::{SOURCES_BYTES_MAX, mac_of};
use crate::error::{Failure, Place, RenderError};
use crate::exports::{self, Exports};
use crate::ignore::{self, Rules};
use crate::tree::{Aspect, Inputs, SourceFile, is_lfs_pointer, is_manifest};
use crate::yaml::{self, Node};

/// Of one target: ten thousand files, and as often a look where none is.
const LOOK_UPS_MAX: usize = 20_000;

/// Of one file: as text it has to fit a frame to the engine. The largest packed charts have a few MiB.
const READ_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The files of one commit, and of those of other repos that a render asks for. Paths are relative to the repo's root, with
/// `/`; the root itself is empty.
pub trait Files: Send + Sync {
    /// Why a path cannot or must not be read.
    type Error: std::error::Error + Send + Sync + 'static;

    /// What is at a path. Nothing that has more bytes than are asked for is read.
    fn read(&self, path: &str, bytes_max: usize) -> Result<Found, Self::Error>;

    /// What a folder holds.
    fn list(&self, path: &str) -> Result<Listing, Self::Error>;

    /// Every file below a folder that is named as a manifest or as a kustomization, and all that is not left out by its
    /// path, which is from the repo's root on.
    fn manifests(&self, folder: &str, leave_out: &LeaveOut<'_>) -> Result<Vec<SourceFile>, Self::Error>;

    /// From now on the files of another repo are read below its mount; or why they cannot be.
    fn find_source(&self, source: &Source) -> Result<(), Self::Error>;
}

/// Whether what is at a path, and is a folder or is not, is to be left out.
pub type LeaveOut<'a> = dyn Fn(&str, bool) -> bool + 'a;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    File(Vec<u8>),
    /// More bytes than were asked for.
    TooLarge,
    Folder,
    Absent,
}

/// What a folder holds, if it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    Folder(Vec<Listed>),
    NotAFolder,
    Absent,
}

/// One line of a listing. A link is listed as a file, so that whoever reads it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub is_folder: bool,
}

/// The same as [`Found`], kept.
#[derive(Clone)]
pub(crate) enum Read {
    File(Arc<[u8]>),
    Folder,
    Absent,
}

/// Files that remember what was asked of them.
pub(crate) struct Recorder<F> {
    files: F,
    asked: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    inputs: Inputs,
    read: BTreeMap<String, Read>,
    listed: BTreeMap<String, Arc<Listing>>,
    exports: Exports,
    bytes: usize,
    /// Since the last render began.
    look_ups: usize,
}

impl Recorded {
    /// A loop that asks for ever ends here, whatever it asks for.
    fn begin_look_up(&mut self) -> Result<(), RenderError> {
        self.look_ups += 1;
        if self.look_ups > LOOK_UPS_MAX { Err(RenderError::TooManyLookUps { max: LOOK_UPS_MAX }) } else { Ok(()) }
    }
}

impl Recorded {
    /// What its repo says of a file is an input like the file.
    fn check_exported<F: Files>(&mut self, files: &F, path: &str) -> Result<(), Failure<F::Error>> {
        let Self { exports, inputs, bytes, .. } = self;
        exports.check(path, &mut |file| {
            inputs.add(file, Aspect::Content);
            let found = files.read(file, exports::BYTES_MAX).map_err(Failure::Files)?;
            if let Found::File(said) = &found {
                *bytes += said.len();
            }
            if *bytes > SOURCES_BYTES_MAX {
                return Err(RenderError::ReadsTooLarge { file: file.to_owned(), max: SOURCES_BYTES_MAX }.into());
            }
            Ok(found)
        })
    }
}

impl<F: Files> Recorder<F> {
    pub(crate) fn new(files: F) -> Self {
        Self { files, asked: Mutex::default() }
    }

    pub(crate) fn inputs(&self) -> Inputs {
        self.lock().inputs.clone()
    }

    pub(crate) fn read(&self, path: &str) -> Result<Read, Failure<F::Error>> {
        let asked = &mut *self.lock();
        asked.begin_look_up()?;
        if let Some(known) = asked.read.get(path) {
            return Ok(known.clone());
        }
        // Git keeps no such path.
        if !is_valid_path(path) {
            return Ok(Read::Absent);
        }
        // Also when it fails: what is in its place next time is another input.
        asked.inputs.add(path, Aspect::Content);
        let left = SOURCES_BYTES_MAX.saturating_sub(asked.bytes + path.len()).min(READ_BYTES_MAX);
        let found = self.files.read(path, left).map_err(Failure::Files)?;
        if matches!(found, Found::File(_) | Found::TooLarge) {
            asked.check_exported(&self.files, path)?;
        }
        let read = match found {
            Found::File(bytes) if is_lfs_pointer(&bytes) => {
                return Err(RenderError::LfsPointer { file: path.to_owned() }.into());
            }
            Found::File(bytes) => {
                asked.bytes += bytes.len() + path.len();
                Read::File(bytes.into())
            }
            Found::TooLarge => {
                let max = SOURCES_BYTES_MAX;
                return Err(RenderError::ReadsTooLarge { file: path.to_owned(), max }.into());
            }
            Found::Folder => {
                asked.inputs.narrow_to_kind(path);
                Read::Folder
            }
            Found::Absent => Read::Absent,
        };
        asked.read.insert(path.to_owned(), read.clone());
        Ok(read)
    }

    pub(crate) fn list(&self, path: &str) -> Result<Arc<Listing>, Failure<F::Error>> {
        let asked = &mut *self.lock();
        asked.begin_look_up()?;
        match asked.listed.entry(path.to_owned()) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(_) if !is_valid_path(path) => Ok(Arc::new(Listing::Absent)),
            Entry::Vacant(place) => {
                asked.inputs.add(path, Aspect::Names);
                let listing = self.files.list(path).map_err(Failure::Files)?;
                if let Listing::Folder(entries) = &listing {
                    asked.bytes += entries.iter().map(|entry| entry.name.len()).sum::<usize>();
                }
                if asked.bytes > SOURCES_BYTES_MAX {
                    let max = SOURCES_BYTES_MAX;
                    return Err(RenderError::ReadsTooLarge { file: path.to_owned(), max }.into());
                }
                Ok(place.insert(Arc::new(listing)).clone())
            }
        }
    }

    pub(crate) fn manifests(&self, folder: &str) -> Result<Vec<SourceFile>, Failure<F::Error>> {
        let rules = self.rules(folder)?;
        self.lock().inputs.add_folder(folder);
        let leave_out = |path: &str, is_folder: bool| rules.leaves_out(folder, path, is_folder);
        let files = self.files.manifests(folder, &leave_out).map_err(Failure::Files)?;
        if !rules.is_within_bounds() {
            return Err(RenderError::IgnoreFile { file: ignore::FILE.to_owned() }.into());
        }
        let asked = &mut *self.lock();
        files.iter().try_for_each(|file| asked.check_exported(&self.files, &file.path))?;
        // With what is said in folders below.
        asked.inputs.add_folder(folder);
        Ok(files)
    }

    /// Asked for at `at`. Says where its files are.
    pub(crate) fn find_source(&self, source: &Source, at: Place) -> Result<String, Failure<F::Error>> {
        self.lock().begin_look_up()?;
        self.files.find_source(source).map_err(|error| Failure::Source { at, error })?;
        self.lock().exports.add_mount(source.mount());
        Ok(source.mount())
    }

    /// Of the repo's root, and of each folder down to this one.
    fn rules(&self, folder: &str) -> Result<Rules, Failure<F::Error>> {
        let mut rules = Rules::new();
        let folders = folder.match_indices('/').map(|(at, _)| &folder[..at]);
        let last = Some(folder).filter(|folder| !folder.is_empty());
        for above in std::iter::once("").chain(folders).chain(last) {
            let file = below(above, ignore::FILE);
            if let Read::File(bytes) = self.read(&file)? {
                rules.add(above, &file, &bytes)?;
            }
        }
        Ok(rules)
    }

    /// Whether that is a file, and was read.
    pub(crate) fn has_read(&self, path: &str) -> bool {
        matches!(self.lock().read.get(path), Some(Read::File(_)))
    }

    /// The first line of what was read, in the order of the paths.
    pub(crate) fn find_line(&self, is_meant: impl Fn(&str) -> bool) -> Option<(Arc<str>, u32)> {
        self.lock().read.iter().find_map(|(path, read)| {
            let Read::File(bytes) = read else { return None };
            let line = std::str::from_utf8(bytes).ok()?.lines().position(&is_meant)?;
            Some((Arc::from(path.as_str()), u32::try_from(line).ok()?.saturating_add(1)))
        })
    }

    /// What SOPS sealed, of all that was read, by its MAC; and how many documents are in the file of each. Each file is read
    /// once for that, however many documents there are that may be of it.
    pub(crate) fn list_sealed(&self) -> BTreeMap<String, (Node, usize)> {
        let mut sealed = BTreeMap::new();
        for (path, read) in &self.lock().read {
            let Read::File(bytes) = read else { continue };
            if !is_manifest(path) || !std::str::from_utf8(bytes).is_ok_and(|text| text.contains("sops")) {
                continue;
            }
            let documents = yaml::read(path, bytes).unwrap_or_default();
            let count = documents.len();
            for root in documents.into_iter().map(|document| document.root) {
                if let Some(mac) = mac_of(&root).map(str::to_owned) {
                    sealed.entry(mac).or_insert((root, count));
                }
            }
        }
        sealed
    }

    /// Each render of a chart may ask the whole again.
    pub(crate) fn begin_render(&self) {
        self.lock().look_ups = 0;
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand files of one MiB, and a count of what was asked.
    #[derive(Default)]
    struct Large {
        asked: Mutex<Vec<String>>,
    }

    impl Files for Large {
        type Error = std::io::Error;

        fn read(&self, path: &str, bytes_max: usize) -> Result<Found, Self::Error> {
            self.asked.lock().expect("it is whole").push(path.to_owned());
            match path {
                "folder" => Ok(Found::Folder),
                "lfs.yaml" | "logo.png" => Ok(Found::File(b"version https://git-lfs.github.com/spec/v1\noid".to_vec())),
                "link" => Err(std::io::Error::other("a link")),
                _ if path.starts_with("no/") => Ok(Found::Absent),
                _ if path.ends_with(ignore::FILE) || path.ends_with(".gitattributes") => Ok(Found::Absent),
                _ if bytes_max < 1 << 20 => Ok(Found::TooLarge),
                _ => Ok(Found::File(vec![b'x'; 1 << 20])),
            }
        }

        fn list(&self, _: &str) -> Result<Listing, Self::Error> {
            Ok(Listing::Folder(Vec::new()))
        }

        fn manifests(&self, _: &str, _: &LeaveOut<'_>) -> Result<Vec<SourceFile>, Self::Error> {
            Ok(Vec::new())
        }

        fn find_source(&self, _: &Source) -> Result<(), Self::Error> {
            Ok(())
        }
    }

    fn code<T>(result: Result<T, Failure<std::io::Error>>) -> &'static str {
        match result {
            Err(Failure::Render(error)) => error.code(),
            Err(Failure::Files(_) | Failure::Source { .. }) => "files",
            Ok(_) => "ok",
        }
    }

    #[test]
    fn each_path_is_asked_for_once_and_each_answer_is_an_input() {
        let files = Recorder::new(Large::default());

        for _ in 0..2 {
            for path in ["a", "no/b", "folder"] {
                assert!(files.read(path).is_ok());
            }
            assert!(files.list("listed").is_ok());
            // No commit has such a path.
            assert!(matches!(files.read("../a"), Ok(Read::Absent)));
        }

        assert_eq!(*files.files.asked.lock().expect("it is whole"), ["a", ".gitattributes", "no/b", "folder"]);
        let inputs = files.inputs().paths().into_iter().collect::<Vec<_>>();
        assert_eq!(inputs, [".gitattributes", "a", "folder/.", "listed/", "no/b"]);
        files.manifests("folder").expect("they are read");
        assert!(files.inputs().paths().contains("folder"), "all that is below it");
    }

    #[test]
    fn bytes_and_look_ups_have_a_bound() {
        let files = Recorder::new(Large::default());
        let read = (0..100).map(|number| code(files.read(&format!("{number}")))).collect::<Vec<_>>();
        assert!(read.starts_with(&["ok"; 63]) && read.ends_with(&["sources_too_large"; 36]), "{read:?}");

        let files = Recorder::new(Large::default());
        let last = (0..=LOOK_UPS_MAX).map(|number| code(files.read(&format!("no/{}", number % 10)))).last();
        assert_eq!(last, Some("too_many_look_ups"));
        files.begin_render();
        assert_eq!(code(files.read("no/1")), "ok", "another render of the chart may look again");
    }

    #[test]
    fn what_cannot_be_read_is_no_answer() {
        let files = Recorder::new(Large::default());

        assert_eq!(code(files.read("link")), "files");
        assert_eq!(code(files.read("lfs.yaml")), "file_lfs_pointer");
        assert_eq!(code(files.read("logo.png")), "file_lfs_pointer", "what is no manifest is rendered, too");
    }
}
