//! Repos: letting the hub watch a Git repository, and what it sees there.

use std::path::Path;

use bellwether_core::api::{
    API_VERSION, AcceptHead, CreatedRepo, Document, List, Metadata, RepoCredential, RepoDocument, RepoHead,
    WrittenCommitStatus, WrittenRepo, WrittenVerify,
};
use bellwether_core::repo::{CONTEXT, GitHost};
use bellwether_core::signature::VerifyMode;
use bellwether_core::{Name, Version};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::outcome::{self, Pending};
use super::{ALL, Context, as_list, credential, delete_named, note_if_empty, refresh, webhook};
use crate::args::{Format, RepoAddArgs, RepoCommand};
use crate::client::{Answer, Client, RequestError, Route};
use crate::failure::{Exit, Failure, condition_text};
use crate::output::table::{Field, Tone, fields, table};
use crate::output::{Style, age, note, short_commit, time};

pub(super) async fn run(context: &Context, command: RepoCommand) -> anyhow::Result<Exit> {
    match command {
        RepoCommand::Add(arguments) => add(context, arguments).await,
        RepoCommand::List => list(context).await,
        RepoCommand::Show { name } => show(context, &name).await,
        RepoCommand::Refresh { name, no_wait } => {
            let route = Route::named("repos", &name).then("refresh");
            let sentence = format!("repo {name} was fetched");
            refresh(context, &route, Pending::Repo(name), &sentence, no_wait).await
        }
        RepoCommand::Accept { name, commit, reference, no_wait } => {
            accept(context, name, AcceptHead { commit, reference }, no_wait).await
        }
        RepoCommand::Webhook(arguments) => webhook::run(context, &arguments).await,
        RepoCommand::Delete { name } => delete(context, &name).await,
    }
}

async fn add(context: &Context, arguments: RepoAddArgs) -> anyhow::Result<Exit> {
    let ca = arguments.ca_file.as_deref().map(read_text).transpose()?;
    let cosign_keys = arguments.cosign_keys.iter().map(|path| read_text(path)).collect::<Result<Vec<_>, _>>()?;
    let verify_keys = arguments.verify_keys.iter().map(|path| read_text(path)).collect::<Result<Vec<_>, _>>()?;
    let known_hosts = arguments.known_hosts_file.as_deref().map(read_text).transpose()?;
    let credential = match (&arguments.token_file, &arguments.ssh_key_file) {
        (Some(path), _) => Some(Credential::read_token(path)?),
        (None, Some(path)) => Some(Credential::read_ssh_key(path)?),
        (None, None) => None,
    };
    // What is not said stays as it is: who gives a new token means to take no protection away.
    let before = find(context, &arguments.name).await?;
    let known = before.as_ref();
    let has_keys = !verify_keys.is_empty() || known.is_some_and(|known| known.verify.is_some());
    if arguments.verify_mode.is_some() && !has_keys {
        return Err(Failure::usage("`--verify-mode` says what has to be signed, and no key says by whom")
            .hint("give the public keys with --verify-key FILE")
            .into());
    }
    let spec = WrittenRepo {
        url: arguments.git_url,
        chart: arguments.chart.or_else(|| known?.chart.clone()),
        cosign_keys: match known {
            Some(known) if cosign_keys.is_empty() => known.cosign_keys.clone(),
            _ => cosign_keys,
        },
        verify: match known.and_then(|known| known.verify.clone()) {
            Some(known) if verify_keys.is_empty() => {
                Some(WrittenVerify { mode: arguments.verify_mode.unwrap_or(known.mode), ..known })
            }
            known => {
                let mode = arguments.verify_mode.or_else(|| Some(known?.mode)).unwrap_or_default();
                (!verify_keys.is_empty()).then_some(WrittenVerify { mode, keys: verify_keys })
            }
        },
        ca: ca.or_else(|| known?.ca.clone()),
        known_hosts: known_hosts.or_else(|| known?.known_hosts.clone()),
        force_push: arguments.force_push.or_else(|| Some(known?.force_push)).unwrap_or_default(),
        poll_seconds: arguments.poll_seconds.or_else(|| known?.poll_seconds),
        commit_status: match (arguments.commit_status, known.and_then(|known| known.commit_status.clone())) {
            (Some(provider), known) => {
                let context = arguments.commit_status_context.or_else(|| Some(known?.context));
                Some(WrittenCommitStatus { provider, context: context.unwrap_or_else(|| CONTEXT.to_owned()) })
            }
            (None, Some(known)) => {
                Some(WrittenCommitStatus { context: arguments.commit_status_context.unwrap_or(known.context), ..known })
            }
            (None, None) => None,
        },
    };
    let document: RepoDocument = Document {
        api_version: API_VERSION.to_owned(),
        kind: "Repo".to_owned(),
        metadata: Metadata::named(arguments.name.clone()),
        spec,
        status: None,
    };
    let body = serde_json::to_value(&document)?;
    let created = send(&context.client, &arguments.name, &body, credential.is_some()).await?;
    print_created(context, &created)?;
    send_credential(&context.client, &arguments.name, credential.as_ref()).await?;
    if arguments.no_wait {
        return Ok(Exit::Done);
    }
    outcome::wait(context, vec![Pending::Repo(arguments.name.clone())]).await?;
    note(&format!("repo {} was fetched", arguments.name));
    Ok(Exit::Done)
}

