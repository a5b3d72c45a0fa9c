//! Which rollout a person means: by its id, or as the newest of a target.

use bellwether_core::Name;
use bellwether_core::api::{List, MemberDocument, RolloutDocument};
use serde_json::Value;

use super::Context;
use super::outcome::{self, Pending};
use crate::args::RolloutChoice;
use crate::client::{Answer, Client, Route};
use crate::failure::Failure;

/// The rollout that a person means who has just pushed: one that is over is no more than the last before that, and a
/// change that is on its way is waited for. One that goes on is there at once.
pub(super) async fn fetch_meant(context: &Context, choice: &RolloutChoice) -> anyhow::Result<Answer<RolloutDocument>> {
    let first = fetch(&context.client, Some(choice)).await;
    match choice {
        RolloutChoice::NewestOf(target) if first.as_ref().map_or(true, |first| first.document.state.is_over()) => {
            // What is wrong with the change is not about any rollout.
            let _ = outcome::wait(context, vec![Pending::Target(target.clone())]).await;
            fetch(&context.client, Some(choice)).await
        }
        _ => first,
    }
}

/// The rollout with its members.
pub(super) async fn fetch(client: &Client, choice: Option<&RolloutChoice>) -> anyhow::Result<Answer<RolloutDocument>> {
    let id = match choice {
        Some(RolloutChoice::Id(id)) => id.to_string(),
        Some(RolloutChoice::NewestOf(target)) => newest(client, Some(target)).await?,
        None => newest(client, None).await?,
    };
    let mut answer: Answer<RolloutDocument> = client.fetch(&route(&id)).await?;
    if let Some(cursor) = answer.document.members_next.take() {
        let rest: Answer<List<MemberDocument>> =
            client.fetch_list_from(&route(&id).then("members"), Some(cursor), usize::MAX).await?;
        answer.append("/members", &rest.json, "/items");
        answer.document.members.extend(rest.document.items);
        answer.json["membersNext"] = Value::Null;
    }
    Ok(answer)
}

pub(super) fn route(id: &str) -> Route {
    Route::new(["rollouts", id])
}

/// Lists come newest first.
pub(super) async fn newest(client: &Client, target: Option<&Name>) -> anyhow::Result<String> {
    let route = Route::new(["rollouts"]).maybe_with("target", target);
    let list: Answer<List<RolloutDocument>> = client.fetch_list(&route, 1).await?;
    let nothing = || match target {
        Some(target) => Failure::new(format!("target `{target}` has no rollout"))
            .hint(format!("`bellwether describe target {target}` says what the hub knows of it")),
        None => Failure::new("there is no rollout yet").hint("one starts when a target's revision or spec changes"),
    };
    let first = list.document.items.first().ok_or_else(nothing)?;
    Ok(first.id.to_string())
}
