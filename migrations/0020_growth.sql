-- What lets a step read only what changed. Indexes are not built concurrently: no released version has written to these
-- tables.

create table awaited (
    cluster_id uuid not null references clusters on delete cascade,
    target_id uuid not null references targets on delete cascade,
    primary key (cluster_id, target_id)
);
comment on table awaited is 'Clusters that are away and that a target would move as soon as they are back. Written by the rollout stage only, at each reconcile that asks whom to move.';
comment on column awaited.cluster_id is 'Which cluster.';
comment on column awaited.target_id is 'Which target waits for it.';
create index awaited_target_id_idx on awaited (target_id);
-- Who is waited for is not known yet: every target finds out once.
insert into work (stage, key, due_at) select 'rollout', target_id, now() from targets;

-- What is said of an assignment goes with it, instead of being looked for among all that is said.
delete from reports r
 where not exists (select from assignments a where a.cluster_id = r.cluster_id and a.target_id = r.target_id);
alter table reports
    add constraint reports_assignment_fkey
        foreign key (cluster_id, target_id) references assignments on delete cascade;
comment on table reports is 'The newest report of each cluster and target. Written by the record stage only; only a greater (session, sequence) is written. As long as the assignment that it is about.';

-- Selectors ask for labels, and a render for all namespaces of agents, which are few.
create index clusters_labels_idx on clusters using gin (labels jsonb_path_ops);
create index clusters_namespace_idx on clusters (project_id, namespace);

-- Whether an assignment names a render is asked of one target's.
create index assignments_target_render_idx on assignments (target_id, render_id);
drop index assignments_target_id_idx;
create index renders_target_id_idx on renders (target_id, render_id desc);

-- Members that are not settled, of a rollout: in most there is none.
create index rollout_clusters_unsettled_idx on rollout_clusters (rollout_id)
    where state in ('waiting', 'offline', 'assigned', 'applied');

-- What the sweep looks for by age.
create index enrollments_expires_at_idx on enrollments (expires_at);
create index intents_done_at_idx on intents (done_at) where done_at is not null;
