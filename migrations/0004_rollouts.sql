-- How changes cross the fleet, and what agents say about it.

create sequence generations;
comment on sequence generations is 'Of assignments, for the whole installation: what a restored database hands out can be told from what agents have seen.';

create table rollouts (
    rollout_id uuid primary key,
    target_id uuid not null references targets on delete cascade,
    render_id uuid not null references renders,
    from_render_id uuid references renders,
    kind text not null check (kind in ('revision', 'rollback', 'cluster_change')),
    strategy jsonb not null,
    failures_max integer not null,
    state text not null check (state in ('planned', 'rolling', 'paused', 'rolling_back', 'done', 'failed', 'superseded', 'cancelled')),
    state_since timestamptz not null,
    reason text not null,
    version bigint not null default 1,
    trace_id text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    ended_at timestamptz
);
comment on table rollouts is 'Written by the rollout stage only. The last 20 per target or 90 days are kept.';
comment on column rollouts.rollout_id is 'UUID v7.';
comment on column rollouts.target_id is 'Of which target.';
comment on column rollouts.render_id is 'What it moves to; frozen.';
comment on column rollouts.from_render_id is 'What most clusters ran before; null: nothing.';
comment on column rollouts.kind is 'revision: Git or the spec changed; rollback: a person asked; cluster_change: clusters joined or changed.';
comment on column rollouts.strategy is 'core::rollout::Strategy; frozen.';
comment on column rollouts.failures_max is 'Failed clusters that it stands.';
comment on column rollouts.state is 'core::rollout::RolloutState.';
comment on column rollouts.state_since is 'When it came into its state.';
comment on column rollouts.reason is 'Why it is in its state, for people.';
comment on column rollouts.version is 'Counts decisions.';
comment on column rollouts.trace_id is 'The id that follows this change.';
comment on column rollouts.created_at is 'When it was planned.';
comment on column rollouts.updated_at is 'Last decision.';
comment on column rollouts.ended_at is 'Null: it goes on.';
create unique index rollouts_live_key on rollouts (target_id) where ended_at is null;
create index rollouts_target_id_idx on rollouts (target_id, rollout_id desc);

create table rollout_waves (
    rollout_id uuid not null references rollouts on delete cascade,
    wave integer not null,
    name text not null,
    state text not null check (state in ('waiting', 'open', 'soaking', 'passed', 'failed')),
    concurrent_max integer not null,
    healthy_min integer not null,
    soak_ms bigint not null,
    opened_at timestamptz,
    soak_until timestamptz,
    soak_left_ms bigint,
    primary key (rollout_id, wave)
);
comment on table rollout_waves is 'Waves in their order. Written by the rollout stage only.';
comment on column rollout_waves.rollout_id is 'Of which rollout.';
comment on column rollout_waves.wave is 'From 0.';
comment on column rollout_waves.name is 'As in the strategy; `rest` for the implicit last one.';
comment on column rollout_waves.state is 'core::rollout::WaveState.';
comment on column rollout_waves.concurrent_max is 'Clusters in flight at once.';
comment on column rollout_waves.healthy_min is 'Clusters that must be healthy for it to pass.';
comment on column rollout_waves.soak_ms is 'How long it must stay healthy.';
comment on column rollout_waves.opened_at is 'Null: not yet.';
comment on column rollout_waves.soak_until is 'Null: it does not soak, or its clock stands.';
comment on column rollout_waves.soak_left_ms is 'What is left of the soak while its clock stands; null: it does not stand.';

