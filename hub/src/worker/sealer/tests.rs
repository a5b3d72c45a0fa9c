//! Sealing and checking, on a real Postgres.

use std::sync::Arc;

use bellwether_core::audit::{About, Action, Event};

use super::{seal_batch, verify};
use crate::process::clock;
use crate::store::{Pool, execute_raw};
use crate::work::actors;
use crate::work::change::Change;
use crate::{Hub, testing};

async fn write(hub: &Hub, name: &str) {
    let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("Postgres is there");
    let subject = About::new("cluster", name);
    let event = Event::new(clock::new_id(), clock::now(), actors::hub(), Action::ClusterRegistered, subject);
    change.audit(&event).await.expect("the outbox takes it");
    change.commit().await.expect("it commits");
}

async fn sealed_hub(pool: &Pool) -> (Arc<Hub>, tempfile::TempDir) {
    let (hub, folder) = testing::hub(pool).await;
    for name in ["a", "b", "c"] {
        write(&hub, name).await;
    }
    seal_batch(&hub).await.expect("they are sealed");
    (hub, folder)
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_was_written_is_sealed_without_gaps_and_verifies(pool: Pool) {
    let (hub, _folder) = sealed_hub(&pool).await;

    let found = verify(&hub).await.expect("the log can be read");

    // The hub's own first entry, for the admin token, and three.
    assert_eq!((found.entries, found.problem), (4, None));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_column_that_does_not_say_what_the_bytes_say_is_named(pool: Pool) {
    let (hub, _folder) = sealed_hub(&pool).await;

    execute_raw(&hub.pool, "update audit_entries set subject_name = 'x' where seq = 3").await.expect("an owner may");
    let found = verify(&hub).await.expect("the log can be read");

    assert_eq!(found.problem.map(|(seq, _)| seq), Some(3));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_entry_whose_bytes_were_changed_is_named(pool: Pool) {
    let (hub, _folder) = sealed_hub(&pool).await;

    let forgery = r#"
        update audit_entries
           set subject_name = 'y',
               body = convert_to(replace(convert_from(body, 'utf8'), '"name":"b"', '"name":"y"'), 'utf8')
         where seq = 3
        "#;
    execute_raw(&hub.pool, forgery).await.expect("an owner may");
    let found = verify(&hub).await.expect("the log can be read");

    assert_eq!(found.problem, Some((3, "the entry's bytes do not have its hash")));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_entry_that_was_removed_is_named(pool: Pool) {
    let (hub, _folder) = sealed_hub(&pool).await;

    execute_raw(&hub.pool, "delete from audit_entries where seq = 4").await.expect("an owner may");
    let found = verify(&hub).await.expect("the log can be read");

    assert_eq!(found.problem.map(|(seq, _)| seq), Some(4));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_entry_of_a_month_without_a_partition_moves_into_it_and_the_log_verifies(pool: Pool) {
    let (hub, folder) = sealed_hub(&pool).await;
    let later = clock::now() + jiff::SignedDuration::from_hours(100 * 24);
    let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("Postgres is there");
    let subject = About::new("cluster", "d");
    let event = Event::new(clock::new_id(), later, actors::hub(), Action::ClusterRegistered, subject);
    change.audit(&event).await.expect("the outbox takes it");
    change.commit().await.expect("it commits");
    seal_batch(&hub).await.expect("it is sealed");
    let mut db = pool.acquire().await.expect("a connection");
    let others = crate::store::count_rows(&mut db, &["audit_entries_other"]).await.expect("they are counted");
    assert_eq!(others["audit_entries_other"], 1, "there is no month for it");

    crate::worker::sweep::sweep(&hub, later).await.expect("it sweeps");
    testing::hub_beside(&pool, &folder).await;

    let others = crate::store::count_rows(&mut db, &["audit_entries_other"]).await.expect("they are counted");
    assert_eq!(others["audit_entries_other"], 0);
    let found = verify(&hub).await.expect("the log can be read");
    assert_eq!((found.entries, found.problem), (5, None));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_month_that_cannot_be_made_stops_neither_a_start_nor_the_rest_of_a_sweep(pool: Pool) {
    let (hub, folder) = sealed_hub(&pool).await;
    execute_raw(&pool, "alter table audit_entries_other rename to audit_entries_rest").await.expect("an owner may");
    let later = clock::now() + jiff::SignedDuration::from_hours(400 * 24);
    let old = "insert into intents (intent_id, target_id, verb, actor, reason, created_at, done_at)
               values (gen_random_uuid(), gen_random_uuid(), '{}', 'a', '', now(), now())";
    execute_raw(&pool, old).await.expect("an owner may");

    crate::worker::sweep::sweep(&hub, later).await.expect_err("a month cannot be made");
    testing::hub_beside(&pool, &folder).await;

    let mut db = pool.acquire().await.expect("a connection");
    let left = crate::store::count_rows(&mut db, &["intents"]).await.expect("they are counted");
    assert_eq!(left["intents"], 0);
}