/// `None`: there is no repo of this name.
async fn find(context: &Context, name: &Name) -> Result<Option<WrittenRepo>, RequestError> {
    match context.client.fetch::<RepoDocument>(&Route::named("repos", name)).await {
        Ok(known) => Ok(Some(known.document.spec)),
        Err(RequestError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends a repo. What is answered has to be shown before anything else can fail: it may hold the webhook's secret.
/// With a token to follow, the hub does not fetch before it has that.
pub(super) async fn send(
    client: &Client,
    name: &Name,
    body: &Value,
    token_follows: bool,
) -> Result<Answer<CreatedRepo>, RequestError> {
    client.put(&Route::named("repos", name).maybe_with("fetch", token_follows.then_some("false")), body).await
}

/// A credential has a route of its own because it is never read back.
pub(super) async fn send_credential(
    client: &Client,
    name: &Name,
    credential: Option<&Credential>,
) -> Result<(), RequestError> {
    let body = match credential {
        None => return Ok(()),
        Some(Credential::Token(token)) => json!({"token": token}),
        Some(Credential::SshKey(key)) => json!({"sshKey": key}),
        Some(Credential::GithubApp(app)) => json!({"githubApp": app}),
    };
    client.put::<Value>(&Route::named("repos", name).then("credential"), &body).await?;
    Ok(())
}

/// What a Git server lets the hub in with.
#[derive(PartialEq, Eq)]
pub(super) enum Credential {
    Token(String),
    SshKey(String),
    /// With its ids.
    GithubApp(Value),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::SshKey(_) => "SshKey(…)",
            Self::GithubApp(_) => "GithubApp(…)",
        })
    }
}

impl Credential {
    pub(super) fn read_token(path: &Path) -> Result<Self, Failure> {
        read_secret(path, "write the repository's token into it").map(Self::Token)
    }

    pub(super) fn read_ssh_key(path: &Path) -> Result<Self, Failure> {
        read_secret(path, "`ssh-keygen` writes a private key into it").map(Self::SshKey)
    }

    pub(super) fn read_app_key(path: &Path, app: &str, installation: u64) -> Result<Self, Failure> {
        let key = read_secret(path, "GitHub makes it on the app's page: Settings > General > Private keys")?;
        Ok(Self::GithubApp(json!({"appId": app, "installationId": installation, "privateKey": key})))
    }
}

