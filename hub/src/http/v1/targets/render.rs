//! What one cluster gets of a target, as it is stored, and where a parameter of it comes from.
//!
//! Not only Secrets hold what is a secret, so these are for whoever may change targets. What Secrets hold is shown to whoever
//! asks for it, and that they did stands in the log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bellwether_core::api::{ExplainedParameter, ParameterLayer, RenderedTarget};
use bellwether_core::audit::{Action, Event};
use bellwether_core::parameters::{Layer, Parameters, Strength, TraitsUsed};
use bellwether_core::rollout::{Candidate, Rendered};
use bellwether_core::{Condition, Name};
use serde::Deserialize;

use super::find;
use super::rendered::{answer, is_secret};
use crate::Hub;
use crate::bundle::shown::values_in_files_of;
use crate::http::auth::Caller;
use crate::http::input::{Named, QueryParams};
use crate::http::problem::Refusal;
use crate::http::v1::clusters;
use crate::process::clock;
use crate::store::renders::Render;
use crate::store::revisions::Revision;
use crate::store::targets::Target;
use crate::store::{self, Connection, StoreError, views};
use crate::work::change::Change;
use crate::work::subjects;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct RenderQuery {
    cluster: Name,
    /// With what Secrets hold: whoever sees that stands in the log.
    #[serde(default)]
    secrets: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct ExplainQuery {
    cluster: Name,
    parameter: String,
}

pub(in crate::http) async fn render(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    QueryParams(query): QueryParams<RenderQuery>,
) -> Result<Response, Refusal> {
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let asked = TargetOnCluster::read(&mut db, &caller, (&name, &query.cluster), TraitsUsed::NONE).await?;
    let TargetOnCluster { target, render, revision, candidate } = &asked;
    let rendered = Rendered::new(&target.spec.parameters, &render.variables, &render.variants);
    let Some(digest) = rendered.gives(candidate) else {
        let condition = store::renders::find_condition(&mut db, target.id).await?;
        return Err(not_rendered(target, Some(&candidate.name), condition));
    };
    let runs = store::assignments::find_digest(&mut db, target.id, candidate.cluster).await?;
    let agent = views::clusters::load(&mut db, &[candidate.cluster], clock::now()).await?;
    let agent = agent.into_values().next().unwrap_or_default();
    let mut manifests = hub.content.load_manifests(&mut db, &[digest].into()).await?;
    let manifest = manifests.remove(&digest).ok_or_else(|| lost(target))?;
    let digests: Vec<_> = manifest.entries().iter().map(|entry| entry.digest).collect();
    if !store::bundles::list_missing(&mut db, &digests).await?.is_empty() {
        return Err(lost(target));
    }
    drop(db);
    let secrets = manifest.entries().iter().filter(|entry| is_secret(&entry.key)).count();
    if query.secrets && secrets > 0 {
        let mut event = asked.event(&caller);
        event.detail = serde_json::json!({"bundle": digest, "secrets": secrets});
        let mut change = Change::begin(&hub.requests, &hub.signals).await?;
        change.audit(&event).await?;
        change.commit().await?;
    }
    let document = RenderedTarget {
        target: target.name.clone(),
        cluster: candidate.name.clone(),
        commit: revision.commit.clone(),
        digest,
        runs,
        facts_told_at: agent.facts_told_at,
        apis_told_at: agent.apis_told_at,
        left_out_hooks: render.left_out_hooks.clone(),
        hidden_secrets: if query.secrets { 0 } else { secrets },
        objects: Vec::new(),
    };
    Ok(answer(hub, &document, manifest, query.secrets))
}

pub(in crate::http) async fn explain(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    QueryParams(query): QueryParams<ExplainQuery>,
) -> Result<Json<ExplainedParameter>, Refusal> {
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    // What it is about need not be used by the target.
    let asked = TargetOnCluster::read(&mut db, &caller, (&name, &query.cluster), TraitsUsed::ALL).await?;
    drop(db);
    let TargetOnCluster { target, render, revision, candidate } = &asked;
    let values = Parameters::resolve(&target.spec.parameters, candidate.facts());
    let read = values_in_files_of(&hub, target, (render, revision), values, query.parameter.clone()).await;
    let in_files = read.map_err(|(_, condition)| {
        Refusal::conflict("parameter_files_unreadable", condition.message).maybe_hint(condition.hint)
    })?;
    let in_files = in_files.into_iter().map(|(file, value)| ParameterLayer {
        value,
        file: Some(file),
        ..ParameterLayer::default()
    });
    let given = Parameters::explain(&target.spec.parameters, candidate.facts(), &query.parameter);
    let given = given.into_iter().map(|Layer { set, strength, value }| ParameterLayer {
        value,
        file: None,
        set: set.and_then(|set| u32::try_from(set).ok()),
        selected: strength > Strength::ForAll,
        named: strength == Strength::ByName,
    });
    let layers = in_files.chain(given).collect();
    Ok(Json(ExplainedParameter {
        target: target.name.clone(),
        cluster: query.cluster,
        parameter: query.parameter,
        layers,
    }))
}

/// A target as it is wanted, and a cluster that it selects.
struct TargetOnCluster {
    target: Target,
    render: Render,
    revision: Revision,
    candidate: Candidate,
}

impl TargetOnCluster {
    async fn read(
        db: &mut Connection,
        caller: &Caller,
        (target, cluster): (&Name, &Name),
        read: TraitsUsed,
    ) -> Result<Self, Refusal> {
        let target = find(db, caller, target).await?;
        let cluster = clusters::find(db, caller, cluster).await?;
        if cluster.project != target.project || !target.spec.clusters.selects(&cluster.labels) {
            let detail = format!("target {} does not select cluster {}", target.name, cluster.name);
            return Err(Refusal::conflict("cluster_not_selected", detail)
                .hint("compare its `clusters` with the labels in: bellwether cluster list"));
        }
        let wanted = store::wanted::find(db, target.id).await?;
        let wanted = wanted.filter(|wanted| wanted.target_version == target.version);
        let Some(render) = wanted.map(|wanted| wanted.render) else {
            let condition = store::renders::find_condition(db, target.id).await?;
            return Err(not_rendered(&target, None, condition));
        };
        let revision = store::revisions::find(db, render.revision).await?.ok_or_else(|| lost(&target))?;
        let mut traits = store::traits::load(db, &[cluster.id], TraitsUsed::by(&render.variables).and(read)).await?;
        let candidate = Candidate {
            cluster: cluster.id,
            name: cluster.name,
            labels: cluster.labels,
            traits: traits.remove(&cluster.id).unwrap_or_default(),
            connected: false,
        };
        Ok(Self { target, render, revision, candidate })
    }

    /// That somebody sees what Secrets hold.
    fn event(&self, caller: &Caller) -> Event {
        let subject = subjects::target(&self.target.project, &self.target.name);
        let action = Action::TargetSecretsShown;
        let mut event = Event::new(clock::new_id(), clock::now(), caller.actor(), action, subject);
        event.cluster = Some(self.candidate.name.to_string());
        event.commit = Some(self.revision.commit.clone());
        event
    }
}

fn not_rendered(target: &Target, cluster: Option<&Name>, condition: Option<Condition>) -> Refusal {
    let of = cluster.map(|cluster| format!(" for cluster {cluster}")).unwrap_or_default();
    let (why, hint) = condition.map_or((None, None), |condition| (Some(condition.message), condition.hint));
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let detail = format!("target {} as it stands is not rendered{of}{why}", target.name);
    let hint = hint.unwrap_or_else(|| "a cluster is rendered for once its agent has joined".to_owned());
    Refusal::conflict("not_rendered", detail).hint(hint)
}

fn lost(target: &Target) -> Refusal {
    Refusal::conflict("content_missing", format!("something that target {} renders to is stored no more", target.name))
        .hint(format!("bellwether target refresh {}", target.name))
}
