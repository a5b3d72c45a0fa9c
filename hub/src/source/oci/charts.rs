//! Charts of a Helm repository: an index over https, and an archive for each version.

use bellwether_core::source::GitRef;
use bellwether_core::version_range::VersionRange;
use gix::ObjectId;
use reqwest::header::{ETAG, HeaderValue};
use reqwest::{Method, StatusCode};
use url::Url;

use super::error::{ArtifactError, PullError};
use super::index::{INDEX_BYTES_MAX, IndexError, Version, read_versions};
use super::manifest::{Content, LAYER_BYTES_MAX, Packed, tidy};
use super::pull::{Layer, pull_layer};
use super::registry::{Blob, Talk};
use super::unpack::Files;
use super::{Fetched, Found};
use crate::source::git::{FetchError, Made, RefError, nearest, write_commit};

/// The index as it was last read.
#[derive(Debug, Clone)]
pub(super) struct KnownIndex {
    /// How the server calls it; without that it is read each time.
    etag: Option<HeaderValue>,
    /// Where it really is.
    url: Url,
    versions: Vec<Version>,
}

pub(super) fn fetch(
    talk: &mut Talk<'_>,
    chart: &str,
    wanted: &[GitRef],
    repo: &gix::Repository,
) -> Result<Fetched, FetchError> {
    let index = fetch_index(talk, chart)?;
    let mut has_grown = false;
    let mut found = Vec::with_capacity(wanted.len());
    for reference in wanted {
        let version = find_version(&index, reference);
        let tag = match (&version, reference) {
            (Ok(version), GitRef::Semver(_)) => Some(version.name.clone()),
            _ => None,
        };
        let commit = match version.map_err(PullError::Ref).and_then(|version| pull(talk, chart, &index, version, repo))
        {
            Ok((commit, is_new)) => {
                has_grown |= is_new;
                Ok(commit)
            }
            Err(PullError::Ref(error)) => {
                // Something of what was refused may be here.
                has_grown = true;
                Err(error)
            }
            Err(PullError::Fetch(error)) => return Err(error),
        };
        found.push(Found { tag, commit, verified: None });
    }
    Ok(Fetched { found, has_grown })
}

fn fetch_index(talk: &mut Talk<'_>, chart: &str) -> Result<KnownIndex, FetchError> {
    let repository = talk.registry.repository();
    let not_a_repository = || FetchError::NotAChartRepository { url: repository.clone() };
    let url = Url::parse(&format!("{repository}/index.yaml")).map_err(|_| not_a_repository())?;
    let known = talk.registry.index.take();
    let etag = known.as_ref().and_then(|known| known.etag.clone());
    let response = talk.ask_unless(&Method::GET, url, "application/yaml, */*", etag.as_ref())?;
    match (response.status(), known) {
        (StatusCode::OK, _) => {}
        (StatusCode::NOT_MODIFIED, Some(known)) => {
            talk.registry.index = Some(known.clone());
            return Ok(known);
        }
        _ => return Err(talk.judge(&response)),
    }
    let (etag, url) = (response.headers().get(ETAG).cloned(), response.url().clone());
    talk.budget.allow(INDEX_BYTES_MAX);
    let mut blob = Blob::new(talk, response);
    let read = read_versions(&mut blob, chart);
    // The connection can be used again when all of it was read; of a large index that is not worth it.
    if let Some(failure) = blob.failure {
        return Err(failure);
    }
    let versions = read.map_err(|error| match error {
        IndexError::NotAnIndex => not_a_repository(),
        IndexError::NoSuchChart(names) => FetchError::NoSuchChart {
            chart: chart.to_owned(),
            nearest: nearest(chart, names.iter().map(String::as_str)).map(|name| tidy(&name)),
        },
    })?;
    let index = KnownIndex { etag, url, versions };
    talk.registry.index = Some(index.clone());
    Ok(index)
}

