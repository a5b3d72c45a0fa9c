//! From a tag or a digest to a commit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read};

use bellwether_core::source::{is_valid_artifact_tag, is_valid_digest};
use bellwether_core::version_range::{VersionRange, of_registry};
use gix::ObjectId;
use jiff::Timestamp;
use reqwest::header::LINK;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::cosign;
use super::error::{ArtifactError, PullError};
use super::manifest::{ACCEPT, Content, Manifest, tidy};
use super::registry::{Blob, Talk};
use super::unpack::{Files, unpack};
use crate::source::git::{FetchError, Made, RefError, nearest, write_commit};

/// What registries take at most.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// Of one page; registries that know no pages list a hundred thousand tags in it.
const TAGS_BYTES_MAX: u64 = 4 << 20;

/// Of one repository of a registry, over all pages.
const TAGS_MAX: usize = 100_000;
/// Most registries give a hundred or a thousand tags in each.
const PAGES_MAX: usize = 200;

const DIGEST: &str = "docker-content-digest";

/// The artifacts of one fetch.
pub(super) struct Pull<'a> {
    talk: Talk<'a>,
    repo: &'a gix::Repository,
    /// Something is likely to be new, so asking whether it is would be one request more.
    expects_news: bool,
    has_grown: bool,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// An artifact that is here.
pub(super) struct Pulled {
    pub(super) commit: ObjectId,
    /// The key that signed it, where the repo names some.
    pub(super) signer: Option<String>,
}

/// Which artifact was asked for.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Tag(&'a str),
    Digest(&'a str),
}

impl<'a> Wanted<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Tag(name) | Self::Digest(name) => name,
        }
    }
}

impl<'a> Pull<'a> {
    pub(super) fn new(talk: Talk<'a>, repo: &'a gix::Repository, expects_news: bool) -> Self {
        Self { talk, repo, expects_news, has_grown: false }
    }

    pub(super) fn has_grown(&self) -> bool {
        self.has_grown
    }

    pub(super) fn check_that_it_is_there(&mut self) -> Result<(), FetchError> {
        self.list_tags(1).map(drop)
    }

    pub(super) fn find_tag(&mut self, tag: &str) -> Result<Pulled, PullError> {
        self.find(Wanted::Tag(tag))
    }

    pub(super) fn find_digest(&mut self, digest: &str) -> Result<Pulled, PullError> {
        self.find(Wanted::Digest(digest))
    }

    fn find(&mut self, wanted: Wanted<'_>) -> Result<Pulled, PullError> {
        // What is known and has not moved costs one request and no body.
        if !self.talk.registry.known.is_empty()
            && (!self.expects_news || matches!(wanted, Wanted::Digest(_)))
            && let Some(digest) = self.ask_digest(wanted)?
            && let Some(commit) = self.talk.registry.known.commit_of(&digest, self.repo)
        {
            let signer = self.check_signature(&digest)?;
            return Ok(Pulled { commit, signer });
        }
        let (digest, bytes) = self.fetch_manifest(wanted)?;
        let signer = self.check_signature(&digest)?;
        if let Some(commit) = self.talk.registry.known.commit_of(&digest, self.repo) {
            return Ok(Pulled { commit, signer });
        }
        if let Some(error) = self.talk.registry.refusal(&digest) {
            return Err(error.clone().into());
        }
        let pulled = self.pull(&digest, &bytes);
        match &pulled {
            Ok(commit) => self.talk.registry.note_commit(&digest, *commit),
            Err(PullError::Ref(RefError::Artifact(error))) => self.talk.registry.note_refusal(&digest, error),
            Err(_) => {}
        }
        pulled.map(|commit| Pulled { commit, signer })
    }

