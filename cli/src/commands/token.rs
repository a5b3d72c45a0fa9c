//! Tokens of the API.

use bellwether_core::Name;
use bellwether_core::api::{CreateToken, CreatedToken, List, TokenDocument};
use jiff::Timestamp;

use super::{ALL, Context, delete_named};
use crate::args::{Format, TokenCommand};
use crate::client::{Answer, Route};
use crate::failure::Exit;
use crate::output::table::{Field, Tone, table};
use crate::output::{Style, age, note, print, time};

pub(super) async fn run(context: &Context, command: TokenCommand) -> anyhow::Result<Exit> {
    match command {
        TokenCommand::Create { name, role, ttl } => {
            let seconds = ttl.map(|ttl| u32::try_from(ttl.duration().as_secs()).unwrap_or(u32::MAX));
            create(context, &CreateToken { name, role, ttl_seconds: seconds }).await
        }
        TokenCommand::List => list(context).await,
        TokenCommand::Revoke { name } => revoke(context, &name).await,
    }
}

/// Standard output is what goes into a file or a variable.
async fn create(context: &Context, asked: &CreateToken) -> anyhow::Result<Exit> {
    let answer: Answer<CreatedToken> = context.client.post(&Route::new(["tokens"]), asked).await?;
    match context.output.format() {
        Some(Format::Json | Format::Yaml) => context.output.answer(&answer, |_, _| String::new())?,
        _ => print(&answer.document.secret)?,
    }
    let token = &answer.document.token;
    let until = token.expires_at.map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {}", time(at)));
    note(&format!("token {} is good {until}; it is not shown again", token.name));
    Ok(Exit::Done)
}

async fn list(context: &Context) -> anyhow::Result<Exit> {
    let answer: Answer<List<TokenDocument>> = context.client.fetch_list(&Route::new(["tokens"]), ALL).await?;
    context.output.answer(&answer, |list, style| draw(&list.items, style))?;
    Ok(Exit::Done)
}

async fn revoke(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    delete_named(context, &Route::named("tokens", name), &format!("token {name} is refused from now on")).await
}

fn draw(tokens: &[TokenDocument], style: Style) -> String {
    let now = Timestamp::now();
    let row = |token: &TokenDocument| {
        [
            Field::from(&token.name),
            token.role.as_str().into(),
            state(token, now),
            token.last_used_at.map_or_else(|| "never".to_owned(), |at| age(at, now)).into(),
            token.expires_at.map_or_else(|| "never".to_owned(), time).into(),
            token.created_by.as_deref().unwrap_or("hub").into(),
        ]
    };
    table(["NAME", "ROLE", "STATE", "USED", "EXPIRES", "BY"], tokens.iter().map(row), style)
}

fn state(token: &TokenDocument, now: Timestamp) -> Field {
    if token.revoked_at.is_some() {
        Field::toned("revoked", Tone::Bad)
    } else if token.expires_at.is_some_and(|at| at <= now) {
        Field::toned("expired", Tone::Busy)
    } else {
        Field::toned("good", Tone::Good)
    }
}
