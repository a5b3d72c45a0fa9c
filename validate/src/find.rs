//! What folders hold: kustomizations, charts, and files that are neither's.
//!
//! Only names and the few fields that say what a folder is are looked at here. No link is followed, as no render follows
//! one. What is left out is told, but for folders and files whose name begins with a dot, which are tools' own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bellwether_render::ignore::{self, Rules};
use bellwether_render::yaml::{self, Content, Node};
use bellwether_render::{CHART, KUSTOMIZATIONS, is_manifest, is_part_of_chart};
use regex::Regex;

use crate::report::Skipped;

/// Git's own, which no commit has.
const GIT: &str = ".git";

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
    /// Kustomizations that others include: they are part of what is rendered of those, if that comes to them.
    pub included: Vec<String>,
    /// Components, which are only built as part of others.
    pub components: Vec<String>,
    /// YAML and JSON that is no part of a chart. One that lies beside or below a kustomization may be part of that.
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

/// Looks below each start, a file or a folder, from the root on. What `ignored` matches is passed over, and below a start
/// what a `.bellwetherignore` leaves out.
pub fn find(root: &Path, starts: &[String], ignored: &[Regex]) -> Result<Found, Unreadable> {
    let mut walk = Walk { root, ignored, kustomizations: BTreeMap::new(), left_out: 0, found: Found::default() };
    for start in starts {
        let path = root.join(start);
        let kind = fs::metadata(&path).map_err(|source| Unreadable { path: path.clone(), source })?;
        if kind.is_dir() {
            let rules = walk.rules_above(start)?;
            walk.folder(start, rules, 0)?;
        } else {
            walk.named(start)?;
        }
    }
    Ok(walk.finish())
}

