-- How old what is known of a cluster is.

alter table sessions add column facts_at timestamptz, add column apis_at timestamptz;
comment on column sessions.facts_at is 'When an agent last said the facts; null: to a hub of before.';
comment on column sessions.apis_at is 'When an agent last said the APIs; null: never, or to a hub of before.';
