-- What wakes the stages, and what people ask.

create table work (
    work_id bigint generated always as identity primary key,
    stage text not null check (stage in ('source', 'bundle', 'rollout', 'link')),
    key uuid not null,
    due_at timestamptz not null,
    is_timer boolean not null default false,
    trace_id text
);
comment on table work is 'Append-only signals to look at a subject; deleted by the worker that looks. Rows live for milliseconds, timers until they are due.';
comment on column work.work_id is 'In order of writing.';
comment on column work.stage is 'Who is to look.';
comment on column work.key is 'At what: source: repo, bundle and rollout: target, link: cluster.';
comment on column work.due_at is 'Not before; a later one is a timer.';
comment on column work.is_timer is 'Set by the subject''s own worker, which keeps one at most; a signal is never taken for it.';
comment on column work.trace_id is 'The id that follows a change from webhook to report; null where nothing is followed.';
create index work_stage_due_at_idx on work (stage, due_at);
create index work_stage_key_idx on work (stage, key);

create table intents (
    intent_id uuid primary key,
    target_id uuid not null,
    rollout_id uuid,
    verb jsonb not null,
    actor text not null,
    reason text not null,
    created_at timestamptz not null,
    done_at timestamptz,
    outcome text
);
comment on table intents is 'What people asked of rollouts. Written by HTTP handlers, answered by the rollout stage; kept 90 days.';
comment on column intents.intent_id is 'UUID v7.';
comment on column intents.target_id is 'Of which target.';
comment on column intents.rollout_id is 'Which rollout they saw; null: of the target.';
comment on column intents.verb is 'core::rollout::Intent.';
comment on column intents.actor is 'Who asked.';
comment on column intents.reason is 'Why; may be empty.';
comment on column intents.created_at is 'When.';
comment on column intents.done_at is 'Null: nothing has acted on it yet.';
comment on column intents.outcome is 'What came of it, for people.';
create index intents_open_idx on intents (target_id, intent_id) where done_at is null;
