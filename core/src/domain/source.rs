//! What may be looked up in a repo: refs, folders, and the first digits of a commit.
//!
//! Decides which names are safe to hand to Git's rules, and which commit a person means. It knows no repository: what a ref
//! leads to is found out by the hub's source stage.

use serde::{Deserialize, Serialize};

use crate::version_range::VersionRange;

/// Which commit of a repo. Stored as one field that says how it is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "StoredRef")]
pub enum GitRef {
    Branch(String),
    Tag(String),
    /// The tag or the branch of this name, as Git looks for it; `HEAD` is the default branch. Remote bases name one so.
    Named(String),
    /// The newest of the tags in a range of versions.
    Semver(String),
    Commit(String),
    /// Of an artifact in a registry, which has tags and digests.
    Digest(String),
}

impl Default for GitRef {
    fn default() -> Self {
        Self::Branch("main".to_owned())
    }
}

/// What a row holds: a later version may have put something beside it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRef {
    branch: Option<String>,
    tag: Option<String>,
    named: Option<String>,
    semver: Option<String>,
    commit: Option<String>,
    digest: Option<String>,
}

impl TryFrom<StoredRef> for GitRef {
    type Error = &'static str;

    fn try_from(stored: StoredRef) -> Result<Self, &'static str> {
        let StoredRef { branch, tag, named, semver, commit, digest } = stored;
        let all = [
            branch.map(Self::Branch),
            tag.map(Self::Tag),
            named.map(Self::Named),
            semver.map(Self::Semver),
            commit.map(Self::Commit),
            digest.map(Self::Digest),
        ];
        let mut said = all.into_iter().flatten();
        match (said.next(), said.next()) {
            (Some(reference), None) => Ok(reference),
            _ => Err("a ref is one of `branch`, `tag`, `semver`, `commit` and `digest`"),
        }
    }
}

const HEADS: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";

/// What leads to the default branch.
pub const HEAD: &str = "HEAD";

/// The full name of a ref, or of a commit or a digest: how a revision's row names where it was seen.
pub fn full_name(reference: &GitRef) -> String {
    match reference {
        GitRef::Branch(name) => format!("{HEADS}{name}"),
        GitRef::Tag(name) => format!("{TAGS}{name}"),
        GitRef::Named(name) => format!("{NAMED}{name}"),
        GitRef::Semver(range) => format!("semver:{range}"),
        GitRef::Commit(id) | GitRef::Digest(id) => id.clone(),
    }
}

/// No ref has a colon in its name.
const NAMED: &str = "name:";

/// The refs that a name may mean, in the order in which Git looks for them.
pub fn meant_by(name: &str) -> Vec<String> {
    let is_whole = name == HEAD || name.starts_with("refs/");
    let whole = is_whole.then(|| name.to_owned());
    whole.into_iter().chain([TAGS, HEADS].map(|kind| format!("{kind}{name}"))).collect()
}

/// Whether what is followed by a full name, as rows have it, is or may be this ref. Which branch is the default one, only
/// the repository knows.
pub fn may_mean(followed: &str, reference: &str) -> bool {
    let is_meant = |name: &str| meant_by(name).iter().any(|one| one == reference);
    followed == reference || name_in(followed).is_some_and(is_meant)
}

/// The name in a full name, if it may be a tag's or a branch's.
pub fn name_in(followed: &str) -> Option<&str> {
    followed.strip_prefix(NAMED)
}

/// Whether it names one branch or one tag.
pub fn is_full_name(name: &str) -> bool {
    let short = name.strip_prefix(HEADS).or_else(|| name.strip_prefix(TAGS));
    short.is_some_and(is_valid_name)
}

/// Whether there could be such a ref; `git check-ref-format`'s rules, so that no name is an option, a path upwards or
/// a control sequence.
pub fn is_valid(reference: &GitRef) -> bool {
    match reference {
        GitRef::Branch(name) | GitRef::Tag(name) | GitRef::Named(name) => is_valid_name(name),
        GitRef::Semver(range) => VersionRange::parse(range).is_some(),
        GitRef::Commit(id) => id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        GitRef::Digest(digest) => is_valid_digest(digest),
    }
}

/// What a registry calls an artifact's content: `sha256:` and 64 digits, lower-case.
pub fn is_valid_digest(digest: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(is_digit))
}

/// Whether a registry could have such a tag.
pub fn is_valid_artifact_tag(tag: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    begins && tag.len() <= 128 && tag.bytes().all(is_inner)
}

fn is_valid_name(name: &str) -> bool {
    let part_is_valid = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let refused = |character: char| character.is_control() || " ~^:?*[\\".contains(character);
    name.len() <= 250
        && !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && name != "@"
        && !name.chars().any(refused)
        && name.split('/').all(part_is_valid)
}

