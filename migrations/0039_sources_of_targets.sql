-- What renders read of other repos, and which targets a push to one of these concerns.

alter table renders
    add column sources jsonb not null default '[]';
comment on column renders.sources is 'Other repos that it read: what was asked for, which repo that is, its ref and the commit there. What it read of one stands in inputs, below a folder that stands for it.';

create table target_sources (
    target_id uuid not null references targets on delete cascade,
    repo_id uuid not null references repos,
    ref text not null,
    reference jsonb not null,
    primary key (target_id, repo_id, ref)
);
comment on table target_sources is 'Other repos that a target is rendered from, or asked for in vain. Written with its spec, and by the bundle stage; goes with its target.';
comment on column target_sources.target_id is 'Which target.';
comment on column target_sources.repo_id is 'What it reads; a repo stays as long as somebody reads it.';
comment on column target_sources.ref is 'Full name, as that of revisions.';
comment on column target_sources.reference is 'The same as core::source::GitRef: what source looks for.';
create index target_sources_repo_id_idx on target_sources (repo_id, ref);
