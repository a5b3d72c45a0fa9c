//! The files of a folder on this machine, as a render asks for them: what a commit of all of them would have.
//!
//! No link is followed, and nothing above the root is looked at.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellwether_core::render::{Source, below_mount};
use bellwether_render::{Files, Found, LeaveOut, Listed, Listing, SourceFile, is_named_for_render};

use crate::failure::Failure;

/// As many as a hub reads.
const FILES_MAX: usize = 10_000;
const BYTES_MAX: usize = 64 << 20;
const DEPTH_MAX: usize = 64;

/// Git's own, which no commit has.
const GIT: &str = ".git";

#[derive(Debug)]
pub(crate) struct FolderFiles {
    root: PathBuf,
}

struct Walk<'a> {
    leave_out: &'a LeaveOut<'a>,
    files: Vec<SourceFile>,
    bytes_left: usize,
}

/// What lies somewhere, when it is no link.
enum Lies {
    Nothing,
    Folder(PathBuf),
    File(PathBuf, Metadata),
}

impl FolderFiles {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn find(&self, path: &str) -> Result<Lies, Failure> {
        let (mut here, mut lies) = (self.root.clone(), Lies::Folder(self.root.clone()));
        for part in path.split('/').filter(|_| !path.is_empty()) {
            if ["", ".", ".."].contains(&part) {
                return Err(Failure::new(format!("`{path}` does not lead into the repo"))
                    .hint("write it without `..`, and without `/` at its start or end, such as apps/shop"));
            }
            if !matches!(lies, Lies::Folder(_)) {
                return Ok(Lies::Nothing);
            }
            here.push(part);
            lies = match fs::symlink_metadata(&here) {
                Ok(found) if found.is_symlink() => return Err(link(&self.shown(&here))),
                Ok(found) if found.is_dir() => Lies::Folder(here.clone()),
                Ok(found) if found.is_file() => Lies::File(here.clone(), found),
                Ok(_) => return Err(Failure::new(format!("`{}` is neither a file nor a folder", self.shown(&here)))),
                Err(error) if is_absent(&error) => return Ok(Lies::Nothing),
                Err(error) => return Err(self.unread(&here, &error)),
            };
        }
        Ok(lies)
    }

