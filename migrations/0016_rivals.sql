-- Two agents with one identity: a cluster that was copied with its Secrets.

alter table sessions add column rivalry jsonb;
comment on column sessions.rivalry is 'The agent before this one, how often the two took turns, and since when they are known to be two; null: there was none, or the cluster enrolled anew.';
