//! OCI: artifacts in registries as sources beside Git; charts of Helm repositories, which are archives like them; and single
//! files, which are fetched as those are.
//!
//! What an artifact holds is written into the repo's mirror as a commit of its own, without parents, whose id follows
//! from the artifact's manifest alone. So whatever comes after the source stage sees commits, here as there: a reader,
//! inputs, revisions. Which digest became which commit is remembered in a file of the mirror; without it the artifact is
//! pulled again, and becomes the same commit.
//!
//! Blocks, like `git`. Nothing is written to a disk but the mirror's objects.

mod charts;
mod cosign;
mod error;
mod file;
mod index;
mod known;
mod manifest;
mod place;
mod pull;
mod registry;
#[cfg(test)]
mod tests;
mod unpack;

use bellwether_core::source::{self, GitRef};
use gix::ObjectId;

pub(crate) use self::cosign::CosignKey;
pub(crate) use self::error::ArtifactError;
pub(super) use self::place::{INSECURE_SCHEME, Place, SCHEME, default_port, host_of, is_registry, read_url};
pub(super) use self::registry::Registry;
#[cfg(test)]
pub(crate) use self::tests::{artifact, docker, signatures};

use self::error::PullError;
use self::pull::Pull;
use self::registry::Talk;
use super::git::{Budget, FetchError, RefError};

/// What became of the artifacts that were asked for, in their order.
pub(super) struct Fetched {
    pub(super) found: Vec<Found>,
    /// Something was stored.
    pub(super) has_grown: bool,
}

pub(super) struct Found {
    /// Of a range of versions the tag that is the newest in it.
    pub(super) tag: Option<String>,
    pub(super) commit: Result<ObjectId, RefError>,
    /// The key that signed it; `None`: the repo names none.
    pub(super) verified: Option<String>,
}

/// Without any it still asks, so that a registry that is not there is noticed.
pub(super) fn fetch(
    registry: &mut Registry,
    wanted: &[GitRef],
    expects_news: bool,
    repo: &gix::Repository,
    budget: &Budget<'_>,
) -> Result<Fetched, FetchError> {
    let (chart, file) = (registry.chart(), registry.file());
    let mut talk = Talk::new(registry, budget)?;
    if let Some(url) = file {
        return file::fetch(&mut talk, &url, wanted, repo);
    }
    if let Some(chart) = chart {
        return charts::fetch(&mut talk, &chart, wanted, repo);
    }
    let mut pull = Pull::new(talk, repo, expects_news);
    if wanted.is_empty() {
        pull.check_that_it_is_there()?;
    }
    let mut found = Vec::with_capacity(wanted.len());
    for reference in wanted {
        let mut newest = None;
        let pulled = match reference {
            GitRef::Semver(range) if source::is_valid(reference) => pull.find_newest(range).and_then(|tag| {
                let pulled = pull.find_tag(&tag);
                newest = Some(tag);
                pulled
            }),
            GitRef::Tag(tag) if source::is_valid_artifact_tag(tag) => pull.find_tag(tag),
            GitRef::Digest(digest) if source::is_valid(reference) => pull.find_digest(digest),
            GitRef::Tag(name) | GitRef::Digest(name) | GitRef::Semver(name) => {
                Err(RefError::Invalid { reference: name.clone() }.into())
            }
            GitRef::Branch(_) | GitRef::Named(_) => {
                Err(RefError::NotOfRegistry { place: "an artifact", what: "branches" }.into())
            }
            GitRef::Commit(_) => Err(RefError::NotOfRegistry { place: "an artifact", what: "commits" }.into()),
        };
        let (commit, verified) = match pulled {
            Ok(pulled) => (Ok(pulled.commit), pulled.signer),
            Err(PullError::Ref(error)) => (Err(error), None),
            Err(PullError::Fetch(error)) => return Err(error),
        };
        found.push(Found { tag: newest, commit, verified });
    }
    Ok(Fetched { found, has_grown: pull.has_grown() })
}