/// Whether a target's path may be looked up in a tree: relative, downwards, plain.
pub fn is_valid_path(path: &str) -> bool {
    let part_is_valid = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.eq_ignore_ascii_case(".git") && !part.contains('\\')
    };
    path.is_empty() || (path.len() <= 1024 && !path.chars().any(char::is_control) && path.split('/').all(part_is_valid))
}

/// Digits of a commit that are few enough to type and enough to mean one; Git itself takes no fewer.
pub const COMMIT_DIGITS_MIN: usize = 4;

/// Which commit somebody means who gives its first digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeantCommit<'a> {
    One(&'a str),
    /// Too few digits, or several that begin so.
    Ambiguous,
    Unknown,
}

/// Of those that begin with these digits.
pub fn meant_commit<'a>(digits: &str, commits: &'a [String]) -> MeantCommit<'a> {
    match commits {
        _ if digits.len() < COMMIT_DIGITS_MIN => MeantCommit::Ambiguous,
        [] => MeantCommit::Unknown,
        [one] => MeantCommit::One(one),
        _ => MeantCommit::Ambiguous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_mean_a_commit_when_they_are_enough_and_of_one_only() {
        let commits = ["abcd1".to_owned(), "abcd2".to_owned()];

        assert_eq!(meant_commit("abcd1", &commits[..1]), MeantCommit::One("abcd1"));
        assert_eq!(meant_commit("abcd", &commits), MeantCommit::Ambiguous);
        assert_eq!(meant_commit("abc", &commits[..1]), MeantCommit::Ambiguous);
        assert_eq!(meant_commit("abcd", &[]), MeantCommit::Unknown);
    }

    #[test]
    fn a_name_means_what_git_takes_it_for_and_a_ref_is_one_thing() {
        assert_eq!(meant_by("v1"), ["refs/tags/v1", "refs/heads/v1"]);
        assert_eq!(meant_by("HEAD")[0], "HEAD");
        assert_eq!(meant_by("refs/pull/1/head")[0], "refs/pull/1/head");
        let named = full_name(&GitRef::Named("main".to_owned()));
        assert!(may_mean(&named, "refs/heads/main") && may_mean(&named, "refs/tags/main"));
        assert!(!may_mean(&named, "refs/heads/main/2") && !is_full_name(&named));
        assert!(may_mean("refs/heads/main", "refs/heads/main") && !may_mean("refs/heads/main", "refs/tags/main"));
        assert_eq!((name_in(&named), name_in("refs/heads/main")), (Some("main"), None));

        for stored in [GitRef::Named("v1".to_owned()), GitRef::Branch("HEAD".to_owned())] {
            let row = serde_json::to_value(&stored).expect("JSON");
            assert_eq!(serde_json::from_value::<GitRef>(row).expect("a ref"), stored);
        }
        for wrong in [serde_json::json!({}), serde_json::json!({"named": "a", "tag": "a"})] {
            assert!(serde_json::from_value::<GitRef>(wrong).is_err());
        }
    }

    #[test]
    fn names_that_git_would_refuse_are_refused() {
        for name in ["main", "release/1.2", "feature/a@b", "v1"] {
            assert!(is_valid(&GitRef::Branch(name.to_owned())), "{name}");
        }
        for name in
            ["", "--output=x", "../x", "a..b", "a b", "a\nb", "a/", "/a", "a.lock", "a~1", "x@{1}", "refs/.hidden"]
        {
            assert!(!is_valid(&GitRef::Branch(name.to_owned())), "{name}");
        }
        assert!(!is_valid(&GitRef::Commit("main".to_owned())));
        assert!(is_valid(&GitRef::Semver(">=1.2 <2".to_owned())) && !is_valid(&GitRef::Semver("main".to_owned())));
    }

    #[test]
    fn digests_and_tags_of_a_registry_lead_nowhere_else() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        assert!(is_valid(&GitRef::Digest(digest.clone())));
        for wrong in ["", "sha256:", &digest[..70], &digest.to_uppercase(), "sha512:00", &format!("{digest}/..")] {
            assert!(!is_valid(&GitRef::Digest(wrong.to_owned())), "{wrong}");
        }
        for tag in ["latest", "1.2.3", "v1.2.3_build.5", "_a"] {
            assert!(is_valid_artifact_tag(tag), "{tag}");
        }
        for tag in ["", ".a", "-a", "a/b", "..", "a b", "a?x", "1.2.3+build", &"x".repeat(129)] {
            assert!(!is_valid_artifact_tag(tag), "{tag}");
        }
    }

    #[test]
    fn paths_lead_only_downwards() {
        for path in ["", "shop", "apps/shop/base"] {
            assert!(is_valid_path(path), "{path}");
        }
        for path in ["/etc", "../x", "a/../b", "a//b", "./a", "a/", ".git/config", "a\\b", "a\0b", ".GIT"] {
            assert!(!is_valid_path(path), "{path}");
        }
    }
}
