select m.cluster_id, c.name as cluster_name, m.wave, m.position, w.state as wave_state, m.digest, m.digest_before, m.state,
       m.generation, m.assigned_at, m.is_returning as returning, m.judged_from, m.reason,
       p.connected as "connected!",
       p.since as "since!",
       r.generation as "report_generation?",
       r.digest as "report_digest?",
       r.applied as "report_applied?",
       r.verdict as "report_verdict?",
       r.lines -> 0 ->> 'message' as report_message,
       r.reported_at as "reported_at?"
  from rollout_clusters m
  join rollout_waves w using (rollout_id, wave)
  join clusters c using (cluster_id)
  join rollouts o using (rollout_id)
  left join sessions s using (cluster_id)
  left join hubs h using (hub_id)
  left join reports r on r.cluster_id = m.cluster_id and r.target_id = o.target_id
 cross join lateral (
       -- A stream counts once what the agent kept to itself while it was away has arrived.
       select s.ended_at is null and s.caught_up_at is not null
              and coalesce(h.beat_at > $8::timestamptz - interval '15 s', false) as connected,
              -- A hub that died left no end: its last beat was the last that anybody heard of its agents.
              case
                when s.cluster_id is null then c.created_at
                when s.ended_at is not null then s.ended_at
                when h.beat_at is null or h.beat_at <= $8::timestamptz - interval '15 s'
                then greatest(s.since, coalesce(h.beat_at, s.since))
                else coalesce(s.caught_up_at, s.since)
              end as since
       ) p
 where m.rollout_id = $1
   and (cardinality($2::text[]) = 0 or m.state = any($2))
   and ($3::int is null or m.wave = $3)
   and ($4::uuid is null or m.cluster_id = $4)
   and (not $5::bool or (m.assigned_at is not null and m.digest_before is not null and not m.is_returning))
   and (not $6::bool or p.connected)
   -- What a report, an absence or the clock may change.
   and (not $9::bool
        or m.state in ('assigned', 'applied', 'offline')
        or (m.state = 'healthy' and w.state in ('open', 'soaking'))
        or (m.state = 'waiting' and w.state in ('open', 'soaking', 'passed')))
   and ($10::int is null or (m.wave, m.position) > ($10, $11::int))
 order by case when $9 then true else p.connected end desc, m.wave, m.position
 limit $7