async fn accept(context: &Context, name: Name, accepted: AcceptHead, no_wait: bool) -> anyhow::Result<Exit> {
    let route = Route::named("repos", &name).then("accept");
    let body = serde_json::to_value(&accepted)?;
    let answer: Answer<Value> = context.client.post(&route, &body).await?;
    let sentence = format!("commit {} of repo {name} is accepted", short_commit(&accepted.commit));
    if !no_wait {
        outcome::wait(context, vec![Pending::Repo(name)]).await?;
    }
    context.output.done(&answer, &sentence)?;
    Ok(Exit::Done)
}

fn print_created(context: &Context, answer: &Answer<CreatedRepo>) -> anyhow::Result<()> {
    let created = &answer.document;
    let name = &created.repo.metadata.name;
    context.output.answer(answer, draw_webhook)?;
    if context.output.document_format()? == Format::Table {
        match created.webhook_secret {
            Some(_) if is_new(created) => {
                note(&format!("repo {name} is created; its webhook secret is not shown again"));
            }
            Some(_) => note(&format!("repo {name} is at another host now; its new webhook secret is not shown again")),
            None if created.unchanged => note(&format!("repo {name} was there already, and is as it was")),
            None => note(&format!("repo {name} was there already and is changed; its webhook secret stays")),
        }
        note_if_let_in_no_more(created);
    }
    Ok(())
}

/// A token or key that was given away with the address would be the next host's.
pub(super) fn note_if_let_in_no_more(created: &CreatedRepo) {
    if created.credential_removed {
        note(&format!(
            "its token or key was for where it was before, and is deleted; unless it needs none: \
             bellwether credential set {} --token-file FILE (or --ssh-key-file)",
            created.repo.metadata.name
        ));
    }
}

pub(super) fn is_new(created: &CreatedRepo) -> bool {
    created.repo.metadata.version == Some(Version::new(1))
}

pub(super) fn draw_webhook(created: &CreatedRepo, style: Style) -> String {
    let Some(secret) = &created.webhook_secret else { return String::new() };
    fields([("webhook path", created.webhook_path.as_str().into()), ("webhook secret", secret.as_str().into())], style)
}

pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
}

/// Without the line end that editors leave behind it.
fn read_secret(path: &Path, hint: &str) -> Result<String, Failure> {
    let text = read_text(path)?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(Failure::new(format!("{} is empty", path.display())).hint(hint.to_owned()));
    }
    Ok(secret.to_owned())
}

pub(super) async fn list(context: &Context) -> anyhow::Result<Exit> {
    let answer: Answer<List<RepoDocument>> = context.client.fetch_list(&Route::new(["repos"]), ALL).await?;
    context.output.answer(&answer, |list, style| draw_list(&list.items, style))?;
    note_if_empty(&answer.document.items, "no repo is there; `bellwether repo add NAME URL` adds one");
    Ok(Exit::Done)
}

pub(super) async fn one(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let answer = context.client.fetch::<RepoDocument>(&Route::named("repos", name)).await?;
    context.output.answer(&as_list(&answer), |items, style| draw_list(items, style))?;
    Ok(Exit::Done)
}

fn draw_list(repos: &[RepoDocument], style: Style) -> String {
    if repos.is_empty() {
        return String::new();
    }
    let now = Timestamp::now();
    let row = |repo: &RepoDocument| {
        let status = repo.status.as_ref();
        let fetched = status.and_then(|status| status.fetched_at);
        [
            Field::from(&repo.metadata.name),
            repo.spec.url.as_str().into(),
            fetched.map_or_else(|| "never".to_owned(), |at| age(at, now)).into(),
            condition(repo),
        ]
    };
    table(["NAME", "URL", "FETCHED", "CONDITION"], repos.iter().map(row), style)
}

pub(super) fn condition(repo: &RepoDocument) -> Field {
    let condition = repo.status.as_ref().and_then(|status| status.condition.as_ref());
    Field::toned(condition.map(condition_text).unwrap_or_default(), Tone::Bad)
}

