//! Targets: adding, changing, showing, rolling back.

mod delete;
mod document;
mod list;
mod plan;
mod put;
mod refresh;
mod release;
mod render;
mod rendered;
mod rollback;
mod show;
#[cfg(test)]
mod tests;

use bellwether_core::Name;
use bellwether_core::api::{API_VERSION, Metadata};
use bellwether_core::audit::{Action, Event};
use bellwether_core::object::digest_of;
use bellwether_core::parameters::ParameterSet;
use bellwether_core::target::TargetSpec;
use uuid::Uuid;

use crate::Hub;
use crate::http::auth::Caller;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::StoreError;
use crate::store::intents::{self, TargetVerb, Verb};
use crate::store::targets::Target;
use crate::work::change::Change;
use crate::work::subjects;

use super::find::target as find;
pub(in crate::http) use delete::delete;
use document::document_of;
pub(in crate::http::v1) use document::{documents_of, source_document};
pub(in crate::http) use list::list;
pub(in crate::http) use plan::plan;
pub(in crate::http) use put::put;
pub(in crate::http) use refresh::refresh;
pub(in crate::http) use release::release;
pub(in crate::http) use render::{explain, render};
pub(in crate::http) use rollback::rollback;
pub(in crate::http) use show::show;

/// That a document is what its path says.
pub(in crate::http) fn check_head(
    name: &Name,
    kind: &'static str,
    api_version: &str,
    stated: &str,
    metadata: &Metadata,
) -> Result<(), Refusal> {
    if api_version != API_VERSION {
        let detail = format!("`apiVersion` is `{api_version}`, not `{API_VERSION}`");
        return Err(Refusal::invalid("api_version_unknown", detail));
    }
    if stated != kind {
        return Err(Refusal::invalid("kind_unknown", format!("`kind` is `{stated}`, and this path is for `{kind}`")));
    }
    if metadata.name != *name {
        let detail = format!("the document is of `{}`, and the path names `{name}`", metadata.name);
        return Err(Refusal::invalid("name_differs", detail));
    }
    Ok(())
}

async fn ask(
    change: &mut Change<'_>,
    target: &Target,
    verb: Verb,
    caller: &Caller,
    reason: String,
) -> Result<Uuid, StoreError> {
    let intent = intents::IntentRow {
        id: clock::new_id(),
        target: target.id,
        rollout: None,
        verb,
        actor: caller.name.clone(),
        reason,
    };
    let now = clock::now();
    let (action, commit) = match &intent.verb {
        Verb::Target(TargetVerb::RollbackTo { commit, .. }) => (Action::TargetRollbackAsked, Some(commit.clone())),
        _ => (Action::TargetReleaseAsked, None),
    };
    let subject = subjects::target(&target.project, &target.name);
    let mut event = Event::new(clock::new_id(), now, caller.actor(), action, subject);
    event.commit = commit.filter(|commit| !commit.is_empty());
    event.reason.clone_from(&intent.reason);
    change.audit(&event).await?;
    intents::insert(change, &intent, now).await?;
    Ok(intent.id)
}

/// What is being deleted takes no more intents.
fn check_stays(target: &Target) -> Result<(), Refusal> {
    if target.deletion.is_none() {
        return Ok(());
    }
    Err(Refusal::conflict("target_deleting", format!("target `{}` is being deleted", target.name))
        .hint(format!("wait until it is gone; whom it waits for: bellwether target show {}", target.name)))
}

fn changed_event(hub: &Hub, target: &Target, caller: &Caller, action: Action) -> Event {
    let subject = subjects::target(&target.project, &target.name);
    let mut event = Event::new(clock::new_id(), clock::now(), caller.actor(), action, subject);
    event.detail = serde_json::json!({"spec": spec_for_audit(hub, target)});
    event
}

/// The log is kept for ever, and goes to whoever is given it: of parameters, names and marks instead of values.
fn spec_for_audit(hub: &Hub, target: &Target) -> serde_json::Value {
    let hide = |set: &ParameterSet| ParameterSet {
        clusters: set.clusters.clone(),
        values: set.values.iter().map(|(name, value)| (name.clone(), hub.seal.mark(digest_of(value)).into())).collect(),
    };
    let mut spec = TargetSpec { parameters: target.spec.parameters.iter().map(hide).collect(), ..target.spec.clone() };
    for value in spec.render.helm.iter_mut().flat_map(|helm| helm.values.values_mut()) {
        *value = hub.seal.mark(digest_of(value)).into();
    }
    serde_json::to_value(spec).expect("a spec is plain data")
}