    /// Before anything of an artifact is used, where its repo names keys. What was found good stays so for this digest.
    /// Says which key signed it.
    fn check_signature(&mut self, digest: &str) -> Result<Option<String>, PullError> {
        if !self.talk.registry.has_to_be_signed() {
            return Ok(None);
        }
        if let Some(signer) = self.talk.registry.verified.get(digest) {
            return Ok(Some(signer.clone()));
        }
        let url = self.talk.registry.place.manifest(&cosign::tag_of(digest));
        let mut response = self.talk.ask(&Method::GET, url, ACCEPT)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(ArtifactError::Unsigned { digest: digest.to_owned() }.into()),
            _ => return Err(self.talk.judge(&response).into()),
        }
        let manifest = Manifest::read(&self.talk.read(&mut response, MANIFEST_BYTES_MAX)?)?;
        for (layer, signature) in manifest.signatures().into_iter().take(cosign::SIGNATURES_MAX) {
            let url = self.talk.registry.place.blob(&layer.digest);
            let mut response = self.talk.ask(&Method::GET, url, "application/octet-stream, */*")?;
            if response.status() != StatusCode::OK {
                continue;
            }
            // It is signed as it is, so its own digest says nothing more.
            let payload = self.talk.read(&mut response, cosign::PAYLOAD_BYTES_MAX)?;
            if let Some(signer) = self.talk.registry.find_signer(digest, &payload, signature) {
                self.talk.registry.verified.insert(digest.to_owned(), signer.clone());
                return Ok(Some(signer));
            }
        }
        Err(ArtifactError::SignedByOthers { digest: digest.to_owned() }.into())
    }

    /// `None`: it does not say, or there is none; asking for the manifest tells.
    fn ask_digest(&mut self, wanted: Wanted<'_>) -> Result<Option<String>, FetchError> {
        let url = self.talk.registry.place.manifest(wanted.name());
        let response = self.talk.ask(&Method::HEAD, url, ACCEPT)?;
        if response.status() != StatusCode::OK {
            return Ok(None);
        }
        Ok(match wanted {
            Wanted::Tag(_) => said_digest(&response),
            Wanted::Digest(digest) => Some(digest.to_owned()),
        })
    }

    /// With the digest of what really came.
    fn fetch_manifest(&mut self, wanted: Wanted<'_>) -> Result<(String, Vec<u8>), PullError> {
        let url = self.talk.registry.place.manifest(wanted.name());
        let mut response = self.talk.ask(&Method::GET, url, ACCEPT)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(self.describe_missing(wanted)?.into()),
            _ => return Err(self.talk.judge(&response).into()),
        }
        let bytes = self.talk.read(&mut response, MANIFEST_BYTES_MAX)?;
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
        let said = match wanted {
            Wanted::Tag(_) => said_digest(&response),
            Wanted::Digest(digest) => Some(digest.to_owned()),
        };
        if let Some(said) = said.filter(|said| *said != digest) {
            return Err(ArtifactError::Digest { what: "the manifest", digest: said }.into());
        }
        Ok((digest, bytes))
    }

    /// The tag may be missing, or all of the repo.
    fn describe_missing(&mut self, wanted: Wanted<'_>) -> Result<RefError, FetchError> {
        let tags = match self.list_tags(1) {
            // Some registries list nothing for whoever may only pull.
            Err(FetchError::Unauthorized { .. } | FetchError::ServerFailed { .. }) => Vec::new(),
            listed => listed?.0,
        };
        Ok(match wanted {
            Wanted::Tag(tag) => {
                RefError::NoSuchTag { tag: tag.to_owned(), nearest: nearest(tag, tags.iter().map(String::as_str)) }
            }
            Wanted::Digest(digest) => RefError::NoSuchDigest { digest: digest.to_owned() },
        })
    }

    /// The tag of the newest version in a range.
    pub(super) fn find_newest(&mut self, range: &str) -> Result<String, PullError> {
        let parsed = VersionRange::parse(range).ok_or(RefError::Invalid { reference: range.to_owned() })?;
        let tags = self.list_all_tags()?;
        let versions: BTreeMap<String, &String> = tags.iter().map(|tag| (of_registry(tag), tag)).collect();
        let names = || versions.keys().map(String::as_str);
        match parsed.newest(names()).and_then(|version| versions.get(version)) {
            Some(tag) => Ok((*tag).clone()),
            None => {
                let nearest = parsed.nearest(names()).into_iter().map(tidy).collect();
                Err(RefError::NoVersion { range: range.to_owned(), nearest }.into())
            }
        }
    }

    /// All tags, or an error: of a list that is cut off the newest version may be an old one.
    fn list_all_tags(&mut self) -> Result<Vec<String>, FetchError> {
        match self.list_tags(PAGES_MAX)? {
            (tags, true) => Ok(tags),
            (_, false) => Err(FetchError::TooLarge {
                what: "its list of tags is cut off, or goes on".to_owned(),
                max: TAGS_MAX as u64,
            }),
        }
    }

    /// Tags of so many pages, and whether those are all.
    fn list_tags(&mut self, pages: usize) -> Result<(Vec<String>, bool), FetchError> {
        let mut tags = Vec::new();
        let mut next = Some(self.talk.registry.place.tags());
        for _ in 0..pages {
            let Some(url) = next else { return Ok((tags, true)) };
            let mut response = self.talk.ask(&Method::GET, url.clone(), "application/json")?;
            if response.status() != StatusCode::OK {
                return Err(self.talk.judge(&response));
            }
            let body = self.talk.read(&mut response, TAGS_BYTES_MAX)?;
            let listed: Tags = serde_json::from_slice(&body).map_err(|_| self.talk.not_a_registry())?;
            tags.extend(listed.tags.unwrap_or_default().into_iter().filter(|tag| is_valid_artifact_tag(tag)));
            if tags.len() > TAGS_MAX {
                return Ok((tags, false));
            }
            let Some(page) = next_page(&response) else { return Ok((tags, true)) };
            // The rest of a list is nowhere else than its beginning.
            next = url.join(&page).ok().filter(|next| *next != url && self.talk.registry.place.is_origin_of(next));
            if next.is_none() {
                return Ok((tags, false));
            }
        }
        Ok((tags, next.is_none()))
    }

    fn pull(&mut self, digest: &str, bytes: &[u8]) -> Result<ObjectId, PullError> {
        let mut manifest = Manifest::read(bytes)?;
        if let Some(only) = manifest.only_manifest()? {
            let meant = only.digest.clone();
            let (_, bytes) = self.fetch_manifest(Wanted::Digest(&meant))?;
            manifest = Manifest::read(&bytes)?;
            if manifest.only_manifest()?.is_some() {
                return Err(ArtifactError::Unsupported { reason: "is an index of an index".to_owned() }.into());
            }
        }
        let mut files = Files::default();
        // Also if it comes to nothing.
        self.has_grown = true;
        for (layer, content) in manifest.contents()? {
            let url = self.talk.registry.place.blob(&layer.digest);
            let layer = Layer { url, digest: Some(&layer.digest), bytes_max: layer.size, is_exact: true };
            pull_layer(&mut self.talk, &layer, &content, &mut files, self.repo)?;
        }
        if files.ids.is_empty() {
            return Err(ArtifactError::Unsupported { reason: "holds no file".to_owned() }.into());
        }
        Ok(write_commit(self.repo, &files.ids, &describe(digest, &manifest))?)
    }
}