    fn entries(&self, folder: &Path) -> Result<Vec<Listed>, Failure> {
        let unread = |error: io::Error| self.unread(folder, &error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let Ok(name) = entry.file_name().into_string() else {
                let name = self.shown(&entry.path());
                return Err(Failure::new(format!("`{name}` has a name that is not UTF-8")).hint("rename it"));
            };
            if !name.eq_ignore_ascii_case(GIT) {
                entries.push(Listed { name, is_folder: entry.file_type().map_err(unread)?.is_dir() });
            }
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    fn walk(&self, folder: &str, depth: usize, walk: &mut Walk<'_>) -> Result<(), Failure> {
        let Lies::Folder(here) = self.find(folder)? else { return Ok(()) };
        for entry in self.entries(&here)? {
            let path = if folder.is_empty() { entry.name } else { format!("{folder}/{}", entry.name) };
            if (walk.leave_out)(&path, entry.is_folder) {
                continue;
            }
            if entry.is_folder {
                if depth == DEPTH_MAX {
                    return Err(Failure::new(format!("`{path}` lies deeper than {DEPTH_MAX} folders")));
                }
                self.walk(&path, depth + 1, walk)?;
                continue;
            }
            // Even one beside the manifests: it could stand for a folder of them, left out silently.
            let Lies::File(..) = self.find(&path)? else { continue };
            if !is_named_for_render(&path) {
                continue;
            }
            if walk.files.len() == FILES_MAX {
                return Err(narrower(format!("`{folder}` has more than {FILES_MAX} files")));
            }
            match self.read(&path, walk.bytes_left)? {
                Found::File(bytes) => {
                    walk.bytes_left -= bytes.len();
                    walk.files.push(SourceFile { path, bytes });
                }
                _ => return Err(narrower(format!("`{folder}` has more than {BYTES_MAX} bytes of YAML and JSON"))),
            }
        }
        Ok(())
    }

    /// From the root on, as people write paths.
    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    fn unread(&self, path: &Path, error: &io::Error) -> Failure {
        Failure::new(format!("cannot read `{}`: {error}", self.shown(path)))
    }
}

impl FolderFiles {
    fn read(&self, path: &str, bytes_max: usize) -> Result<Found, Failure> {
        let (file, found) = match self.find(path)? {
            Lies::Nothing => return Ok(Found::Absent),
            Lies::Folder(_) => return Ok(Found::Folder),
            Lies::File(file, found) => (file, found),
        };
        if found.len() > bytes_max as u64 {
            return Ok(Found::TooLarge);
        }
        let mut bytes = Vec::new();
        let read = File::open(&file).and_then(|open| open.take(bytes_max as u64).read_to_end(&mut bytes));
        read.map_err(|error| self.unread(&file, &error))?;
        Ok(Found::File(bytes))
    }

    fn list(&self, path: &str) -> Result<Listing, Failure> {
        match self.find(path)? {
            Lies::Nothing => Ok(Listing::Absent),
            Lies::File(..) => Ok(Listing::NotAFolder),
            Lies::Folder(folder) => Ok(Listing::Folder(self.entries(&folder)?)),
        }
    }

    fn manifests(&self, folder: &str, leave_out: &LeaveOut<'_>) -> Result<Vec<SourceFile>, Failure> {
        match self.find(folder)? {
            Lies::Folder(_) => {}
            Lies::File(..) => return Err(Failure::new(format!("`{folder}` is not a folder"))),
            Lies::Nothing => return Err(Failure::new(format!("there is no folder `{folder}`"))),
        }
        let mut walk = Walk { leave_out, files: Vec::new(), bytes_left: BYTES_MAX };
        self.walk(folder, 0, &mut walk)?;
        Ok(walk.files)
    }
}

/// A folder, and those that are given for other repos.
#[derive(Debug)]
pub(crate) struct RepoFolders {
    own: FolderFiles,
    given: BTreeMap<String, PathBuf>,
    mounted: Mutex<BTreeMap<String, Arc<FolderFiles>>>,
}

impl RepoFolders {
    pub(crate) fn new(root: PathBuf, given: BTreeMap<String, PathBuf>) -> Self {
        Self { own: FolderFiles::new(root), given, mounted: Mutex::default() }
    }

    fn look<T>(&self, path: &str, look: impl FnOnce(&FolderFiles, &str) -> Result<T, Failure>) -> Result<T, Failure> {
        let there =
            self.lock().iter().find_map(|(mount, files)| Some((files.clone(), below_mount(mount, path)?.to_owned())));
        match there {
            Some((files, below)) => look(&files, &below),
            None => look(&self.own, path),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<FolderFiles>>> {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for RepoFolders {
    type Error = Failure;

    fn read(&self, path: &str, bytes_max: usize) -> Result<Found, Failure> {
        self.look(path, |files, path| files.read(path, bytes_max))
    }

    fn list(&self, path: &str) -> Result<Listing, Failure> {
        self.look(path, FolderFiles::list)
    }

    fn manifests(&self, folder: &str, leave_out: &LeaveOut<'_>) -> Result<Vec<SourceFile>, Failure> {
        self.own.manifests(folder, leave_out)
    }

    /// As it lies there: of the ref nothing can be known.
    fn find_source(&self, source: &Source) -> Result<(), Failure> {
        let (name, url, needed, besides) = match source {
            Source::Repo { repo, .. } => {
                let needed = format!("files of repo `{repo}` are needed, and no hub is asked for them");
                (repo.to_string(), None, needed, "say where they are")
            }
            Source::Chart { repository, name, versions } => {
                let url = format!("{}/{name}", repository.trim_end_matches('/'));
                let version = if versions.is_empty() { String::new() } else { format!(" {versions}") };
                let needed = format!("chart `{name}`{version} of {repository} is needed, and no hub is asked for it");
                (
                    name.clone(),
                    Some(url),
                    needed,
                    "put it into charts/ with `helm dependency build`, or say where it is",
                )
            }
            Source::Git { url, reference } => {
                let name = url.rsplit(['/', ':']).next().unwrap_or_default();
                let at = if reference.is_empty() { String::new() } else { format!(" at `{reference}`") };
                let needed = format!("the base {url}{at} is needed, and no hub is asked for it");
                (name.to_owned(), Some(url.clone()), needed, "say where its repository is")
            }
            Source::File { url } => {
                let name = url.rsplit('/').next().unwrap_or_default();
                let needed = format!("the file {url} is needed, and no hub is asked for it");
                (name.to_owned(), Some(url.clone()), needed, "fetch it, and say in which folder it is")
            }
        };
        let given = self.given.get(&name).or_else(|| self.given.get(url.as_ref()?));
        let Some(folder) = given else {
            return Err(Failure::new(needed).hint(format!("{besides}: --source {name}=DIR")));
        };
        let root = folder
            .canonicalize()
            .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", folder.display())))?;
        self.lock().insert(source.mount(), Arc::new(FolderFiles::new(root)));
        Ok(())
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn link(path: &str) -> Failure {
    Failure::new(format!("`{path}` is a symbolic link")).hint("put the file itself there; links are not followed")
}

fn narrower(message: String) -> Failure {
    Failure::new(message).hint("name a folder that holds only what is deployed")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use bellwether_core::source::GitRef;
    use bellwether_render::{Confinement, Engines, Failure as RenderFailure, Manifests, Plan};

    use super::*;

    #[test]
    fn what_a_repo_leaves_out_of_its_exports_is_refused_here_as_by_a_hub() {
        let object = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}";
        let (repo, _) = folder(&[
            (".gitattributes", "*.draft.yaml export-ignore\n/old export-ignore\n"),
            ("app/a.yaml", object),
            ("drafts/b.draft.yaml", object),
            ("old/deep/c.yaml", object),
        ]);
        let open = |path: &str| {
            let plan = Plan {
                folder: path.to_owned(),
                options: bellwether_core::render::RenderOptions::default(),
                name: "shop".to_owned(),
                namespace: None,
                has_parameters: false,
                project: "local".to_owned(),
            };
            let files = RepoFolders::new(repo.path().to_owned(), BTreeMap::new());
            match Manifests::open(Engines::new(None, Confinement::AsThereIs), files, plan) {
                Ok(manifests) => manifests.inputs().paths().into_iter().collect::<Vec<_>>().join(" "),
                Err(RenderFailure::Render(error)) => error.code().to_owned(),
                Err(other) => panic!("{other}"),
            }
        };

        assert_eq!(open("app"), ".bellwetherignore .gitattributes app", "what is said of files is an input");
        assert_eq!(open("drafts"), "file_export_ignored");
        assert_eq!(open("old/deep"), "file_export_ignored");
    }

    #[test]
    fn files_of_another_repo_are_read_where_somebody_says_that_they_are() {
        let ((own, _), (there, _)) = (folder(&[("a.yaml", "a: 1")]), folder(&[("a.yaml", "a: 2")]));
        let source = |repo: &str| Source::Repo { repo: repo.parse().expect("a name"), reference: GitRef::default() };
        let given = [("env".to_owned(), there.path().to_owned())].into();
        let files = RepoFolders::new(own.path().to_owned(), given);

        files.find_source(&source("env")).expect("it is given");
        let error = files.find_source(&source("other")).expect_err("it is not given");

        assert_eq!(files.read("a.yaml", 100).expect("it is read"), Found::File(b"a: 1".to_vec()));
        assert_eq!(files.read("env@main:/a.yaml", 100).expect("it is read"), Found::File(b"a: 2".to_vec()));
        assert_eq!(files.read("other@main:/a.yaml", 100).expect("it is read"), Found::Absent);
        assert_eq!(error.to_string(), "files of repo `other` are needed, and no hub is asked for them");
    }

    #[test]
    fn charts_and_bases_are_read_where_somebody_says_that_they_are() {
        let ((own, _), (there, _)) = (folder(&[]), folder(&[("a.yaml", "a: 2")]));
        let chart = |name: &str, repository: &str| {
            let (repository, name) = (repository.to_owned(), name.to_owned());
            Source::Chart { repository, name, versions: "~1.2".to_owned() }
        };
        let base = |url: &str| Source::Git { url: url.to_owned(), reference: "v1".to_owned() };
        let given = ["redis", "https://b.example.org/db", "git@c.example.org:team/bases", "a.yaml"];
        let given = given.map(|name| (name.to_owned(), there.path().to_owned())).into();
        let files = RepoFolders::new(own.path().to_owned(), given);

        let file = |url: &str| Source::File { url: url.to_owned() };
        for source in [
            file("https://d.example.org/v1/a.yaml"),
            chart("redis", "https://a.example.org"),
            chart("db", "https://b.example.org/"),
            base("git@c.example.org:team/bases"),
        ] {
            files.find_source(&source).expect("it is given");
            let file = files.read(&format!("{}/a.yaml", source.mount()), 100).expect("it is read");
            assert_eq!(file, Found::File(b"a: 2".to_vec()));
        }
        let told = |source| files.find_source(&source).expect_err("it is not given").to_string();
        assert_eq!(
            told(chart("db", "https://a.example.org")),
            "chart `db` ~1.2 of https://a.example.org is needed, and no hub is asked for it"
        );
        assert_eq!(
            told(base("https://c.example.org/other")),
            "the base https://c.example.org/other at `v1` is needed, and no hub is asked for it"
        );
        assert_eq!(
            told(file("https://d.example.org/b.yaml")),
            "the file https://d.example.org/b.yaml is needed, and no hub is asked for it"
        );
    }

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, FolderFiles) {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let files = FolderFiles::new(folder.path().to_owned());
        (folder, files)
    }

    #[test]
    fn what_is_there_is_read_as_a_commit_would_have_it() {
        let (_folder, files) =
            folder(&[("a/b.yaml", "a: 1"), ("a/c.txt", "x"), (".git/config.yaml", "x: 1"), ("d.json", "{}")]);

        assert_eq!(files.read("a/b.yaml", 100).expect("it is read"), Found::File(b"a: 1".to_vec()));
        assert_eq!(files.read("a/b.yaml", 3).expect("it is read"), Found::TooLarge);
        assert_eq!(files.read("a", 100).expect("it is read"), Found::Folder);
        assert_eq!(files.read("a/b.yaml/c", 100).expect("it is read"), Found::Absent);
        assert_eq!(files.list("a/b.yaml").expect("it is read"), Listing::NotAFolder);
        let Listing::Folder(entries) = files.list("").expect("it is read") else { panic!("it is a folder") };
        assert_eq!(entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "d.json"]);
        let manifests = files.manifests("", &|_, _| false).expect("they are read");
        assert_eq!(manifests.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a/b.yaml", "d.json"]);
    }

    #[test]
    fn no_path_leads_out_of_the_root() {
        let (folder, _) = folder(&[("repo/b.yaml", "a: 1"), ("outside/a.yaml", "a: 1")]);
        let files = FolderFiles::new(folder.path().join("repo"));
        let absolute = folder.path().join("outside").display().to_string();

        for path in ["..", "../outside", "../outside/a.yaml", "./b.yaml", "/b.yaml", "b.yaml/", absolute.as_str()] {
            let error = files.read(path, 100).expect_err(path).to_string();
            assert!(error.ends_with("does not lead into the repo"), "{error}");
            assert!(files.list(path).is_err() && files.manifests(path, &|_, _| false).is_err(), "{path}");
        }
    }

    #[test]
    fn no_link_is_followed_wherever_it_leads() {
        let (folder, files) = folder(&[("a/b.yaml", "a: 1")]);
        symlink("/etc/passwd", folder.path().join("a/link.yaml")).expect("a link");
        symlink("/etc", folder.path().join("etc")).expect("a link");

        for path in ["a/link.yaml", "etc", "etc/passwd"] {
            let error = files.read(path, 100).expect_err("it is refused").to_string();
            assert!(error.ends_with("is a symbolic link"), "{error}");
        }
        assert!(files.list("etc").is_err());
        assert!(files.manifests("a", &|_, _| false).is_err(), "it is not left out silently");
    }
}
