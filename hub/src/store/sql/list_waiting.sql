select c.name,
       coalesce(p.is_connected and not p.is_contested, false) as "connected!",
       coalesce($3::timestamptz - p.silent_for, p.since, c.created_at) as "since!"
  from assignments a
  join clusters c using (cluster_id)
  left join presences p using (cluster_id)
  left join reports r
    on r.cluster_id = a.cluster_id and r.target_id = a.target_id
   and r.generation = a.generation and r.digest = a.digest
 where a.target_id = $1
   and not coalesce(r.applied, false)
 -- Those that are waited for first.
 order by 2 desc, 3 desc, c.name
 limit $2
