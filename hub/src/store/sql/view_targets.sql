select t.target_id as "target_id!",
       -- Of this snapshot: when nothing is pending, all that is read here or later is there.
       exists (
           select from work k
            where k.trace_id is not null and k.due_at <= $2
              and (k.stage = 'source' and k.key = t.repo_id or k.stage in ('bundle', 'rollout') and k.key = t.target_id)
       ) as "pending!",
       (select v.commit_id from revisions v
         where v.repo_id = t.repo_id and v.ref = t.ref
         order by v.revision_id desc limit 1) as "commit?",
       (select v.verified from revisions v
         where v.repo_id = t.repo_id and v.ref = t.ref
         order by v.revision_id desc limit 1) as "verified?: Json<Verified>",
       coalesce(s.held, false) as "held!",
       coalesce(f.condition, e.condition, s.condition, l.condition) as "condition?: Json<Condition>",
       w.target_version as "wanted_version?",
       r.variables as "variables?",
       r.sources as "sources?: Stored<Vec<ReadSource>>",
       r.left_out_hooks as "left_out_hooks?: Stored<Vec<LeftOutHook>>",
       array(select x.parameters from render_variants x where x.render_id = r.render_id order by x.parameters)
           as "parameters!",
       array(select x.digest from render_variants x where x.render_id = r.render_id order by x.parameters)
           as "digests!",
       n.clusters as "clusters!", n.in_place as "in_place!", n.healthy as "healthy!"
  from targets t
  left join target_states s using (target_id)
  left join ref_conditions f on f.repo_id = t.repo_id and f.ref = t.ref
  left join render_conditions e on e.target_id = t.target_id
  left join lost_content l on l.target_id = t.target_id
  left join wanted_renders w on w.target_id = t.target_id
  left join renders r on r.render_id = w.render_id
 cross join lateral (
       select count(*) as clusters,
              count(*) filter (where o.applied) as in_place,
              count(*) filter (where o.applied and o.verdict = 'healthy' and p.is_heard) as healthy
         from assignments a
         -- What was said of an older generation is not said of this one.
         left join reports o
           on o.cluster_id = a.cluster_id and o.target_id = a.target_id
          and o.generation = a.generation and o.digest = a.digest
         left join presences p on p.cluster_id = a.cluster_id
        where a.target_id = t.target_id
       ) n
 where t.target_id = any($1)