create table rollout_clusters (
    rollout_id uuid not null references rollouts on delete cascade,
    cluster_id uuid not null references clusters on delete cascade,
    wave integer not null,
    position integer not null,
    digest bytea not null references bundles,
    digest_before bytea references bundles,
    state text not null check (state in ('waiting', 'assigned', 'applied', 'healthy', 'failed', 'offline', 'skipped', 'rolled_back')),
    generation bigint,
    assigned_at timestamptz,
    is_returning boolean not null default false,
    judged_from timestamptz,
    reason text not null,
    primary key (rollout_id, cluster_id)
);
comment on table rollout_clusters is 'Members; wave and digest are frozen. Written by the rollout stage only.';
comment on column rollout_clusters.rollout_id is 'Of which rollout.';
comment on column rollout_clusters.cluster_id is 'Which cluster.';
comment on column rollout_clusters.wave is 'From 0.';
comment on column rollout_clusters.position is 'Its turn within the wave.';
comment on column rollout_clusters.digest is 'What it is to run.';
comment on column rollout_clusters.digest_before is 'What it ran; null: nothing of this target.';
comment on column rollout_clusters.state is 'core::rollout::MemberState.';
comment on column rollout_clusters.generation is 'Of the newest assignment that this rollout wrote for it.';
comment on column rollout_clusters.assigned_at is 'When this rollout last wrote an assignment for it; null: never.';
comment on column rollout_clusters.is_returning is 'Its newest assignment is digest_before.';
comment on column rollout_clusters.judged_from is 'Its deadline counts from here; null: that clock stands.';
comment on column rollout_clusters.reason is 'Why it is in its state, for people.';
create index rollout_clusters_turn_idx on rollout_clusters (rollout_id, wave, state, position);

create table assignments (
    cluster_id uuid not null references clusters on delete cascade,
    target_id uuid not null,
    digest bytea not null references bundles,
    generation bigint not null,
    rollout_id uuid not null,
    render_id uuid not null,
    action text not null check (action in ('apply', 'delete', 'orphan')),
    prunable jsonb not null,
    assigned_at timestamptz not null,
    primary key (cluster_id, target_id)
);
comment on table assignments is 'What each cluster is to run. Written by the rollout stage only; a row that vanishes deletes nothing anywhere.';
comment on column assignments.cluster_id is 'Which cluster.';
comment on column assignments.target_id is 'For which target.';
comment on column assignments.digest is 'The bundle.';
comment on column assignments.generation is 'From generations; the receiver refuses an older one.';
comment on column assignments.rollout_id is 'Which rollout decided it.';
comment on column assignments.render_id is 'Which render the digest came from: tells the revision.';
comment on column assignments.action is 'core::session::Action.';
comment on column assignments.prunable is 'Object keys that the plan allows to be deleted.';
comment on column assignments.assigned_at is 'When.';
create index assignments_target_id_idx on assignments (target_id);

create table target_states (
    target_id uuid primary key references targets on delete cascade,
    held boolean not null,
    condition jsonb
);
comment on table target_states is 'What the rollout stage knows of a target besides its rollouts. Written by it only.';
comment on column target_states.target_id is 'Of which target.';
comment on column target_states.held is 'Rolled back by a person and not released: new revisions wait.';
comment on column target_states.condition is 'core::api::Condition: such as that it selects no cluster; null: none.';

create table reports (
    cluster_id uuid not null references clusters on delete cascade,
    target_id uuid not null,
    generation bigint not null,
    digest bytea not null,
    verdict text not null check (verdict in ('healthy', 'progressing', 'unknown', 'degraded', 'failed')),
    applied boolean not null,
    total integer not null,
    in_place integer not null,
    healthy integer not null,
    lines jsonb not null,
    session bigint not null,
    serial bigint not null,
    reported_at timestamptz not null,
    primary key (cluster_id, target_id)
);
comment on table reports is 'The newest report of each cluster and target. Written by the record stage only; only a greater (session, serial) is written.';
comment on column reports.cluster_id is 'Which cluster.';
comment on column reports.target_id is 'For which target.';
comment on column reports.generation is 'Of which assignment it speaks.';
comment on column reports.digest is 'Of which bundle.';
comment on column reports.verdict is 'core::report::Verdict.';
comment on column reports.applied is 'Every object is in place.';
comment on column reports.total is 'Objects of the bundle.';
comment on column reports.in_place is 'Objects in place.';
comment on column reports.healthy is 'Objects healthy.';
comment on column reports.lines is 'What is not well, worst first, at most 50; core::report::ObjectLine.';
comment on column reports.session is 'On which stream it came.';
comment on column reports.serial is 'Its place there.';
comment on column reports.reported_at is 'When the hub took it.';
create index reports_target_id_idx on reports (target_id);
