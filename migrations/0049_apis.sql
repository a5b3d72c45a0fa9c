-- What clusters serve, as their agents have seen it: a fleet has few different sets, so each is stored once.

create table api_sets (
    digest bytea primary key,
    apis text not null,
    seen_at timestamptz not null
);
comment on table api_sets is 'Sets of APIs that clusters serve. Written by the link stage only; one that no stream names any more is deleted.';
comment on column api_sets.digest is 'SHA-256 of apis.';
comment on column api_sets.apis is 'core::apis::Apis: names such as apps/v1 and apps/v1/Deployment, in order, one a line.';
comment on column api_sets.seen_at is 'When an agent last brought it.';

alter table sessions add column apis bytea references api_sets;
comment on column sessions.apis is 'What the cluster serves, as its agent last said; null: it never did.';
create index sessions_apis_idx on sessions (apis);
