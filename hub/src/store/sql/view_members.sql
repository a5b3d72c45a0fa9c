-- Of each wave: the first member that failed, the first in flight, and of an open one the first that waits and is there.
select distinct on (m.rollout_id, m.wave, 4)
       m.rollout_id as "rollout_id!", m.wave as "wave!", m.cluster_id as "cluster_id!",
       case m.state when 'failed' then 'failed' when 'waiting' then 'waiting' else 'in_flight' end as "group!",
       m.digest as "digest!", m.state as "state!", m.reason as "reason!", c.name as "cluster!",
       coalesce(p.is_heard, false) as "connected!",
       coalesce(p.since, c.created_at) as "since!"
  from rollout_clusters m
  join rollout_waves w using (rollout_id, wave)
  join clusters c using (cluster_id)
  left join presences p using (cluster_id)
 where m.rollout_id = any($1)
   and (m.state in ('failed', 'assigned', 'applied') or (m.state = 'waiting' and w.state in ('open', 'soaking') and p.is_heard))
 order by m.rollout_id, m.wave, 4, m.position
