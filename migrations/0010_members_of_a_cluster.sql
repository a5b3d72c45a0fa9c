-- Each stream that begins or ends asks which rollouts its cluster is in. Not built concurrently: no released version has
-- written to this table.

create index rollout_clusters_cluster_id_idx on rollout_clusters (cluster_id);
