//! What the body of a webhook says, once it is known whom it is from: which refs were pushed, and where they are now.
//!
//! Every host has its shape. Only what names a ref and a commit is read; what is missing or of another shape than it was
//! makes no error but [`WebhookEvent::Unclear`], so that a host that changes something costs a fetch and not a push.

use bellwether_core::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::claim::{Claim, Host, delivery_id};

/// What it is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WebhookEvent {
    /// The host asks whether anybody is here.
    Ping,
    /// What concerns no ref.
    Other,
    Pushed(Vec<Push>),
    /// A push, of whatever.
    Unclear,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Push {
    /// Full name.
    pub(super) reference: String,
    pub(super) now: Now,
}

/// Where a ref is, as the host says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Now {
    At(String),
    Gone,
    /// It does not say; of an annotated tag most name the tag and not its commit.
    Somewhere,
}

/// Of a body that was kept, and of none.
pub(super) fn read(claim: &Claim, body: Option<&[u8]>) -> WebhookEvent {
    let event = claim.event.as_deref();
    match (claim.host, event) {
        (Host::GitHub, Some("ping")) | (Host::Bitbucket, Some("diagnostics:ping")) => return WebhookEvent::Ping,
        (Host::GitHub | Host::Gitea, Some("push" | "create" | "delete"))
        | (Host::Bitbucket, Some("repo:push" | "repo:refs_changed" | "mirror:repo_synchronized"))
        | (Host::GitLab, Some("Push Hook" | "Tag Push Hook" | "System Hook"))
        | (Host::AzureDevOps | Host::Generic, _)
        | (_, None) => {}
        (_, Some(_)) => return WebhookEvent::Other,
    }
    let Some(body) = body else { return WebhookEvent::Unclear };
    let form = claim.is_form.then(|| payload_of(body));
    let body = form.as_deref().map_or(body, str::as_bytes);
    let told = match claim.host {
        Host::GitHub | Host::Gitea => json::<GitHubBody>(body).map(|body| body.told(event)),
        Host::GitLab => json::<GitLabBody>(body).map(GitLabBody::told),
        Host::Bitbucket => json::<BitbucketBody>(body).map(BitbucketBody::told),
        Host::AzureDevOps => json::<AzureBody>(body).map(AzureBody::told),
        Host::Generic => json::<GenericBody>(body).map(GenericBody::told),
    };
    match told {
        Some(WebhookEvent::Pushed(pushes)) if pushes.is_empty() => WebhookEvent::Unclear,
        Some(told) => told,
        None => WebhookEvent::Unclear,
    }
}

