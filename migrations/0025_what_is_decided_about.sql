-- What a soak may count, who is decided about, and what of a spec was rendered.

alter table sessions
    add column heard_at timestamptz,
    add column heard_before_from timestamptz,
    add column heard_before_until timestamptz;
comment on column sessions.heard_at is 'Since when its agent was heard, the last time that it came to be; stays when it is not heard any more.';
comment on column sessions.heard_before_from is 'Of the time before its last absence in which it was heard: since when.';
comment on column sessions.heard_before_until is 'Of the time before its last absence in which it was heard: until when.';
update sessions set heard_at = caught_up_at;

create or replace view presences as
select s.cluster_id, s.hub_id,
       s.ended_at is null and coalesce(h.lives_until > now(), false) as is_connected,
       s.ended_at is null and s.caught_up_at is not null and coalesce(h.lives_until > now(), false) as is_heard,
       coalesce(s.away_since, s.ended_at, s.caught_up_at, s.since) as since,
       case
         when s.ended_at is null and s.away_since is null and h.lives_until <= now()
         then least(now() - h.heartbeat_at, now() - s.since)
       end as silent_for,
       s.ended_at is null and s.rivalry ->> 'contested_at' is not null as is_contested,
       case
         when s.ended_at is null and s.caught_up_at is not null and h.lives_until > now() then s.heard_before_from
         else s.heard_at
       end as heard_from,
       case
         when s.ended_at is null and s.caught_up_at is not null and h.lives_until > now() then s.heard_before_until
       end as heard_until
  from sessions s
  left join hubs h using (hub_id);
comment on column presences.heard_from is 'Of the last time in which it was heard and that is over: since when; null: there was none.';
comment on column presences.heard_until is 'Until when that was, of one that is heard again; null: it is not, and was until `since`.';

-- In which states a member is decided about is said once: core::rollout::MemberState::is_unsettled.
alter table rollout_clusters
    add column is_unsettled boolean not null
        generated always as (state in ('waiting', 'assigned', 'applied', 'offline')) stored;
comment on column rollout_clusters.is_unsettled is 'core::rollout::MemberState::is_unsettled of its state.';
drop index rollout_clusters_open_idx;
drop index rollout_clusters_unsettled_idx;
create index rollout_clusters_open_idx on rollout_clusters (cluster_id, rollout_id) where is_unsettled;
create index rollout_clusters_unsettled_idx on rollout_clusters (rollout_id) where is_unsettled;

-- Members of rollouts that are history: nothing is decided about them.
update rollout_clusters m
   set overtaken = true, state = 'skipped', reason = 'a later rollout goes on with it'
  from rollouts o
  join target_states s using (target_id)
 where o.rollout_id = m.rollout_id and o.state = 'done' and o.rollout_id < s.current_from
   and m.state in ('waiting', 'assigned', 'applied', 'offline') and not m.overtaken;

-- Specs are compared by what they mean, so that a version that knows one field more finds the same.
alter table wanted_renders
    add column spec jsonb,
    add column spec_version bigint;
comment on column wanted_renders.spec is 'The spec that was rendered: core::target::TargetSpec.';
comment on column wanted_renders.spec_version is 'The version of that; another one than target_version: an earlier version of the hub has written since, and `recipe` says what it was.';
