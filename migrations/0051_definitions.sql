-- The CustomResourceDefinitions of clusters, as their agents tell them: a fleet has few different ones, so each is stored once.

create table definition_lists (
    digest bytea primary key,
    listing text not null,
    seen_at timestamptz not null
);
comment on table definition_lists is 'Which definitions a cluster has. Written by the link stage only; one that no stream names any more is deleted.';
comment on column definition_lists.digest is 'SHA-256 of listing.';
comment on column definition_lists.listing is 'core::definitions::Definitions: names with digests, in order, one a line.';
comment on column definition_lists.seen_at is 'When an agent last brought it.';

create table definition_names (
    list bytea not null references definition_lists on delete cascade,
    digest bytea not null,
    primary key (list, digest)
);
comment on table definition_names is 'The digests in definition_lists.listing. Kept as long as the list.';
comment on column definition_names.list is 'The list that names it.';
comment on column definition_names.digest is 'Of a definition, stored or not.';
create index definition_names_digest_idx on definition_names (digest);

create table definitions (
    digest bytea primary key,
    packed bytea not null,
    packed_bytes int not null,
    seen_at timestamptz not null
);
comment on table definitions is 'What is told of a definition. Deleted when no list names it any more.';
comment on column definitions.digest is 'SHA-256 of the text that was packed.';
comment on column definitions.packed is 'core::definitions::Definition, JSON, compressed with zstd.';
comment on column definitions.packed_bytes is 'The length of packed: what a cluster may store has a bound.';
comment on column definitions.seen_at is 'When it came.';
alter table definitions alter column packed set storage external;

alter table sessions add column definitions bytea references definition_lists, add column definitions_at timestamptz;
comment on column sessions.definitions is 'Which definitions the cluster has, as its agent last said; null: it never did.';
comment on column sessions.definitions_at is 'When it last said so.';
create index sessions_definitions_idx on sessions (definitions);
