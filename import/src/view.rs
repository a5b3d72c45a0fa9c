//! The files of a checkout, with some that are not there yet, without some that somebody leaves out, and with those of other
//! repositories below their mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::render::{Source, below_mount};
use bellwether_render::{Files, Found, LeaveOut, Listed, Listing, SourceFile};

use crate::paths::is_within;

/// What is changed about them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// In place of what may be there.
    pub(crate) added: BTreeMap<String, Vec<u8>>,
    /// Of the manifests of a folder only these.
    pub(crate) only: Option<BTreeSet<String>>,
}

pub(crate) struct View<F> {
    pub(crate) files: Arc<F>,
    pub(crate) changes: Changes,
    /// By their mounts.
    pub(crate) mounted: BTreeMap<String, Arc<F>>,
}

impl<F> View<F> {
    /// What another repository has at a path.
    fn find_mounted<'p>(&self, path: &'p str) -> Option<(&F, &'p str)> {
        self.mounted.iter().find_map(|(mount, files)| Some((&**files, below_mount(mount, path)?)))
    }

    /// Whose files are asked, and for what.
    fn find<'p>(&self, path: &'p str) -> (&F, &'p str) {
        self.find_mounted(path).unwrap_or((&*self.files, path))
    }

    /// Below a folder of the same repository.
    fn added<'v>(&'v self, folder: &'v str) -> impl Iterator<Item = &'v String> {
        let is_mounted = self.find_mounted(folder).is_some();
        let added = self.changes.added.keys().filter(move |path| *path != folder && is_within(path, folder));
        added.filter(move |path| self.find_mounted(path).is_some() == is_mounted)
    }
}

impl<F: Files> Files for View<F> {
    type Error = F::Error;

    fn read(&self, path: &str, bytes_max: usize) -> Result<Found, F::Error> {
        if let Some(bytes) = self.changes.added.get(path) {
            return Ok(if bytes.len() > bytes_max { Found::TooLarge } else { Found::File(bytes.clone()) });
        }
        let (files, below) = self.find(path);
        match files.read(below, bytes_max)? {
            Found::Absent if self.added(path).next().is_some() => Ok(Found::Folder),
            found => Ok(found),
        }
    }

    fn list(&self, path: &str) -> Result<Listing, F::Error> {
        let (files, below) = self.find(path);
        let listing = files.list(below)?;
        if self.added(path).next().is_none() {
            return Ok(listing);
        }
        let mut entries: BTreeMap<String, bool> = match listing {
            Listing::Folder(entries) => entries.into_iter().map(|entry| (entry.name, entry.is_folder)).collect(),
            _ => BTreeMap::new(),
        };
        for added in self.added(path) {
            let rest = added[path.len()..].trim_start_matches('/');
            let (name, is_folder) = rest.split_once('/').map_or((rest, false), |(name, _)| (name, true));
            entries.insert(name.to_owned(), is_folder);
        }
        let listed = |(name, is_folder)| Listed { name, is_folder };
        Ok(Listing::Folder(entries.into_iter().map(listed).collect()))
    }

    fn manifests(&self, folder: &str, leave_out: &LeaveOut<'_>) -> Result<Vec<SourceFile>, F::Error> {
        let files = self.files.manifests(folder, leave_out)?;
        let is_taken = |file: &SourceFile| self.changes.only.as_ref().is_none_or(|only| only.contains(&file.path));
        Ok(files.into_iter().filter(is_taken).collect())
    }

    fn find_source(&self, source: &Source) -> Result<(), F::Error> {
        if self.mounted.contains_key(&source.mount()) { Ok(()) } else { self.files.find_source(source) }
    }
}
