select r.render_id, r.target_id, r.revision_id, r.target_version, r.inputs, r.inputs_digest, r.variables,
       array(select v.parameters from render_variants v where v.render_id = r.render_id order by v.parameters)
           as "parameters!",
       array(select v.digest from render_variants v where v.render_id = r.render_id order by v.parameters)
           as "digests!"
  from renders r
  join revisions x using (revision_id)
  join targets t using (target_id)
 where r.target_id = $1
   and (starts_with(x.commit_id, $2)
        or (x.ref = t.ref
            and r.revision_id <= (
                select n.revision_id
                  from revisions n
                 where n.repo_id = t.repo_id and n.ref = t.ref and starts_with(n.commit_id, $2)
                 order by n.revision_id desc
                 limit 1
            )))
 order by starts_with(x.commit_id, $2) desc, r.render_id desc
 limit 1
