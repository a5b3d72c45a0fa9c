//! Which rights a cluster's agent needs, by what the cluster runs, is to run, and has left to delete.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::account::Account;
use bellwether_core::api::ClusterRights;
use bellwether_core::definitions::DEFINITION_BYTES_MAX;
use bellwether_core::object::OBJECT_BYTES_MAX;
use bellwether_core::parameters::TraitsUsed;
use bellwether_core::rights::Holdings;
use bellwether_core::rollout::{Candidate, Rendered};
use bellwether_core::session::{Action, SyncOptions};
use bellwether_core::{ClusterId, Digest, Name};
use bellwether_proto::compression;

use super::find;
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::problem::Refusal;
use crate::store::assignments::Listed;
use crate::store::clusters::Cluster;
use crate::store::definitions::{find_packed, find_told};
use crate::store::{self, Connection, StoreError};

/// What is held, and whom the agent acts as for that.
type Bundles = BTreeSet<(Digest, Option<Account>)>;

/// Bodies that are read at once; of these one at a time is unpacked.
const OBJECTS_AT_ONCE: usize = 4;

pub(in crate::http) async fn rights(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Json<ClusterRights>, Refusal> {
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let cluster = find(&mut db, &caller, &name).await?;
    let mut held = Holdings::default();
    let mut bundles = assigned(&mut db, cluster.id, &mut held).await?;
    let unrendered = newest(&mut db, &cluster, &mut bundles, &mut held).await?;
    let digests = bundles.iter().map(|(digest, _)| *digest).collect::<BTreeSet<_>>();
    let manifests = hub.content.load_readable(&mut db, &digests).await?;
    let mut bodies = BTreeSet::new();
    for (digest, account) in bundles {
        for entry in manifests.get(&digest).iter().flat_map(|manifest| manifest.entries()) {
            held.of(account.clone()).add(&entry.key);
            bodies.extend(Holdings::is_read(&entry.key).then_some(entry.digest));
        }
    }
    let bodies: Vec<_> = bodies.into_iter().collect();
    read_definitions(&mut db, cluster.id, &mut held).await?;
    drop(db);
    for some in bodies.chunks(OBJECTS_AT_ONCE) {
        for (_, frame) in hub.content.load_objects(&hub.requests, some).await? {
            read(&mut held, &frame, OBJECT_BYTES_MAX);
        }
    }
    let mut rights = held.rights(&cluster.namespace);
    if manifests.len() < digests.len() {
        rights.notes.push("Something that it runs is stored no more, and lacks here.".to_owned());
    }
    if !unrendered.is_empty() {
        let names = unrendered.join(", ");
        rights.notes.push(format!("Not rendered for it as yet, so lacking here, are: {names}."));
    }
    Ok(Json(ClusterRights { cluster: cluster.name, objects: rights.objects, notes: rights.notes }))
}

/// What it is to run or to delete by now, and what is left of what it ran.
async fn assigned(db: &mut Connection, cluster: ClusterId, held: &mut Holdings) -> Result<Bundles, StoreError> {
    let mut bundles = Bundles::new();
    for placed in store::assignments::list_of_clusters(db, &[cluster]).await? {
        let Listed { assignment, namespace, .. } = placed.read?;
        let is_made = assignment.options.create_namespace && assignment.action == Action::Apply;
        namespace.iter().filter(|_| is_made).for_each(|namespace| held.add_own_namespace(namespace));
        let account = account(namespace.as_ref(), &assignment.options);
        assignment.prunable.iter().for_each(|key| held.of(account.clone()).add(key));
        bundles.insert((assignment.digest, account));
    }
    Ok(bundles)
}

/// Adds what the targets that select it are at, which it may be assigned next; answers with those that have nothing for it.
async fn newest(
    db: &mut Connection,
    cluster: &Cluster,
    bundles: &mut Bundles,
    held: &mut Holdings,
) -> Result<Vec<String>, StoreError> {
    let mut traits = store::traits::load(db, &[cluster.id], TraitsUsed::ALL).await?;
    let candidate = Candidate {
        cluster: cluster.id,
        name: cluster.name.clone(),
        labels: cluster.labels.clone(),
        traits: traits.remove(&cluster.id).unwrap_or_default(),
        connected: false,
    };
    let mut unrendered = Vec::new();
    for target in store::targets::list_selecting(db, cluster.project.id, None, Some(&cluster.labels)).await? {
        let Some(spec) = target.spec.filter(|spec| spec.clusters.selects(&cluster.labels)) else { continue };
        spec.namespace.iter().filter(|_| spec.sync.create_namespace).for_each(|it| held.add_own_namespace(it));
        let wanted = store::wanted::find(db, target.id).await?;
        let gives = |render: &store::renders::Render| {
            Rendered::new(&spec.parameters, &render.variables, &render.variants).gives(&candidate)
        };
        match wanted.and_then(|wanted| gives(&wanted.render)) {
            Some(digest) => drop(bundles.insert((digest, account(spec.namespace.as_ref(), &spec.sync)))),
            None => {
                unrendered.extend(store::targets::find_name(db, target.id).await?.map(|(_, name)| name.to_string()));
            }
        }
    }
    Ok(unrendered)
}

fn account(namespace: Option<&Name>, options: &SyncOptions) -> Option<Account> {
    let (namespace, name) = (namespace?.clone(), options.service_account.clone()?);
    Some(Account { namespace, name })
}

/// Of what no bundle defines.
async fn read_definitions(db: &mut Connection, cluster: ClusterId, held: &mut Holdings) -> Result<(), StoreError> {
    let groups: BTreeSet<String> = held.groups_undefined().into_iter().map(str::to_owned).collect();
    let Some(told) = find_told(db, cluster).await?.filter(|_| !groups.is_empty()) else { return Ok(()) };
    let is_wanted = |name: &str| name.split_once('.').is_some_and(|(_, group)| groups.contains(group));
    for digest in told.list.entries().filter(|(name, _)| is_wanted(name)).filter_map(|(_, digest)| digest) {
        if let Some(packed) = find_packed(db, digest).await? {
            read(held, &packed, DEFINITION_BYTES_MAX);
        }
    }
    Ok(())
}

/// What cannot be read says nothing, as one that is not known.
fn read(held: &mut Holdings, packed: &[u8], bytes_max: usize) {
    let body = compression::decompress(packed, bytes_max);
    if let Some(object) = body.and_then(|body| serde_json::from_slice(&body).ok()) {
        held.read(&object);
    }
}
