//! What people asked of rollouts.

use bellwether_core::rollout::Intent;
use bellwether_core::{RolloutId, TargetId};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::stored::{Entry, Stored};
use super::{Connection, StoreError, to_sql};

/// Of a rollout, or of the target itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub(crate) enum Verb {
    Rollout(Intent),
    Target(TargetVerb),
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub(crate) enum TargetVerb {
    /// Every cluster gets what this render says, or what ran before where none is named; the target is held from then on.
    RollbackTo { render: Option<Uuid>, commit: String },
    /// New revisions roll again.
    Release,
}

impl Verb {
    /// Clusters may be given something for it.
    pub(crate) const fn assigns(&self) -> bool {
        matches!(self, Self::Rollout(Intent::Resume | Intent::Retry { .. } | Intent::Promote))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct IntentRow {
    pub(crate) id: Uuid,
    pub(crate) target: TargetId,
    pub(crate) rollout: Option<RolloutId>,
    pub(crate) verb: Verb,
    pub(crate) actor: String,
    pub(crate) reason: String,
}

pub(crate) async fn insert(db: &mut Connection, intent: &IntentRow, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into intents (intent_id, target_id, rollout_id, verb, actor, reason, created_at)
        values ($1, $2, $3, $4, $5, $6, $7)
        "#,
        intent.id,
        intent.target.as_uuid(),
        intent.rollout.map(RolloutId::as_uuid),
        Json(&intent.verb) as _,
        intent.actor,
        intent.reason,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Intents answered in one transaction: people ask one at a time, programs hardly more. Further ones are for the next.
pub(crate) const OPEN_MAX: usize = 100;

/// Not answered yet, oldest first, at most [`OPEN_MAX`]. One that only a later version understands waits for a hub of
/// that, and takes nobody's place.
pub(crate) async fn list_open(db: &mut Connection, target: TargetId) -> Result<Vec<IntentRow>, StoreError> {
    let (mut open, mut after) = (Vec::new(), Some(Uuid::nil()));
    while let Some(last) = after {
        let page = list_page(db, target, last).await?;
        after = page.last().map(|(id, _)| *id).filter(|_| page.len() == OPEN_MAX);
        open.extend(page.into_iter().filter_map(|(_, entry)| entry.readable()));
        if open.len() >= OPEN_MAX {
            open.truncate(OPEN_MAX);
            break;
        }
    }
    Ok(open)
}

async fn list_page(
    db: &mut Connection,
    target: TargetId,
    after: Uuid,
) -> Result<Vec<(Uuid, Entry<IntentRow>)>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select intent_id, target_id, rollout_id, verb as "verb: Stored<Verb>", actor, reason
          from intents
         where target_id = $1 and done_at is null and intent_id > $2
         order by intent_id
         limit 100
        "#,
        target.as_uuid(),
        after,
    )
    .fetch_all(db)
    .await?;
    let intents = rows.into_iter().map(|row| {
        let intent = |verb| IntentRow {
            id: row.intent_id,
            target: TargetId::new(row.target_id),
            rollout: row.rollout_id.map(RolloutId::new),
            verb,
            actor: row.actor,
            reason: row.reason,
        };
        (row.intent_id, Entry::of(row.intent_id, row.verb.read("intents", "verb").map(intent)))
    });
    Ok(intents.collect())
}

pub(crate) async fn mark_done(db: &mut Connection, id: Uuid, outcome: &str, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!("update intents set done_at = $2, outcome = $3 where intent_id = $1", id, to_sql(now), outcome)
        .execute(db)
        .await?;
    Ok(())
}

/// `done`, or why it was refused; `None`: nothing has acted on it yet.
pub(crate) async fn find_outcome(db: &mut Connection, id: Uuid) -> Result<Option<String>, StoreError> {
    let outcome =
        sqlx::query_scalar!("select outcome from intents where intent_id = $1", id).fetch_optional(db).await?;
    Ok(outcome.flatten())
}

/// Deletes so many of those that were answered before; says how many it deleted.
pub(crate) async fn delete_done(db: &mut Connection, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        "delete from intents where intent_id in (select intent_id from intents where done_at < $1 limit $2)",
        to_sql(before),
        limit,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::Pool;

    fn intent(target: TargetId, verb: Verb) -> IntentRow {
        IntentRow { id: clock::new_id(), target, rollout: None, verb, actor: "ann".to_owned(), reason: String::new() }
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_is_not_answered_is_open_in_the_order_in_which_it_was_asked(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let (target, other) = (TargetId::new(clock::new_id()), TargetId::new(clock::new_id()));
        let asked = [
            intent(target, Verb::Rollout(Intent::Pause)),
            intent(other, Verb::Rollout(Intent::Abort)),
            intent(target, Verb::Target(TargetVerb::Release)),
            intent(target, Verb::Rollout(Intent::Resume)),
        ];
        for intent in &asked {
            insert(&mut db, intent, clock::now()).await.expect("written");
        }

        mark_done(&mut db, asked[2].id, "it is not held", clock::now()).await.expect("written");
        let open = list_open(&mut db, target).await.expect("read");

        let verbs: Vec<_> = open.into_iter().map(|one| one.verb).collect();
        assert_eq!(verbs, [Verb::Rollout(Intent::Pause), Verb::Rollout(Intent::Resume)]);
        assert_eq!(find_outcome(&mut db, asked[2].id).await.expect("read").as_deref(), Some("it is not held"));
        assert_eq!(find_outcome(&mut db, asked[0].id).await.expect("read"), None);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn more_than_are_answered_at_once_wait_for_the_next_time(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let target = TargetId::new(clock::new_id());
        let mut asked = Vec::new();
        for number in 0..=OPEN_MAX {
            asked.push(intent(target, Verb::Rollout(Intent::Pause)));
            insert(&mut db, &asked[number], clock::now()).await.expect("written");
        }
        // As a later version asks: it takes nobody's place.
        let later = sqlx::query(r#"update intents set verb = '{"verb": "a later one"}' where intent_id = $1"#);
        later.bind(asked[0].id).execute(&mut *db).await.expect("written");

        let open: Vec<_> = list_open(&mut db, target).await.expect("read").into_iter().map(|one| one.id).collect();

        assert_eq!(open, asked[1..].iter().map(|one| one.id).collect::<Vec<_>>());
        let further = intent(target, Verb::Rollout(Intent::Pause));
        insert(&mut db, &further, clock::now()).await.expect("written");
        let open = list_open(&mut db, target).await.expect("read");
        assert!(open.len() == OPEN_MAX && open.iter().all(|one| one.id != further.id), "{}", open.len());
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_nobody_has_answered_is_kept_however_old_it_is(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let target = TargetId::new(clock::new_id());
        let asked = [(); 3].map(|()| intent(target, Verb::Target(TargetVerb::Release)));
        let (now, hour) = (clock::now(), SignedDuration::from_hours(1));
        for intent in &asked {
            insert(&mut db, intent, now - 9 * hour).await.expect("written");
        }
        mark_done(&mut db, asked[0].id, "done", now - 2 * hour).await.expect("written");
        mark_done(&mut db, asked[1].id, "done", now).await.expect("written");

        assert_eq!(delete_done(&mut db, now - hour, 10).await.expect("swept"), 1);
        assert_eq!(list_open(&mut db, target).await.expect("read").len(), 1);
        assert_eq!(delete_done(&mut db, now + hour, 0).await.expect("swept"), 0, "so many at once");
        assert_eq!(find_outcome(&mut db, asked[1].id).await.expect("read").as_deref(), Some("done"));
    }
}
