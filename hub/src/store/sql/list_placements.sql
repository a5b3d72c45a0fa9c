select t.name as target, c.name as cluster, c.labels as "labels: Stored<Labels>",
       coalesce(p.is_connected, false) as "connected!",
       coalesce(p.is_heard, false) as "heard!",
       case when p.is_connected then s.since else coalesce($6::timestamptz - p.silent_for, p.since) end as since,
       v.commit_id as "commit_id?",
       a.digest, a.generation,
       r.applied as "applied?",
       r.verdict as "verdict?",
       r.total as "total?",
       r.in_place as "in_place?",
       r.healthy as "healthy?",
       r.lines as "lines?: Stored<Vec<ObjectLine>>",
       r.suspended as "suspended?: Stored<Suspended>",
       r.reported_at as "reported_at?"
  from assignments a
  join targets t using (target_id)
  join clusters c using (cluster_id)
  left join sessions s using (cluster_id)
  left join presences p using (cluster_id)
  left join renders n using (render_id)
  left join revisions v using (revision_id)
  -- What was said of an older generation is not said of this one.
  left join reports r
    on r.cluster_id = a.cluster_id and r.target_id = a.target_id
   and r.generation = a.generation and r.digest = a.digest
 where t.project_id = $7
   and ($1::uuid[] is null or a.target_id = any($1))
   and ($2::uuid is null or a.cluster_id = $2)
   and (t.name, c.name) > ($3::text, $4::text)
 order by t.name, c.name
 limit $5
