select m.cluster_id, c.name as cluster_name, m.wave, m.digest, m.digest_before, m.state,
       m.generation, m.assigned_at, m.is_returning as returning, m.judged_from, m.failing_since, m.overtaken, m.reason,
       coalesce(p.is_heard, false) as "connected!",
       coalesce($5::timestamptz - p.silent_for, p.since, c.created_at) as "since!",
       p.heard_from as "heard_from?", p.heard_until as "heard_until?",
       r.generation as "report_generation?",
       r.digest as "report_digest?",
       r.applied as "report_applied?",
       r.verdict as "report_verdict?",
       -- Why, and what a person can do.
       concat_ws('; ', r.lines -> 0 ->> 'message', r.lines -> 0 ->> 'hint') as report_message,
       -- Of a failure only: whether it may pass.
       case when r.verdict = 'failed' then r.lines end as "report_lines: Stored<Vec<ObjectLine>>",
       r.suspended as "report_suspended: Stored<Suspended>",
       r.reported_at as "reported_at?"
  from rollout_clusters m
  join clusters c using (cluster_id)
  join rollouts o using (rollout_id)
  left join presences p using (cluster_id)
  left join reports r on r.cluster_id = m.cluster_id and r.target_id = o.target_id
 where m.rollout_id = $1
   -- core::rollout::MemberScope, when there is one.
   and ($2::int is null
        or (not m.overtaken
            and (m.state in ('assigned', 'applied', 'offline', 'failed')
                 or (m.state = 'waiting' and m.wave <= $2)
                 or (m.state = 'healthy' and m.wave = $2)
                 or ($3::bool and m.assigned_at is not null and m.digest_before is not null
                    and (not m.is_returning or m.generation is null))))
        or m.cluster_id = any($4::uuid[]))
 order by m.wave, m.position
