select w.rollout_id, w.name, w.state, w.concurrent_max, w.healthy_min, w.soak_ms, w.opened_at, w.soak_until, w.soak_left_ms,
       count(m.cluster_id) as "members!",
       count(*) filter (where m.state = 'waiting') as "waiting!",
       count(*) filter (where m.state in ('assigned', 'applied')) as "in_flight!",
       count(*) filter (where m.state = 'healthy') as "healthy!",
       count(*) filter (where m.state = 'failed') as "failed!",
       count(*) filter (where m.state = 'offline') as "offline!",
       count(*) filter (where m.state = 'skipped') as "skipped!",
       count(*) filter (where m.state = 'rolled_back') as "rolled_back!",
       count(*) filter (
           where m.state = 'healthy'
             and not coalesce(p.is_heard, false)
       ) as "silent!",
       count(*) filter (
           where m.assigned_at is not null and m.digest_before is not null and not m.is_returning
       ) as "returnable!",
       count(*) filter (where m.assigned_at is not null and m.digest_before is null) as "first_installs!"
  from rollout_waves w
  left join rollout_clusters m using (rollout_id, wave)
  left join presences p using (cluster_id)
 where w.rollout_id = any($1)
 group by w.rollout_id, w.wave
 order by w.rollout_id, w.wave
