-- What a repo's next fetch follows from: pauses that grow with failures, servers that ask for peace, and webhooks that
-- came before what they announced could be seen.

alter table repo_looks
    add column failures integer not null default 0,
    add column not_before timestamptz,
    add column retry_at timestamptz,
    add column poll_at timestamptz,
    add column looked_again integer;
comment on column repo_looks.failures is 'Fetches that failed since the last one that did not.';
comment on column repo_looks.not_before is 'The server asked to be left alone until then; a person''s refresh clears it. Null: it did not.';
comment on column repo_looks.retry_at is 'After a failure: when it is fetched again if nobody asks. Null: it did not fail.';
comment on column repo_looks.poll_at is 'The next poll; webhooks do not put it off. Null: not known.';
comment on column repo_looks.looked_again is 'How often it was fetched again since a signal that nothing was found for. Null: that is over.';
comment on column credentials.sealed is 'Bound to `credential/REPO_ID/ORIGIN/AUTHORITY`: it opens for the host and the `ca` that it was given for only.';
