//! What repos are read with: given, made, given anew, taken away, and never shown.

use bellwether_core::Name;
use bellwether_core::api::{List, MadeCredential, RepoDocument};
use bellwether_core::repo::CredentialKind;
use jiff::Timestamp;
use serde_json::json;

use super::outcome::{self, Pending};
use super::repo::{Credential, condition, send_credential};
use super::{ALL, Context, delete_named, note_if_empty};
use crate::args::{CredentialCommand, CredentialSetArgs};
use crate::client::{Answer, Route};
use crate::failure::{Exit, Failure};
use crate::output::table::{Field, Tone, table};
use crate::output::{Style, age, note};

pub(super) async fn run(context: &Context, command: CredentialCommand) -> anyhow::Result<Exit> {
    match command {
        CredentialCommand::List => list(context).await,
        CredentialCommand::Set(arguments) => set(context, &arguments).await,
        CredentialCommand::Make { name } => make(context, &name).await,
        CredentialCommand::Remove { name } => remove(context, &name).await,
    }
}

async fn list(context: &Context) -> anyhow::Result<Exit> {
    let answer: Answer<List<RepoDocument>> = context.client.fetch_list(&Route::new(["repos"]), ALL).await?;
    context.output.answer(&answer, |list, style| draw(&list.items, style))?;
    note_if_empty(&answer.document.items, "no repo is there; `bellwether repo add NAME URL` adds one");
    Ok(Exit::Done)
}

fn draw(repos: &[RepoDocument], style: Style) -> String {
    if repos.is_empty() {
        return String::new();
    }
    let now = Timestamp::now();
    let row = |repo: &RepoDocument| {
        let credential = repo.status.as_ref().and_then(|status| status.credential.as_ref());
        [
            Field::from(&repo.metadata.name),
            credential.map_or_else(|| Field::toned("none", Tone::Faint), |one| kind(one.kind).into()),
            credential.map(|one| age(one.since, now)).unwrap_or_default().into(),
            credential.and_then(|one| one.public.clone()).unwrap_or_default().into(),
            condition(repo),
        ]
    };
    table(["REPO", "KIND", "SINCE", "PUBLIC", "CONDITION"], repos.iter().map(row), style)
}

/// In words.
pub(super) const fn kind(kind: Option<CredentialKind>) -> &'static str {
    match kind {
        Some(CredentialKind::Token) => "token",
        Some(CredentialKind::SshKey) => "ssh key",
        Some(CredentialKind::GithubApp) => "GitHub App",
        None => "stored",
    }
}

async fn set(context: &Context, arguments: &CredentialSetArgs) -> anyhow::Result<Exit> {
    let CredentialSetArgs { name, no_wait, .. } = arguments;
    let credential = read(arguments)?;
    send_credential(&context.client, name, Some(&credential)).await?;
    if !no_wait {
        outcome::wait(context, vec![Pending::Repo(name.clone())]).await?;
        note(&format!("repo {name} was fetched with it"));
    }
    Ok(Exit::Done)
}

fn read(arguments: &CredentialSetArgs) -> Result<Credential, Failure> {
    let app = arguments.github_app_id.as_deref().zip(arguments.github_installation_id);
    match (&arguments.token_file, &arguments.ssh_key_file, &arguments.github_key_file, app) {
        (Some(path), ..) => Credential::read_token(path),
        (None, Some(path), ..) => Credential::read_ssh_key(path),
        (None, None, Some(path), Some((app, installation))) => Credential::read_app_key(path, app, installation),
        _ => Err(Failure::usage("no credential is given").hint("see: bellwether credential set --help")),
    }
}

async fn make(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let route = Route::named("repos", name).then("credential");
    let answer: Answer<MadeCredential> = context.client.post(&route, &json!({})).await?;
    context.output.answer(&answer, |made, _| made.public_key.clone())?;
    note("give that line to the Git host, with the right to read this repo; then: bellwether repo refresh");
    Ok(Exit::Done)
}

async fn remove(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let route = Route::named("repos", name).then("credential");
    delete_named(context, &route, &format!("repo {name} is fetched without a credential from now on")).await
}
