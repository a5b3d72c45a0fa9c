//! Signatures of commits and tags: by which of a repo's keys they are.
//!
//! Everything is checked in this process: no keyring, no configuration of a user, no program. A signature counts when it is
//! over exactly what the object says, as Git defines it, and when the key behind it is one that was given. What follows from
//! the answer is decided where a revision is rolled out.

mod object;
mod openpgp;
mod ssh;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use bellwether_core::signature::{Verified, Verify, VerifyMode};
use gix::ObjectId;
use gix::objs::Kind;
use jiff::Timestamp;

use super::error::{FetchError, ReadError, RefError};
use super::{damaged, read};

/// Whose signatures count, and of what.
#[derive(Debug, Clone)]
pub(crate) struct Verifier {
    mode: VerifyMode,
    openpgp: Vec<openpgp::Key>,
    ssh: Vec<ssh::Key>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidVerifyKey {
    #[error("a key of `verify` is neither a public key of OpenPGP nor a line with a public key of SSH")]
    Unknown,
    #[error("a key of `verify` is a private key")]
    Private,
    #[error("a key of `verify` cannot be read as a public key of OpenPGP")]
    OpenPgp,
    #[error("the OpenPGP key {fingerprint} of `verify` {reason}")]
    Unusable { fingerprint: String, reason: &'static str },
    #[error("line {line} of a key of `verify` is no public key of SSH")]
    Ssh { line: usize },
    #[error("`verify` has no key")]
    Empty,
}

impl InvalidVerifyKey {
    pub(crate) const HINT: &'static str = "`gpg --armor --export KEY` prints a key of OpenPGP; a key of SSH is the line in the `.pub` file of `ssh-keygen`";
}

/// Why an object is not by one of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unverified {
    Unsigned,
    /// By whom it says that it is.
    ByOthers(Option<String>),
    /// By one of the keys, and not good.
    NotGood {
        key: String,
        reason: &'static str,
    },
    /// What leads to the commit is no tag.
    NoTag,
    /// It was signed as the tag of another name.
    OtherTag(String),
}

impl Unverified {
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Unsigned => "revision_unsigned",
            Self::ByOthers(_) => "revision_signed_by_others",
            Self::NotGood { .. } => "revision_signature_bad",
            Self::NoTag => "revision_has_no_tag",
            Self::OtherTag(_) => "revision_tag_renamed",
        }
    }

    pub(super) fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Unsigned => {
                "sign it, with `git commit -S` or `git tag -s`, by one of the repo's keys; what runs goes on until then"
            }
            Self::ByOthers(_) => {
                "if that is meant, put the public key into the repo's `verify`; what runs goes on until then"
            }
            Self::NotGood { .. } => "sign it again by a key that is valid; what runs goes on until then",
            Self::NoTag => {
                "let the target follow a tag or a range of versions, or let the repo verify commits: `mode: commit`"
            }
            Self::OtherTag(_) => "make a new tag and sign it; a signature counts for the name that it was made for",
        }))
    }
}

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("is not signed"),
            Self::ByOthers(Some(key)) => write!(f, "is signed by {key}, which is none of the repo's keys"),
            Self::ByOthers(None) => f.write_str("is signed by none of the repo's keys"),
            Self::NotGood { key, reason } => write!(f, "has a signature of {key} that {reason}"),
            Self::NoTag => f.write_str("is not reached by a tag, and tags are what has to be signed"),
            Self::OtherTag(name) => write!(f, "was signed as the tag `{name}`"),
        }
    }
}

/// What a ref leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signable<'a> {
    pub(super) commit: ObjectId,
    /// The tag that leads there by its short name, and the object that it is, if it is more than a name.
    pub(super) tag: Option<(&'a str, Option<ObjectId>)>,
}

