-- What Git hosts were told of commits.

create table commit_statuses (
    target_id uuid not null references targets on delete cascade,
    commit_id text not null,
    context text not null,
    state text,
    description text,
    told_at timestamptz,
    pipeline bigint,
    tries integer not null default 0,
    tried_at timestamptz not null,
    error text,
    primary key (target_id, commit_id)
);
comment on table commit_statuses is 'What the host of a target''s repo was told of a commit, last. Written by the commit status stage; the last 20 of each target are kept.';
comment on column commit_statuses.target_id is 'Of which target.';
comment on column commit_statuses.commit_id is 'Hexadecimal digits.';
comment on column commit_statuses.context is 'Under which name.';
comment on column commit_statuses.state is 'core::commit_status::CommitState; null: it was never told, or it is not known whether the host took it.';
comment on column commit_statuses.description is 'One line for people, as it was told.';
comment on column commit_statuses.told_at is 'When the host last took it; null: never.';
comment on column commit_statuses.pipeline is 'GitLab: which of the commit''s pipelines has it; null: it did not say.';
comment on column commit_statuses.tries is 'That failed, one after another.';
comment on column commit_statuses.tried_at is 'When it was last tried.';
comment on column commit_statuses.error is 'Why the last try failed; null: it did not.';
