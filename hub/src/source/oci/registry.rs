//! A conversation with a registry: <https://github.com/opencontainers/distribution-spec>.
//!
//! A registry may send us on, to a server of tokens and to a store of blobs. Both are hosts that somebody else chose, so
//! the policy for addresses holds for each of them, and the credential goes to the registry itself and to the server of
//! tokens that it names over https; to no other.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use gix::ObjectId;
use hyper::body::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, redirect};
use serde::Deserialize;
use tokio::runtime::Handle;
use url::{Host, Url};

use super::charts::KnownIndex;
use super::cosign::CosignKey;
use super::error::ArtifactError;
use super::file::KnownFile;
use super::known::Known;
use super::place::Place;
use crate::egress::{Failure, is_public};
use crate::source::git::{Budget, FetchError, Remote, describe_status};

/// To a store and, within it, to where the blob is.
const REDIRECTS_MAX: usize = 3;

/// The registry, its server of tokens, its stores.
const CLIENTS_MAX: usize = 8;

/// Tokens that say a lot have some KiB.
const TOKEN_BYTES_MAX: u64 = 256 << 10;

/// Artifacts that are known to be unusable.
const REFUSED_MAX: usize = 100;

/// What is worth keeping of a registry between fetches.
#[derive(Debug)]
pub(in crate::source) struct Registry {
    remote: Remote,
    pub(super) place: Place,
    pub(super) known: Known,
    keys: Vec<CosignKey>,
    /// Digests whose signature was found good, and by which key.
    pub(super) verified: BTreeMap<String, String>,
    /// Of a Helm repository.
    pub(super) index: Option<KnownIndex>,
    /// Of a single file.
    pub(super) last: Option<KnownFile>,
    /// By digest: they are not pulled again while the hub runs.
    refused: BTreeMap<String, ArtifactError>,
    clients: BTreeMap<String, reqwest::Client>,
    /// The credential, as a user and a password.
    basic: Option<HeaderValue>,
    /// What the registry last took.
    authorization: Option<HeaderValue>,
}

impl Registry {
    pub(in crate::source) fn open(remote: &Remote, folder: &Path) -> Result<Self, FetchError> {
        let not_a_registry = || FetchError::NotARegistry { url: remote.url.to_string() };
        let is_on_a_server = remote.chart.is_some() || remote.file().is_some();
        let place = if is_on_a_server { remote.url.https_place() } else { remote.url.artifact() };
        let place = place.ok_or_else(not_a_registry)?;
        let basic = remote.authorization()?;
        Ok(Self {
            remote: remote.clone(),
            place,
            known: Known::open(folder),
            // One that cannot be read signed nothing.
            keys: remote.cosign_keys.iter().filter_map(|pem| CosignKey::read(pem).ok()).collect(),
            verified: BTreeMap::new(),
            index: None,
            last: None,
            refused: BTreeMap::new(),
            clients: BTreeMap::new(),
            basic,
            authorization: None,
        })
    }

    pub(in crate::source) fn serves(&self, remote: &Remote) -> bool {
        self.remote.is(remote)
    }

    pub(super) fn has_to_be_signed(&self) -> bool {
        !self.remote.cosign_keys.is_empty()
    }

    /// Which of the repo's keys signed it, as it is called.
    pub(super) fn find_signer(&self, digest: &str, payload: &[u8], signature: &str) -> Option<String> {
        let signer = self.keys.iter().find(|key| key.has_signed(digest, payload, signature));
        signer.map(|key| key.id().to_owned())
    }

    /// The name of a chart, of a Helm repository.
    pub(super) fn chart(&self) -> Option<String> {
        self.remote.chart.clone()
    }

    /// Where a single file is, if that is what is asked for.
    pub(super) fn file(&self) -> Option<Url> {
        self.remote.file().cloned()
    }

    /// Where a Helm repository is.
    pub(super) fn repository(&self) -> String {
        self.remote.url.to_string()
    }

    pub(super) fn refusal(&self, digest: &str) -> Option<&ArtifactError> {
        self.refused.get(digest)
    }

    pub(super) fn note_refusal(&mut self, digest: &str, error: &ArtifactError) {
        if error.is_lasting() && self.refused.len() < REFUSED_MAX {
            self.refused.insert(digest.to_owned(), error.clone());
        }
    }

    pub(super) fn note_commit(&mut self, digest: &str, commit: ObjectId) {
        if let Err(error) = self.known.note(digest, commit) {
            tracing::warn!(error = %error, "cannot note what an artifact became");
        }
    }

    /// One for each host, which resolves that host's name to allowed addresses only.
    fn client_for(&mut self, url: &Url) -> Result<reqwest::Client, FetchError> {
        let host = url.host_str().unwrap_or_default();
        if let Some(client) = self.clients.get(host) {
            return Ok(client.clone());
        }
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let client = self.remote.destination(host, is_loopback).build_client(redirect::Policy::none());
        let client = client.map_err(|failure| FetchError::of_egress(host.to_owned(), failure))?;
        if self.clients.len() >= CLIENTS_MAX {
            self.clients.clear();
        }
        self.clients.insert(host.to_owned(), client.clone());
        Ok(client)
    }

