//! Whether a commit builds on another.
//!
//! A mirror keeps commits without their history, so that is asked of the server: the commits behind the new one, without what
//! they hold, up to the old one. They are put into a repository of their own, which is removed again: in the mirror a commit
//! that is there is complete. What the server cannot tell within the bounds counts as "no".

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use gix::ObjectId;
use gix::objs::Kind;
use gix::protocol::transport::client::blocking_io::Transport;

use super::budget::Budget;
use super::disk::{create, open, remove};
use super::error::FetchError;
use super::session::Session;
use super::{HASH, damaged, mirror, read};

/// Whoever waits for a branch to go on waits for no more than this.
const DEADLINE: Duration = Duration::from_mins(1);

/// A thousand commits have some hundred KiB; a server that cannot leave out what they hold sends more.
const BYTES_MAX: u64 = 64 << 20;

/// A new commit, and the one that it may build on.
pub(super) struct Descent<'a> {
    pub(super) new: ObjectId,
    pub(super) old: ObjectId,
    pub(super) repo: &'a gix::Repository,
    /// Where a history may be for as long as it is looked at.
    pub(super) scratch: &'a Path,
}

impl Descent<'_> {
    pub(super) fn is_true<'a, T: Transport>(
        &self,
        budget: &Budget<'_>,
        connect: impl FnOnce() -> Result<Session<'a, T>, FetchError>,
    ) -> Result<bool, FetchError> {
        let Self { new, old, repo, scratch } = *self;
        if new == old || parents(new, repo).contains(&old) {
            return Ok(true);
        }
        remove(scratch).map_err(mirror)?;
        let found = budget.narrowed(DEADLINE, BYTES_MAX, || self.look(connect));
        remove(scratch).map_err(mirror)?;
        match found {
            Err(error @ (FetchError::Stopped | FetchError::Mirror { .. })) => Err(error),
            found => {
                // What is too much, takes too long, or what a server does not want to tell; unless the whole fetch is over.
                budget.check()?;
                Ok(found.unwrap_or(false))
            }
        }
    }

    fn look<'a, T: Transport>(
        &self,
        connect: impl FnOnce() -> Result<Session<'a, T>, FetchError>,
    ) -> Result<bool, FetchError> {
        let Self { new, old, repo, scratch } = *self;
        create(scratch, "a history is looked at")?;
        // What is sent may build on what is in the mirror.
        let alternates = format!("{}\n", repo.objects.store_ref().path().display());
        fs::write(scratch.join("objects/info/alternates"), alternates).map_err(mirror)?;
        let history = open(scratch).map_err(damaged)?.to_thread_local();
        let mut session = connect()?;
        session.receive_history(new, old, &history)?;
        session.close();
        // A pack of it is seen only anew.
        let history = open(scratch).map_err(damaged)?.to_thread_local();
        let (mut seen, mut next) = (BTreeSet::from([new]), vec![new]);
        while let Some(commit) = next.pop() {
            for parent in parents(commit, &history) {
                if parent == old {
                    return Ok(true);
                }
                if seen.insert(parent) {
                    next.push(parent);
                }
            }
        }
        Ok(false)
    }
}

/// None of a commit that is not there, or that is damaged.
fn parents(commit: ObjectId, repo: &gix::Repository) -> Vec<ObjectId> {
    if !repo.has_object(commit) {
        return Vec::new();
    }
    let Ok(bytes) = read::load(repo, commit, Kind::Commit, read::COMMIT_BYTES_MAX) else { return Vec::new() };
    gix::objs::CommitRef::from_bytes(&bytes, HASH).map(|commit| commit.parents().collect()).unwrap_or_default()
}
