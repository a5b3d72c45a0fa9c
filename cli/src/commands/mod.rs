//! The commands, one module per noun. Each asks the hub and prints; none keeps anything.

mod accept;
mod apply;
mod audit;
mod cluster;
mod credential;
mod drift;
mod health;
mod helm;
mod import;
mod meant;
mod outcome;
mod plan;
mod render;
mod repo;
mod rollout;
mod status;
mod target;
mod token;
mod validate;
mod watch;
mod webhook;

use bellwether_core::access::Role;
use clap::CommandFactory as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::outcome::Pending;
use crate::args::{Arguments, Command, DeleteMode, Kind, RolloutChoice};
use crate::client::{Answer, Client, Route};
use crate::failure::{Exit, Failure};
use crate::output::table::fields;
use crate::output::{Output, note, print};

/// Of lists that are shown whole.
const ALL: usize = usize::MAX;

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context {
    client: Client,
    output: Output,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let output = Output::new(arguments.output);
    let command = match arguments.command {
        Command::Completions { shell } => return completions(shell),
        Command::Version => return version(&output),
        Command::Render(arguments) if !arguments.ask_hub && arguments.of_hub().is_none() => {
            return render::run(&output, &arguments, render::Known::default());
        }
        Command::Validate(arguments) if !arguments.asks_hub() => {
            return validate::run(&output, &arguments);
        }
        Command::Health(arguments) => return health::run(&output, &arguments),
        Command::Import(command) => return import::run(&output, &command),
        command => command,
    };
    let context = Context { client: Client::new(&arguments.connection)?, output };
    match command {
        Command::Render(arguments) if arguments.ask_hub => {
            let known = render::ask(&context, &arguments).await?;
            render::run(&context.output, &arguments, known)
        }
        Command::Render(arguments) => render::of_hub(&context, &arguments).await,
        Command::Plan(arguments) => plan::run(&context, &arguments).await,
        Command::Validate(arguments) => validate::for_clusters(&context, &arguments).await,
        Command::Cluster(command) => cluster::run(&context, command).await,
        Command::Repo(command) => repo::run(&context, command).await,
        Command::Credential(command) => credential::run(&context, command).await,
        Command::Target(command) => target::run(&context, command).await,
        Command::Rollout(command) => rollout::run(&context, command).await,
        Command::Apply(arguments) => apply::run(&context, &arguments).await,
        Command::Get { kind, name: None } => list(&context, kind).await,
        Command::Get { kind, name: Some(name) } => one(&context, kind, &name).await,
        Command::Describe { kind, name } => describe(&context, kind, &name).await,
        Command::Delete { kind, name, mode } => delete(&context, kind, &name, mode).await,
        Command::Status { target, watch } => status::run(&context, target.as_ref(), watch).await,
        Command::Drift(command) => drift::run(&context, command).await,
        Command::Audit(command) => audit::run(&context, command).await,
        Command::Token(command) => token::run(&context, command).await,
        Command::Whoami => whoami(&context).await,
        Command::Completions { .. } | Command::Version | Command::Health(_) | Command::Import(_) => Ok(Exit::Done),
    }
}

async fn list(context: &Context, kind: Kind) -> anyhow::Result<Exit> {
    match kind {
        Kind::Cluster => cluster::list(context, &[]).await,
        Kind::Repo => repo::list(context).await,
        Kind::Target => target::list(context).await,
        Kind::Rollout => rollout::list(context, None, ALL).await,
    }
}

async fn one(context: &Context, kind: Kind, name: &str) -> anyhow::Result<Exit> {
    match kind {
        Kind::Cluster => cluster::one(context, &parse(name)?).await,
        Kind::Repo => repo::one(context, &parse(name)?).await,
        Kind::Target => target::one(context, &parse(name)?).await,
        Kind::Rollout => rollout::one(context, &parse::<RolloutChoice>(name)?).await,
    }
}

async fn describe(context: &Context, kind: Kind, name: &str) -> anyhow::Result<Exit> {
    match kind {
        Kind::Cluster => cluster::show(context, &parse(name)?).await,
        Kind::Repo => repo::show(context, &parse(name)?).await,
        Kind::Target => target::show(context, &parse(name)?).await,
        Kind::Rollout => rollout::show(context, &parse::<RolloutChoice>(name)?).await,
    }
}

async fn delete(context: &Context, kind: Kind, name: &bellwether_core::Name, mode: DeleteMode) -> anyhow::Result<Exit> {
    if kind != Kind::Target && (mode.orphan || mode.prune || mode.force) {
        return Err(Failure::usage("--orphan, --prune and --force are for targets").hint("leave them out").into());
    }
    match kind {
        Kind::Cluster => cluster::delete(context, name).await,
        Kind::Repo => repo::delete(context, name).await,
        Kind::Target => target::delete(context, name, mode).await,
        Kind::Rollout => {
            let hint = format!("`bellwether rollout abort {name}` stops it");
            Err(Failure::usage("rollouts are not deleted: they are part of the record").hint(hint).into())
        }
    }
}

/// What clap could not judge, because it depends on the kind.
fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error: T::Err| Failure::usage(error.to_string()))
}

/// A list of one, so that `get KIND NAME` looks like `get KIND`.
fn as_list<T>(answer: &Answer<T>) -> Answer<Vec<T>>
where
    T: Clone,
{
    Answer { json: answer.json.clone(), document: vec![answer.document.clone()] }
}

/// Deletes, and says so.
async fn delete_named(context: &Context, route: &Route, sentence: &str) -> anyhow::Result<Exit> {
    let answer = context.client.delete(route).await?;
    context.output.done(&answer, sentence)?;
    Ok(Exit::Done)
}

/// Asks for something that the hub does later.
async fn order(context: &Context, route: &Route, body: &Value, sentence: &str) -> anyhow::Result<Exit> {
    let answer: Answer<Value> = context.client.post(route, body).await?;
    context.output.done(&answer, sentence)?;
    Ok(Exit::Done)
}

/// Lets the hub reconcile something now, and waits for what it finds.
async fn refresh(
    context: &Context,
    route: &Route,
    what: Pending,
    sentence: &str,
    no_wait: bool,
) -> anyhow::Result<Exit> {
    let answer: Answer<Value> = context.client.post(route, &serde_json::json!({})).await?;
    if !no_wait {
        outcome::wait(context, vec![what]).await?;
    }
    let sentence = if no_wait { "the hub was told" } else { sentence };
    context.output.done(&answer, sentence)?;
    Ok(Exit::Done)
}

/// An empty list is said on standard error, with the command that changes it.
fn note_if_empty<T>(items: &[T], sentence: &str) {
    if items.is_empty() {
        note(sentence);
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Whoami {
    name: String,
    kind: String,
    role: Role,
}

async fn whoami(context: &Context) -> anyhow::Result<Exit> {
    let answer: Answer<Whoami> = context.client.fetch(&Route::new(["whoami"])).await?;
    let draw = |who: &Whoami, style| {
        let [name, kind, role] = [who.name.as_str(), who.kind.as_str(), who.role.as_str()].map(Into::into);
        fields([("name", name), ("kind", kind), ("role", role)], style)
    };
    context.output.answer(&answer, draw)?;
    Ok(Exit::Done)
}

fn version(output: &Output) -> anyhow::Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    let answer = Answer { json: serde_json::json!({"version": version}), document: () };
    output.answer(&answer, |(), _| format!("bellwether {version}"))?;
    Ok(Exit::Done)
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "bellwether", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
