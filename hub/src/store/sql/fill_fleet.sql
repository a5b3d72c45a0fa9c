-- A fleet at rest, for measuring: clusters and targets in groups, by a label. A cluster has every
-- target of its group, rolled out and healthy. Ids are numbers, and all older than what a hub makes. The bundles stand in
-- `made`, one for each target.
--
-- Foreign keys are not checked row by row: what is written here fits together.
set session_replication_role = replica;

create function pg_temp.id(kind int, number bigint) returns uuid language sql immutable parallel safe
    return (lpad(to_hex(kind), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(number), 12, '0'))::uuid;

insert into clusters (cluster_id, project_id, name, labels, namespace, created_at, updated_at)
select pg_temp.id(1, c), project_id, 'cluster-' || lpad(c::text, 6, '0'),
       jsonb_build_object('group', 'g' || c % {groups}, 'region', 'r' || c % 7, 'site', 's' || c / 4), 'bellwether-system', now(), now()
  from generate_series(1, {clusters}) as c, projects;

-- Each day's certificate is good for two; one in a hundred clusters has a revoked one.
insert into certificates (serial, cluster_id, issued_at, not_after, first_used_at, revoked_at)
select lpad(to_hex(c * 100 + n), 16, '0'), pg_temp.id(1, c), now() - n * interval '1 day', now() + (3 - n) * interval '1 day', now(),
       case when n = 2 and c % 100 = 0 then now() end
  from generate_series(1, {clusters}) as c, generate_series(1, {certificates}) as n;

insert into sessions
       (cluster_id, session, hub_id, boot, since, caught_up_at, address, certificate_serial, agent_version, facts)
select pg_temp.id(1, c), nextval('session_numbers'), '{hub}', pg_temp.id(2, c), now(), now(), '192.0.2.1:1', lpad(to_hex(c * 100 + 1), 16, '0'), '1', '{}'
  from generate_series(1, {clusters}) as c;

insert into targets (target_id, project_id, name, repo_id, ref, spec, created_at, updated_at)
select pg_temp.id(3, t), project_id, 'target-' || lpad(t::text, 6, '0'), repo_id, 'refs/heads/main',
       jsonb_build_object(
           'repo', r.name, 'path', 'app',
           'clusters', jsonb_build_object('matchLabels', jsonb_build_object('group', 'g' || t % {groups})),
           'rollout', '{"waves": [{"name": "all", "maxConcurrent": "100%"}]}'::jsonb
       ),
       now(), now()
  from generate_series(1, {targets}) as t, repos r;

insert into bundles (digest, manifest, objects, used_at)
select digest, manifest, 1, now() from made;

-- The last of them at the head, the others at commits before it.
insert into revisions (revision_id, repo_id, ref, commit_id, author, subject, seen_at, trace_id)
select pg_temp.id(4, n), repo_id, ref, lpad(n::text, 40, '0'), author, subject, seen_at - interval '1 day', trace_id
  from generate_series(1, 9) as n, revisions;

insert into renders (render_id, target_id, revision_id, target_version, inputs, inputs_digest, variables, created_at)
select pg_temp.id(5, t * 10 + n), pg_temp.id(3, t),
       case when n = 9 then (select revision_id from revisions order by revision_id desc limit 1) else pg_temp.id(4, n + 1) end, 1, '{app}', '{inputs}', '{}', now()
  from generate_series(1, {targets}) as t, generate_series(0, 9) as n;
insert into render_variants (render_id, parameters, digest)
select pg_temp.id(5, t * 10 + n), '{parameters}', digest from made, generate_series(0, 9) as n;
insert into render_tries (target_id)
select target_id from targets;
insert into wanted_renders (target_id, target_version, revision_id, render_id, recipe, since)
select target_id, target_version, revision_id, render_id, '', render_id from renders
 where revision_id = (select revision_id from revisions order by revision_id desc limit 1);

-- Twenty rollouts of each target are kept; the last has every cluster of the group.
insert into rollouts
       (rollout_id, target_id, render_id, from_render_id, kind, strategy, failures_max, state, state_since, reason,
        trace_id, created_at, updated_at, ended_at)
select pg_temp.id(6, t * 20 + n), pg_temp.id(3, t), pg_temp.id(5, t * 10 + 9), null, 'revision',
       '{"waves": [{"name": "all", "maxConcurrent": "100%"}]}', 0, 'done', now(), '', '', now(), now(), now()
  from generate_series(1, {targets}) as t, generate_series(0, 19) as n;
insert into rollout_waves (rollout_id, wave, name, state, concurrent_max, healthy_min, soak_ms, opened_at)
select rollout_id, 0, 'all', 'passed', 1000000, 1, 0, now() from rollouts;
insert into target_states (target_id, held, rolled_since, current_from)
select pg_temp.id(3, t), false, pg_temp.id(5, t * 10 + 9), pg_temp.id(6, t * 20 + 19)
  from generate_series(1, {targets}) as t;

create temporary table placed as
select t, c, pg_temp.id(3, t) as target_id, pg_temp.id(1, c) as cluster_id, pg_temp.id(6, t * 20 + 19) as rollout_id,
       digest, nextval('generations') as generation
  from made, generate_series(1, {clusters}) as c
 where t % {groups} = c % {groups};
insert into rollout_clusters
       (rollout_id, cluster_id, wave, position, digest, state, generation, assigned_at, judged_from, reason)
select rollout_id, cluster_id, 0, c, digest, 'healthy', generation, now(), now(), '' from placed;
insert into assignments
       (cluster_id, target_id, digest, generation, rollout_id, render_id, action, prunable, options, assigned_at)
select cluster_id, target_id, digest, generation, rollout_id, pg_temp.id(5, t * 10 + 9), 'apply', '[]', '{}', now()
  from placed;
insert into reports
       (cluster_id, target_id, generation, digest, verdict, applied, total, in_place, healthy, lines, session, sequence,
        reported_at)
select cluster_id, target_id, generation, digest, 'healthy', true, 1, 1, 1, '[]', c, t, now() from placed;
drop table placed;

set session_replication_role = origin;
