//! Repos as people write them and the API shows them. A repo's token is in none of these; its webhook secret is in the
//! answer that made it, and in no other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Document;
use crate::repo::{CONTEXT, CommitStatuses, CredentialKind, ForcePush, GitHost, RepoSpec};
use crate::signature::{Verify, VerifyMode};
use crate::{Condition, Name};

/// A Git repository that the hub watches.
pub type RepoDocument = Document<WrittenRepo, RepoStatus>;

/// `spec:` of a Repo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenRepo {
    /// `https://host/path`, `ssh://user@host:port/path` or `user@host:path`; plain http only where the hub was started with
    /// `--insecure-git`.
    pub url: String,
    /// Of a Helm repository at the URL, the chart that is meant: its versions are its tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<String>,
    /// Public keys (PEM) of cosign: of an artifact only what one of them signed is deployed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cosign_keys: Vec<String>,
    /// Who has to have signed commits or tags of Git: others are shown and not rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<WrittenVerify>,
    /// Certificates (PEM) of a private authority that signs the Git server's, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// By ssh, and needed there: which keys its host has, as lines of a `known_hosts` file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
    /// `allow` when left out: a ref is followed wherever it leads. `block`: a commit that does not build on the one before waits
    /// until somebody accepts it.
    #[serde(default, skip_serializing_if = "ForcePush::is_allowed")]
    pub force_push: ForcePush,
    /// Seconds between two fetches without a webhook; 60 when left out, at least 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_seconds: Option<u32>,
    /// That its host is told how rollouts of its commits go, with the repo's token or GitHub App.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_status: Option<WrittenCommitStatus>,
}

/// Statuses of commits at a Git host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenCommitStatus {
    /// `github`, `gitlab` or `gitea`, which Forgejo's is too.
    pub provider: GitHost,
    /// What this installation is called there; `bellwether` when left out. A target's name follows it.
    #[serde(default = "default_context")]
    pub context: String,
}

fn default_context() -> String {
    CONTEXT.to_owned()
}

/// Signatures of Git.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenVerify {
    /// `commit` when left out: the commit that a ref leads to. `tag`: the tag of a target that follows one, or a range of
    /// versions. `tagAndCommit`: both.
    #[serde(default)]
    pub mode: VerifyMode,
    /// Public keys, of which one has to have signed: OpenPGP's in ASCII armor, or SSH's in lines as `ssh-keygen` writes
    /// them.
    pub keys: Vec<String>,
}

impl From<WrittenRepo> for RepoSpec {
    fn from(written: WrittenRepo) -> Self {
        let WrittenRepo { url, chart, cosign_keys, verify, ca, known_hosts, force_push, poll_seconds, commit_status } =
            written;
        let verify = verify.map(|WrittenVerify { mode, keys }| Verify { mode, keys });
        let commit_status =
            commit_status.map(|WrittenCommitStatus { provider, context }| CommitStatuses { provider, context });
        Self { url, chart, cosign_keys, verify, ca, known_hosts, force_push, poll_seconds, commit_status }
    }
}

impl From<RepoSpec> for WrittenRepo {
    fn from(spec: RepoSpec) -> Self {
        let RepoSpec { url, chart, cosign_keys, verify, ca, known_hosts, force_push, poll_seconds, commit_status } =
            spec;
        let verify = verify.map(|Verify { mode, keys }| WrittenVerify { mode, keys });
        let commit_status =
            commit_status.map(|CommitStatuses { provider, context }| WrittenCommitStatus { provider, context });
        Self { url, chart, cosign_keys, verify, ca, known_hosts, force_push, poll_seconds, commit_status }
    }
}

/// What the hub last found at the repo's URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoStatus {
    /// The last successful fetch; `None`: none yet.
    pub fetched_at: Option<Timestamp>,
    /// Refs that targets use, and where they are.
    pub heads: Vec<RepoHead>,
    /// Something to read the repo with is stored. It is never shown.
    pub has_credential: bool,
    /// What can be said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<RepoCredential>,
    /// The hub was told to fetch it and has not done so yet: what stands here is from before that.
    #[serde(default)]
    pub pending: bool,
    /// Why the last fetch failed; `None` when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// What a repo is read with, as far as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoCredential {
    /// `None`: it was stored before that was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<CredentialKind>,
    /// Of an ssh key the public one, as its host wants it; of a GitHub App its id, and where it is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<String>,
    /// When it was given or made.
    pub since: Timestamp,
}

/// The answer to a request for a key: its private half stays with the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeCredential {
    /// One line, for the Git host.
    pub public_key: String,
}

/// Where a ref is: its newest revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoHead {
    /// In full: `refs/heads/main`; `semver:>=1.2 <2` of a range; `name:v1` of what a remote base names; of a target
    /// that names a commit, the commit.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Of a range the tag that is the newest in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// 40 hexadecimal digits.
    pub commit: String,
    pub author: String,
    /// The first line of the commit's message.
    pub subject: String,
    /// The key, or the keys, that the hub found it signed by; `None`: it did not look, or none of the repo's has signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<String>,
    /// When the hub saw it first, whatever date the commit bears.
    pub seen_at: Timestamp,
}

/// The answer to whatever gives a repo a webhook secret, or leaves it the one before: the only time one is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedRepo {
    pub repo: RepoDocument,
    /// A new one: of a repo that is new or came to another origin, or because somebody asked for one. `None`: the one
    /// before stays.
    pub webhook_secret: Option<String>,
    /// The stored token or key was for another origin or authority, and is gone: give one again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub credential_removed: bool,
    /// It is as it was before, and nothing was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
    /// Where Git hosts send their webhooks, whichever they are.
    pub webhook_path: String,
}

/// `POST /repos/{name}/accept`: a commit that waits may be rolled out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceptHead {
    /// All 40 digits: it is exactly this one that is accepted.
    pub commit: String,
    /// Where, in full: `refs/heads/main`. Needed where it waits at several refs: it is let in at one.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// Where the webhooks of a repo are sent: a `POST` as GitHub, GitLab, Gitea, Forgejo, Bitbucket and Azure DevOps send it,
/// or with `X-Signature: sha256=HEX`, the HMAC-SHA256 of the body.
pub fn webhook_path(name: &Name) -> String {
    format!("/hooks/v1/{name}")
}

/// What a webhook is answered with. Hosts show it where they list what they sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookAnswer {
    /// What comes of it, in words.
    pub outcome: String,
}