/// All YAML and JSON below a folder, whatever it belongs to; links are not followed.
pub fn find_manifests(root: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    let (mut files, mut folders) = (Vec::new(), vec![(root.to_owned(), 0)]);
    while let Some((folder, depth)) = folders.pop() {
        for (name, lies) in entries(&folder)? {
            match lies {
                Lies::Folder if depth < DEPTH_MAX && name != GIT => folders.push((folder.join(name), depth + 1)),
                Lies::File if is_manifest(&name) => files.push(folder.join(name)),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A file's bytes. What is no file is not waited for, and of one that is too large for YAML only so much is read that
/// whoever reads it says so.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    read_within(File::open(path)?)
}

/// The same of what has no end that anybody knows, such as standard input.
pub fn read_within(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(yaml::FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is under a name in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lies {
    File,
    Folder,
    Link,
    /// Such as a pipe, whose reader could wait for ever.
    Other,
}

/// Sorted by name. A name that is no UTF-8 is nobody's manifest.
fn entries(folder: &Path) -> Result<Vec<(String, Lies)>, Unreadable> {
    let unreadable = |source| Unreadable { path: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let kind = entry.file_type().map_err(unreadable)?;
        let lies = match kind {
            _ if kind.is_symlink() => Lies::Link,
            _ if kind.is_dir() => Lies::Folder,
            _ if kind.is_file() => Lies::File,
            _ => Lies::Other,
        };
        entries.push((name, lies));
    }
    entries.sort();
    Ok(entries)
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
    /// Files and folders, by somebody's `.bellwetherignore`.
    left_out: usize,
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

    fn folder(&mut self, folder: &str, rules: Rules, depth: usize) -> Result<(), Unreadable> {
        let rules = self.with_those_of(folder, rules)?;
        let entries = entries(&self.root.join(folder))?;
        let has = |file: &str| entries.iter().any(|(name, lies)| name == file && *lies == Lies::File);
        let is_chart = has(CHART);
        if is_chart {
            self.chart(folder)?;
        } else if let Some(name) = KUSTOMIZATIONS.into_iter().find(|name| has(name)) {
            self.kustomization(folder, name)?;
        }
        for (name, lies) in entries {
            let path = below(folder, &name);
            if name == GIT || self.is_left_out(folder, &path, lies, &rules) {
                continue;
            }
            let within = if lies == Lies::Folder { format!("{name}/") } else { name.clone() };
            let is_named_so = is_manifest(&name) && !KUSTOMIZATIONS.contains(&name.as_str());
            match lies {
                Lies::Link => self.skip(path, "a symbolic link"),
                _ if is_chart && is_part_of_chart(&within) => {}
                Lies::Folder if depth == DEPTH_MAX => self.skip(path, "it lies deeper than a render looks"),
                Lies::Folder => self.folder(&path, rules.clone(), depth + 1)?,
                Lies::File if is_named_so => self.found.files.push(path),
                Lies::Other if is_named_so => self.skip(path, "neither a file nor a folder"),
                Lies::File | Lies::Other => {}
            }
        }
        Ok(())
    }

    fn is_left_out(&mut self, folder: &str, path: &str, lies: Lies, rules: &Rules) -> bool {
        if self.ignored.iter().any(|ignored| ignored.is_match(path)) {
            return true;
        }
        let is_left_out = rules.leaves_out(folder, path, lies == Lies::Folder);
        let is_hidden = path.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
        // What is hidden is left out everywhere, which nobody needs to be told.
        self.left_out += usize::from(is_left_out && !is_hidden);
        is_left_out
    }

    /// Of the folders around one, the outermost first.
    fn rules_above(&self, folder: &str) -> Result<Rules, Unreadable> {
        let mut rules = Rules::new();
        if folder.is_empty() {
            return Ok(rules);
        }
        let folders = folder.match_indices('/').map(|(at, _)| &folder[..at]);
        for above in std::iter::once("").chain(folders) {
            rules = self.with_those_of(above, rules)?;
        }
        Ok(rules)
    }

    fn with_those_of(&self, folder: &str, mut rules: Rules) -> Result<Rules, Unreadable> {
        let file = below(folder, ignore::FILE);
        let path = self.root.join(&file);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            let bytes = read_file(&path).map_err(|source| Unreadable { path: path.clone(), source })?;
            let refused = |error| Unreadable { path, source: io::Error::new(io::ErrorKind::InvalidData, error) };
            rules.add(folder, &file, &bytes).map_err(refused)?;
        }
        Ok(rules)
    }

    fn skip(&mut self, file: String, reason: &str) {
        self.found.skipped.push(Skipped { file, object: None, reason: reason.to_owned() });
    }

    fn chart(&mut self, folder: &str) -> Result<(), Unreadable> {
        let root = self.read(&below(folder, CHART))?;
        if root.as_ref().and_then(|root| root.field("type")).and_then(Node::text) == Some("library") {
            self.skip(below(folder, CHART), "a library chart, which renders nothing by itself");
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
        let bytes = read_file(&path).map_err(|source| Unreadable { path: path.clone(), source })?;
        let documents = yaml::read("", &bytes).unwrap_or_default();
        Ok(documents.into_iter().next().map(|document| document.root))
    }

    fn finish(self) -> Found {
        let Self { kustomizations, left_out, mut found, .. } = self;
        let included: BTreeSet<&String> = kustomizations.values().flat_map(|of| &of.includes).collect();
        for (folder, kustomization) in &kustomizations {
            if kustomization.is_component {
                found.components.push(folder.clone());
            } else if included.contains(folder) {
                found.included.push(folder.clone());
            } else {
                found.folders.push(FoundFolder::Kustomization(folder.clone()));
            }
        }
        if left_out > 0 {
            let reason = format!("{left_out} left out by {}", ignore::FILE);
            found.skipped.push(Skipped { file: String::new(), object: None, reason });
        }
        found.folders.sort();
        found.folders.dedup();
        found.files.sort();
        found.files.dedup();
        found
    }
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

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        root
    }

    fn found(files: &[(&str, &str)], starts: &[&str]) -> (Vec<FoundFolder>, Vec<String>, Vec<String>) {
        let root = written(files);
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
                ("charts/shop/values-eu.yaml", ""),
                ("charts/shop/docs/a.yaml", ""),
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
        // Whether an overlay reads those of a base, its render says.
        assert_eq!(files, ["base/web.yaml", "charts/shop/docs/a.yaml", "plain/a.yaml", "plain/b.json"]);
        assert_eq!(skipped, ["charts/lib/Chart.yaml"]);
    }

    #[test]
    fn what_is_only_part_of_others_is_told_apart() {
        let root = written(&[
            ("base/kustomization.yaml", "resources: [web.yaml]\n"),
            ("eu/kustomization.yaml", "resources: [../base]\n"),
            ("tls/kustomization.yaml", "kind: Component\n"),
        ]);

        let found = find(root.path(), &[String::new()], &[]).expect("it is read");

        assert_eq!((found.included, found.components), (vec!["base".to_owned()], vec!["tls".to_owned()]));
    }

    #[test]
    fn what_a_bellwetherignore_leaves_out_is_counted() {
        let files = [
            (".bellwetherignore", "/apps/tpl.yaml\n/apps/docs/\n"),
            ("apps/.bellwetherignore", "!kept.yaml\n*.tmpl.yaml\n"),
            ("apps/tpl.yaml", "{{"),
            ("apps/a.tmpl.yaml", "{{"),
            ("apps/docs/a.yaml", ""),
            ("apps/web.yaml", ""),
        ];
        let root = written(&files);
        for (starts, expected) in [("", "apps/web.yaml"), ("apps", "apps/web.yaml"), ("apps/tpl.yaml", "apps/tpl.yaml")]
        {
            let found = find(root.path(), &[starts.to_owned()], &[]).expect("it is read");

            assert_eq!(found.files, [expected], "{starts}");
            let told: Vec<_> = found.skipped.iter().map(|skipped| skipped.reason.as_str()).collect();
            assert_eq!(told.is_empty(), starts == "apps/tpl.yaml", "what is named is read: {told:?}");
            assert!(told.iter().all(|reason| *reason == "3 left out by .bellwetherignore"), "{told:?}");
        }
    }

    #[test]
    fn a_file_without_an_end_is_not_read_to_its_end() {
        let root = written(&[("a.yaml", "")]);
        let file = root.path().join("a.yaml");
        File::create(&file).and_then(|file| file.set_len(1 << 40)).expect("it is sparse");

        assert_eq!(read_file(&file).expect("it is read").len(), yaml::FILE_BYTES_MAX + 1);
        assert!(read_file(Path::new("/dev/zero")).is_err(), "it is no file");
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
