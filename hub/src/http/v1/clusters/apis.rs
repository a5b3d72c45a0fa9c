//! What a cluster serves, as its agent says.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::api::ClusterApis;
use bellwether_core::parameters::TraitsUsed;

use super::find;
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::{self, StoreError, views};

pub(in crate::http) async fn list_apis(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Json<ClusterApis>, Refusal> {
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let cluster = find(&mut db, &caller, &name).await?;
    let mut traits = store::traits::load(&mut db, &[cluster.id], TraitsUsed::ALL).await?;
    let traits = traits.remove(&cluster.id).unwrap_or_default();
    let agent = views::clusters::load(&mut db, &[cluster.id], clock::now()).await?;
    let agent = agent.into_values().next().unwrap_or_default();
    Ok(Json(ClusterApis {
        cluster: cluster.name,
        facts: traits.facts,
        apis: traits.apis.map(|apis| apis.names().map(str::to_owned).collect()),
        facts_told_at: agent.facts_told_at,
        apis_told_at: agent.apis_told_at,
    }))
}
