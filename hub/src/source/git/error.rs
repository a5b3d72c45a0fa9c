//! What can go wrong between a Git server, the mirror and a reader of the mirror.
//!
//! Three kinds, because they concern different things: a [`FetchError`] the whole repo, a [`RefError`] the targets that
//! follow one ref, a [`ReadError`] one target's folder.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::time::Duration;

use super::read::COMMIT_BYTES_MAX;
use super::verify::{InvalidVerifyKey, Unverified};
use crate::egress::Failure;
use crate::source::oci::ArtifactError;

/// Errors below this module; their types stay in it.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// Nothing of the repo could be learned or stored. What was fetched before stays as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("cannot reach {host}")]
    Unreachable {
        host: String,
        #[source]
        source: Cause,
    },
    #[error("the certificate of {host} is not trusted: {reason}")]
    Untrusted { host: String, reason: String },
    #[error("the repo's own certificate authority cannot be read")]
    InvalidAuthority {
        #[source]
        source: Cause,
    },
    #[error("{host} shows a key that the repo's known hosts do not have: {fingerprint}")]
    HostKeyChanged { host: String, fingerprint: String, known: Vec<String> },
    #[error("{host} shows a key that the repo's known hosts call revoked: {fingerprint}")]
    HostKeyRevoked { host: String, fingerprint: String },
    #[error("the repo's known hosts do not have {host}")]
    HostUnknown { host: String, scan: String },
    #[error("the repo's known hosts cannot be read")]
    InvalidKnownHosts {
        #[source]
        source: Cause,
    },
    #[error("the repo has no key for {user} at {host}")]
    NoKey { host: String, user: String },
    #[error("the repo's key cannot be used")]
    InvalidKey {
        #[source]
        source: Cause,
    },
    #[error("{host} lets nobody in as {user} with the repo's key, {fingerprint}")]
    KeyRefused { host: String, user: String, fingerprint: String },
    #[error("a token would be sent in clear text to {host}")]
    TokenNeedsHttps { host: String },
    #[error("{host} refused {}", if *.with_token { "the token" } else { "to answer without a token" })]
    Unauthorized { host: String, with_token: bool },
    #[error("there is no repository at {url}")]
    NoSuchRepo { url: String },
    #[error("{host} asks to come back later")]
    Limited { host: String, retry_after: Option<Duration> },
    #[error("{host} answered with HTTP status {status}")]
    ServerFailed { host: String, status: u16 },
    #[error("{host} redirects to {target}")]
    Redirected { host: String, target: String },
    #[error("what answers at {url} is not a Git server")]
    NotGit { url: String },
    #[error("what answers at {url} is not a registry")]
    NotARegistry { url: String },
    #[error("there is no index of charts at {url}")]
    NotAChartRepository { url: String },
    #[error("the Helm repository has no chart `{chart}`")]
    NoSuchChart { chart: String, nearest: Option<String> },
    #[error("the Git server {}", .reason)]
    Unsupported { reason: &'static str },
    #[error("the Git server refused: {message}")]
    Refused { message: String },
    #[error("the Git server said what could not be understood")]
    Protocol {
        #[source]
        source: Cause,
    },
    #[error("nothing came for {} seconds", .stall.as_secs())]
    Stalled { stall: Duration },
    #[error("not done within {} seconds", .deadline.as_secs())]
    Deadline { deadline: Duration },
    #[error("stopped")]
    Stopped,
    #[error("the repo is too large: {what}, and at most {max} are allowed")]
    TooLarge { what: String, max: u64 },
    #[error(
        "all repos' mirrors have {} MiB together, more than {}, and this one has {}",
        .all >> 20, .max >> 20, .bytes >> 20
    )]
    MirrorsFull { bytes: u64, all: u64, max: u64 },
    #[error("the repo's keys for signatures cannot be used")]
    InvalidVerifyKey(#[from] InvalidVerifyKey),
    #[error("{host} is at {address}, inside a private network")]
    Private { host: String, address: std::net::IpAddr },
    #[error("the mirror is damaged")]
    Damaged {
        #[source]
        source: Cause,
    },
    #[error("cannot write to the mirror")]
    Mirror {
        #[source]
        source: Cause,
    },
}

