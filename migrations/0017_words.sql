-- The words of the release: heartbeat, sequence, fetch status. Data stays where it is. Not expanded and contracted: no
-- released version reads these tables.

alter table repo_looks rename to repo_fetch_status;
alter table repo_fetch_status rename column looked_at to checked_at;
alter table repo_fetch_status rename constraint repo_looks_pkey to repo_fetch_status_pkey;
alter table repo_fetch_status rename constraint repo_looks_repo_id_fkey to repo_fetch_status_repo_id_fkey;
alter table repo_fetch_status rename column looked_again to fetched_again;
comment on table repo_fetch_status is 'How the last fetch of a repo ended. Written by the source stage only. As long as the repo.';
comment on column repo_fetch_status.checked_at is 'The last fetch that succeeded, or the one that failed in a new way.';

alter table hubs rename column beat_at to heartbeat_at;
comment on column hubs.heartbeat_at is 'Every 5 s; a hub silent for 15 s holds no sessions.';

alter table reports rename column serial to sequence;
comment on column reports.sequence is 'Its place there.';
comment on table reports is 'The newest report of each cluster and target. Written by the record stage only; only a greater (session, sequence) is written.';

comment on table work is 'The queue: append-only signals to reconcile a subject; deleted by the worker that does. Rows live for milliseconds, timers until they are due.';
comment on column work.stage is 'Which stage is to reconcile.';
comment on column work.key is 'What: source: repo, bundle and rollout: target, link: cluster.';
