//! Why a target does not render, as people are told.

use std::borrow::Cow;

use bellwether_core::bundle::ManifestError;
use bellwether_core::{Condition, RepoId};
use bellwether_render::{Failure, Place, RenderError};
use jiff::Timestamp;

use super::bounds;
use super::sources::{FilesError, SourceError};
use crate::pki::seal::SealError;
use crate::source::git::ReadError;
use crate::store::StoreError;

pub(super) const BROKE_DOWN: &str = "render_broke_down";

pub(super) const SHARE_SPENT: &str = "content_share_spent";

pub(super) const TOLD_TOO_OFTEN: &str = "cluster_changes_too_often";

#[derive(Debug, thiserror::Error)]
pub(super) enum BundleError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Of another repo, which lies below a mount.
    #[error("{mount} {error}")]
    ReadThere { repo: RepoId, mount: String, error: ReadError },
    /// Of what is asked for there.
    #[error("{error}")]
    Source { at: Place, error: SourceError },
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot open what is frozen for this target")]
    Frozen(#[from] SealError),
    #[error("a hub broke down whenever it rendered this")]
    BrokeDown,
    #[error("what this target's renders have stored within a day is more than {} MiB", bounds::STORED_BYTES_MAX >> 20)]
    ShareSpent,
    /// It reads more of its clusters than was read.
    #[error("not all that it reads of clusters is known")]
    TraitsUnread,
    #[error("too much was rendered lately for what its agent says of it")]
    ToldTooOften,
    #[error("it is not known any more what it came from")]
    OriginUnknown,
    #[error("the target's spec was another one then")]
    SpecOlder,
    #[error("the commit that it came from renders to something else by now")]
    MadeOtherwise,
}

impl From<Failure<FilesError>> for BundleError {
    fn from(failure: Failure<FilesError>) -> Self {
        match failure {
            Failure::Render(error) => Self::Render(error),
            Failure::Files(FilesError::Own(error)) | Failure::Source { error: FilesError::Own(error), .. } => {
                Self::Read(error)
            }
            Failure::Files(FilesError::There { repo, mount, error })
            | Failure::Source { error: FilesError::There { repo, mount, error }, .. } => {
                Self::ReadThere { repo, mount, error }
            }
            Failure::Source { at, error: FilesError::Source(error) } => Self::Source { at, error },
            // Only who is asked for a source says so.
            Failure::Files(FilesError::Source(error)) => {
                Self::Source { at: Place::Field { path: "render".into() }, error }
            }
        }
    }
}

impl BundleError {
    /// What is wrong is in the commit, and another cluster's values may lead elsewhere.
    pub(super) fn is_of_content(&self) -> bool {
        match self {
            Self::Render(_) | Self::Manifest(_) => true,
            Self::Read(error) | Self::ReadThere { error, .. } => !error.is_of_mirror(),
            Self::Source { .. }
            | Self::ToldTooOften
            | Self::TraitsUnread
            | Self::Store(_)
            | Self::Frozen(_)
            | Self::BrokeDown
            | Self::ShareSpent
            | Self::OriginUnknown
            | Self::SpecOlder
            | Self::MadeOtherwise => false,
        }
    }

    /// This hub's mirror of a repo lacks a commit that it saw, or something of it.
    pub(super) fn lacking(&self, own: RepoId) -> Option<RepoId> {
        let is_lacking = |error: &ReadError| matches!(error, ReadError::NoSuchCommit { .. } | ReadError::NotFetched);
        match self {
            Self::Read(error) if is_lacking(error) => Some(own),
            Self::ReadThere { repo, error, .. } if is_lacking(error) => Some(*repo),
            _ => None,
        }
    }

    /// An engine was ended, or ended by itself: with other values it would most likely be the same.
    pub(super) fn is_over_limit(&self) -> bool {
        matches!(self, Self::Render(error) if matches!(error.code(), "over_limit" | "engine_died"))
    }

    pub(super) fn condition(&self, now: Timestamp) -> Condition {
        let (code, hint, file, line) = match self {
            Self::Read(error) => (error.code(), error.hint(), error.file(), None),
            Self::ReadThere { mount, error, .. } => {
                let file = error.file().map(|file| format!("{mount}/{file}"));
                let condition = Condition::new(error.code(), &crate::chain(self), error.hint().as_deref(), Some(now));
                return condition.at(file.as_deref(), None);
            }
            Self::Source { at, error } => (error.code(), error.hint(), at.file(), at.line()),
            Self::Render(error) => (error.code(), error.hint(), error.file(), error.line()),
            Self::Manifest(_) => ("bundle_invalid", None, None, None),
            Self::Frozen(error) => {
                let hint = "restore the hub's database, or write a new word for `freeze`: then new ones are made";
                ("frozen_unreadable", error.hint().or(Some(Cow::Borrowed(hint))), None, None)
            }
            Self::BrokeDown => {
                let hint = "split the target or push something smaller; it is tried again in an hour";
                (BROKE_DOWN, Some(Cow::Borrowed(hint)), None, None)
            }
            Self::ShareSpent => {
                let hint = "let less change with each push, or for each cluster; it is tried again each hour";
                (SHARE_SPENT, Some(Cow::Borrowed(hint)), None, None)
            }
            Self::ToldTooOften => {
                let hint = "see what changes so often: bellwether cluster show; it is tried again within the hour, and what \
                            runs goes on until then";
                (TOLD_TOO_OFTEN, Some(Cow::Borrowed(hint)), None, None)
            }
            // It is rendered at once with all that is known.
            Self::Store(_) | Self::TraitsUnread => ("database_failed", None, None, None),
            Self::OriginUnknown | Self::SpecOlder | Self::MadeOtherwise => ("content_missing", None, None, None),
        };
        Condition::new(code, &crate::chain(self), hint.as_deref(), Some(now)).at(file, line)
    }
}
