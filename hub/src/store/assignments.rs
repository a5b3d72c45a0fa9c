//! What each cluster is to run.

use bellwether_core::session::Action;
use bellwether_core::{ClusterId, Digest, Generation, ObjectKey, RenderId, RolloutId, TargetId};
use jiff::Timestamp;
use sqlx::types::Json;

use super::{Connection, StoreError, to_sql};

#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) cluster: ClusterId,
    pub(crate) target: TargetId,
    pub(crate) digest: Digest,
    pub(crate) generation: Generation,
    pub(crate) rollout: RolloutId,
    pub(crate) render: RenderId,
    pub(crate) action: Action,
    pub(crate) prunable: Vec<ObjectKey>,
}

/// Writes an assignment under a generation of its own, and says which.
pub(crate) async fn mark(
    db: &mut Connection,
    assignment: &Assignment,
    now: Timestamp,
) -> Result<Generation, StoreError> {
    let generation = sqlx::query_scalar!(
        r#"
        insert into assignments
               (cluster_id, target_id, digest, generation, rollout_id, render_id, action, prunable, assigned_at)
        values ($1, $2, $3, nextval('generations'), $4, $5, $6, $7, $8)
            on conflict (cluster_id, target_id) do update
           set digest = excluded.digest, generation = excluded.generation, rollout_id = excluded.rollout_id,
               render_id = excluded.render_id, action = excluded.action, prunable = excluded.prunable,
               assigned_at = excluded.assigned_at
        returning generation
        "#,
        assignment.cluster.as_uuid(),
        assignment.target.as_uuid(),
        assignment.digest.as_bytes(),
        assignment.rollout.as_uuid(),
        assignment.render.as_uuid(),
        assignment.action.as_str(),
        Json(&assignment.prunable) as _,
        to_sql(now),
    )
    .fetch_one(db)
    .await?;
    Ok(Generation::new(generation))
}

/// What a cluster is to run, with what its agent has to know of each target.
pub(crate) struct Listed {
    pub(crate) assignment: Assignment,
    pub(crate) target_name: bellwether_core::Name,
    pub(crate) options: bellwether_core::api::SyncSpec,
}

struct Row {
    cluster_id: uuid::Uuid,
    target_id: uuid::Uuid,
    digest: Vec<u8>,
    generation: i64,
    rollout_id: uuid::Uuid,
    render_id: uuid::Uuid,
    action: String,
    prunable: Json<Vec<ObjectKey>>,
    name: String,
    spec: Json<bellwether_core::api::TargetSpec>,
}

pub(crate) async fn list_of_cluster(db: &mut Connection, cluster: ClusterId) -> Result<Vec<Listed>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select a.cluster_id, a.target_id, a.digest, a.generation, a.rollout_id, a.render_id, a.action,
               a.prunable as "prunable: Json<Vec<ObjectKey>>", t.name,
               t.spec as "spec: Json<bellwether_core::api::TargetSpec>"
          from assignments a
          join targets t using (target_id)
         where a.cluster_id = $1
         order by a.target_id
        "#,
        cluster.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

impl TryFrom<Row> for Listed {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let unreadable = |_| StoreError::Unreadable { table: "assignments", column: "action" };
        Ok(Self {
            assignment: Assignment {
                cluster: ClusterId::new(row.cluster_id),
                target: TargetId::new(row.target_id),
                digest: super::digest(&row.digest, "assignments")?,
                generation: Generation::new(row.generation),
                rollout: RolloutId::new(row.rollout_id),
                render: RenderId::new(row.render_id),
                action: row.action.parse().map_err(unreadable)?,
                prunable: row.prunable.0,
            },
            target_name: super::name(&row.name, "targets")?,
            options: row.spec.0.sync,
        })
    }
}

/// What every cluster runs of a target.
pub(crate) async fn list_digests_of_target(
    db: &mut Connection,
    target: TargetId,
) -> Result<Vec<(ClusterId, Digest, RenderId)>, StoreError> {
    let rows = sqlx::query!(
        "select cluster_id, digest, render_id from assignments where target_id = $1 and action = 'apply'",
        target.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let digest = super::digest(&row.digest, "assignments")?;
            Ok((ClusterId::new(row.cluster_id), digest, RenderId::new(row.render_id)))
        })
        .collect()
}
