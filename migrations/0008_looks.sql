-- Every look at a repo is written down, so that people see how old what they see is.

comment on table repo_looks is 'How the last look at a repo ended. Written by the source stage only. As long as the repo.';
comment on column repo_looks.looked_at is 'The last look that succeeded, or the one that failed in a new way.';
comment on column repo_looks.fetched_at is 'The last success; null: none yet.';
