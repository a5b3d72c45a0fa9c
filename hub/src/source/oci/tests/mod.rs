//! Against the real registry, and one that misbehaves.

pub(crate) mod artifact;
mod charts;
pub(crate) mod docker;
mod fake;
mod files;
mod hostile;
mod pulls;
pub(crate) mod signatures;
mod signing_in;

use std::sync::atomic::AtomicBool;

use bellwether_core::source::GitRef;
use tempfile::TempDir;

use crate::source::git::upstream::remote;
use crate::source::git::{Commit, FetchBounds, FetchError, Head, Mirror, RefError, Remote};

/// A mirror in a folder that goes with it.
struct Local {
    folder: TempDir,
    mirror: Mirror,
}

impl Local {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mirror = Mirror::open_or_create(&folder.path().join("mirror")).expect("a new mirror");
        Self { folder, mirror }
    }

    fn reopen(self) -> Self {
        let Self { folder, mirror } = self;
        drop(mirror);
        let mirror = Mirror::open_or_create(&folder.path().join("mirror")).expect("a mirror");
        Self { folder, mirror }
    }

    fn with_bounds(self, bounds: FetchBounds) -> Self {
        Self { mirror: self.mirror.with_bounds(bounds), ..self }
    }

    fn fetch(&mut self, remote: &Remote, wanted: &[GitRef]) -> Result<Vec<Head>, FetchError> {
        self.mirror.fetch(remote, wanted, &AtomicBool::new(false))
    }

    fn fetch_one(&mut self, remote: &Remote, wanted: GitRef) -> Result<Commit, RefError> {
        self.fetch(remote, &[wanted]).expect("the registry answers").remove(0).outcome
    }

    fn files(&self, commit: &Commit) -> Vec<(String, String)> {
        let folder = self.mirror.reader().read_folder(&commit.id, "", &|_, _| false).expect("a readable folder");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        folder.files.into_iter().map(|file| (file.path, text(file.bytes))).collect()
    }
}

/// What a fetch does is done off the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

/// Fetches, and gives back what was fetched into.
async fn fetch(mut local: Local, at: &Remote, wanted: Vec<GitRef>) -> (Local, Result<Vec<Head>, FetchError>) {
    let at = at.clone();
    blocking(move || {
        let fetched = local.fetch(&at, &wanted);
        (local, fetched)
    })
    .await
}

fn tag(name: &str) -> GitRef {
    GitRef::Tag(name.to_owned())
}

fn digest(text: &str) -> GitRef {
    GitRef::Digest(text.to_owned())
}

fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}