/// Of a webhook whose host names it in the body.
pub(super) fn delivery_in(claim: &Claim, body: Option<&[u8]>) -> Option<Digest> {
    if claim.host != Host::AzureDevOps {
        return None;
    }
    let id = json::<AzureBody>(body?)?.id?;
    Some(delivery_id(Host::AzureDevOps, &id))
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

fn payload_of(form: &[u8]) -> String {
    let field = url::form_urlencoded::parse(form).find(|(name, _)| name == "payload");
    field.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

impl Push {
    fn new(reference: String, commit: Option<String>) -> Self {
        Self { reference, now: commit.map_or(Now::Somewhere, Now::of) }
    }

    /// What a tag's commit is said to be counts, and not what the tag itself is.
    fn of_commit(reference: String, id: Option<String>, commit: Option<String>) -> Self {
        let is_gone = id.as_deref().is_some_and(is_zero);
        let commit = if reference.starts_with(TAGS) && !is_gone { commit } else { id };
        Self::new(reference, commit)
    }
}

const HEADS: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";

impl Now {
    fn of(id: String) -> Self {
        let is_id = matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        match id {
            id if is_id && is_zero(&id) => Self::Gone,
            id if is_id => Self::At(id.to_ascii_lowercase()),
            _ => Self::Somewhere,
        }
    }
}

/// What stands for no commit.
fn is_zero(id: &str) -> bool {
    id.bytes().all(|byte| byte == b'0')
}

/// GitHub's, Gitea's and Forgejo's.
#[derive(Deserialize)]
struct GitHubBody {
    r#ref: String,
    /// Of `create` and `delete`, whose `ref` is a short name: `branch` or `tag`.
    ref_type: Option<String>,
    after: Option<String>,
    /// Of `create` at Gitea and Forgejo.
    sha: Option<String>,
    head_commit: Option<IdOf>,
}

#[derive(Deserialize)]
struct IdOf {
    id: String,
}

impl GitHubBody {
    fn told(self, event: Option<&str>) -> WebhookEvent {
        let full = match self.ref_type.as_deref() {
            _ if self.r#ref.starts_with("refs/") => self.r#ref,
            Some("branch") => format!("{HEADS}{}", self.r#ref),
            Some("tag") => format!("{TAGS}{}", self.r#ref),
            _ => return WebhookEvent::Unclear,
        };
        let push = match event {
            Some("delete") => Push { reference: full, now: Now::Gone },
            // A push comes beside it; of a tag that was made on the host's pages not everywhere.
            Some("create") => Push::of_commit(full, self.sha, None),
            _ => Push::of_commit(full, self.after, self.head_commit.map(|commit| commit.id)),
        };
        WebhookEvent::Pushed(vec![push])
    }
}

#[derive(Deserialize)]
struct GitLabBody {
    object_kind: Option<GitLabKind>,
    /// Of system hooks.
    event_name: Option<GitLabKind>,
    r#ref: Option<String>,
    after: Option<String>,
    checkout_sha: Option<String>,
    /// Of `repository_update`.
    #[serde(default)]
    changes: Changes<GitLabChange>,
}

#[derive(Clone, Copy, Deserialize)]
enum GitLabKind {
    #[serde(rename = "push", alias = "tag_push")]
    Push,
    /// Of one or more refs at once.
    #[serde(rename = "repository_update")]
    Update,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct GitLabChange {
    r#ref: String,
    after: Option<String>,
}

/// Of other events it is an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Changes<T> {
    Some(Vec<T>),
    Others(serde::de::IgnoredAny),
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

impl GitLabBody {
    fn told(self) -> WebhookEvent {
        match (self.object_kind.or(self.event_name), self.r#ref, self.changes) {
            (Some(GitLabKind::Push), Some(name), _) => {
                WebhookEvent::Pushed(vec![Push::of_commit(name, self.after, self.checkout_sha)])
            }
            (Some(GitLabKind::Update), _, Changes::Some(changes)) => {
                let push = |change: GitLabChange| Push::of_commit(change.r#ref, change.after, None);
                WebhookEvent::Pushed(changes.into_iter().map(push).collect())
            }
            (Some(GitLabKind::Other), ..) => WebhookEvent::Other,
            (None | Some(GitLabKind::Push | GitLabKind::Update), ..) => WebhookEvent::Unclear,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BitbucketBody {
    /// Cloud's.
    push: Option<CloudPush>,
    /// Data Center's.
    changes: Option<Vec<ServerChange>>,
    /// There were more than it names.
    #[serde(default)]
    ref_limit_exceeded: bool,
}

#[derive(Deserialize)]
struct CloudPush {
    changes: Vec<CloudChange>,
}

#[derive(Deserialize)]
struct CloudChange {
    new: Option<CloudRef>,
    old: Option<CloudRef>,
}

#[derive(Deserialize)]
struct CloudRef {
    r#type: String,
    name: String,
    target: Option<CloudTarget>,
}

#[derive(Deserialize)]
struct CloudTarget {
    hash: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServerChange {
    ref_id: String,
    to_hash: Option<String>,
    r#type: Option<String>,
}

impl BitbucketBody {
    fn told(self) -> WebhookEvent {
        let of_cloud = |change: CloudChange| {
            let now = match &change.new {
                Some(CloudRef { target: Some(target), .. }) => Now::of(target.hash.clone()),
                Some(_) => Now::Somewhere,
                None => Now::Gone,
            };
            let CloudRef { r#type, name, .. } = change.new.or(change.old)?;
            let reference = if r#type == "tag" { format!("{TAGS}{name}") } else { format!("{HEADS}{name}") };
            Some(Push { reference, now })
        };
        let of_server = |change: ServerChange| match change.r#type.as_deref() {
            Some("DELETE") => Push { reference: change.ref_id, now: Now::Gone },
            _ => Push::of_commit(change.ref_id, change.to_hash, None),
        };
        match (self.push, self.changes) {
            (Some(push), _) => push
                .changes
                .into_iter()
                .map(of_cloud)
                .collect::<Option<_>>()
                .map_or(WebhookEvent::Unclear, WebhookEvent::Pushed),
            (None, Some(changes)) if !self.ref_limit_exceeded => {
                WebhookEvent::Pushed(changes.into_iter().map(of_server).collect())
            }
            (None, _) => WebhookEvent::Unclear,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AzureBody {
    id: Option<String>,
    event_type: Option<String>,
    resource: Option<AzureResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AzureResource {
    #[serde(default)]
    ref_updates: Vec<AzureUpdate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AzureUpdate {
    name: String,
    new_object_id: Option<String>,
}

impl AzureBody {
    fn told(self) -> WebhookEvent {
        match (self.event_type.as_deref(), self.resource) {
            (Some("git.push"), Some(resource)) => {
                let push = |update: AzureUpdate| Push::of_commit(update.name, update.new_object_id, None);
                WebhookEvent::Pushed(resource.ref_updates.into_iter().map(push).collect())
            }
            (None | Some("git.push"), _) => WebhookEvent::Unclear,
            (Some(_), _) => WebhookEvent::Other,
        }
    }
}

/// What a script may say; it need not.
#[derive(Deserialize)]
struct GenericBody {
    r#ref: Option<String>,
    commit: Option<String>,
}

impl GenericBody {
    fn told(self) -> WebhookEvent {
        match self.r#ref {
            Some(name) if name.starts_with("refs/") => WebhookEvent::Pushed(vec![Push::new(name, self.commit)]),
            _ => WebhookEvent::Unclear,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::hooks::claim::Proof;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const ZERO: &str = "0000000000000000000000000000000000000000";

    fn hear(host: Host, event: Option<&str>, body: &Value) -> WebhookEvent {
        let claim = Claim {
            host,
            event: event.map(ToOwned::to_owned),
            delivery: None,
            is_form: false,
            proof: Proof::Signed(Vec::new()),
        };
        read(&claim, Some(body.to_string().as_bytes()))
    }

    fn pushed(reference: &str, now: Now) -> WebhookEvent {
        WebhookEvent::Pushed(vec![Push { reference: reference.to_owned(), now }])
    }

    #[test]
    fn an_annotated_tag_is_where_its_commit_is_or_nobody_knows() {
        let (at, tag) = (|commit: &str| Now::At(commit.to_owned()), "refs/tags/v1");
        let data_center = json!({"changes": [{"refId": tag, "toHash": A, "type": "ADD"}]});
        let azure = json!({"eventType": "git.push", "resource": {"refUpdates": [{"name": tag, "newObjectId": A}]}});
        for (host, event, body, now) in [
            (Host::GitHub, "push", json!({"ref": tag, "after": A, "head_commit": {"id": B}}), at(B)),
            (Host::GitHub, "push", json!({"ref": tag, "after": A, "head_commit": null}), Now::Somewhere),
            (Host::GitHub, "push", json!({"ref": tag, "after": ZERO, "head_commit": null}), Now::Gone),
            (
                Host::GitLab,
                "Tag Push Hook",
                json!({"object_kind": "tag_push", "ref": tag, "after": A, "checkout_sha": B}),
                at(B),
            ),
            (Host::GitLab, "Tag Push Hook", json!({"object_kind": "tag_push", "ref": tag, "after": ZERO}), Now::Gone),
            (Host::Bitbucket, "repo:refs_changed", data_center, Now::Somewhere),
            (Host::AzureDevOps, "", azure, Now::Somewhere),
        ] {
            let event = Some(event).filter(|event| !event.is_empty());
            assert_eq!(hear(host, event, &body), pushed(tag, now), "{body}");
        }
    }

    #[test]
    fn deletions_are_known_in_every_shape() {
        let main = "refs/heads/main";
        let cloud = json!({"push": {"changes": [{"new": null, "old": {"type": "branch", "name": "main"}}]}});
        let data_center = json!({"changes": [{"refId": main, "toHash": ZERO, "type": "DELETE"}]});
        for (host, event, body) in [
            (Host::GitHub, "push", json!({"ref": main, "after": ZERO, "deleted": true})),
            (Host::Gitea, "delete", json!({"ref": "main", "ref_type": "branch", "pusher_type": "user"})),
            (
                Host::GitLab,
                "Push Hook",
                json!({"object_kind": "push", "ref": main, "after": ZERO, "checkout_sha": null}),
            ),
            (Host::Bitbucket, "repo:push", cloud),
            (Host::Bitbucket, "repo:refs_changed", data_center),
        ] {
            assert_eq!(hear(host, Some(event), &body), pushed(main, Now::Gone), "{body}");
        }
    }

    #[test]
    fn a_hook_of_a_whole_gitlab_is_read_as_one_of_a_project() {
        let system = Some("System Hook");
        let update = json!({"event_name": "repository_update", "changes": [{"before": ZERO, "after": A, "ref": "refs/heads/main"}]});

        assert_eq!(hear(Host::GitLab, system, &update), pushed("refs/heads/main", Now::At(A.to_owned())));
        let request = json!({"object_kind": "merge_request", "changes": {"title": {"previous": "a", "current": "b"}}});
        assert_eq!(hear(Host::GitLab, system, &request), WebhookEvent::Other);
        assert_eq!(hear(Host::GitLab, system, &json!({"event_name": "project_create"})), WebhookEvent::Other);
    }

    #[test]
    fn what_is_no_push_is_of_no_interest_and_what_cannot_be_made_out_is() {
        for (host, event, body) in [
            (Host::GitHub, Some("issues"), json!({"action": "opened"})),
            (Host::Gitea, Some("release"), json!({})),
            (Host::GitLab, Some("Issue Hook"), json!({"object_kind": "issue"})),
            (Host::Bitbucket, Some("pullrequest:created"), json!({})),
            (Host::AzureDevOps, None, json!({"eventType": "build.complete", "resource": {"id": 1}})),
        ] {
            assert_eq!(hear(host, event, &body), WebhookEvent::Other, "{host:?}");
        }
        for (host, event, body) in [
            (Host::GitHub, Some("push"), json!({})),
            (Host::GitHub, Some("push"), json!({"ref": 3})),
            (Host::GitHub, None, json!([])),
            (Host::GitLab, Some("Push Hook"), json!({"object_kind": "push"})),
            (Host::Bitbucket, Some("repo:push"), json!({"push": {"changes": []}})),
            (Host::Bitbucket, Some("repo:push"), json!({"push": {"changes": [{"new": null, "old": null}]}})),
            (
                Host::Bitbucket,
                Some("mirror:repo_synchronized"),
                json!({"changes": [{"refId": "refs/heads/a"}], "refLimitExceeded": true}),
            ),
            (Host::AzureDevOps, None, json!({"eventType": "git.push"})),
            (Host::Generic, None, json!({})),
            (Host::Generic, None, json!({"ref": "main"})),
        ] {
            assert_eq!(hear(host, event, &body), WebhookEvent::Unclear, "{host:?} {body}");
        }
        assert_eq!(
            hear(Host::Generic, None, &json!({"ref": "refs/heads/a", "commit": "HEAD"})),
            pushed("refs/heads/a", Now::Somewhere)
        );
    }
}