/// Exit code 3 when something is wrong with it.
pub(super) async fn show(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let answer = context.client.fetch::<RepoDocument>(&Route::named("repos", name)).await?;
    context.output.answer(&answer, draw)?;
    let condition = answer.document.status.and_then(|status| status.condition);
    Ok(if condition.is_some() { Exit::Differs } else { Exit::Done })
}

fn draw(repo: &RepoDocument, style: Style) -> String {
    let status = repo.status.as_ref();
    let is_ssh = repo.spec.known_hosts.is_some();
    let credential = match status.and_then(|status| status.credential.as_ref()) {
        Some(RepoCredential { kind: Some(kind), public, .. }) => match public {
            Some(public) => format!("{}: {public}", credential::kind(Some(*kind))),
            None => format!("a {} is stored", credential::kind(Some(*kind))),
        },
        // Of an earlier version.
        _ if status.is_some_and(|status| status.has_credential) => {
            if is_ssh { "a key is stored" } else { "a token is stored" }.to_owned()
        }
        _ => String::new(),
    };
    let hint = status.and_then(|status| status.condition.as_ref()).and_then(|condition| condition.hint.clone());
    let pairs = [
        ("name", Field::from(&repo.metadata.name)),
        ("url", repo.spec.url.as_str().into()),
        ("signed by", signers(&repo.spec).into()),
        ("chart", repo.spec.chart.as_deref().unwrap_or_default().into()),
        ("ca", repo.spec.ca.as_ref().map_or("", |_| "private").into()),
        ("known hosts", if is_ssh { "of its own" } else { "" }.into()),
        ("credential", credential.into()),
        ("force-push", if repo.spec.force_push.is_allowed() { "" } else { "waits to be accepted" }.into()),
        ("poll", repo.spec.poll_seconds.map(|seconds| format!("{seconds}s")).unwrap_or_default().into()),
        ("commit status", repo.spec.commit_status.as_ref().map(commit_status).unwrap_or_default().into()),
        ("fetched", status.and_then(|status| status.fetched_at).map_or_else(|| "never".to_owned(), time).into()),
        ("condition", condition(repo)),
        ("hint", hint.unwrap_or_default().into()),
    ];
    let heads = status.map(|status| draw_heads(&status.heads, style)).unwrap_or_default();
    let fields = fields(pairs, style);
    if heads.is_empty() { fields } else { format!("{fields}\n\n{heads}") }
}

fn commit_status(told: &WrittenCommitStatus) -> String {
    let host = match told.provider {
        GitHost::Github => "GitHub",
        GitHost::Gitlab => "GitLab",
        GitHost::Gitea => "Gitea",
    };
    format!("{} at {host}", told.context)
}

fn signers(repo: &WrittenRepo) -> String {
    match &repo.verify {
        Some(verify) => {
            let what = match verify.mode {
                VerifyMode::Commit => "commits",
                VerifyMode::Tag => "tags",
                VerifyMode::TagAndCommit => "tags and commits",
            };
            format!("keys of its own ({what})")
        }
        None if repo.cosign_keys.is_empty() => String::new(),
        None => "keys of its own".to_owned(),
    }
}

fn draw_heads(heads: &[RepoHead], style: Style) -> String {
    if heads.is_empty() {
        return String::new();
    }
    let row = |head: &RepoHead| {
        [
            head.tag
                .as_ref()
                .map_or_else(|| head.reference.clone(), |tag| format!("{} ({tag})", head.reference))
                .into(),
            short_commit(&head.commit).into(),
            head.author.as_str().into(),
            head.verified_by.as_deref().unwrap_or_default().into(),
            time(head.seen_at).into(),
            head.subject.as_str().into(),
        ]
    };
    table(["REF", "COMMIT", "AUTHOR", "VERIFIED BY", "SEEN", "SUBJECT"], heads.iter().map(row), style)
}

pub(super) async fn delete(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    delete_named(context, &Route::named("repos", name), &format!("repo {name} is deleted")).await
}