fn find_version<'a>(index: &'a KnownIndex, reference: &GitRef) -> Result<&'a Version, RefError> {
    let names = || index.versions.iter().map(|version| version.name.as_str());
    let find = |name: &str| index.versions.iter().find(|version| version.name == name);
    match reference {
        GitRef::Tag(tag) => find(tag).ok_or_else(|| RefError::NoSuchTag {
            tag: tag.clone(),
            nearest: nearest(tag, names()).map(|name| tidy(&name)),
        }),
        GitRef::Semver(range) => {
            let Some(parsed) = VersionRange::parse(range) else {
                return Err(RefError::Invalid { reference: range.clone() });
            };
            parsed.newest(names()).and_then(find).ok_or_else(|| RefError::NoVersion {
                range: range.clone(),
                nearest: parsed.nearest(names()).into_iter().map(tidy).collect(),
            })
        }
        GitRef::Digest(_) => Err(RefError::NotOfRegistry { place: "a Helm repository", what: "digests" }),
        GitRef::Branch(_) | GitRef::Named(_) => {
            Err(RefError::NotOfRegistry { place: "a Helm repository", what: "branches" })
        }
        GitRef::Commit(_) => Err(RefError::NotOfRegistry { place: "a Helm repository", what: "commits" }),
    }
}

/// With whether it is new here.
fn pull(
    talk: &mut Talk<'_>,
    chart: &str,
    index: &KnownIndex,
    version: &Version,
    repo: &gix::Repository,
) -> Result<(ObjectId, bool), PullError> {
    let unsupported = |reason: &str| ArtifactError::Unsupported { reason: reason.to_owned() };
    let url = version.url.as_ref().ok_or_else(|| unsupported("has no URL in the index"))?;
    let url = index.url.join(url).map_err(|_| unsupported("has a URL in the index that is none"))?;
    talk.registry.check_other(&url)?;
    let digest = version.digest.as_ref().map(|digest| format!("sha256:{}", digest.trim_start_matches("sha256:")));
    // Without a digest it is what its index calls it, and when that says that it was made.
    let name = match &digest {
        // Of one archive under two names each is a commit of its own, whichever is asked for first.
        Some(digest) => format!("{digest}#{}", version.name),
        None => format!("{}#{}#{}", url.as_str(), version.name, version.created.as_deref().unwrap_or_default()),
    };
    let name = name.replace(char::is_whitespace, "");
    if let Some(commit) = talk.registry.known.commit_of(&name, repo) {
        return Ok((commit, false));
    }
    if let Some(error) = talk.registry.refusal(&name) {
        return Err(error.clone().into());
    }
    let layer = Layer { url, digest: digest.as_deref(), bytes_max: LAYER_BYTES_MAX, is_exact: false };
    let pulled = pull_archive(talk, chart, version, &layer, repo);
    match &pulled {
        Ok(commit) => talk.registry.note_commit(&name, *commit),
        Err(PullError::Ref(RefError::Artifact(error))) => talk.registry.note_refusal(&name, error),
        Err(_) => {}
    }
    Ok((pulled?, true))
}

fn pull_archive(
    talk: &mut Talk<'_>,
    chart: &str,
    version: &Version,
    layer: &Layer<'_>,
    repo: &gix::Repository,
) -> Result<ObjectId, PullError> {
    let mut files = Files::default();
    let content = Content::Tar { packed: Packed::Gzip, is_chart: true };
    let digest = pull_layer(talk, layer, &content, &mut files, repo)?;
    if files.ids.is_empty() {
        return Err(ArtifactError::Unsupported { reason: "holds no file".to_owned() }.into());
    }
    // Not when it was made: an index that is written anew says another time of the same archive.
    let message = format!("{} {} ({digest})\n", tidy(chart), tidy(&version.name));
    let made = Made { author: "a chart", message, seconds: 0 };
    Ok(write_commit(repo, &files.ids, &made)?)
}
