-- Whether a hub lives is a promise of its own, by Postgres' clock. What follows from it is said once, in a view.

alter table hubs
    add column lives_until timestamptz not null default '-infinity';
update hubs set lives_until = beat_at + interval '15 s';
comment on column hubs.beat_at is 'Its last heartbeat, by Postgres'' clock.';
comment on column hubs.lives_until is 'What its last heartbeat promised, by Postgres'' clock: a hub that is silent for longer holds no sessions.';

create view presences as
select s.cluster_id, s.hub_id,
       s.ended_at is null and coalesce(h.lives_until > now(), false) as is_connected,
       s.ended_at is null and s.caught_up_at is not null and coalesce(h.lives_until > now(), false) as is_heard,
       case
         when s.ended_at is not null then s.ended_at
         when h.lives_until > now() then coalesce(s.caught_up_at, s.since)
         else s.since
       end as since,
       case
         when s.ended_at is null and h.lives_until <= now() then least(now() - h.beat_at, now() - s.since)
       end as silent_for
  from sessions s
  left join hubs h using (hub_id);
comment on view presences is 'Of each cluster that has ever connected, whether it is there now, and since when it is there or away.';
comment on column presences.is_connected is 'A stream that has not ended, on a hub that lives.';
comment on column presences.is_heard is 'And what the agent had kept to itself while it was away has arrived: only then do rollouts count on it.';
comment on column presences.since is 'Of one whose hub died: since when it had been there.';
comment on column presences.silent_for is 'Of one whose hub died, and which left no end: since its last heartbeat, or since the stream began after it. A length, so that no two clocks are compared; null: not so.';

-- A cluster that is deleted leaves its certificates, so that every hub learns that they are refused now.
alter table certificates
    alter column cluster_id drop not null,
    drop constraint certificates_cluster_id_fkey,
    add constraint certificates_cluster_id_fkey foreign key (cluster_id) references clusters on delete set null;
comment on column certificates.cluster_id is 'Whose identity it carries; null: that cluster was deleted, and it is refused.';
create index certificates_refused_idx on certificates (not_after, serial) where revoked_at is not null or cluster_id is null;
create index certificates_not_after_idx on certificates (not_after);

-- Each stream that begins or ends asks for members that are not settled yet; most of the kept ones are.
create index rollout_clusters_open_idx on rollout_clusters (cluster_id, rollout_id)
    where state in ('waiting', 'offline', 'assigned', 'applied');
create index sessions_open_idx on sessions (hub_id) where ended_at is null;

-- Which objects a bundle names stands in its manifest only: each is read once in a while, by one hub.
alter table bundles
    add column marked_at timestamptz not null default now();
comment on column bundles.marked_at is 'When the objects that it names were last marked as used.';
create index bundles_marked_at_idx on bundles (marked_at);
