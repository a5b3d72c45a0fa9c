-- What Git hosts say of pushes: which of it was heard before, and which heads are to be expected.

create table webhook_deliveries (
    repo_id uuid not null references repos on delete cascade,
    delivery bytea not null,
    received_at timestamptz not null,
    primary key (repo_id, delivery)
);
create index webhook_deliveries_by_age on webhook_deliveries (received_at);
comment on table webhook_deliveries is 'Webhooks that had a repo fetched: the same one again has not. Written when one is taken, and deleted by the sweep once no host sends it again.';
comment on column webhook_deliveries.delivery is 'SHA-256 of the id that the host gave it.';
comment on column webhook_deliveries.received_at is 'When it came first.';

create table expected_heads (
    repo_id uuid not null references repos on delete cascade,
    ref text not null,
    commit_id text,
    told_at timestamptz not null,
    primary key (repo_id, ref)
);
comment on table expected_heads is 'Where a host said that a ref is, until a fetch has seen it there or has looked for it in vain: no more than a reason to look again.';
comment on column expected_heads.ref is 'Full name, of a ref that a target follows.';
comment on column expected_heads.commit_id is 'The commit; null: the ref was deleted.';
comment on column expected_heads.told_at is 'When the host said so.';
