select w.rollout_id, w.name, w.state, w.concurrent_max, w.healthy_min, w.soak_ms, w.opened_at, w.soak_from, w.soak_until, w.soak_left_ms,
       count(m.cluster_id) filter (where not m.overtaken) as "members!",
       count(m.cluster_id) filter (where m.overtaken) as "overtaken!",
       count(*) filter (where m.state = 'waiting' and not m.overtaken) as "waiting!",
       count(*) filter (where m.state in ('assigned', 'applied') and not m.overtaken) as "in_flight!",
       count(*) filter (where m.state = 'healthy' and not m.overtaken) as "healthy!",
       count(*) filter (where m.state = 'failed' and not m.overtaken) as "failed!",
       count(*) filter (where m.state = 'offline' and not m.overtaken) as "offline!",
       count(*) filter (where m.state = 'skipped' and not m.overtaken) as "skipped!",
       count(*) filter (where m.state = 'rolled_back' and not m.overtaken) as "rolled_back!",
       count(*) filter (
           where m.state = 'healthy' and not m.overtaken
             and not coalesce(p.is_heard, false)
       ) as "silent!",
       max(gone.heard_from) as heard_from,
       min(gone.heard_until) as heard_until,
       count(*) filter (
           -- core::rollout::Member::is_returnable.
           where m.assigned_at is not null and m.digest_before is not null and not m.overtaken
             and (not m.is_returning or m.generation is null)
       ) as "returnable!",
       count(*) filter (
           where m.assigned_at is not null and m.digest_before is null and not m.overtaken
       ) as "first_installs!"
  from rollout_waves w
  left join rollout_clusters m using (rollout_id, wave)
  left join presences p on p.cluster_id = m.cluster_id and m.state = 'healthy'
  -- The last time in which a healthy one was heard that went since the soak's clock runs: core::rollout::Wave::heard_for.
  left join lateral (
       select coalesce(p.heard_from, w.soak_from) as heard_from,
              case
                when p.heard_from is null then w.soak_from
                else coalesce(p.heard_until, now() - p.silent_for, p.since)
              end as heard_until
        where m.state = 'healthy' and not m.overtaken
          and (not coalesce(p.is_heard, false) or p.since > w.soak_from)
  ) gone on w.soak_from is not null
 where w.rollout_id = any($1)
 group by w.rollout_id, w.wave
 order by w.rollout_id, w.wave
