-- What is kept, and what sweeping it needs. Not built concurrently: no released version has written to these tables.

comment on table revisions is 'Commits seen at refs, the newest last. Written by the source stage only. Kept 90 days, the last 10 of each ref, and those of kept renders.';
comment on table renders is 'What a target renders to at a revision. Written by the bundle stage only. Kept are the last 10 of each target and those that a rollout or an assignment names.';
comment on table bundles is 'Manifests by their SHA-256. Written by the bundle stage only. Kept 7 days, and while a render, a rollout or an assignment names them.';
comment on table objects is 'Rendered objects by SHA-256 of their canonical JSON. Written by the bundle stage only, which the sweep joins to mark those of kept bundles as used. Kept 7 days from then.';
comment on table rollouts is 'Written by the rollout stage only. Kept 90 days from their end, and the last 20 of each target.';

-- Deleting a row looks for those that name it.
create index renders_revision_id_idx on renders (revision_id);
create index render_variants_digest_idx on render_variants (digest);
create index rollouts_render_id_idx on rollouts (render_id);
create index rollouts_from_render_id_idx on rollouts (from_render_id);
create index rollout_clusters_digest_idx on rollout_clusters (digest);
create index rollout_clusters_digest_before_idx on rollout_clusters (digest_before);
create index assignments_digest_idx on assignments (digest);
