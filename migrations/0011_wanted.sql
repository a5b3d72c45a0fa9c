-- What a target is to run, at which version of its spec, and which clusters are left out of that.

create table wanted_renders (
    target_id uuid primary key references targets on delete cascade,
    target_version bigint not null,
    revision_id uuid not null,
    render_id uuid not null references renders on delete cascade,
    recipe bytea not null,
    since uuid not null
);
comment on table wanted_renders is 'What each target is to run. Written by the bundle stage only; never by an older version or revision than what stands.';
comment on column wanted_renders.target_id is 'Which target.';
comment on column wanted_renders.target_version is 'The version of its spec that was rendered; as long as it is not the newest, no rollout begins.';
comment on column wanted_renders.revision_id is 'The revision that was rendered.';
comment on column wanted_renders.render_id is 'What that came to.';
comment on column wanted_renders.recipe is 'SHA-256 of the spec without its sync options.';
comment on column wanted_renders.since is 'The first render in a row with this recipe that gave the same to every cluster: tells new content from a commit that changes nothing here.';
create index wanted_renders_render_id_idx on wanted_renders (render_id);
insert into wanted_renders
select distinct on (r.target_id) r.target_id, r.target_version, r.revision_id, r.render_id, '', r.render_id
  from renders r
  join targets t on t.target_id = r.target_id and t.version = r.target_version
 order by r.target_id, r.render_id desc;

create table set_aside (
    target_id uuid not null references targets on delete cascade,
    cluster_id uuid not null references clusters on delete cascade,
    digest bytea not null,
    cause text not null check (cause in ('skipped', 'failed')),
    rollout_id uuid not null,
    set_at timestamptz not null,
    primary key (target_id, cluster_id)
);
comment on table set_aside is 'Clusters that do not get what is wanted by themselves. Written by the rollout stage only; all of a target''s go when a rollout of new content or a rollback begins.';
comment on column set_aside.target_id is 'Of which target.';
comment on column set_aside.cluster_id is 'Which cluster.';
comment on column set_aside.digest is 'The bundle that it does not get; another one it may.';
comment on column set_aside.cause is 'skipped: a person took it out; failed: it had it and failed.';
comment on column set_aside.rollout_id is 'In which rollout that was.';
comment on column set_aside.set_at is 'When.';
create index set_aside_cluster_id_idx on set_aside (cluster_id);

alter table target_states
    add column rolled_since uuid,
    add column current_from uuid;
comment on column target_states.rolled_since is 'wanted_renders.since of what was rolled out last over the whole target; null: a rollback was, or nothing.';
comment on column target_states.current_from is 'The rollout of that. Older ones are history: nothing in them is decided any more.';
insert into target_states (target_id, held, current_from)
select distinct on (target_id) target_id, false, rollout_id
  from rollouts
 where kind <> 'cluster_change'
 order by target_id, rollout_id desc
    on conflict (target_id) do update set current_from = excluded.current_from;
update target_states s
   set rolled_since = w.since
  from wanted_renders w, rollouts o
 where w.target_id = s.target_id and o.rollout_id = s.current_from and o.render_id = w.render_id;

-- Clusters that joined do not wait for one of them that failed.
drop index rollouts_live_key;
create unique index rollouts_live_key on rollouts (target_id) where ended_at is null and kind <> 'cluster_change';
create index rollouts_live_idx on rollouts (target_id) where ended_at is null;

alter table rollout_clusters
    add column overtaken boolean not null default false,
    add column failing_since timestamptz,
    add column render_before_id uuid;
comment on column rollout_clusters.overtaken is 'A later rollout has this cluster; nothing is decided about it here.';
comment on column rollout_clusters.failing_since is 'Since when it says that it failed in a way that may pass; null: it does not.';
comment on column rollout_clusters.render_before_id is 'Which render digest_before came from; may be gone.';

-- How a target is kept is part of its assignment: other options are another generation.
alter table assignments
    add column options jsonb not null default '{}',
    add column unselected_at timestamptz;
comment on column assignments.options is 'core::session::SyncOptions.';
comment on column assignments.unselected_at is 'When it was found that the target does not select this cluster any more, and it goes on with what it has; null: it selects it.';
update assignments a set options = t.spec -> 'sync' from targets t where t.target_id = a.target_id and t.spec ? 'sync';

-- History outlives the repo that it came from.
alter table revisions alter column repo_id drop not null;
alter table revisions drop constraint revisions_repo_id_fkey;
alter table revisions
    add constraint revisions_repo_id_fkey foreign key (repo_id) references repos on delete set null;
comment on column revisions.repo_id is 'Where; null: that repo is deleted.';
