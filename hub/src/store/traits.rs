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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;
    use crate::store::rows::Rows;
    use crate::store::{Pool, execute_in};

    fn candidate(cluster: ClusterId, name: &str) -> Candidate {
        let (name, labels) = (name.parse().expect("a name"), BTreeMap::new());
        Candidate { cluster, name, labels, traits: Traits::default(), connected: false }
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn only_what_is_used_of_a_cluster_is_read_and_who_cannot_be_read_is_left_out(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (good, damaged, silent) = (rows.cluster("c1").await, rows.cluster("c2").await, rows.cluster("c3").await);
        for cluster in [good, damaged] {
            rows.connect(cluster, clock::new_id()).await;
        }
        let db = &mut rows.db;
        for statement in [
            r#"update clusters set annotations = '{"site": "berlin"}'"#,
            r#"update sessions set facts = '{"kubernetes.version": "1.37"}'"#,
            "update sessions set facts = '[]' where cluster_id = (select cluster_id from clusters where name = 'c2')",
        ] {
            execute_in(db, statement).await.expect("it is written");
        }
        let all = [good, damaged, silent];
        let (annotations, facts) =
            (TraitsUsed { annotations: true, ..TraitsUsed::NONE }, TraitsUsed { facts: true, ..TraitsUsed::NONE });

        let nothing = load(db, &all, TraitsUsed::NONE).await.expect("it is read");
        let annotated = load(db, &all, annotations).await.expect("it is read");
        let told = load(db, &all, facts).await.expect("it is read");
        let mut candidates = vec![candidate(good, "c1"), candidate(damaged, "c2"), candidate(silent, "c3")];
        give(db, &mut candidates, facts).await.expect("they are read");

        assert_eq!(nothing, all.map(|cluster| (cluster, Traits::default())).into());
        assert_eq!(annotated.len(), 3, "what cannot be read of one is not used");
        assert_eq!(annotated[&damaged].annotations["site"], "berlin");
        assert!(annotated[&good].facts.is_empty(), "nobody uses them");
        assert_eq!(told[&good].facts["kubernetes.version"], "1.37");
        assert!(told[&good].annotations.is_empty() && told[&good].apis.is_none());
        assert_eq!(told[&silent], Traits::default(), "it has said nothing yet");
        assert!(!told.contains_key(&damaged));
        let given: Vec<_> = candidates.iter().map(|one| (one.cluster, one.traits.clone())).collect();
        assert_eq!(given, [(good, told[&good].clone()), (silent, Traits::default())]);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn apis_that_are_not_stored_are_not_taken_for_apis_that_were_never_told(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (silent, told) = (rows.cluster("c1").await, rows.cluster("c2").await);
        for cluster in [silent, told] {
            rows.connect(cluster, clock::new_id()).await;
        }
        let db = &mut rows.db;
        execute_in(db, "set session_replication_role = replica").await.expect("it is set");
        let digest = "update sessions set apis = decode(repeat('ab', 32), 'hex')
                       where cluster_id = (select cluster_id from clusters where name = 'c2')";
        execute_in(db, digest).await.expect("it is written");

        let read = load(db, &[silent, told], TraitsUsed::ALL).await.expect("it is read");

        assert_eq!(read, [(silent, Traits::default())].into());
    }
}
