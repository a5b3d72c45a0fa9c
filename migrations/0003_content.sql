-- What Git says and what it renders to.

create table repos (
    repo_id uuid primary key,
    project_id uuid not null references projects,
    name text not null constraint repos_name_key unique,
    spec jsonb not null,
    webhook_secret bytea not null,
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
comment on table repos is 'Git repositories. Written by HTTP handlers only.';
comment on column repos.repo_id is 'UUID v7.';
comment on column repos.project_id is 'Whose it is.';
comment on column repos.name is 'A DNS label.';
comment on column repos.spec is 'core::api::RepoSpec; holds no secret.';
comment on column repos.webhook_secret is 'Sealed, bound to `webhook/REPO_ID`.';
comment on column repos.version is 'Optimistic counter.';
comment on column repos.created_at is 'When it was added.';
comment on column repos.updated_at is 'Last change by a person.';

create table credentials (
    repo_id uuid primary key references repos on delete cascade,
    sealed bytea not null,
    updated_at timestamptz not null
);
comment on table credentials is 'Tokens of private repos. Never read back by the API.';
comment on column credentials.repo_id is 'Of which repo.';
comment on column credentials.sealed is 'Bound to `credential/REPO_ID`.';
comment on column credentials.updated_at is 'When it was given.';

create table repo_looks (
    repo_id uuid primary key references repos on delete cascade,
    looked_at timestamptz not null,
    fetched_at timestamptz,
    condition jsonb
);
comment on table repo_looks is 'How the last look at a repo ended. Written by the source stage only, when something changed.';
comment on column repo_looks.repo_id is 'Of which repo.';
comment on column repo_looks.looked_at is 'When the condition or a head last changed.';
comment on column repo_looks.fetched_at is 'The last success that changed something.';
comment on column repo_looks.condition is 'core::api::Condition; null: all is well.';

create table revisions (
    revision_id uuid primary key,
    repo_id uuid not null references repos on delete cascade,
    ref text not null,
    commit_id text not null,
    author text not null,
    subject text not null,
    seen_at timestamptz not null,
    trace_id text not null
);
comment on table revisions is 'Commits seen at refs, the newest last. Written by the source stage only. The last 10 per target and what runs are kept.';
comment on column revisions.revision_id is 'UUID v7: of one repo and ref, the greatest is the newest.';
comment on column revisions.repo_id is 'Where.';
comment on column revisions.ref is 'refs/heads/…, refs/tags/… or a commit.';
comment on column revisions.commit_id is 'Hexadecimal digits. The same commit may be seen again, after a force-push.';
comment on column revisions.author is 'As the commit says.';
comment on column revisions.subject is 'First line of the message, bounded.';
comment on column revisions.seen_at is 'When the hub saw it.';
comment on column revisions.trace_id is 'The id that follows this change.';
create index revisions_head_idx on revisions (repo_id, ref, revision_id desc);

create table ref_conditions (
    repo_id uuid not null references repos on delete cascade,
    ref text not null,
    condition jsonb not null,
    primary key (repo_id, ref)
);
comment on table ref_conditions is 'Refs that targets name and the repo lacks. Written by the source stage only.';
comment on column ref_conditions.repo_id is 'Where.';
comment on column ref_conditions.ref is 'Which; full name.';
comment on column ref_conditions.condition is 'core::api::Condition.';

create table targets (
    target_id uuid primary key,
    project_id uuid not null references projects,
    name text not null constraint targets_name_key unique,
    repo_id uuid not null constraint targets_repo_fkey references repos,
    ref text not null,
    spec jsonb not null,
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
comment on table targets is 'What to deploy where. Written by HTTP handlers only.';
comment on column targets.target_id is 'UUID v7.';
comment on column targets.project_id is 'Whose it is.';
comment on column targets.name is 'A DNS label.';
comment on column targets.repo_id is 'Where from; a used repo cannot be deleted.';
comment on column targets.ref is 'Full name of the ref in the spec.';
comment on column targets.spec is 'core::api::TargetSpec.';
comment on column targets.version is 'Optimistic counter; a new version is rendered anew.';
comment on column targets.created_at is 'When it was added.';
comment on column targets.updated_at is 'Last change by a person.';
create index targets_repo_id_idx on targets (repo_id);

create table objects (
    digest bytea primary key,
    body bytea not null,
    used_at timestamptz not null
);
comment on table objects is 'Rendered objects by SHA-256 of their canonical JSON. Written by the bundle stage only; swept when unused for 7 days.';
comment on column objects.digest is 'SHA-256 of the uncompressed body.';
comment on column objects.body is 'One zstd frame.';
comment on column objects.used_at is 'Last time a bundle was made of it, to the day.';

create table bundles (
    digest bytea primary key,
    manifest bytea not null,
    objects integer not null,
    used_at timestamptz not null
);
comment on table bundles is 'Manifests by their SHA-256. Written by the bundle stage only; swept when unused for 7 days.';
comment on column bundles.digest is 'SHA-256 of the uncompressed manifest.';
comment on column bundles.manifest is 'One zstd frame; core::bundle::Manifest.';
comment on column bundles.objects is 'How many lines it has.';
comment on column bundles.used_at is 'Last time a render gave it, to the day.';

create table renders (
    render_id uuid primary key,
    target_id uuid not null references targets on delete cascade,
    revision_id uuid not null references revisions,
    target_version bigint not null,
    tree text not null,
    variables text[] not null,
    created_at timestamptz not null,
    constraint renders_once_key unique (target_id, revision_id, target_version)
);
comment on table renders is 'What a target renders to at a revision. Written by the bundle stage only. The last 10 per target and what runs are kept.';
comment on column renders.render_id is 'UUID v7.';
comment on column renders.target_id is 'Of which target.';
comment on column renders.revision_id is 'At which revision.';
comment on column renders.target_version is 'With which version of the spec.';
comment on column renders.tree is 'Git''s id of the folder: an equal one, with an equal spec, renders the same.';
comment on column renders.variables is 'Parameters that the folder refers to.';
comment on column renders.created_at is 'When.';

create table render_variants (
    render_id uuid not null references renders on delete cascade,
    parameters bytea not null,
    digest bytea not null references bundles,
    primary key (render_id, parameters)
);
comment on table render_variants is 'One bundle for each distinct set of used parameters.';
comment on column render_variants.render_id is 'Of which render.';
comment on column render_variants.parameters is 'SHA-256 of the values of the used variables.';
comment on column render_variants.digest is 'The bundle.';

create table render_conditions (
    target_id uuid primary key references targets on delete cascade,
    revision_id uuid,
    condition jsonb not null
);
comment on table render_conditions is 'Why a target''s newest revision does not render. Written by the bundle stage only.';
comment on column render_conditions.target_id is 'Of which target.';
comment on column render_conditions.revision_id is 'At which revision; null: there is none.';
comment on column render_conditions.condition is 'core::api::Condition.';
