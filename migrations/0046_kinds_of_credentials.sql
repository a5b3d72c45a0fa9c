-- What a repo is read with is shown as what it is, and a GitHub App's key is sealed for nothing else than that.

alter table credentials
    add column kind text check (kind in ('token', 'sshKey', 'githubApp')),
    add column public text;
comment on column credentials.kind is 'What is sealed; null: a token or, by ssh, a private key that was given before this was noted.';
comment on column credentials.public is 'What may be shown of it: the public key, or the ids of a GitHub App. It is told, and used for nothing.';
comment on column credentials.sealed is 'Bound to `credential/REPO_ID/ORIGIN/AUTHORITY`, of a GitHub App to `github-app/…`: it opens for the host and the `ca` that it was given for only.';