impl FetchError {
    /// `host` is what was spoken to.
    pub(crate) fn of_egress(host: String, failure: Failure) -> Self {
        match failure {
            Failure::InvalidAuthority(source) => Self::InvalidAuthority { source },
            Failure::Private { host, address } => Self::Private { host, address },
            Failure::Redirected { target } => Self::Redirected { host, target },
            Failure::Untrusted { reason } => Self::Untrusted { host, reason },
            Failure::Unreachable(source) => Self::Unreachable { host, source },
        }
    }

    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "git_unreachable",
            Self::Untrusted { .. } => "git_untrusted",
            Self::InvalidAuthority { .. } => "git_invalid_ca",
            Self::HostKeyChanged { .. } => "git_host_key_changed",
            Self::HostKeyRevoked { .. } => "git_host_key_revoked",
            Self::HostUnknown { .. } => "git_host_unknown",
            Self::InvalidKnownHosts { .. } => "git_invalid_known_hosts",
            Self::InvalidKey { .. } => "git_invalid_key",
            Self::TokenNeedsHttps { .. } => "git_token_needs_https",
            Self::Unauthorized { .. } | Self::NoKey { .. } | Self::KeyRefused { .. } => "git_unauthorized",
            Self::NoSuchRepo { .. } => "git_repo_not_found",
            Self::Limited { .. } => "git_limited",
            Self::ServerFailed { .. } => "git_server_failed",
            Self::Redirected { .. } => "git_redirected",
            Self::NotGit { .. } => "git_not_a_server",
            Self::NotARegistry { .. } => "oci_not_a_registry",
            Self::NotAChartRepository { .. } => "helm_not_a_repository",
            Self::NoSuchChart { .. } => "chart_not_found",
            Self::Unsupported { .. } => "git_unsupported",
            Self::Refused { .. } => "git_refused",
            Self::Protocol { .. } => "git_protocol",
            Self::Deadline { .. } | Self::Stalled { .. } => "git_deadline",
            Self::Private { .. } => "git_private_address",
            Self::InvalidVerifyKey(_) => "verify_key_invalid",
            Self::Stopped => "git_stopped",
            Self::TooLarge { .. } => "git_too_large",
            Self::MirrorsFull { .. } => "git_mirrors_full",
            Self::Damaged { .. } => "git_mirror_damaged",
            Self::Mirror { .. } => "git_mirror",
        }
    }

    #[expect(clippy::too_many_lines, reason = "it is a list of what to do")]
    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        let text = match self {
            Self::Unreachable { .. } => "check the repo's URL, and that the hub may connect to that host",
            Self::Untrusted { .. } => {
                "give the repo the certificate of the authority that signs this server: `caFile`, or `--ca-file`"
            }
            Self::InvalidAuthority { .. } => "`ca` holds certificates in PEM, each from BEGIN to END CERTIFICATE",
            Self::HostKeyChanged { known, .. } => {
                return Some(format!(
                    "it had {}; ask whoever runs that host, and if the new key is theirs put its line into the repo's \
                     `knownHosts`: somebody may stand between",
                    known.join(", ")
                ).into());
            }
            Self::HostKeyRevoked { .. } => "ask whoever runs that host: somebody may use a key that was stolen from it",
            Self::HostUnknown { scan, .. } => {
                return Some(format!(
                    "get its line with `{scan}`, compare it with what whoever runs that host tells about its keys, and \
                     give it to the repo: `knownHosts`, or `--known-hosts-file`"
                ).into());
            }
            Self::InvalidKnownHosts { .. } => super::KnownHosts::HINT,
            Self::InvalidVerifyKey(_) => InvalidVerifyKey::HINT,
            Self::NoKey { .. } => {
                "give it a private key: `bellwether credential set REPO --ssh-key-file FILE`, or `credential make REPO`"
            }
            Self::InvalidKey { .. } => {
                "give the repo another key: `bellwether credential set REPO --ssh-key-file FILE`"
            }
            Self::KeyRefused { .. } => {
                "give that host the public key (`ssh-keygen -y -f FILE` prints it), with the right to read this repo"
            }
            Self::TokenNeedsHttps { .. } => "use the repo's https URL, or remove its token",
            Self::Unauthorized { with_token: true, .. } => "store a new token; it needs the right to read this repo",
            Self::Unauthorized { with_token: false, .. } => "store a token that may read this repo, or check its URL",
            Self::NoSuchRepo { .. } => "check the repo's URL; servers also say so when a token may not see a repo",
            Self::Limited { retry_after: Some(after), .. } => {
                return Some(
                    format!(
                        "it asked for {} seconds, which are kept; `bellwether repo refresh` asks at once",
                        after.as_secs()
                    )
                    .into(),
                );
            }
            Self::Limited { retry_after: None, .. } => "webhooks need fewer fetches than a short poll",
            Self::ServerFailed { .. } => "the server's log knows more; the hub tries again",
            Self::Redirected { target, .. } => {
                return Some(
                    format!("set the repo's URL to the one on {target}; other hosts are never followed").into(),
                );
            }
            Self::NotGit { .. } => "give the URL that `git clone` takes, not a page in the browser",
            Self::NotAChartRepository { .. } => {
                "give the URL that `helm repo add` takes; `index.yaml` is looked for below it"
            }
            Self::NoSuchChart { nearest: Some(nearest), .. } => {
                return Some(format!("did you mean `{nearest}`?").into());
            }
            Self::NoSuchChart { nearest: None, .. } => "`helm search repo` lists what there is",
            Self::NotARegistry { .. } => "give the URL that `docker pull` takes, with `oci://` before it",
            Self::Unsupported { .. } => {
                "the server needs Git 2.18 or later and SHA-1 objects; an sshd of your own also `AcceptEnv GIT_PROTOCOL`"
            }
            Self::Stalled { .. } => "check the server and the network to it, or give it more: `--git-stall-seconds`",
            Self::Deadline { .. } => "a smaller repo is quicker, or give it more time: `--git-fetch-seconds`",
            Self::TooLarge { .. } => {
                "keep large binary files elsewhere, or in Git LFS; a server with `uploadpack.allowFilter` need not send them"
            }
            Self::MirrorsFull { .. } => {
                "make the repo smaller, delete repos that nobody needs, or give all more room: `--git-mirrors-mib-max`; it is \
                 tried again within six hours, and what runs goes on"
            }
            Self::Private { .. } => "if that is meant, start the hub with `--git-allow-private`",
            Self::Damaged { .. } | Self::Mirror { .. } => {
                "check the free space and the rights of the hub's cache folder"
            }
            Self::Refused { .. } | Self::Protocol { .. } | Self::Stopped => return None,
        };
        Some(Cow::Borrowed(text))
    }

    /// A server that was upgraded or closed a kept connection fails like this; a fresh connection tells the difference.
    pub(super) const fn may_come_from_a_kept_connection(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { .. } | Self::Protocol { .. } | Self::NotGit { .. })
    }
}

