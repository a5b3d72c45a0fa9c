//! Pages, `status` and the audit log, through the whole router.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use serde_json::Value;

use crate::http::testing::{Api, api};
use crate::store::{self, Pool};

#[crate::store::database_test(migrations = "../migrations")]
async fn a_prefix_of_actions_that_is_none_is_a_mistake_and_no_empty_list(pool: Pool) {
    let api = api(&pool).await;

    for prefix in ["rollout", "rollout.wave", "rollout.wave.opened"] {
        let (status, text) = api.ask("GET", &format!("/audit?action={prefix}"), "").await;
        assert_eq!(status, StatusCode::OK, "{text}");
    }
    let (_, problem) = api.problem("GET", "/audit?action=rolout", "").await;

    assert_eq!(problem.hint.as_deref(), Some("did you mean `rollout`?"));
}

/// A function that makes targets of one repo, clusters that are there, and of each target a rollout over all of them.
const GROW: &str = "
    create function grow(targets int, clusters int) returns void language plpgsql as $$
    declare
        project uuid := (select project_id from projects limit 1);
        hub uuid := (select hub_id from hubs limit 1);
        bundle bytea := sha256('bundle');
        strategy jsonb := '{\"waves\": [{\"name\": \"all\"}]}';
    begin
        update hubs set lives_until = now() + interval '1 h';
        insert into bundles (digest, manifest, objects, used_at) values (bundle, '', 0, now()) on conflict do nothing;
        for n in 1 .. targets loop
            insert into repos (repo_id, project_id, name, spec, webhook_secret, created_at, updated_at)
            values (gen_random_uuid(), project, 'r' || n, '{\"url\": \"https://example.org/a.git\"}', '', now(), now())
            on conflict do nothing;
        end loop;
        insert into clusters (cluster_id, project_id, name, labels, namespace, created_at, updated_at)
        select gen_random_uuid(), project, 'c' || n, '{}', 'bellwether-system', now(), now()
          from generate_series(1, clusters) n
            on conflict do nothing;
        insert into sessions
               (cluster_id, session, hub_id, boot, since, caught_up_at, address, certificate_serial, agent_version, facts)
        select cluster_id, 1, hub, gen_random_uuid(), now(), now(), '', '', '1', '{}'
          from clusters
            on conflict do nothing;
        insert into targets (target_id, project_id, name, repo_id, ref, spec, created_at, updated_at)
        select gen_random_uuid(), project, 't' || n, r.repo_id, 'refs/heads/main', jsonb_build_object('repo', r.name),
               now(), now()
          from generate_series(1, targets) n
          join repos r on r.name = 'r' || n
            on conflict do nothing;
        insert into revisions (revision_id, repo_id, ref, commit_id, author, subject, seen_at, trace_id)
        select repo_id, repo_id, 'refs/heads/main', repeat('a', 40), '', '', now(), '' from repos on conflict do nothing;
        insert into renders (render_id, target_id, revision_id, target_version, inputs_digest, variables, created_at)
        select target_id, target_id, repo_id, 1, '', '{}', now() from targets on conflict do nothing;
        insert into wanted_renders (target_id, target_version, revision_id, render_id, recipe, since)
        select target_id, 1, repo_id, target_id, '', target_id from targets on conflict do nothing;
        insert into rollouts
               (rollout_id, target_id, render_id, from_render_id, kind, strategy, failures_max, state, state_since, reason,
                trace_id, created_at, updated_at)
        select target_id, target_id, target_id, target_id, 'revision', strategy, 0, 'rolling', now(), '', '', now(), now()
          from targets
            on conflict do nothing;
        insert into rollout_waves (rollout_id, wave, name, state, concurrent_max, healthy_min, soak_ms, opened_at)
        select rollout_id, 0, 'all', 'open', 1000, 1, 0, now() from rollouts on conflict do nothing;
        insert into rollout_clusters (rollout_id, cluster_id, wave, position, digest, state, reason)
        select rollout_id, cluster_id, 0, 1, bundle, 'assigned', '' from rollouts, clusters on conflict do nothing;
        insert into assignments
               (cluster_id, target_id, digest, generation, rollout_id, render_id, action, prunable, assigned_at)
        select cluster_id, target_id, bundle, 1, target_id, target_id, 'apply', '[]', now() from targets, clusters
            on conflict do nothing;
    end $$";

