-- Targets that are going, and what their clusters are to do about it.

alter table targets
    add column deletion text constraint targets_deletion_check check (deletion in ('delete', 'orphan')),
    add column deletion_forced boolean not null default false,
    add column deletion_by text,
    add column deletion_at timestamptz;
comment on table targets is 'What to deploy where. Written by HTTP handlers; the rollout stage deletes a row whose deletion is over.';
comment on column targets.deletion is 'A person deleted it: the action that its clusters are given; null: it stays.';
comment on column targets.deletion_forced is 'Clusters that have not answered are not waited for.';
comment on column targets.deletion_by is 'Who deleted it.';
comment on column targets.deletion_at is 'When.';

alter table assignments
    add column target_name text;
comment on column assignments.target_name is 'Of a tombstone that outlives its target: what that was called; null while the target is there.';
