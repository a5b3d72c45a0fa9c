-- What clusters say of a bundle that they are only asked about.

create table dry_runs (
    dry_run_id uuid primary key,
    target_id uuid not null references targets on delete cascade,
    asked bytea not null,
    expires_at timestamptz not null
);
create index dry_runs_by_target on dry_runs (target_id);
create index dry_runs_by_end on dry_runs (expires_at);
comment on table dry_runs is 'A bundle that somebody plans, for as long as clusters are asked what would become of it. Written by whoever plans, who deletes it at the end; the sweep deletes what a hub that died has left.';
comment on column dry_runs.dry_run_id is 'Its own.';
comment on column dry_runs.target_id is 'Whose bundle it would be.';
comment on column dry_runs.asked is 'The question as agents get it, which may hold Secrets; sealed, bound to `dry-run/DRY_RUN_ID`.';
comment on column dry_runs.expires_at is 'Nobody waits for answers any more.';

create table dry_run_clusters (
    dry_run_id uuid not null references dry_runs on delete cascade,
    cluster_id uuid not null references clusters on delete cascade,
    taken_at timestamptz,
    answer bytea check (octet_length(answer) <= 524288),
    primary key (dry_run_id, cluster_id)
);
create index dry_run_clusters_waiting on dry_run_clusters (cluster_id);
comment on table dry_run_clusters is 'Clusters that are asked, and what they answered. A work row of the link stage tells the hub that has the cluster''s stream.';
comment on column dry_run_clusters.dry_run_id is 'Of which question.';
comment on column dry_run_clusters.cluster_id is 'Who is asked.';
comment on column dry_run_clusters.taken_at is 'When the hub with its stream took it. Null: not yet.';
comment on column dry_run_clusters.answer is 'core::dry_run::DryRunAnswer as JSON, compressed with zstd, as the agent said it; of no Secret it tells what it holds. Null: none yet.';