impl Api {
    async fn fetch(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// How many statements an answer takes. Another test that begins or ends to listen at this moment makes this one deaf
    /// for a while, so it counts until it has counted the same twice.
    async fn statements(&self, path: &str) -> usize {
        let mut before = 0;
        for _ in 0..50 {
            match self.count_statements(path).await {
                count if count > 0 && count == before => return count,
                count => before = count,
            }
        }
        panic!("{path} takes another number of statements each time");
    }

    async fn count_statements(&self, path: &str) -> usize {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let writer = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::io::sink()
        };
        let filter = tracing_subscriber::EnvFilter::new("off,sqlx::query=debug");
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        self.fetch(path).await;
        count.load(Ordering::Relaxed)
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_page_costs_as_many_statements_however_large_the_fleet_is(pool: Pool) {
    let api = api(&pool).await;
    store::execute_raw(&pool, GROW).await.expect("it is made");
    store::execute_raw(&pool, "select grow(1, 1)").await.expect("a small fleet");
    let id = api.fetch("/rollouts").await["items"][0]["id"].as_str().expect("an id").to_owned();
    let rollout = format!("/rollouts/{id}");
    let paths = ["/targets", "/targets/t1", "/clusters", "/clusters/c1", "/rollouts", &rollout, "/repos", "/status"];
    let mut few = Vec::new();
    for path in paths {
        few.push((path, api.statements(path).await));
    }

    store::execute_raw(&pool, "select grow(12, 9)").await.expect("a larger fleet");

    let mut many = Vec::new();
    for path in paths {
        many.push((path, api.statements(path).await));
    }
    assert!(few.iter().all(|(_, count)| (2..=16).contains(count)), "{few:?}");
    assert_eq!(few, many);
}

/// Follows `next` to the end, and puts the lists of the pages together.
async fn follow(api: &Api, path: &str, list: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.fetch(&format!("{path}{cursor}")).await;
        all.extend(page[list].as_array().expect("a list").iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn pages_of_what_runs_where_show_everything_once_and_cut_nothing(pool: Pool) {
    let api = api(&pool).await;
    store::execute_raw(&pool, GROW).await.expect("it is made");
    store::execute_raw(&pool, "select grow(105, 3)").await.expect("more targets than a page has");

    let targets = follow(&api, "/status?limit=7", "targets").await;
    let rows = follow(&api, "/status?limit=7", "rows").await;
    let of_one = follow(&api, "/status?target=t9&limit=2", "rows").await;
    let listed = follow(&api, "/targets?limit=1000", "items").await;

    let names: BTreeSet<_> = targets.iter().map(|target| target["metadata"]["name"].to_string()).collect();
    assert_eq!((targets.len(), names.len(), listed.len()), (105, 105, 105));
    let places: BTreeSet<_> = rows.iter().map(|row| (row["target"].to_string(), row["cluster"].to_string())).collect();
    assert_eq!((rows.len(), places.len(), of_one.len()), (315, 315, 3));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn the_status_of_one_target_speaks_of_its_own_repo_and_of_no_other(pool: Pool) {
    const BOTH_FAIL: &str = "insert into repo_fetch_status (repo_id, checked_at, condition)
        select repo_id, now(), '{\"code\": \"git_unreachable\", \"message\": \"cannot reach it\"}' from repos";
    let api = api(&pool).await;
    store::execute_raw(&pool, GROW).await.expect("it is made");
    store::execute_raw(&pool, "select grow(2, 1)").await.expect("two targets of two repos");
    store::execute_raw(&pool, BOTH_FAIL).await.expect("it is written");
    let repos = async |path: &str| {
        let conditions = api.fetch(path).await["conditions"].as_array().expect("a list").clone();
        conditions.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };

    assert_eq!(repos("/status").await, ["r1", "r2"]);
    assert_eq!(repos("/status?target=t2").await, ["r2"]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_document_says_where_its_list_goes_on(pool: Pool) {
    let api = api(&pool).await;
    store::execute_raw(&pool, GROW).await.expect("it is made");
    store::execute_raw(&pool, "select grow(1, 1005)").await.expect("more clusters than a page has");
    let id = api.fetch("/rollouts").await["items"][0]["id"].as_str().expect("an id").to_owned();

    let document = api.fetch(&format!("/rollouts/{id}")).await;

    let first = document["members"].as_array().expect("its members").len();
    let next = document["membersNext"].as_str().expect("there are more");
    let rest = api.fetch(&format!("/rollouts/{id}/members?cursor={next}")).await;
    assert_eq!((first, rest["items"].as_array().map(Vec::len)), (1_000, Some(5)));
    assert_eq!(rest["next"], Value::Null);
    let whole = api.fetch("/clusters/c1").await;
    assert_eq!(whole["status"]["targets"].as_array().map(Vec::len), Some(1));
    assert_eq!(whole["status"]["targetsNext"], Value::Null);
}