/// One ref is not there or not usable. Targets on other refs go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RefError {
    #[error("there is no branch `{branch}`")]
    NoSuchBranch { branch: String, nearest: Option<String> },
    #[error("there is no tag `{tag}`")]
    NoSuchTag { tag: String, nearest: Option<String> },
    #[error("there is neither a tag nor a branch `{name}`")]
    NoSuchName { name: String, nearest: Option<String> },
    #[error("there is no default branch")]
    NoDefaultBranch,
    #[error("`{reference}` leads to commit {commit}, which does not build on the one before")]
    Rewritten { repo: String, reference: String, commit: String },
    #[error("{what} {why}")]
    Unverified { what: String, why: Unverified },
    #[error("no tag is a version in `{range}`")]
    NoVersion { range: String, nearest: Vec<String> },
    #[error("there is no commit {commit}")]
    NoSuchCommit { commit: String },
    #[error("commit {commit} is larger than {} KiB, without its files", COMMIT_BYTES_MAX >> 10)]
    CommitTooLarge { commit: String },
    #[error("commit {commit} is not written as Git writes one")]
    UnreadableCommit { commit: String },
    #[error("`{reference}` does not lead to a commit")]
    NotACommit { reference: String },
    #[error("`{reference}` cannot be the name of a ref")]
    Invalid { reference: String },
    #[error("there is no artifact with the digest {digest}")]
    NoSuchDigest { digest: String },
    #[error("{place} has no {what}")]
    NotOfRegistry { place: &'static str, what: &'static str },
    #[error("a Git repo has no digests")]
    OfRegistry,
    #[error("a single file has no branches, tags or commits")]
    OfFile,
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

