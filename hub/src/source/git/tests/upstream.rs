//! A repo made by the `git` command.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use bellwether_core::source::GitRef;
use tempfile::TempDir;

use crate::source::git::{Commit, FetchError, Head, Mirror, RefError, Remote, RepoUrl, UrlPolicy};

pub(crate) struct Upstream {
    _root: TempDir,
    folder: PathBuf,
}

impl Upstream {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join("shop.git");
        let upstream = Self { _root: root, folder };
        std::fs::create_dir(&upstream.folder).expect("a new folder");
        upstream.git(["init", "--quiet", "--bare", "--initial-branch=main", "."], b"");
        upstream
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.folder.display())
    }

    pub(crate) fn remote(&self) -> Remote {
        remote(&self.url())
    }

    pub(crate) fn git<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>, input: &[u8]) -> String {
        let mut child = Command::new("git")
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.folder)
            .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
            .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "ada@example.com")])
            .envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "ada@example.com")])
            .envs([("GIT_AUTHOR_DATE", "1750000000 +0200"), ("GIT_COMMITTER_DATE", "1750000000 +0200")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("git starts");
        child.stdin.take().expect("piped").write_all(input).expect("git reads");
        let output = child.wait_with_output().expect("git ends");
        assert!(output.status.success(), "git failed");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// A commit on a branch that replaces the files named; the others stay.
    pub(crate) fn push(&self, branch: &str, message: &str, files: &[(&str, &str)]) -> String {
        let mut stream = format!(
            "commit refs/heads/{branch}\ncommitter Ada <ada@example.com> 1750000000 +0200\ndata {}\n{message}\n",
            message.len()
        );
        if self.find(branch).is_some() {
            stream.extend(["from refs/heads/", branch, "^0\n"]);
        }
        for (path, content) in files {
            stream.extend(["M 100644 inline ", path, "\ndata ", &content.len().to_string(), "\n", content, "\n"]);
        }
        self.git(["fast-import", "--quiet", "--force"], stream.as_bytes());
        self.find(branch).expect("it was pushed")
    }

    /// A commit that puts a link to somewhere in place of a file.
    pub(crate) fn push_link(&self, branch: &str, path: &str, to: &str) {
        let stream = format!(
            "commit refs/heads/{branch}\ncommitter Ada <ada@example.com> 1750000000 +0200\ndata 6\nA link\n\
             from refs/heads/{branch}^0\nM 120000 inline {path}\ndata {}\n{to}\n",
            to.len()
        );
        self.git(["fast-import", "--quiet", "--force"], stream.as_bytes());
    }

    fn find(&self, branch: &str) -> Option<String> {
        let name = format!("refs/heads/{branch}");
        let found = self.git(["for-each-ref", "--format=%(objectname)", &name], b"");
        (!found.is_empty()).then_some(found)
    }

    /// A tree of any bytes, also such as no `git` would write: (mode, name, id).
    pub(crate) fn tree(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend(hex::decode(id).expect("an id"));
        }
        self.git(["hash-object", "-t", "tree", "--literally", "-w", "--stdin"], &bytes)
    }

    pub(crate) fn blob(&self, content: &[u8]) -> String {
        self.git(["hash-object", "-w", "--stdin"], content)
    }

    /// The branch becomes a commit of that tree.
    pub(crate) fn push_tree(&self, branch: &str, tree: &str) -> String {
        let commit = self.git(["commit-tree", tree, "-m", "A tree"], b"");
        self.git(["update-ref", &format!("refs/heads/{branch}"), &commit], b"");
        commit
    }
}

pub(crate) fn remote(url: &str) -> Remote {
    let policy = UrlPolicy { insecure: true, private: true };
    let url = RepoUrl::parse(url, policy).expect("a valid URL");
    Remote {
        url,
        ca_pem: None,
        chart: None,
        cosign_keys: Vec::new(),
        verify: None,
        known_hosts: None,
        credential: None,
        may_be_private: true,
    }
}

/// A mirror in a folder that goes with it.
pub(super) struct Local {
    pub(super) folder: TempDir,
    pub(super) mirror: Mirror,
}

impl Local {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mirror = Mirror::open_or_create(&folder.path().join("mirror")).expect("a new mirror");
        Self { folder, mirror }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("mirror")
    }

    pub(super) fn reopen(self) -> Self {
        let Self { folder, mirror } = self;
        drop(mirror);
        let mirror = Mirror::open_or_create(&folder.path().join("mirror")).expect("a mirror");
        Self { folder, mirror }
    }

    pub(super) fn fetch(&mut self, remote: &Remote, wanted: &[GitRef]) -> Result<Vec<Head>, FetchError> {
        self.mirror.fetch(remote, wanted, &AtomicBool::new(false))
    }

    pub(super) fn fetch_one(&mut self, remote: &Remote, wanted: GitRef) -> Result<Commit, RefError> {
        self.fetch(remote, &[wanted]).expect("the server answers").remove(0).outcome
    }

    pub(super) fn fetch_main(&mut self, remote: &Remote) -> Commit {
        self.fetch_one(remote, branch("main")).expect("there is a main")
    }

    pub(super) fn files(&self, commit: &str, path: &str) -> Vec<(String, String)> {
        let folder = self.mirror.reader().read_folder(commit, path, &|_, _| false).expect("a readable folder");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        folder.files.into_iter().map(|file| (file.path, text(file.bytes))).collect()
    }

    /// (single objects, packs)
    pub(super) fn stored(&self) -> (usize, usize) {
        let count = |folder: &Path, extension: Option<&str>| {
            let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
            entries.filter(|path| path.is_file() && path.extension().and_then(OsStr::to_str) == extension).count()
        };
        let objects = self.path().join("objects");
        let folders = std::fs::read_dir(&objects).expect("a folder").map(|entry| entry.expect("an entry").path());
        let single = folders.filter(|folder| folder.file_name().is_some_and(|name| name.len() == 2));
        (single.map(|folder| count(&folder, None)).sum(), count(&objects.join("pack"), Some("pack")))
    }
}

pub(super) fn branch(name: &str) -> GitRef {
    GitRef::Branch(name.to_owned())
}

pub(super) fn tag(name: &str) -> GitRef {
    GitRef::Tag(name.to_owned())
}

pub(super) fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}
