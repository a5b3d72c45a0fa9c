//! Which CustomResourceDefinitions a cluster has, as its agent says, and what each of them defines.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bellwether_core::Name;
use bellwether_core::api::{ClusterDefinition, ClusterDefinitions, NamedDefinition};
use bellwether_core::definitions::DEFINITION_BYTES_MAX;
use bellwether_proto::compression;
use serde_json::value::RawValue;

use super::find;
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::problem::Refusal;
use crate::store::StoreError;
use crate::store::definitions::{find_packed, find_told};

pub(in crate::http) async fn list_definitions(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Json<ClusterDefinitions>, Refusal> {
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let cluster = find(&mut db, &caller, &name).await?;
    let Some(told) = find_told(&mut db, cluster.id).await? else {
        return Ok(Json(ClusterDefinitions { cluster: cluster.name, told_at: None, definitions: None, more: 0 }));
    };
    let named = told.list.entries().map(|(name, digest)| NamedDefinition {
        name: name.to_owned(),
        digest,
        is_stored: digest.is_some_and(|digest| told.stored.contains(&digest)),
    });
    Ok(Json(ClusterDefinitions {
        cluster: cluster.name,
        told_at: Some(told.at),
        definitions: Some(named.collect()),
        more: told.list.more(),
    }))
}

pub(in crate::http) async fn show_definition(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Path((name, wanted)): Path<(String, String)>,
) -> Result<Json<ClusterDefinition>, Refusal> {
    let name: Name =
        name.parse().map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "name_invalid", "that is no name"))?;
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let cluster = find(&mut db, &caller, &name).await?;
    let unknown = |detail: String| Refusal::new(StatusCode::NOT_FOUND, "definition_unknown", detail);
    let told = find_told(&mut db, cluster.id)
        .await?
        .ok_or_else(|| unknown(format!("the agent of `{name}` has not said which definitions it has")))?;
    let (_, digest) = told.list.entries().find(|(name, _)| *name == wanted).ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, "definition_not_found", format!("`{name}` names no definition `{wanted}`"))
    })?;
    let untold = || unknown(format!("what `{wanted}` defines in `{name}` is not stored here"));
    let digest = digest.ok_or_else(untold)?;
    let packed = find_packed(&mut db, digest).await?.ok_or_else(untold)?;
    drop(db);
    let text = compression::decompress(&packed, DEFINITION_BYTES_MAX).and_then(|text| String::from_utf8(text).ok());
    let definition = text
        .and_then(|text| RawValue::from_string(text).ok())
        .ok_or(StoreError::Unreadable { table: "definitions", column: "packed" })?;
    Ok(Json(ClusterDefinition { cluster: cluster.name, told_at: told.at, digest, definition }))
}
