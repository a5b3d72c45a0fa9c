//! What can be wrong with an artifact, whoever sends it.

use std::borrow::Cow;

use crate::source::git::{FetchError, RefError};

/// One artifact cannot be used. Other tags of the same repo go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArtifactError {
    #[error("{what} is not what its digest {digest} says")]
    Digest { what: &'static str, digest: String },
    #[error("the artifact {digest} is not signed")]
    Unsigned { digest: String },
    #[error("none of the repo's keys signed the artifact {digest}")]
    SignedByOthers { digest: String },
    #[error("the registry does not have the layer {digest} of the artifact")]
    Incomplete { digest: String },
    #[error("the artifact is too large: {what}, and at most {max} are allowed")]
    TooLarge { what: String, max: u64 },
    #[error("the artifact {reason}")]
    Unsupported { reason: String },
    #[error("`{file}` of the artifact {reason}")]
    File { file: String, reason: &'static str },
    #[error("the artifact cannot be unpacked: {reason}")]
    Damaged { reason: String },
}

impl ArtifactError {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Digest { .. } => "artifact_digest_differs",
            Self::Unsigned { .. } => "artifact_unsigned",
            Self::SignedByOthers { .. } => "artifact_signed_by_others",
            Self::Incomplete { .. } => "artifact_incomplete",
            Self::TooLarge { .. } => "artifact_too_large",
            Self::Unsupported { .. } => "artifact_unsupported",
            Self::File { .. } => "artifact_file_refused",
            Self::Damaged { .. } => "artifact_damaged",
        }
    }

    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Digest { .. } => "the registry, or a cache before it, sends something else than was pushed",
            Self::Unsigned { .. } => "`cosign sign --key` it by its digest; what runs goes on until then",
            Self::SignedByOthers { .. } => "if that is meant, put the public key into `cosignKeys`",
            Self::TooLarge { .. } => "push only what a target deploys",
            Self::Unsupported { .. } => {
                "push it with `flux push artifact`, `oras push` or `helm push`: one manifest, its layers tar, tar+gzip or tar+zstd"
            }
            Self::File { .. } => "push files and folders, each with a relative path, and the file in place of a link",
            Self::Damaged { .. } | Self::Incomplete { .. } => "push it again",
        }))
    }

    /// It is the same with each pull.
    pub(super) const fn is_lasting(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Unsupported { .. } | Self::File { .. } | Self::Damaged { .. })
    }
}

/// Why a pull ended: for the whole repo, or for one ref of it.
#[derive(Debug)]
pub(super) enum PullError {
    Fetch(FetchError),
    Ref(RefError),
}

impl From<FetchError> for PullError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<RefError> for PullError {
    fn from(error: RefError) -> Self {
        Self::Ref(error)
    }
}

impl From<ArtifactError> for PullError {
    fn from(error: ArtifactError) -> Self {
        Self::Ref(error.into())
    }
}
