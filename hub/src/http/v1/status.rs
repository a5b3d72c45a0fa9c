//! What runs where.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::Name;
use bellwether_core::api::{NamedCondition, StatusDocument, StatusRow};
use bellwether_core::report::{Counts, Verdict};
use serde::{Deserialize, Serialize};

use super::{find, targets};
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::QueryParams;
use crate::http::pages;
use crate::http::problem::{Refusal, unreadable};
use crate::process::clock;
use crate::store::fleet::{Placement, Placements};
use crate::store::stored::Entry;
use crate::store::targets::Target;
use crate::store::{self, Connection, StoreError};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::http) struct StatusQuery {
    target: Option<Name>,
    cursor: Option<String>,
    limit: Option<u32>,
}

/// Where a page ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    /// The last one shown.
    target: Name,
    /// Its last cluster that was shown; `None`: it has no more.
    cluster: Option<Name>,
}

/// A page: so many targets, and so many of their clusters. A target's document stands on the page that begins it.
pub(in crate::http) async fn show(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    QueryParams(query): QueryParams<StatusQuery>,
) -> Result<Json<StatusDocument>, Refusal> {
    let after = query.cursor.as_deref().map(pages::decode_cursor::<Place>).transpose()?;
    let limit = pages::limit(query.limit);
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let mut listed = list_targets(&mut db, &caller, query.target.as_ref(), after.as_ref()).await?;
    let ids: Vec<_> = listed.targets.iter().map(|target| target.id).collect();
    let begun = after.as_ref().and_then(|place| Some((place.target.clone(), place.cluster.clone()?)));
    let (of, now) = (Placements::OfTargets(caller.project.id, &ids), clock::now());
    let placements = store::fleet::list_placements(&mut db, of, begun.as_ref(), limit, now).await?;
    let next = match placements.next {
        Some((target, cluster)) => Some(listed.end_within(target, cluster)),
        None => listed.end(),
    };
    let selectors: BTreeMap<_, _> = listed.targets.iter().map(|one| (&one.name, &one.spec.clusters)).collect();
    let selects = |one: &Placement| selectors.get(&one.target).is_none_or(|selector| selector.selects(&one.labels));
    let rows = placements.items.into_iter().map(|one| (selects(&one), one)).map(row).collect();
    let shown = listed.targets.split_off(usize::from(listed.is_begun));
    let targets = targets::documents_of(&mut db, shown).await?;
    let mut conditions = listed.conditions;
    if after.is_none() {
        readable("Repo", store::repos::list(&mut db, caller.project.id, "", pages::FULL).await?, &mut conditions);
        conditions.extend(store::views::repos::list_conditions(&mut db, caller.project.id).await?);
        if query.target.is_some() {
            let repos: Vec<_> = targets.iter().map(|target| &target.spec.repo).collect();
            conditions.retain(|one| one.kind != "Repo" || repos.contains(&&one.name));
        }
    }
    let next = next.and_then(|place| pages::encode_cursor(&place));
    Ok(Json(StatusDocument { targets, rows, conditions, next }))
}

/// The targets of a page.
struct Listed {
    targets: Vec<Target>,
    /// Of what cannot be read among them.
    conditions: Vec<NamedCondition>,
    /// The last of them, whether or not it can be read.
    last: Option<Name>,
    /// The first of them was begun on the page before.
    is_begun: bool,
    /// More may come after them.
    is_full: bool,
}

impl Listed {
    /// The page ends after this cluster: what comes after its target is for the next one.
    fn end_within(&mut self, target: Name, cluster: Name) -> Place {
        if let Some(last) = self.targets.iter().position(|listed| listed.name == target) {
            self.targets.truncate(last + 1);
        }
        Place { target, cluster: Some(cluster) }
    }

    /// The page ends after the last target.
    fn end(&self) -> Option<Place> {
        let last = self.last.clone().filter(|_| self.is_full)?;
        Some(Place { target: last, cluster: None })
    }
}

async fn list_targets(
    db: &mut Connection,
    caller: &Caller,
    only: Option<&Name>,
    after: Option<&Place>,
) -> Result<Listed, Refusal> {
    let project = caller.project.id;
    let begun = match after {
        Some(Place { target, cluster: Some(_) }) => store::targets::find_by_name(db, project, target).await?,
        _ => None,
    };
    let is_begun = begun.is_some();
    let rest = match (only, after) {
        (Some(name), None) => vec![Entry::of(name, Ok(find::target(db, caller, name).await?))],
        (Some(_), Some(_)) => Vec::new(),
        (None, after) => {
            let after = after.map(|place| place.target.as_str()).unwrap_or_default();
            store::targets::list(db, project, after, pages::TARGETS_MAX).await?
        }
    };
    let is_full = only.is_none() && i64::try_from(rest.len()).is_ok_and(|count| count >= pages::TARGETS_MAX);
    let last = rest.last().and_then(|entry| entry.name.parse().ok());
    let mut conditions = Vec::new();
    let rest = readable("Target", rest, &mut conditions);
    Ok(Listed { targets: begun.into_iter().chain(rest).collect(), conditions, last, is_begun, is_full })
}

/// What can be read; of what cannot, a condition.
fn readable<T>(kind: &str, entries: Vec<Entry<T>>, conditions: &mut Vec<NamedCondition>) -> Vec<T> {
    let mut read = Vec::with_capacity(entries.len());
    for entry in entries {
        if let (Err(error), Ok(name)) = (&entry.read, entry.name.parse()) {
            conditions.push(NamedCondition { kind: kind.to_owned(), name, condition: unreadable(&error.to_string()) });
        }
        read.extend(entry.readable());
    }
    read
}

/// The health of a cluster that nobody hears is unknown, whatever it said last.
fn row((selected, one): (bool, Placement)) -> StatusRow {
    let said = one.said.as_ref();
    let verdict = said.map_or(Verdict::Unknown, |said| said.verdict);
    let worst = said.and_then(|said| said.lines.first());
    StatusRow {
        target: one.target,
        cluster: one.cluster,
        connected: one.connected,
        selected,
        since: one.since,
        commit: one.commit,
        digest: one.digest,
        applied: said.is_some_and(|said| said.applied),
        verdict: if one.heard { verdict } else { Verdict::Unknown },
        objects: said.map_or_else(Counts::default, |said| said.objects),
        message: worst.map(ToString::to_string).unwrap_or_default(),
        reported_at: said.map(|said| said.at),
    }
}
