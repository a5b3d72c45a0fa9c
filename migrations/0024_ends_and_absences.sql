-- What is remembered of rollouts that ended, and of agents that nobody hears.

alter table set_aside
    drop constraint set_aside_cause_check,
    add constraint set_aside_cause_check check (cause in ('skipped', 'failed', 'ended'));
comment on column set_aside.cause is 'skipped: a person took it out; failed: it had it and failed; ended: the rollout that would have given it ended before, or took it back.';

alter table rollout_waves add column soak_from timestamptz;
comment on column rollout_waves.soak_from is 'Since when the soak''s clock runs; null: it does not.';

-- A clock that a try must not set back: an agent that connects again and again and is never heard is away all the same.
alter table sessions add column away_since timestamptz;
comment on column sessions.away_since is 'Since when nobody hears its agent, however often it has connected since; null: it is heard, or was when its hub died.';
update sessions
   set away_since = case
           when ended_at is not null then ended_at
           when caught_up_at is null then since
       end;

create or replace view presences as
select s.cluster_id, s.hub_id,
       s.ended_at is null and coalesce(h.lives_until > now(), false) as is_connected,
       s.ended_at is null and s.caught_up_at is not null and coalesce(h.lives_until > now(), false) as is_heard,
       coalesce(s.away_since, s.ended_at, s.caught_up_at, s.since) as since,
       case
         when s.ended_at is null and s.away_since is null and h.lives_until <= now()
         then least(now() - h.heartbeat_at, now() - s.since)
       end as silent_for,
       s.ended_at is null and s.rivalry ->> 'contested_at' is not null as is_contested
  from sessions s
  left join hubs h using (hub_id);
comment on view presences is 'Of each cluster that has ever connected, whether it is there now, and since when it is heard or away.';
comment on column presences.since is 'Since when it is heard, or since when nobody hears it; of one whose hub died: since when it had been heard.';
comment on column presences.silent_for is 'Of one that was heard when its hub died, and which left no end: since its last heartbeat, or since the stream began after it. A length, so that no two clocks are compared; null: not so.';
comment on column presences.is_contested is 'Two agents use its identity: neither is told anything new, and neither is heard.';
