-- A target may follow a range of versions: its ref stays the range, and which tag that was at the time is said beside it.
alter table revisions add column tag text;
comment on column revisions.tag is 'Of a range of versions the tag that was the newest in it.';
comment on column revisions.ref is 'refs/heads/…, refs/tags/…, `semver:` and a range, or a commit.';