impl Verifier {
    pub(crate) fn read(verify: &Verify) -> Result<Self, InvalidVerifyKey> {
        let mut read = Self { mode: verify.mode, openpgp: Vec::new(), ssh: Vec::new() };
        for text in &verify.keys {
            if text.contains("PRIVATE KEY") {
                return Err(InvalidVerifyKey::Private);
            }
            if text.contains(openpgp::BEGIN) {
                read.openpgp.extend(openpgp::read(text)?);
            } else {
                read.ssh.extend(ssh::read(text)?);
            }
        }
        if read.openpgp.is_empty() && read.ssh.is_empty() {
            return Err(InvalidVerifyKey::Empty);
        }
        Ok(read)
    }

    /// How the keys are called.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let openpgp = self.openpgp.iter().map(openpgp::Key::id);
        openpgp.chain(self.ssh.iter().map(ssh::Key::id)).collect()
    }

    /// How that is called whose signatures count: keys, and parts of them.
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        let openpgp = self.openpgp.iter().flat_map(openpgp::Key::ids_of_parts);
        openpgp.chain(self.ssh.iter().map(ssh::Key::id)).collect()
    }

    pub(super) const fn needs_tags(&self) -> bool {
        self.mode.is_of_tags()
    }

    /// By which keys that is signed which has to be.
    pub(super) fn verify(
        &self,
        signable: Signable<'_>,
        repo: &gix::Repository,
        now: Timestamp,
    ) -> Result<Result<Verified, RefError>, FetchError> {
        let (mut verified, commit) = (Verified::default(), || format!("commit {}", signable.commit));
        if self.mode.is_of_tags() {
            let Some((name, object)) = signable.tag else { return Ok(Err(refuse(commit(), Unverified::NoTag))) };
            match self.find_signer_of_tag(signable.commit, (name, object), repo, now)? {
                Ok(key) => verified.tag = Some(key),
                Err(why) => return Ok(Err(refuse(format!("tag `{name}`"), why))),
            }
        }
        if self.mode.is_of_commits() {
            let signed = load(repo, signable.commit, Kind::Commit)?.map(|bytes| object::read_commit(&bytes));
            match self.find_signer(signed.flatten(), now) {
                Ok(key) => verified.commit = Some(key),
                Err(why) => return Ok(Err(refuse(commit(), why))),
            }
        }
        Ok(Ok(verified))
    }

    fn find_signer_of_tag(
        &self,
        commit: ObjectId,
        (name, object): (&str, Option<ObjectId>),
        repo: &gix::Repository,
        now: Timestamp,
    ) -> Result<Result<String, Unverified>, FetchError> {
        let Some(object) = object else { return Ok(Err(Unverified::Unsigned)) };
        let Some(bytes) = load(repo, object, Kind::Tag)? else { return Ok(Err(Unverified::Unsigned)) };
        Ok(match object::read_tag(&bytes) {
            Some(tag) if tag.target == commit && tag.name == name.as_bytes() => self.find_signer(tag.signed, now),
            // Whoever may push could give an old release a new name.
            Some(tag) if tag.target == commit => Err(Unverified::OtherTag(super::tidy(tag.name))),
            _ => Err(Unverified::Unsigned),
        })
    }

    fn find_signer(&self, signed: Option<object::Signed>, now: Timestamp) -> Result<String, Unverified> {
        let Some(object::Signed { content, signature }) = signed else { return Err(Unverified::Unsigned) };
        if signature.starts_with(ssh::BEGIN.as_bytes()) {
            ssh::find_signer(&self.ssh, &content, &signature)
        } else {
            openpgp::find_signer(&self.openpgp, &content, &signature, now)
        }
    }
}

/// `None`: larger than anything that people sign, which is whoever pushed it's doing and no damage.
fn load(repo: &gix::Repository, id: ObjectId, kind: Kind) -> Result<Option<Vec<u8>>, FetchError> {
    match read::load(repo, id, kind, read::COMMIT_BYTES_MAX) {
        Err(ReadError::TooLarge { .. }) => Ok(None),
        loaded => loaded.map(Some).map_err(damaged),
    }
}

fn refuse(what: String, why: Unverified) -> RefError {
    RefError::Unverified { what, why }
}
