//! Targets as the API shows them.

use std::collections::BTreeMap;

use bellwether_core::ProjectId;
use bellwether_core::api::{
    API_VERSION, DeletionStatus, Metadata, SourceCommit, TargetCommitStatus, TargetDocument, TargetStatus,
};
use bellwether_core::parameters::TraitsUsed;
use bellwether_core::rollout::{Candidate, Rendered, behind};
use bellwether_core::session::Action;
use jiff::Timestamp;

use crate::http::v1::rollouts;
use crate::process::clock;
use crate::store::commit_statuses::Shown;
use crate::store::sources::ReadSource;
use crate::store::targets::{Deletion, Target};
use crate::store::views::targets::{self as views, FleetMember, TargetView, WantedView};
use crate::store::{Connection, StoreError};

pub(super) async fn document_of(db: &mut Connection, target: &Target) -> Result<TargetDocument, StoreError> {
    let mut documents = documents_of(db, vec![target.clone()]).await?;
    Ok(documents.remove(0))
}

/// In the order of the targets.
pub(in crate::http::v1) async fn documents_of(
    db: &mut Connection,
    targets: Vec<Target>,
) -> Result<Vec<TargetDocument>, StoreError> {
    let now = clock::now();
    let views = views::load(db, targets, now).await?;
    let projects = views.iter().map(|view| view.target.project.id).collect();
    let used = views.iter().fold(TraitsUsed::NONE, |used, view| used.and(view.traits_used()));
    let fleets = views::load_fleet(db, &projects, used).await?;
    Ok(views.into_iter().map(|view| document(view, &fleets, now)).collect())
}

fn document(view: TargetView, fleets: &BTreeMap<ProjectId, Vec<FleetMember>>, now: Timestamp) -> TargetDocument {
    let fleet = fleets.get(&view.target.project.id).map(Vec::as_slice).unwrap_or_default();
    TargetDocument {
        api_version: API_VERSION.to_owned(),
        kind: "Target".to_owned(),
        metadata: Metadata {
            name: view.target.name.clone(),
            project: Some(view.target.project.name.clone()),
            id: Some(view.target.id.as_uuid()),
            version: Some(view.target.version),
            created_at: Some(view.target.created_at),
        },
        spec: view.target.spec.clone().into(),
        status: Some(status(view, fleet, now)),
    }
}

fn status(view: TargetView, fleet: &[FleetMember], now: Timestamp) -> TargetStatus {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let (behind, unselected) = (count_behind(&view, fleet), count_unselected(&view, fleet));
    let (target, facts) = (view.target, view.facts);
    let wanted = facts.wanted.filter(|wanted| wanted.target_version == target.version);
    let sources = wanted.iter().flat_map(|wanted| wanted.sources.iter().map(source_document)).collect();
    TargetStatus {
        clusters: facts.clusters,
        healthy: facts.healthy,
        in_place: facts.in_place,
        behind: count(behind),
        unselected: count(unselected),
        set_aside: view.set_aside,
        commit: facts.commit,
        verified_by: facts.verified.map(|verified| verified.to_string()),
        sources,
        left_out_hooks: wanted.as_ref().map(|wanted| wanted.left_out_hooks.clone()).unwrap_or_default(),
        digest: wanted.and_then(|wanted| the_only(wanted.variants.into_values())),
        held: facts.held,
        pending: facts.pending,
        deletion: target.deletion.map(|deletion| deletion_status(deletion, view.waits_for)),
        rollout: view.rollout.map(|rollout| rollouts::document_of(rollout, now)),
        commit_status: view.commit_status.map(commit_status),
        condition: facts.condition,
    }
}

fn commit_status(shown: Shown) -> TargetCommitStatus {
    let Shown { target: _, commit, context, state, told_at, error } = shown;
    TargetCommitStatus { commit, context, state, told_at, error }
}

pub(in crate::http::v1) fn source_document(source: &ReadSource) -> SourceCommit {
    let ReadSource { name, reference, commit, .. } = source.clone();
    SourceCommit { repo: name, reference, commit }
}

/// Clusters that are assigned something else than what is wanted; none, when nothing was ever rendered.
fn count_behind(view: &TargetView, fleet: &[FleetMember]) -> usize {
    let Some(WantedView { target_version, variables, variants, .. }) = &view.facts.wanted else { return 0 };
    let spec = &view.target.spec;
    let rendered = Rendered::new(&spec.parameters, variables, variants);
    let rendered = (*target_version == view.target.version).then_some(&rendered);
    let selected = fleet.iter().filter(|one| one.may_move && spec.clusters.selects(&one.candidate.labels));
    let runs = |cluster: &Candidate| view.runs.get(&cluster.cluster).copied();
    behind(selected.map(|one| (&one.candidate, runs(&one.candidate))), rendered)
}

/// Clusters that go on with what they have although the target does not select them any more.
fn count_unselected(view: &TargetView, fleet: &[FleetMember]) -> usize {
    let holds = |one: &&FleetMember| view.runs.contains_key(&one.candidate.cluster);
    fleet.iter().filter(holds).filter(|one| !view.target.spec.clusters.selects(&one.candidate.labels)).count()
}

/// What all of them are, if there is one and they are the same.
fn the_only<T: PartialEq>(mut all: impl Iterator<Item = T>) -> Option<T> {
    all.next().filter(|first| all.all(|other| other == *first))
}

fn deletion_status(deletion: Deletion, waits_for: Vec<String>) -> DeletionStatus {
    let mode = if deletion.action == Action::Delete { "prune" } else { "orphan" };
    DeletionStatus { mode: mode.to_owned(), by: deletion.by, since: deletion.at, waits_for }
}
