-- The audit log. Rows are inserted in the transaction that they describe, numbered by the sealer, and never updated.

create table audit_outbox (
    outbox_id bigint generated always as identity primary key,
    at timestamptz not null,
    body bytea not null
);
comment on table audit_outbox is 'Entries on their way; the sealer takes them within milliseconds.';
comment on column audit_outbox.outbox_id is 'In order of writing.';
comment on column audit_outbox.at is 'When it happened, by the hub''s clock.';
comment on column audit_outbox.body is 'Canonical JSON; core::audit::Event.';

create table audit_entries (
    seq bigint not null,
    at timestamptz not null,
    event_id uuid not null,
    project text,
    actor_kind text not null,
    actor_name text not null,
    action text not null,
    subject_kind text not null,
    subject_name text not null,
    cluster text,
    target text,
    rollout_id uuid,
    commit_id text,
    outcome text not null,
    reason text not null,
    trace_id text,
    body bytea not null,
    leaf_hash bytea not null,
    primary key (at, seq)
) partition by range (at);
comment on table audit_entries is 'The log, by month. Kept for ever unless an operator exports and detaches months.';
comment on column audit_entries.seq is 'Gapless, from 1.';
comment on column audit_entries.at is 'When it happened, by the hub''s clock.';
comment on column audit_entries.event_id is 'UUID v7.';
comment on column audit_entries.project is 'Whose; null: of the installation.';
comment on column audit_entries.actor_kind is 'token, agent, hub or anonymous.';
comment on column audit_entries.actor_name is 'Who.';
comment on column audit_entries.action is 'From the closed catalogue.';
comment on column audit_entries.subject_kind is 'What kind of thing.';
comment on column audit_entries.subject_name is 'Which.';
comment on column audit_entries.cluster is 'Which cluster it is about; null: none.';
comment on column audit_entries.target is 'Which target it is about; null: none.';
comment on column audit_entries.rollout_id is 'Which rollout it belongs to; null: none.';
comment on column audit_entries.commit_id is 'Which commit it is about; null: none.';
comment on column audit_entries.outcome is 'done, failed or denied.';
comment on column audit_entries.reason is 'Why, for people.';
comment on column audit_entries.trace_id is 'The id that follows a change.';
comment on column audit_entries.body is 'The bytes that were hashed; all other columns are an index over them.';
comment on column audit_entries.leaf_hash is 'RFC 6962 leaf over seq and body.';
create index audit_entries_seq_idx on audit_entries (seq);
create index audit_entries_target_idx on audit_entries (target, at desc, seq desc) where target is not null;
create index audit_entries_cluster_idx on audit_entries (cluster, at desc, seq desc) where cluster is not null;
create index audit_entries_actor_idx on audit_entries (actor_name, at desc, seq desc);
create index audit_entries_rollout_idx on audit_entries (rollout_id, at desc, seq desc) where rollout_id is not null;
create index audit_entries_failure_idx on audit_entries (at desc, seq desc) where outcome <> 'done';

create table audit_entries_other partition of audit_entries default;
comment on table audit_entries_other is 'Entries whose month has no partition of its own: none, unless a clock was wrong.';

create table audit_head (
    only_row boolean primary key default true check (only_row),
    size bigint not null,
    frontier bytea not null
);
comment on table audit_head is 'The tree''s size and right edge: what the next entry is appended to. One row.';
comment on column audit_head.only_row is 'Makes a second row impossible.';
comment on column audit_head.size is 'Entries so far.';
comment on column audit_head.frontier is 'Roots of its full subtrees, largest first, 32 bytes each.';
insert into audit_head (size, frontier) values (0, '');
