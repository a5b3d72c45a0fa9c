//! Git: mirrors of repos, what is new in them, and the files of a commit. The only place that knows gix.
//!
//! A mirror is a bare repository in a cache folder that may be deleted at any time. It has no work tree, takes no
//! configuration from the host, runs no hook and no filter, and fetches no submodule and no LFS object. It keeps the
//! commits it once fetched, each without its history, so that an earlier revision can be rendered again.
//!
//! Everything here blocks: callers are in `spawn_blocking`. A fetch that fails changes nothing of what can be read.

mod budget;
mod commit;
mod descent;
mod disk;
mod error;
mod fetch;
mod files;
mod lacking;
mod mirror;
mod read;
mod reader;
mod scan;
mod session;
mod ssh;
#[cfg(test)]
mod tests;
mod unpack;
mod url;
mod verify;
mod wire;
mod write;

use base64::Engine as _;
use bellwether_core::report::is_obeyed;
use bellwether_core::signature::{Verified, Verify};
use bellwether_core::source::GitRef;
use gix::bstr::ByteSlice;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

pub(crate) use self::budget::FetchBounds;
pub(crate) use self::commit::Commit;
pub(crate) use self::disk::{mirror_bytes, remove_mirror};
pub(crate) use self::error::{FetchError, ReadError, RefError};
pub(crate) use self::files::CommitFiles;
pub(crate) use self::mirror::Mirror;
pub(crate) use self::reader::Reader;
pub(crate) use self::ssh::{InvalidKey, KnownHosts, SshKey};
#[cfg(test)]
pub(crate) use self::tests::{http, signers, upstream};
pub(crate) use self::url::{InvalidUrl, RepoUrl, UrlPolicy};
pub(crate) use self::verify::{InvalidVerifyKey, Verifier};

pub(super) use self::budget::Budget;
use self::error::Cause;
pub(crate) use self::error::nearest;
pub(super) use self::wire::describe_status;
pub(crate) use self::wire::parse_wait;
pub(super) use self::write::{Made, write_commit, write_file};
use crate::egress::Destination;

/// The only way to name objects that servers and clients agree on today.
const HASH: gix::hash::Kind = gix::hash::Kind::Sha1;

/// For lists and logs; commits may hold books.
const LINE_CHARACTERS_MAX: usize = 200;

/// Where a repo is, and how it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) url: RepoUrl,
    /// Trusted instead of the system's certificates.
    pub(crate) ca_pem: Option<String>,
    /// By ssh: which keys hosts have, as lines of a `known_hosts` file.
    pub(crate) known_hosts: Option<String>,
    /// The URL is a Helm repository's, and this is meant of it.
    pub(crate) chart: Option<String>,
    /// Of an artifact only what one of these keys (PEM) signed is taken, if there are any.
    pub(crate) cosign_keys: Vec<String>,
    /// Of Git: whose signatures of commits and tags are looked for.
    pub(crate) verify: Option<Verify>,
    /// A token; by ssh the private key.
    pub(crate) credential: Option<SecretString>,
    /// Its name may lead to an address inside the hub's network.
    pub(crate) may_be_private: bool,
}

/// The user name that hosts and registries take beside a token.
const TOKEN_USER: &str = "x-access-token";

impl Remote {
    /// How a request says who it is from: a token alone, or `USER:PASSWORD`. Marked as a secret, for whoever logs it.
    pub(in crate::source) fn authorization(&self) -> Result<Option<HeaderValue>, FetchError> {
        let Some(credential) = &self.credential else { return Ok(None) };
        if !self.url.is_https() {
            return Err(FetchError::TokenNeedsHttps { host: self.url.host() });
        }
        let credential = credential.expose_secret();
        let pair = if credential.contains(':') { credential.to_owned() } else { format!("{TOKEN_USER}:{credential}") };
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is valid in a header");
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// A single file, if that is what it is.
    pub(in crate::source) fn file(&self) -> Option<&::url::Url> {
        self.url.file().filter(|_| self.chart.is_none())
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        let credential = |remote: &Self| remote.credential.as_ref().map(|text| text.expose_secret().to_owned());
        self.url == other.url
            && self.ca_pem == other.ca_pem
            && self.known_hosts == other.known_hosts
            && self.chart == other.chart
            && self.cosign_keys == other.cosign_keys
            && self.verify == other.verify
            && self.may_be_private == other.may_be_private
            && credential(self) == credential(other)
    }

    /// One of the hosts that it is fetched from.
    pub(crate) fn destination<'a>(&'a self, host: &'a str, is_loopback: bool) -> Destination<'a> {
        Destination { host, is_loopback, may_be_private: self.may_be_private, ca_pem: self.ca_pem.as_deref() }
    }
}

/// A ref that was asked for, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) reference: GitRef,
    /// Of a range of versions the tag that is the newest in it.
    pub(crate) tag: Option<String>,
    /// The commit that it was asked about and is known to build on.
    pub(crate) builds_on: Option<String>,
    /// By which of the repo's keys it is signed, or why by none; `None`: nobody asks.
    pub(crate) verified: Option<Result<Verified, RefError>>,
    pub(crate) outcome: Result<Commit, RefError>,
}

/// One short line of somebody else's text, safe to print.
pub(crate) fn tidy(text: &[u8]) -> String {
    let text = text.to_str_lossy();
    let line = text.trim().chars().filter(|character| !is_obeyed(*character));
    line.take(LINE_CHARACTERS_MAX).collect()
}

fn protocol(source: impl Into<Cause>) -> FetchError {
    FetchError::Protocol { source: source.into() }
}

fn damaged(source: impl Into<Cause>) -> FetchError {
    FetchError::Damaged { source: source.into() }
}

fn mirror(source: impl Into<Cause>) -> FetchError {
    FetchError::Mirror { source: source.into() }
}