/// What holds files, and where it is.
pub(super) struct Layer<'a> {
    pub(super) url: Url,
    pub(super) digest: Option<&'a str>,
    pub(super) bytes_max: u64,
    /// It has so many bytes and no more, or it is another.
    pub(super) is_exact: bool,
}

/// Says its digest.
pub(super) fn pull_layer(
    talk: &mut Talk<'_>,
    layer: &Layer<'_>,
    content: &Content,
    files: &mut Files,
    repo: &gix::Repository,
) -> Result<String, PullError> {
    let named = layer.digest.unwrap_or(layer.url.path());
    let response = talk.ask(&Method::GET, layer.url.clone(), "application/octet-stream, */*")?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(ArtifactError::Incomplete { digest: tidy(named) }.into()),
        _ => return Err(talk.judge(&response).into()),
    }
    talk.budget.allow(layer.bytes_max);
    let mut blob = Hashed { inner: Blob::new(talk, response), hash: Sha256::new() };
    let unpacked = unpack(&mut blob, content, files, repo, talk.budget);
    if let Err(PullError::Fetch(error)) = unpacked {
        return Err(error.into());
    }
    // A layer that is not what was pushed is told as that, whatever it looks like inside.
    let is_read_to_its_end = io::copy(&mut blob, &mut io::sink()).is_ok();
    let Hashed { inner, hash } = blob;
    let differs = || ArtifactError::Digest { what: "a layer", digest: tidy(named) };
    match inner.failure {
        Some(FetchError::TooLarge { .. }) if layer.is_exact => return Err(differs().into()),
        Some(FetchError::TooLarge { max, .. }) => {
            return Err(ArtifactError::TooLarge { what: format!("it has more than {max} bytes"), max }.into());
        }
        Some(failure) => return Err(failure.into()),
        None => {}
    }
    let digest = format!("sha256:{}", hex::encode(hash.finalize()));
    if is_read_to_its_end && layer.digest.is_some_and(|named| named != digest) {
        return Err(differs().into());
    }
    unpacked.map(|()| digest)
}

/// `</v2/NAME/tags/list?n=100&last=x>; rel="next"`, among other links.
fn next_page(response: &Response) -> Option<String> {
    let links = response.headers().get_all(LINK).into_iter().filter_map(|link| link.to_str().ok());
    // No comma stands in a target of ours, as it is none of the letters of a tag.
    links.flat_map(|link| link.split(',')).find_map(|link| {
        let (target, relation) = link.trim().strip_prefix('<')?.split_once('>')?;
        relation.contains("next").then(|| target.to_owned())
    })
}

fn said_digest(response: &Response) -> Option<String> {
    let said = response.headers().get(DIGEST)?.to_str().ok()?;
    is_valid_digest(said).then(|| said.to_owned())
}

/// What its commit says: who made it, when, and from what, as far as the artifact tells.
fn describe<'a>(digest: &str, manifest: &'a Manifest) -> Made<'a> {
    let of = |name: &str| manifest.annotation(&format!("org.opencontainers.image.{name}"));
    let made_at = of("created").and_then(|text| text.parse::<Timestamp>().ok());
    let mut message = digest.to_owned();
    if let Some(version) = of("version").or_else(|| of("revision")) {
        message = format!("{} ({digest})", tidy(version));
    }
    message.push('\n');
    for name in ["title", "version", "revision", "source"] {
        if let Some(text) = of(name) {
            let _ = write!(message, "\n{name}: {}", tidy(text));
        }
    }
    Made { author: of("authors").unwrap_or("an artifact"), message, seconds: made_at.map_or(0, Timestamp::as_second) }
}

struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.hash.update(&buffer[..bytes]);
        Ok(bytes)
    }
}