    /// Of what is not the registry's own.
    pub(super) fn check_other(&self, url: &Url) -> Result<(), FetchError> {
        if self.place.is_origin_of(url) { Ok(()) } else { self.check_elsewhere(url) }
    }

    /// Whether somebody who is not the administrator may lead us there.
    fn check_elsewhere(&self, url: &Url) -> Result<(), FetchError> {
        let (host, target) = (self.place.host().to_owned(), url.host_str().unwrap_or_default().to_owned());
        let is_plain = url.username().is_empty() && url.password().is_none() && !target.is_empty();
        let is_secure = url.scheme() == "https" || (url.scheme() == "http" && !self.place.is_secure());
        if !is_plain || !is_secure {
            return Err(FetchError::Redirected { host, target: format!("{}://{target}", url.scheme()) });
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            // Looked at when it is connected to.
            _ => return Ok(()),
        };
        if self.remote.may_be_private || is_public(address) {
            return Ok(());
        }
        Err(FetchError::Private { host: target, address })
    }
}

fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// One fetch's use of a registry.
pub(super) struct Talk<'a> {
    pub(super) registry: &'a mut Registry,
    pub(super) budget: &'a Budget<'a>,
    runtime: Handle,
}

impl<'a> Talk<'a> {
    /// To be called where tokio's runtime can be entered, which is so in `spawn_blocking`.
    pub(super) fn new(registry: &'a mut Registry, budget: &'a Budget<'a>) -> Result<Self, FetchError> {
        let host = registry.place.host().to_owned();
        let runtime =
            Handle::try_current().map_err(|source| FetchError::Unreachable { host, source: source.into() })?;
        Ok(Self { registry, budget, runtime })
    }

    /// Asks, shows who we are where that is wanted, and follows to where the answer is.
    pub(super) fn ask(&mut self, method: &Method, url: Url, accept: &'static str) -> Result<Response, FetchError> {
        self.ask_unless(method, url, accept, None)
    }

