//! A single file at a URL, such as what a release is installed by: a commit that holds it alone, whose id follows from its content.

use bellwether_core::render::file_name;
use bellwether_core::source::{GitRef, HEAD};
use gix::ObjectId;
use reqwest::header::{ETAG, HeaderValue};
use reqwest::{Method, StatusCode};
use url::Url;

use super::registry::Talk;
use super::{Fetched, Found};
use crate::source::git::{FetchError, Made, RefError, write_commit, write_file};

/// The largest that are known, with all definitions of a cloud's resources, have half of it.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The file as it was last fetched.
#[derive(Debug, Clone)]
pub(super) struct KnownFile {
    /// How the server calls it; without that it is read each time.
    etag: HeaderValue,
    commit: ObjectId,
}

/// It is at its head, which moves whenever the server has something else; nothing else can be asked for.
pub(super) fn fetch(
    talk: &mut Talk<'_>,
    url: &Url,
    wanted: &[GitRef],
    repo: &gix::Repository,
) -> Result<Fetched, FetchError> {
    let (commit, has_grown) = pull(talk, url, repo)?;
    let found = wanted.iter().map(|reference| {
        let is_head = matches!(reference, GitRef::Named(name) if name == HEAD);
        let commit = if is_head { Ok(commit) } else { Err(RefError::OfFile) };
        Found { tag: None, commit, verified: None }
    });
    Ok(Fetched { found: found.collect(), has_grown })
}

/// With whether it is new here.
fn pull(talk: &mut Talk<'_>, url: &Url, repo: &gix::Repository) -> Result<(ObjectId, bool), FetchError> {
    let last = talk.registry.last.take().filter(|last| repo.has_object(last.commit));
    let etag = last.as_ref().map(|last| &last.etag);
    let mut response = talk.ask_unless(&Method::GET, url.clone(), "application/yaml, */*", etag)?;
    match (response.status(), last) {
        (StatusCode::OK, _) => {}
        (StatusCode::NOT_MODIFIED, Some(last)) => {
            let commit = last.commit;
            talk.registry.last = Some(last);
            return Ok((commit, false));
        }
        _ => return Err(talk.judge(&response)),
    }
    let etag = response.headers().get(ETAG).cloned();
    let content = talk.read(&mut response, FILE_BYTES_MAX)?;
    let (commit, is_new) = keep(talk, file_name(url.as_str()).unwrap_or_default(), &content, repo)?;
    talk.registry.last = etag.map(|etag| KnownFile { etag, commit });
    Ok((commit, is_new))
}

fn keep(
    talk: &mut Talk<'_>,
    name: &str,
    content: &[u8],
    repo: &gix::Repository,
) -> Result<(ObjectId, bool), FetchError> {
    let digest = bellwether_core::Digest::of(content).to_string();
    if let Some(commit) = talk.registry.known.commit_of(&digest, repo) {
        return Ok((commit, false));
    }
    let files = [(name.to_owned(), write_file(repo, content)?)].into();
    let made = Made { author: "a file", message: format!("{name} ({digest})\n"), seconds: 0 };
    let commit = write_commit(repo, &files, &made)?;
    talk.registry.note_commit(&digest, commit);
    Ok((commit, true))
}