impl RefError {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NoSuchBranch { .. } | Self::NoSuchName { .. } | Self::NoDefaultBranch => "branch_not_found",
            Self::NoSuchTag { .. } => "tag_not_found",
            Self::Rewritten { .. } => "head_rewritten",
            Self::Unverified { why, .. } => why.code(),
            Self::NoVersion { .. } => "version_not_found",
            Self::NoSuchCommit { .. } => "commit_not_found",
            Self::CommitTooLarge { .. } => "commit_too_large",
            Self::UnreadableCommit { .. } => "commit_unreadable",
            Self::NotACommit { .. } => "ref_not_a_commit",
            Self::Invalid { .. } => "ref_invalid",
            Self::NoSuchDigest { .. } => "digest_not_found",
            Self::NotOfRegistry { .. } | Self::OfRegistry | Self::OfFile => "ref_of_other_source",
            Self::Artifact(error) => error.code(),
        }
    }

    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NoSuchBranch { nearest, .. } | Self::NoSuchTag { nearest, .. } => Some(match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?").into(),
                None => "push it, or change the target's `ref`".into(),
            }),
            Self::NoSuchName { nearest, .. } => Some(match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?").into(),
                None => "push it, or name another one: `?ref=NAME`".into(),
            }),
            Self::NoDefaultBranch => Some("say which one is meant: `?ref=NAME`".into()),
            Self::Rewritten { repo, commit, reference } => {
                let command = format!("bellwether repo accept {repo} {commit} --ref {reference}");
                Some(format!("if that is meant, let it in: `{command}`").into())
            }
            Self::Unverified { why, .. } => why.hint(),
            Self::NoVersion { nearest, .. } => Some(match &nearest[..] {
                [] => "no tag of the repo is a version, such as `v1.2.3`".into(),
                nearest => format!(
                    "the nearest are {}; versions such as `2.0.0-rc.1` count only where the range names one: `>=2.0.0-0`",
                    nearest.join(", ")
                )
                .into(),
            }),
            Self::NoSuchCommit { .. } => Some("give all 40 digits of a commit that was pushed".into()),
            Self::CommitTooLarge { .. } | Self::UnreadableCommit { .. } => {
                Some("push another one, or change the target's `ref`; what runs goes on until then".into())
            }
            Self::NotACommit { .. } => Some("a target needs a commit or a tag of one".into()),
            Self::NoSuchDigest { .. } => {
                Some("registries delete what no tag names; push it again, or change the target's `ref`".into())
            }
            Self::NotOfRegistry { .. } => {
                Some("give the target a `tag` or a `semver`; an artifact has digests, too".into())
            }
            Self::OfFile => Some("name its URL in a kustomization, and give the target the repo of that".into()),
            Self::OfRegistry => Some("give the target a `branch`, a `tag` or a `commit`".into()),
            Self::Artifact(error) => error.hint(),
            Self::Invalid { .. } => None,
        }
    }
}

/// A folder of a commit could not be read, or must not be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the mirror cannot be opened")]
    Unopened(#[from] FetchError),
    #[error("commit {commit} is not in the mirror")]
    NoSuchCommit { commit: String },
    #[error("files that the server left out are not here yet")]
    NotFetched,
    #[error("`{file}` is larger than {bytes_max} bytes")]
    FileTooLarge { file: String, bytes_max: u64 },
    #[error("there is no folder `{path}`")]
    NoSuchPath { path: String, nearest: Option<String> },
    #[error("`{path}` is not a folder")]
    NotAFolder { path: String },
    #[error("`{file}` is a symbolic link")]
    Symlink { file: String },
    #[error("`{path}` is a submodule")]
    Submodule { path: String },
    #[error("`{file}` has a name that is not allowed")]
    UnsafeName { file: String },
    #[error("more than {files_max} files")]
    TooManyFiles { files_max: usize },
    #[error("more than {bytes_max} bytes of YAML and JSON")]
    TooLarge { bytes_max: usize },
    #[error("`{path}` lies deeper than {depth_max} folders")]
    TooDeep { path: String, depth_max: usize },
    #[error("the mirror is damaged")]
    Damaged {
        #[source]
        source: Cause,
    },
}

impl ReadError {
    /// The commit may be good: it is the mirror that lacks something.
    pub(crate) const fn is_of_mirror(&self) -> bool {
        matches!(self, Self::Unopened(_) | Self::NoSuchCommit { .. } | Self::NotFetched | Self::Damaged { .. })
    }

