//! What folders hold: kustomizations, charts, and files that are neither's.
//!
//! Only names and the few fields that say what a folder is are looked at here. No link is followed, as no render follows
//! one; folders and files whose name begins with a dot are tools' own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bellwether_render::yaml::{self, Content, Node};
use regex::Regex;

use crate::report::Skipped;

const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
const CHART: &str = "Chart.yaml";

/// As deep as a render looks.
const DEPTH_MAX: usize = 64;

/// Fields of a kustomization that name other folders.
const INCLUDES: [&str; 3] = ["resources", "bases", "components"];

/// A folder that an engine renders.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FoundFolder {
    /// That no other includes.
    Kustomization(String),
    Chart(String),
}

impl FoundFolder {
    /// From the root on, with `/`; empty for the root.
    pub fn path(&self) -> &str {
        match self {
            Self::Kustomization(path) | Self::Chart(path) => path,
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    pub folders: Vec<FoundFolder>,
    /// YAML and JSON that belongs to no chart and lies beside no kustomization; one below a kustomization may be its.
    pub files: Vec<String>,
    pub skipped: Vec<Skipped>,
}

/// A file or folder that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`: {source}", .path.display())]
pub struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

/// Looks below each start, a file or a folder, from the root on. What `ignored` matches is passed over.
pub fn find(root: &Path, starts: &[String], ignored: &[Regex]) -> Result<Found, Unreadable> {
    let mut walk = Walk { root, ignored, kustomizations: BTreeMap::new(), found: Found::default() };
    for start in starts {
        let path = root.join(start);
        let kind = fs::metadata(&path).map_err(|source| Unreadable { path: path.clone(), source })?;
        if kind.is_dir() {
            walk.folder(start, 0)?;
        } else {
            walk.named(start)?;
        }
    }
    Ok(walk.finish())
}

/// A kustomization, as far as it says what else it is made of.
#[derive(Debug, Default)]
struct Kustomization {
    includes: Vec<String>,
    is_component: bool,
}

struct Walk<'a> {
    root: &'a Path,
    ignored: &'a [Regex],
    /// By folder.
    kustomizations: BTreeMap<String, Kustomization>,
    found: Found,
}

impl Walk<'_> {
    /// A file that somebody named.
    fn named(&mut self, path: &str) -> Result<(), Unreadable> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if KUSTOMIZATIONS.contains(&name) {
            self.kustomization(folder, name)
        } else if name == CHART {
            self.chart(folder)
        } else {
            self.found.files.push(path.to_owned());
            Ok(())
        }
    }

    fn folder(&mut self, folder: &str, depth: usize) -> Result<(), Unreadable> {
        let entries = self.entries(folder)?;
        if entries.iter().any(|(name, is_folder)| name == CHART && !is_folder) {
            return self.chart(folder);
        }
        let kustomization =
            KUSTOMIZATIONS.into_iter().find(|of| entries.iter().any(|(name, is_folder)| name == of && !is_folder));
        if let Some(name) = kustomization {
            self.kustomization(folder, name)?;
        }
        for (name, is_folder) in entries {
            let path = below(folder, &name);
            if self.ignored.iter().any(|ignored| ignored.is_match(&path)) {
                continue;
            }
            if is_folder && depth < DEPTH_MAX {
                self.folder(&path, depth + 1)?;
            } else if !is_folder && kustomization.is_none() && is_manifest(&name) {
                self.found.files.push(path);
            }
        }
        Ok(())
    }

    /// Sorted; folders are told apart.
    fn entries(&mut self, folder: &str) -> Result<Vec<(String, bool)>, Unreadable> {
        let path = self.root.join(folder);
        let unreadable = |source| Unreadable { path: path.clone(), source };
        let mut entries = Vec::new();
        for entry in fs::read_dir(&path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type().map_err(unreadable)?;
            if name.starts_with('.') {
                continue;
            }
            if kind.is_symlink() {
                let file = below(folder, &name);
                self.found.skipped.push(Skipped { file, object: None, reason: "a symbolic link".to_owned() });
                continue;
            }
            entries.push((name, kind.is_dir()));
        }
        entries.sort();
        Ok(entries)
    }

    fn chart(&mut self, folder: &str) -> Result<(), Unreadable> {
        let root = self.read(&below(folder, CHART))?;
        if root.as_ref().and_then(|root| root.field("type")).and_then(Node::text) == Some("library") {
            let reason = "a library chart, which renders nothing by itself".to_owned();
            self.found.skipped.push(Skipped { file: below(folder, CHART), object: None, reason });
        } else {
            self.found.folders.push(FoundFolder::Chart(folder.to_owned()));
        }
        Ok(())
    }

    fn kustomization(&mut self, folder: &str, name: &str) -> Result<(), Unreadable> {
        let root = self.read(&below(folder, name))?;
        let includes = |field: &str| match root.as_ref().and_then(|root| root.field(field)).map(|node| &node.content) {
            Some(Content::List(items)) => items.iter().filter_map(Node::text).map(ToOwned::to_owned).collect(),
            _ => Vec::new(),
        };
        let includes: Vec<String> = INCLUDES.into_iter().flat_map(includes).collect();
        let includes = includes.iter().filter_map(|path| resolved(folder, path)).collect();
        let kind = root.as_ref().and_then(|root| root.field("kind")).and_then(Node::text);
        let kustomization = Kustomization { includes, is_component: kind == Some("Component") };
        self.kustomizations.insert(folder.to_owned(), kustomization);
        Ok(())
    }

    /// Its first document, if it has one that can be read; the engine says what is wrong with it.
    fn read(&self, path: &str) -> Result<Option<Node>, Unreadable> {
        let path = self.root.join(path);
        let bytes = fs::read(&path).map_err(|source| Unreadable { path: path.clone(), source })?;
        let documents = yaml::read("", &bytes).unwrap_or_default();
        Ok(documents.into_iter().next().map(|document| document.root))
    }

    fn finish(self) -> Found {
        let Self { kustomizations, mut found, .. } = self;
        let included: BTreeSet<&String> = kustomizations.values().flat_map(|of| &of.includes).collect();
        for (folder, kustomization) in &kustomizations {
            if kustomization.is_component {
                let reason = "a component, which is built as part of others".to_owned();
                found.skipped.push(Skipped { file: folder.clone(), object: None, reason });
            } else if !included.contains(folder) {
                found.folders.push(FoundFolder::Kustomization(folder.clone()));
            }
        }
        found.folders.sort();
        found.folders.dedup();
        found.files.sort();
        found.files.dedup();
        found
    }
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end))
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Where a relative path leads, within the root; a URL leads to a folder that is not there, which harms nothing.
fn resolved(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], starts: &[&str]) -> (Vec<FoundFolder>, Vec<String>, Vec<String>) {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let starts: Vec<_> = starts.iter().map(|&start| start.to_owned()).collect();
        let ignored = [Regex::new("^ignored/").expect("a pattern")];
        let found = find(root.path(), &starts, &ignored).expect("it is read");
        let skipped = found.skipped.into_iter().map(|skipped| skipped.file).collect();
        (found.folders, found.files, skipped)
    }

    #[test]
    fn each_folder_is_what_it_holds() {
        let (folders, files, skipped) = found(
            &[
                ("base/kustomization.yaml", "resources: [web.yaml]\n"),
                ("base/web.yaml", ""),
                ("overlays/eu/kustomization.yml", "resources: [../../base]\ncomponents: [../../parts/tls]\n"),
                ("overlays/us/Kustomization", "bases: ['../../base/']\n"),
                ("parts/tls/kustomization.yaml", "kind: Component\n"),
                ("charts/shop/Chart.yaml", "name: shop\n"),
                ("charts/shop/templates/web.yaml", "{{ x }}"),
                ("charts/shop/charts/db/Chart.yaml", "name: db\n"),
                ("charts/lib/Chart.yaml", "type: library\n"),
                ("plain/a.yaml", ""),
                ("plain/b.json", ""),
                ("plain/README.md", ""),
                (".github/workflows/test.yml", ""),
                ("ignored/c.yaml", ""),
            ],
            &[""],
        );

        let kustomization = |path: &str| FoundFolder::Kustomization(path.to_owned());
        assert_eq!(
            folders,
            [kustomization("overlays/eu"), kustomization("overlays/us"), FoundFolder::Chart("charts/shop".to_owned())]
        );
        assert_eq!(files, ["plain/a.yaml", "plain/b.json"]);
        assert_eq!(skipped, ["charts/lib/Chart.yaml", "parts/tls"]);
    }

    #[test]
    fn a_file_that_is_named_stands_for_what_it_belongs_to() {
        let files =
            [("a/kustomization.yaml", "resources: []\n"), ("b/Chart.yaml", ""), ("c/x.yaml", ""), ("c/y.yaml", "")];

        let (folders, files, _) = found(&files, &["a/kustomization.yaml", "b/Chart.yaml", "c/y.yaml"]);

        assert_eq!(folders.iter().map(FoundFolder::path).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(files, ["c/y.yaml"]);
    }
}
