-- What a repo's policy keeps from being rolled out until somebody lets it in.
create table waiting_heads (
    repo_id uuid not null references repos on delete cascade,
    ref text not null,
    commit_id text not null,
    seen_at timestamptz not null,
    accepted_at timestamptz,
    primary key (repo_id, ref)
);
comment on table waiting_heads is 'Commits that do not build on what was seen at their ref before, in repos that ask for that. Written by the source stage; HTTP handlers write only accepted_at. One per ref, until another commit is there.';
comment on column waiting_heads.repo_id is 'Where.';
comment on column waiting_heads.ref is 'Which; full name.';
comment on column waiting_heads.commit_id is 'Hexadecimal digits.';
comment on column waiting_heads.seen_at is 'When the hub saw it first.';
comment on column waiting_heads.accepted_at is 'When somebody let it in.';
