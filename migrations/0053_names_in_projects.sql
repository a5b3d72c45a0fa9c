-- Names of repos and targets are their project's: two projects may each have a `shop`. A cluster is lent to projects and
-- a token is good for the whole installation, so their names stay unique in all of it.
--
-- Expand. A hub of before finds repos and targets by name alone, which means the same for as long as there is one project,
-- and no hub makes a second one yet.
--
-- Left for later: a version that makes projects has to refuse a second one while a hub lives that finds by name alone.

-- contract: the rule over all projects gives way to the same rule within each; all rows are in one project, so whoever
-- relied on the one is held to the other.
alter table repos
    add constraint repos_project_name_key unique (project_id, name),
    drop constraint repos_name_key;
-- contract: the same.
alter table targets
    add constraint targets_project_name_key unique (project_id, name),
    drop constraint targets_name_key;
comment on column repos.name is 'A DNS label, unique in its project.';
comment on column targets.name is 'A DNS label, unique in its project.';

-- A page of a project's clusters, in the order of their names.
create index clusters_project_name_idx on clusters (project_id, name);
