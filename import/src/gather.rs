//! The objects of a folder, of a file or of what `kubectl get -o yaml` printed.
//!
//! Files that are no YAML are told, not refused: a repository has templates of charts beside what is looked for.

use bellwether_render::yaml::{self, Node};
use bellwether_render::{CHART, Files, Found, Listing, is_manifest, is_part_of_chart, objects_of};
use serde_json::Value;

use crate::audit::audit_outside_spec;
use crate::paths::join;
use crate::report::{Entry, Unread};

/// As many as a hub reads of one target.
const FILES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 64;

/// Standard input, as it is called.
pub(crate) const STDIN: &str = "-";

/// An object of Kubernetes as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub file: String,
    pub line: u32,
    pub value: Value,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    pub objects: Vec<Object>,
    pub unread: Vec<Unread>,
    /// Folders of charts, whose templates are no objects yet.
    pub charts: Vec<String>,
}

impl Object {
    pub(crate) fn text(&self, path: &[&str]) -> Option<&str> {
        find(&self.value, path)?.as_str().filter(|text| !text.is_empty())
    }

    pub(crate) fn group(&self) -> &str {
        let version = self.text(&["apiVersion"]).unwrap_or_default();
        version.split_once('/').map_or("", |(group, _)| group)
    }

    pub(crate) fn kind(&self) -> &str {
        self.text(&["kind"]).unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.text(&["metadata", "name"]).unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.text(&["metadata", "namespace"])
    }

    pub(crate) fn spec(&self) -> &Value {
        &self.value["spec"]
    }

    /// What is said of it.
    pub(crate) fn entry(&self) -> Entry {
        Entry {
            kind: self.kind().to_owned(),
            namespace: self.namespace().map(str::to_owned),
            name: self.name().to_owned(),
            file: self.file.clone(),
            line: self.line,
            became: Vec::new(),
            remarks: audit_outside_spec(&self.value),
        }
    }
}

/// What is at a path of a document.
pub(crate) fn find<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// All that lies below some folders, or is in some files, in order of their paths.
pub fn gather<F: Files>(files: &F, starts: &[String]) -> Result<Gathered, F::Error> {
    let mut gathered = Gathered::default();
    let mut left = FILES_MAX;
    for start in starts {
        match files.list(start)? {
            Listing::Folder(_) => walk(files, start, 0, &mut left, &mut gathered),
            Listing::NotAFolder => add_file(files, start, &mut gathered),
            Listing::Absent => {
                gathered.unread.push(Unread { file: start.clone(), why: "there is no such file".to_owned() });
            }
        }
    }
    gathered.objects.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    gathered.objects.dedup_by(|a, b| a == b);
    Ok(gathered)
}

/// Of a stream.
pub fn gather_text(bytes: &[u8]) -> Gathered {
    let mut gathered = Gathered::default();
    add(STDIN, bytes, &mut gathered);
    gathered
}

fn walk<F: Files>(files: &F, folder: &str, depth: usize, left: &mut usize, gathered: &mut Gathered) {
    let mut unread = |why: String| gathered.unread.push(Unread { file: folder.to_owned(), why });
    let entries = match files.list(folder) {
        Ok(Listing::Folder(entries)) if depth <= DEPTH_MAX => entries,
        Ok(_) => return unread("it lies too deep".to_owned()),
        Err(error) => return unread(error.to_string()),
    };
    let is_chart = entries.iter().any(|entry| entry.name == CHART);
    if is_chart {
        gathered.charts.push(folder.to_owned());
    }
    for entry in entries.into_iter().filter(|entry| !entry.name.starts_with('.')) {
        let path = join(folder, &entry.name);
        let within = if entry.is_folder { format!("{}/", entry.name) } else { entry.name };
        if is_chart && is_part_of_chart(&within) {
            // It is no object yet.
        } else if entry.is_folder {
            walk(files, &path, depth + 1, left, gathered);
        } else if is_manifest(&path) && *left == 0 {
            gathered.unread.push(Unread { file: path, why: format!("it is one of more than {FILES_MAX} files") });
        } else if is_manifest(&path) {
            *left -= 1;
            add_file(files, &path, gathered);
        }
    }
}

fn add_file<F: Files>(files: &F, path: &str, gathered: &mut Gathered) {
    let mut unread = |why: String| gathered.unread.push(Unread { file: path.to_owned(), why });
    match files.read(path, yaml::FILE_BYTES_MAX) {
        Ok(Found::File(bytes)) => add(path, &bytes, gathered),
        Ok(Found::TooLarge) => unread(format!("it has more than {} bytes", yaml::FILE_BYTES_MAX)),
        Ok(Found::Folder | Found::Absent) => {}
        Err(error) => unread(error.to_string()),
    }
}

fn add(file: &str, bytes: &[u8], gathered: &mut Gathered) {
    match yaml::read(file, bytes) {
        Ok(documents) => {
            let objects = documents.into_iter().flat_map(|document| objects_of(document.root));
            gathered.objects.extend(objects.filter_map(|root| object(file, &root)));
        }
        Err(error) => gathered.unread.push(Unread { file: file.to_owned(), why: error.to_string() }),
    }
}

/// What has no name is no object of an API server.
fn object(file: &str, root: &Node) -> Option<Object> {
    let object = Object { file: file.to_owned(), line: root.line(), value: root.to_json() };
    let is_one = !object.kind().is_empty() && !object.name().is_empty() && object.text(&["apiVersion"]).is_some();
    is_one.then_some(object)
}