    /// Of a path that was told from a folder on.
    pub(super) fn below(self, folder: &str) -> Self {
        let whole = |path: String| if folder.is_empty() { path } else { format!("{folder}/{path}") };
        match self {
            Self::FileTooLarge { file, bytes_max } => Self::FileTooLarge { file: whole(file), bytes_max },
            Self::Symlink { file } => Self::Symlink { file: whole(file) },
            Self::UnsafeName { file } => Self::UnsafeName { file: whole(file) },
            Self::Submodule { path } => Self::Submodule { path: whole(path) },
            Self::TooDeep { path, depth_max } => Self::TooDeep { path: whole(path), depth_max },
            other => other,
        }
    }

    /// What of the commit is meant, from the repo's root on.
    pub(crate) fn file(&self) -> Option<&str> {
        match self {
            Self::FileTooLarge { file, .. } | Self::Symlink { file } | Self::UnsafeName { file } => Some(file),
            Self::NoSuchPath { path, .. }
            | Self::NotAFolder { path }
            | Self::Submodule { path }
            | Self::TooDeep { path, .. } => Some(path),
            Self::Unopened(_)
            | Self::NoSuchCommit { .. }
            | Self::NotFetched
            | Self::TooManyFiles { .. }
            | Self::TooLarge { .. }
            | Self::Damaged { .. } => None,
        }
    }

    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Unopened(error) => error.code(),
            Self::NoSuchCommit { .. } | Self::NotFetched => "commit_not_mirrored",
            Self::NoSuchPath { .. } => "path_not_found",
            Self::NotAFolder { .. } => "path_not_a_folder",
            Self::Symlink { .. } => "file_symlink",
            Self::Submodule { .. } => "file_submodule",
            Self::UnsafeName { .. } => "file_name_unsafe",
            Self::TooManyFiles { .. } => "too_many_files",
            Self::TooLarge { .. } | Self::FileTooLarge { .. } => "files_too_large",
            Self::TooDeep { .. } => "files_too_deep",
            Self::Damaged { .. } => "git_mirror_damaged",
        }
    }

    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        let text = match self {
            Self::Unopened(error) => return error.hint(),
            Self::NoSuchPath { nearest: Some(nearest), .. } => {
                return Some(format!("did you mean `{nearest}`?").into());
            }
            Self::NoSuchPath { nearest: None, .. } => "check the target's `path`; upper and lower case differ",
            Self::NotAFolder { .. } => "a target's `path` is the folder that holds the files",
            Self::Symlink { .. } => "put the file itself there; links are not followed",
            Self::Submodule { .. } => {
                "submodules are not fetched: copy the files, or make it a repo and a target of its own"
            }
            Self::UnsafeName { .. } => "rename it: no control characters, no backslash, nothing like `.git` or `..`",
            Self::TooManyFiles { .. } | Self::TooLarge { .. } | Self::FileTooLarge { .. } | Self::TooDeep { .. } => {
                "give the target a `path` that holds only what it deploys"
            }
            // The next fetch of the repo fetches it again.
            Self::NoSuchCommit { .. } | Self::NotFetched | Self::Damaged { .. } => return None,
        };
        Some(Cow::Borrowed(text))
    }
}

/// The first cause of a type. What an `io::Error` wraps, and all but the first of what gix collects, are not among an
/// error's sources, so they are looked at by themselves.
pub(super) fn find_cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref::<T>() {
        return Some(found);
    }
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return find_cause(inner);
    }
    match error.downcast_ref::<gix::Error>() {
        Some(collected) => collected.iter_errors().find_map(find_cause),
        None => error.source().and_then(find_cause),
    }
}

/// The candidate that was probably meant: close by, or the only one.
pub(crate) fn nearest<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.collect();
    if let [only] = candidates[..] {
        return Some(only.to_owned());
    }
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(wanted, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (wanted.len().max(candidate.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typing_error_finds_what_was_meant_and_nonsense_finds_nothing() {
        let branches = ["main", "release", "staging"];

        assert_eq!(nearest("relase", branches.into_iter()).as_deref(), Some("release"));
        assert_eq!(nearest("Main", branches.into_iter()).as_deref(), Some("main"));
        assert_eq!(nearest("quarterly", branches.into_iter()), None);
        assert_eq!(nearest("main", ["master"].into_iter()).as_deref(), Some("master"));
        assert_eq!(nearest("main", [].into_iter()), None);
    }
}
