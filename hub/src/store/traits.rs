//! What is known of clusters besides their names and labels: read only by whoever renders by it.

use std::collections::BTreeMap;

use bellwether_core::ClusterId;
use bellwether_core::labels::Annotations;
use bellwether_core::parameters::{Traits, TraitsUsed};
use bellwether_core::rollout::Candidate;

use super::stored::{Entry, Stored};
use super::{Connection, StoreError, apis};

/// Of these clusters, those that can be read. None are asked for when nothing of them is used.
pub(crate) async fn load(
    db: &mut Connection,
    clusters: &[ClusterId],
    used: TraitsUsed,
) -> Result<BTreeMap<ClusterId, Traits>, StoreError> {
    if clusters.is_empty() || used == TraitsUsed::NONE {
        return Ok(clusters.iter().map(|cluster| (*cluster, Traits::default())).collect());
    }
    let clusters: Vec<_> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select c.cluster_id as "cluster_id!", c.name as "name!",
               case when $2 then c.annotations else '{}' end as "annotations!: Stored<Annotations>",
               case when $3 then coalesce(s.facts, '{}') else '{}' end as "facts!: Stored<BTreeMap<String, String>>",
               case when $4 then s.apis end as apis
          from clusters c
          left join sessions s using (cluster_id)
         where c.cluster_id = any($1)
        "#,
        &clusters,
        used.annotations,
        used.facts,
        used.apis,
    )
    .fetch_all(&mut *db)
    .await?;
    let digest = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(|bytes| super::digest(bytes, "sessions")).transpose();
    let apis = apis::load(db, &rows.iter().filter_map(|row| digest(&row.apis).ok()?).collect()).await?;
    let traits = rows.into_iter().map(|row| {
        let read = || {
            let annotations = row.annotations.read("clusters", "annotations")?;
            let facts = row.facts.read("sessions", "facts")?;
            // Shared by all that serve the same. One that cannot be read is not one that was never told.
            let unreadable = || StoreError::Unreadable { table: "api_sets", column: "apis" };
            let apis =
                digest(&row.apis)?.map(|digest| apis.get(&digest).cloned().ok_or_else(unreadable)).transpose()?;
            Ok((ClusterId::new(row.cluster_id), Traits { annotations, facts, apis }))
        };
        Entry::of(&row.name, read())
    });
    Ok(traits.filter_map(Entry::readable).collect())
}

/// Gives these candidates the traits that are used. One whose traits cannot be read is left out: it keeps what it has.
pub(crate) async fn give(
    db: &mut Connection,
    candidates: &mut Vec<Candidate>,
    used: TraitsUsed,
) -> Result<(), StoreError> {
    if used == TraitsUsed::NONE {
        return Ok(());
    }
    let clusters: Vec<_> = candidates.iter().map(|candidate| candidate.cluster).collect();
    let mut traits = load(db, &clusters, used).await?;
    candidates.retain_mut(|candidate| match traits.remove(&candidate.cluster) {
        Some(known) => {
            candidate.traits = known;
            true
        }
        None => false,
    });
    Ok(())
}
