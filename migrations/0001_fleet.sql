-- Who is there: the installation, projects, tokens, clusters and their certificates. Kept until a person deletes them,
-- unless a table says otherwise.

create table installation (
    only_row boolean primary key default true check (only_row),
    installation_id uuid not null,
    created_at timestamptz not null
);
comment on table installation is 'One row, written at the first start. Its id tells this installation''s objects from another''s.';
comment on column installation.only_row is 'Makes a second row impossible.';
comment on column installation.installation_id is 'UUID v7.';
comment on column installation.created_at is 'First start of a hub on this database.';

create table keys (
    name text primary key,
    certificate bytea,
    sealed bytea not null,
    created_at timestamptz not null
);
comment on table keys is 'The authority''s keys, sealed with the key-encryption key, never plain.';
comment on column keys.name is '`root` or `intermediate`.';
comment on column keys.certificate is 'DER; null for a key without one.';
comment on column keys.sealed is 'Version byte, nonce, ciphertext, tag; bound to `key/NAME`.';
comment on column keys.created_at is 'When it was made.';

create table projects (
    project_id uuid primary key,
    name text not null constraint projects_name_key unique,
    created_at timestamptz not null
);
comment on table projects is 'Tenancy boundaries. Only `default` as yet.';
comment on column projects.project_id is 'UUID v7.';
comment on column projects.name is 'A DNS label.';
comment on column projects.created_at is 'When it was made.';

create table api_tokens (
    token_id uuid primary key,
    name text not null constraint api_tokens_name_key unique,
    token_hash bytea not null constraint api_tokens_hash_key unique,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz
);
comment on table api_tokens is 'Bearer tokens of the REST API.';
comment on column api_tokens.token_id is 'UUID v7.';
comment on column api_tokens.name is 'Who acts, in the audit log.';
comment on column api_tokens.token_hash is 'SHA-256; the token itself is nowhere.';
comment on column api_tokens.created_at is 'When it was made.';
comment on column api_tokens.expires_at is 'Null: never.';
comment on column api_tokens.revoked_at is 'Null: not revoked.';

create table clusters (
    cluster_id uuid primary key,
    project_id uuid not null references projects,
    name text not null constraint clusters_name_key unique,
    labels jsonb not null,
    namespace text not null,
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    revoked_at timestamptz
);
comment on table clusters is 'Registered clusters. Written by HTTP handlers only.';
comment on column clusters.cluster_id is 'UUID v7; the last part of the SAN URI in its certificates.';
comment on column clusters.project_id is 'Whose it is.';
comment on column clusters.name is 'A DNS label, unique in the installation.';
comment on column clusters.labels is 'String to string, by people with the right to; what selectors and waves read.';
comment on column clusters.namespace is 'Where its agent is installed.';
comment on column clusters.version is 'Optimistic counter.';
comment on column clusters.created_at is 'When it was registered.';
comment on column clusters.updated_at is 'Last change by a person.';
comment on column clusters.revoked_at is 'Null: not revoked. A revoked cluster''s certificates are refused.';

create table enrollments (
    token_hash bytea primary key,
    cluster_id uuid not null references clusters on delete cascade,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    first_key bytea,
    used_at timestamptz
);
comment on table enrollments is 'Join tokens, single-use. Swept 90 days after their end.';
comment on column enrollments.token_hash is 'SHA-256; the token itself is nowhere.';
comment on column enrollments.cluster_id is 'The only cluster that it can join.';
comment on column enrollments.created_at is 'When it was made.';
comment on column enrollments.expires_at is 'Not usable from then on.';
comment on column enrollments.first_key is 'SHA-256 of the first public key that used it: only that key may repeat, so a lost answer burns no token.';
comment on column enrollments.used_at is 'When that key''s first certificate was issued.';
create index enrollments_cluster_id_idx on enrollments (cluster_id);

create table certificates (
    serial text primary key,
    cluster_id uuid not null references clusters on delete cascade,
    issued_at timestamptz not null,
    not_after timestamptz not null,
    first_used_at timestamptz,
    revoked_at timestamptz
);
comment on table certificates is 'Agents'' certificates. Swept 90 days after their end.';
comment on column certificates.serial is 'Hexadecimal digits.';
comment on column certificates.cluster_id is 'Whose identity it carries.';
comment on column certificates.issued_at is 'When it was issued.';
comment on column certificates.not_after is 'Its end.';
comment on column certificates.first_used_at is 'First session with it; its join token is spent from then on. Null: not used.';
comment on column certificates.revoked_at is 'Null: not revoked.';
create index certificates_cluster_id_idx on certificates (cluster_id);

create table hubs (
    hub_id uuid primary key,
    started_at timestamptz not null,
    beat_at timestamptz not null
);
comment on table hubs is 'Running hubs; a dead one''s row is swept after a day.';
comment on column hubs.hub_id is 'UUID v7, new at each start.';
comment on column hubs.started_at is 'When it started.';
comment on column hubs.beat_at is 'Every 5 s; a hub silent for 15 s holds no sessions.';

create sequence session_numbers;
comment on sequence session_numbers is 'Of live streams: a later one has a greater number.';

create table sessions (
    cluster_id uuid primary key references clusters on delete cascade,
    session bigint not null,
    hub_id uuid not null,
    boot uuid not null,
    since timestamptz not null,
    caught_up_at timestamptz,
    ended_at timestamptz,
    address text not null,
    certificate_serial text not null,
    agent_version text not null,
    facts jsonb not null
);
comment on table sessions is 'The newest stream of each cluster. Written by the link stage, at connect and at disconnect only.';
comment on column sessions.cluster_id is 'Whose agent.';
comment on column sessions.session is 'From session_numbers.';
comment on column sessions.hub_id is 'Which hub holds it.';
comment on column sessions.boot is 'Of the agent''s process.';
comment on column sessions.since is 'When it connected.';
comment on column sessions.caught_up_at is 'When what the agent had kept to itself had arrived; until then it counts as away for rollouts.';
comment on column sessions.ended_at is 'Null: as far as its hub knows it is live.';
comment on column sessions.address is 'Where it came from.';
comment on column sessions.certificate_serial is 'With which certificate.';
comment on column sessions.agent_version is 'As the agent says.';
comment on column sessions.facts is 'As the agent says, string to string. Render input, never placement.';
