select c.name, p.connected as "connected!", p.since as "since!"
  from assignments a
  join clusters c using (cluster_id)
  left join sessions s using (cluster_id)
  left join hubs h using (hub_id)
  left join reports r
    on r.cluster_id = a.cluster_id and r.target_id = a.target_id
   and r.generation = a.generation and r.digest = a.digest
 cross join lateral (
       select s.ended_at is null and coalesce(h.beat_at > $3::timestamptz - interval '15 s', false) as connected,
              -- A hub that died left no end: its last beat was the last that anybody heard of its agents.
              coalesce(s.ended_at, greatest(s.since, h.beat_at), c.created_at) as since
       ) p
 where a.target_id = $1
   and not coalesce(r.applied, false)
 -- Those that are waited for first.
 order by p.connected desc, p.since desc, c.name
 limit $2
