-- What others changed in the clusters.

create table drift_events (
    drift_id uuid primary key,
    cluster_id uuid not null references clusters on delete cascade,
    target_id uuid not null references targets on delete cascade,
    object jsonb not null,
    change text not null check (change in ('modified', 'deleted', 'replaced', 'unlabelled')),
    action text not null check (action in ('corrected', 'warned', 'failed')),
    manager text,
    operation text,
    fields text[] not null,
    found_at timestamptz not null,
    recorded_at timestamptz not null
);
comment on table drift_events is 'Each change that somebody else made to what a target owns. Written by the record stage only; kept 90 days.';
comment on column drift_events.drift_id is 'UUID v7 by the agent: a repeated message is written once.';
comment on column drift_events.cluster_id is 'Where.';
comment on column drift_events.target_id is 'Whose object.';
comment on column drift_events.object is 'core::ObjectKey.';
comment on column drift_events.change is 'core::drift::Change.';
comment on column drift_events.action is 'core::drift::Response.';
comment on column drift_events.manager is 'Who, as managedFields say; null: nothing says so.';
comment on column drift_events.operation is 'Apply or Update; null: nothing says so.';
comment on column drift_events.fields is 'Paths that differed, at most 20; never their values.';
comment on column drift_events.found_at is 'When the agent found it, by its clock.';
comment on column drift_events.recorded_at is 'When the hub took it.';
create index drift_events_recorded_idx on drift_events (recorded_at desc, drift_id desc);
create index drift_events_target_idx on drift_events (target_id, recorded_at desc);
create index drift_events_cluster_idx on drift_events (cluster_id, recorded_at desc);
