//! What is said of a commit.

use gix::ObjectId;
use gix::objs::Kind;
use jiff::Timestamp;

use super::error::{FetchError, ReadError, RefError};
use super::{HASH, damaged, read, tidy};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) id: String,
    pub(crate) tree: String,
    /// `Name <email>`.
    pub(crate) author: String,
    /// The first line of the message.
    pub(crate) subject: String,
    pub(crate) committed_at: Timestamp,
}

/// What people push may be anything: what is no commit that could be read concerns the refs that lead to it, and nobody else.
pub(super) fn read_commit(id: ObjectId, repo: &gix::Repository) -> Result<Result<Commit, RefError>, FetchError> {
    let bytes = match read::load(repo, id, Kind::Commit, read::COMMIT_BYTES_MAX) {
        Err(ReadError::TooLarge { .. }) => return Ok(Err(RefError::CommitTooLarge { commit: id.to_string() })),
        loaded => loaded.map_err(damaged)?,
    };
    Ok(parse(id, &bytes).ok_or_else(|| RefError::UnreadableCommit { commit: id.to_string() }))
}

fn parse(id: ObjectId, bytes: &[u8]) -> Option<Commit> {
    let commit = gix::objs::CommitRef::from_bytes(bytes, HASH).ok()?;
    let author = commit.author().ok()?;
    let seconds = commit.time().ok()?.seconds;
    let name = tidy(author.name);
    Some(Commit {
        id: id.to_string(),
        tree: commit.tree().to_string(),
        // Of what is made here from an artifact, no address is known.
        author: if author.email.is_empty() { name } else { format!("{name} <{}>", tidy(author.email)) },
        subject: tidy(commit.message().title),
        // A commit may claim any time, even one that no calendar has.
        committed_at: Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH),
    })
}