    /// The same, unless it is what is known already by this name.
    pub(super) fn ask_unless(
        &mut self,
        method: &Method,
        url: Url,
        accept: &'static str,
        known: Option<&HeaderValue>,
    ) -> Result<Response, FetchError> {
        let mut was_renewed = false;
        let (mut at, mut redirects) = (url, 0);
        loop {
            let is_registry = self.registry.place.is_origin_of(&at);
            let authorization = self.registry.authorization.clone().filter(|_| is_registry);
            let headers = [(AUTHORIZATION, authorization), (IF_NONE_MATCH, known.cloned())];
            let response = self.send(method, &at, accept, headers)?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && is_registry && !was_renewed {
                was_renewed = true;
                self.registry.authorization = Some(self.authorize(&response)?);
            } else if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                redirects += 1;
                at = self.follow(&at, &response, redirects)?;
            } else {
                return Ok(response);
            }
        }
    }

    fn follow(&self, at: &Url, response: &Response, redirects: usize) -> Result<Url, FetchError> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let to = location.and_then(|location| at.join(location).ok());
        match to {
            Some(to) if redirects <= REDIRECTS_MAX => {
                self.registry.check_other(&to)?;
                Ok(to)
            }
            _ => Err(self.judge(response)),
        }
    }

    fn send(
        &mut self,
        method: &Method,
        url: &Url,
        accept: &'static str,
        headers: [(HeaderName, Option<HeaderValue>); 2],
    ) -> Result<Response, FetchError> {
        let client = self.registry.client_for(url)?;
        let mut request = client.request(method.clone(), url.clone()).header(ACCEPT, accept);
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        self.budget
            .wait(&self.runtime, request.send())?
            .map_err(|error| FetchError::of_egress(host, Failure::of(error)))
    }

    /// What the registry wants to see, as it says in its refusal.
    fn authorize(&mut self, refusal: &Response) -> Result<HeaderValue, FetchError> {
        let values = refusal.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = values.flat_map(parse_challenges).collect();
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
        let basic = self.registry.basic.clone();
        match (find("bearer"), find("basic"), basic) {
            (Some(bearer), _, _) => self.fetch_token(bearer),
            (None, Some(_), Some(basic)) => Ok(basic),
            _ => Err(self.judge(refusal)),
        }
    }

    fn fetch_token(&mut self, challenge: &Challenge) -> Result<HeaderValue, FetchError> {
        let url = self.registry.remote.url.to_string();
        let not_a_registry = || FetchError::NotARegistry { url: url.clone() };
        let realm = challenge.parameters.get("realm").and_then(|realm| Url::parse(realm).ok());
        let mut realm = realm.ok_or_else(not_a_registry)?;
        self.registry.check_elsewhere(&realm)?;
        let scope = format!("repository:{}:pull", self.registry.place.name);
        {
            let mut query = realm.query_pairs_mut();
            if let Some(service) = challenge.parameters.get("service") {
                query.append_pair("service", service);
            }
            query.append_pair("scope", &scope);
        }
        // Only over https, which `basic` has made sure of: so it is the registry that names the realm.
        let basic = self.registry.basic.clone().filter(|_| realm.scheme() == "https");
        let mut response =
            self.send(&Method::GET, &realm, "application/json", [(AUTHORIZATION, basic), (IF_NONE_MATCH, None)])?;
        if response.status() != StatusCode::OK {
            let host = realm.host_str().unwrap_or_default().to_owned();
            return Err(describe_status(&response, host, url.clone(), self.registry.basic.is_some()));
        }
        let body = self.read(&mut response, TOKEN_BYTES_MAX)?;
        let token: Token = serde_json::from_slice(&body).map_err(|_| not_a_registry())?;
        let token = token.token.or(token.access_token).and_then(|token| secret(format!("Bearer {token}")));
        token.ok_or_else(not_a_registry)
    }

    /// An answer that is not the one that was asked for.
    pub(super) fn judge(&self, response: &Response) -> FetchError {
        let registry = &self.registry;
        let host = response.url().host_str().unwrap_or_default().to_owned();
        describe_status(response, host, registry.remote.url.to_string(), registry.basic.is_some())
    }

    pub(super) fn not_a_registry(&self) -> FetchError {
        FetchError::NotARegistry { url: self.registry.remote.url.to_string() }
    }

    pub(super) fn read(&self, response: &mut Response, bytes_max: u64) -> Result<Vec<u8>, FetchError> {
        self.budget.allow(bytes_max);
        let mut body = Vec::new();
        while let Some(chunk) = self.next_chunk(response)? {
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn next_chunk(&self, response: &mut Response) -> Result<Option<Bytes>, FetchError> {
        let host = response.url().host_str().unwrap_or_default().to_owned();
        let chunk = self
            .budget
            .wait(&self.runtime, response.chunk())?
            .map_err(|error| FetchError::of_egress(host, Failure::of(error)))?;
        self.budget.charge(chunk.as_ref().map_or(0, Bytes::len))?;
        Ok(chunk)
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// A blob as it arrives. What is behind it wraps errors, so why it ended is kept aside.
pub(super) struct Blob<'a, 'b> {
    talk: &'a Talk<'b>,
    response: Response,
    chunk: Bytes,
    pub(super) failure: Option<FetchError>,
}

impl<'a, 'b> Blob<'a, 'b> {
    pub(super) fn new(talk: &'a Talk<'b>, response: Response) -> Self {
        Self { talk, response, chunk: Bytes::new(), failure: None }
    }
}

impl Read for Blob<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.talk.next_chunk(&mut self.response) {
                Ok(Some(chunk)) => self.chunk = chunk,
                Ok(None) => return Ok(0),
                Err(error) => {
                    let text = error.to_string();
                    self.failure.get_or_insert(error);
                    return Err(io::Error::other(text));
                }
            }
        }
        let bytes = buffer.len().min(self.chunk.len());
        buffer[..bytes].copy_from_slice(&self.chunk.split_to(bytes));
        Ok(bytes)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: BTreeMap<String, String>,
}

/// `Bearer realm="https://…",service="…", Basic realm="…"`.
fn parse_challenges(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    for part in split_outside_quotes(text) {
        let (head, parameter) = match part.split_once('=') {
            Some((name, value)) => match name.trim().rsplit_once(' ') {
                Some((scheme, name)) => (Some(scheme), Some((name, value))),
                None => (None, Some((name.trim(), value))),
            },
            None => (Some(part.trim()), None),
        };
        if let Some(scheme) = head {
            challenges.push(Challenge { scheme: scheme.trim().to_owned(), parameters: BTreeMap::new() });
        }
        if let (Some(challenge), Some((name, value))) = (challenges.last_mut(), parameter) {
            let value = value.trim().trim_matches('"').replace("\\\"", "\"");
            challenge.parameters.insert(name.to_ascii_lowercase(), value);
        }
    }
    challenges
}

fn split_outside_quotes(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut is_quoted) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        match character {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                parts.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[begin..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_wants_to_see_is_read_as_registries_write_it() {
        let ghcr = r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:a/b:pull,push""#;
        let [challenge] = &parse_challenges(ghcr)[..] else { panic!("one") };
        assert_eq!(challenge.scheme, "Bearer");
        let of = |name: &str| challenge.parameters.get(name).map(String::as_str);
        assert_eq!(
            (of("realm"), of("service"), of("scope")),
            (Some("https://ghcr.io/token"), Some("ghcr.io"), Some("repository:a/b:pull,push"))
        );

        let both = parse_challenges(r#"Negotiate, basic realm="A, \"B\"", Bearer realm=https://a/token"#);
        let schemes: Vec<&str> = both.iter().map(|challenge| challenge.scheme.as_str()).collect();
        assert_eq!(schemes, ["Negotiate", "basic", "Bearer"]);
        assert_eq!(both[2].parameters["realm"], "https://a/token");
        assert_eq!(parse_challenges(""), []);
        assert_eq!(parse_challenges("=,=,\""), parse_challenges("=,=,\""), "and nothing panics");
    }
}
