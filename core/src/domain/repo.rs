//! What a repo is: where it is fetched from, and how often.
//!
//! A stored form as well, as a target's is: see [`target`](crate::target).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::signature::Verify;
use crate::source::GitRef;
use crate::version_range;

/// Where a repo is fetched from, and how. Its URL was checked by whoever wrote it; whether it may be reached is checked
/// again at each fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoSpec {
    pub url: String,
    /// Of a Helm repository at the URL, the chart that is meant: its versions are its tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<String>,
    /// Public keys (PEM) of cosign: of an artifact only what one of them signed is deployed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cosign_keys: Vec<String>,
    /// Who has to have signed commits or tags of Git before they are rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// Certificates (PEM) of a private authority that signs the Git server's, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// By ssh: which keys its host has, as lines of a `known_hosts` file. No other is let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
    /// What happens when a ref leads to a commit that does not build on the one before.
    #[serde(default, skip_serializing_if = "ForcePush::is_allowed")]
    pub force_push: ForcePush,
    /// Seconds between two fetches without a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_seconds: Option<u32>,
    /// That its host is told how rollouts of its commits go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_status: Option<CommitStatuses>,
}

/// What a repo is read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CredentialKind {
    Token,
    SshKey,
    /// The key of a GitHub App, which asks for tokens.
    GithubApp,
}

/// Less would only hurt the Git server: webhooks are for speed.
const POLL_SECONDS_MIN: u32 = 5;

/// Two while a key is changed for another, for each of some teams.
const COSIGN_KEYS_MAX: usize = 10;

/// Why a repo is refused, whoever reads it. What its URL allows, and whether its keys are keys, the hub knows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRepo {
    #[error("`chart` is no name of a chart")]
    Chart,
    #[error("`cosignKeys` are at most {COSIGN_KEYS_MAX}")]
    CosignKeys,
    #[error("`pollSeconds` is at least {POLL_SECONDS_MIN}")]
    Poll,
    #[error("`ca` holds no certificate in PEM form")]
    Ca,
    #[error("`commitStatus.context` is no name")]
    CommitStatus,
}

impl InvalidRepo {
    /// Stable, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Chart => "chart_invalid",
            Self::CosignKeys => "cosign_key_invalid",
            Self::Poll => "poll_invalid",
            Self::Ca => "ca_invalid",
            Self::CommitStatus => "commit_status_invalid",
        }
    }

    /// Of the spec.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Chart => "chart",
            Self::CosignKeys => "cosignKeys",
            Self::Poll => "pollSeconds",
            Self::Ca => "ca",
            Self::CommitStatus => "commitStatus.context",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Chart => Some("such as `podinfo`".into()),
            Self::Poll => Some("send webhooks to be faster than that".into()),
            Self::CommitStatus => {
                Some("1 to 60 letters, digits and `.`, `_`, `-`, `/`, such as `bellwether-prod`".into())
            }
            Self::CosignKeys | Self::Ca => None,
        }
    }
}

impl RepoSpec {
    /// Refuses what could never be fetched.
    pub fn check(&self) -> Result<(), InvalidRepo> {
        let is_inner = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        let is_name = |chart: &String| !chart.is_empty() && chart.len() <= 250 && chart.chars().all(is_inner);
        if !self.chart.as_ref().is_none_or(is_name) {
            return Err(InvalidRepo::Chart);
        }
        if self.cosign_keys.len() > COSIGN_KEYS_MAX {
            return Err(InvalidRepo::CosignKeys);
        }
        if self.poll_seconds.is_some_and(|seconds| seconds < POLL_SECONDS_MIN) {
            return Err(InvalidRepo::Poll);
        }
        if self.ca.as_ref().is_some_and(|ca| !ca.contains("-----BEGIN CERTIFICATE-----")) {
            return Err(InvalidRepo::Ca);
        }
        if self.commit_status.as_ref().is_some_and(|statuses| !statuses.has_valid_context()) {
            return Err(InvalidRepo::CommitStatus);
        }
        Ok(())
    }
}

/// What is done with a ref whose history was rewritten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ForcePush {
    /// It is followed.
    #[default]
    Allow,
    /// It waits until somebody accepts exactly that commit.
    Block,
}

impl ForcePush {
    /// Serde gives a reference.
    pub fn is_allowed(&self) -> bool {
        *self == Self::Allow
    }
}

