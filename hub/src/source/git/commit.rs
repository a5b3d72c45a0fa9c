//! What is said of a commit.

use gix::ObjectId;
use gix::objs::Kind;
use jiff::Timestamp;

use super::error::FetchError;
use super::{HASH, damaged, protocol, read, tidy};

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

pub(super) fn read_commit(id: ObjectId, repo: &gix::Repository) -> Result<Commit, FetchError> {
    let bytes = read::load(repo, id, Kind::Commit, read::COMMIT_BYTES_MAX);
    let bytes = bytes.map_err(damaged)?;
    let commit = gix::objs::CommitRef::from_bytes(&bytes, HASH).map_err(protocol)?;
    let author = commit.author().map_err(protocol)?;
    let seconds = commit.time().map_err(protocol)?.seconds;
    let name = tidy(author.name);
    Ok(Commit {
        id: id.to_string(),
        tree: commit.tree().to_string(),
        // Of what is made here from an artifact, no address is known.
        author: if author.email.is_empty() { name } else { format!("{name} <{}>", tidy(author.email)) },
        subject: tidy(commit.message().title),
        // A commit may claim any time, even one that no calendar has.
        committed_at: Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH),
    })
}
