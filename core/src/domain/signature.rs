//! By whom a revision has to be signed, and by whom it was found signed.
//!
//! Whether a signature is good is found out where commits and artifacts are read; what follows from that is decided here, each
//! time that a revision is to be rolled out: a key that was given later counts for what was seen before, and one that was
//! taken away counts for nothing any more.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Who has to have signed what a Git repo holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    #[serde(default)]
    pub mode: VerifyMode,
    /// Public keys: OpenPGP's in ASCII armor, or SSH's in lines as `ssh-keygen` writes them. One of them has to have signed.
    pub keys: Vec<String>,
}

/// What of a Git repo has to be signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VerifyMode {
    /// The commit that a ref leads to.
    #[default]
    Commit,
    /// The tag, which then has to be there: of targets that follow a tag or a range of versions.
    Tag,
    TagAndCommit,
}

impl VerifyMode {
    /// Whether the commit itself has to be signed.
    pub const fn is_of_commits(self) -> bool {
        matches!(self, Self::Commit | Self::TagAndCommit)
    }

    /// Whether the tag has to be.
    pub const fn is_of_tags(self) -> bool {
        matches!(self, Self::Tag | Self::TagAndCommit)
    }
}

/// By which keys a revision was found signed. Keys are named as the tools name them that made them: `openpgp:` and the
/// primary key's fingerprint, then `/` and that of the part that signed, if it was another; `ssh:SHA256:…`, `cosign:sha256:…`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = [&self.commit, &self.tag, &self.artifact].into_iter().flatten();
        let keys: BTreeSet<&str> = keys.map(|key| name_of(key)).collect();
        for (place, key) in keys.into_iter().enumerate() {
            let before = if place == 0 { "" } else { ", " };
            write!(f, "{before}{key}")?;
        }
        Ok(())
    }
}

/// People know a key of OpenPGP by its primary part. In fingerprints of SSH a `/` is a digit.
fn name_of(key: &str) -> &str {
    match key.split_once('/') {
        Some((primary, _)) if key.starts_with("openpgp:") => primary,
        _ => key,
    }
}

/// What has to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    Git(VerifyMode),
    Artifact,
}

/// Whether keys that count now have signed all that has to be.
pub fn is_admitted(signed: Signed, verified: Option<&Verified>, keys: &BTreeSet<String>) -> bool {
    let Some(verified) = verified else { return false };
    let counts = |key: &Option<String>| key.as_ref().is_some_and(|key| keys.contains(key));
    match signed {
        Signed::Git(mode) => {
            (!mode.is_of_commits() || counts(&verified.commit)) && (!mode.is_of_tags() || counts(&verified.tag))
        }
        Signed::Artifact => counts(&verified.artifact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_what_a_key_of_now_signed_is_admitted() {
        let by_a = Verified { commit: Some("ssh:a".to_owned()), ..Verified::default() };
        let commit = Signed::Git(VerifyMode::Commit);

        assert!(is_admitted(commit, Some(&by_a), &keys(&["ssh:a", "ssh:b"])));
        assert!(!is_admitted(commit, Some(&by_a), &keys(&["ssh:b"])));
        assert!(!is_admitted(commit, Some(&by_a), &keys(&[])));
        assert!(!is_admitted(commit, None, &keys(&["ssh:a"])));
        assert!(!is_admitted(Signed::Artifact, Some(&by_a), &keys(&["ssh:a"])));
    }

    #[test]
    fn a_tag_and_its_commit_are_both_to_be_signed_where_both_are_asked_for() {
        let tag = Verified { tag: Some("ssh:a".to_owned()), ..Verified::default() };
        let both = Verified { commit: Some("ssh:b".to_owned()), ..tag.clone() };
        let known = keys(&["ssh:a", "ssh:b"]);

        assert!(is_admitted(Signed::Git(VerifyMode::Tag), Some(&tag), &known));
        assert!(!is_admitted(Signed::Git(VerifyMode::Commit), Some(&tag), &known));
        assert!(!is_admitted(Signed::Git(VerifyMode::TagAndCommit), Some(&tag), &known));
        assert!(is_admitted(Signed::Git(VerifyMode::TagAndCommit), Some(&both), &known));
        assert_eq!(both.to_string(), "ssh:a, ssh:b");
    }

    #[test]
    fn a_key_is_shown_by_its_primary_part_and_counts_by_the_one_that_signed() {
        let by = |key: &str| Verified { commit: Some(key.to_owned()), ..Verified::default() };
        let (part, commit) = (by("openpgp:A/B"), Signed::Git(VerifyMode::Commit));

        assert_eq!(part.to_string(), "openpgp:A");
        assert_eq!(by("ssh:SHA256:a/b").to_string(), "ssh:SHA256:a/b");
        assert!(is_admitted(commit, Some(&part), &keys(&["openpgp:A", "openpgp:A/B"])));
        assert!(!is_admitted(commit, Some(&part), &keys(&["openpgp:A", "openpgp:A/C"])));
        assert!(!is_admitted(commit, Some(&by("openpgp:A")), &keys(&["openpgp:A/B"])));
    }
}