/// Which API a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GitHost {
    Github,
    Gitlab,
    /// Forgejo's too.
    Gitea,
}

/// That a repo's host is told, and under which name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitStatuses {
    pub provider: GitHost,
    /// What this installation is called there. Two that follow one repo need two, or each overwrites what the other says.
    pub context: String,
}

/// What this installation is called at a host when nobody says otherwise.
pub const CONTEXT: &str = "bellwether";

/// Hosts show some sixty characters of the whole name, in which a project's and a target's follow.
const CONTEXT_CHARACTERS_MAX: usize = 60;

impl CommitStatuses {
    /// The context has 1 to 60 letters, digits and `.`, `_`, `-`, `/`.
    pub fn has_valid_context(&self) -> bool {
        let is_inner = |character: char| character.is_ascii_alphanumeric() || "._-/".contains(character);
        (1..=CONTEXT_CHARACTERS_MAX).contains(&self.context.len()) && self.context.chars().all(is_inner)
    }

    /// What the host has a target's status under.
    pub fn context_of(&self, project: &str, target: &str) -> String {
        if project == "default" {
            format!("{}/{target}", self.context)
        } else {
            format!("{}/{project}/{target}", self.context)
        }
    }
}

/// What is known of a ref that leads somewhere else than before.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    pub reference: &'a GitRef,
    /// Of a range of versions: the earlier tag, and the current one.
    pub tags: (Option<&'a str>, Option<&'a str>),
    /// The new commit is known to build on the one before.
    pub descends: bool,
    /// Somebody has accepted the new commit.
    pub is_accepted: bool,
}

/// Whether a ref's new commit has to wait for a person.
pub fn has_to_wait(policy: ForcePush, moved: Move<'_>) -> bool {
    if policy.is_allowed() || moved.is_accepted {
        return false;
    }
    match (moved.reference, moved.tags) {
        // Releases need not build on each other, but a range goes only to newer ones, and a tag stays where it is.
        (GitRef::Semver(_), (Some(before), Some(now))) => !version_range::is_newer(now, before),
        (GitRef::Semver(_) | GitRef::Commit(_) | GitRef::Digest(_), _) => false,
        (GitRef::Branch(_) | GitRef::Tag(_) | GitRef::Named(_), _) => !moved.descends,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(reference: &GitRef, tags: (Option<&str>, Option<&str>), descends: bool) -> bool {
        has_to_wait(ForcePush::Block, Move { reference, tags, descends, is_accepted: false })
    }

    #[test]
    fn what_does_not_build_on_the_last_commit_waits_only_where_that_is_asked_for_and_nobody_accepted_it() {
        let main = GitRef::Branch("main".to_owned());
        let moved = Move { reference: &main, tags: (None, None), descends: false, is_accepted: false };

        assert!(has_to_wait(ForcePush::Block, moved));
        assert!(!has_to_wait(ForcePush::Allow, moved));
        assert!(!has_to_wait(ForcePush::Block, Move { is_accepted: true, ..moved }));
        assert!(!waits(&main, (None, None), true));
        assert!(waits(&GitRef::Tag("v1".to_owned()), (None, None), false));
    }

    #[test]
    fn a_range_waits_when_it_would_go_back_or_its_tag_was_moved() {
        let range = GitRef::Semver("^1".to_owned());

        assert!(!waits(&range, (Some("v1.2.0"), Some("v1.10.0")), false));
        assert!(waits(&range, (Some("v1.10.0"), Some("v1.2.0")), true));
        assert!(waits(&range, (Some("v1.2.0"), Some("v1.2.0")), true));
        assert!(!waits(&range, (None, Some("v1.2.0")), false));
    }

    #[test]
    fn each_target_has_a_name_of_its_own_at_a_host() {
        let statuses = |context: &str| CommitStatuses { provider: GitHost::Gitea, context: context.to_owned() };

        assert_eq!(statuses("prod").context_of("default", "web"), "prod/web");
        assert_eq!(statuses("prod").context_of("team-a", "web"), "prod/team-a/web");
        assert!(statuses("prod/eu-1").has_valid_context());
        for text in ["", "a b", "a\n", &"a".repeat(61)] {
            assert!(!statuses(text).has_valid_context(), "{text:?}");
        }
    }
}
