-- Which hub is at which render: what a hub left behind that ended tells of a death, and what a hub that lives wrote does not.

create table render_begins (
    target_id uuid not null references targets on delete cascade,
    hub_id uuid not null,
    revision_id uuid not null,
    target_version bigint not null,
    begun_at timestamptz not null,
    primary key (target_id, hub_id)
);
comment on table render_begins is 'Renders that were begun and have not ended. Written by the bundle stage only; a row whose hub is gone says that it ended in the middle of it.';
comment on column render_begins.target_id is 'Of which target.';
comment on column render_begins.hub_id is 'By which hub; it may be gone, and its row in hubs too.';
comment on column render_begins.revision_id is 'Of which revision; it may be swept.';
comment on column render_begins.target_version is 'And with which version of the spec.';
comment on column render_begins.begun_at is 'When.';

-- A render is known by what it read: not by its folder alone.
alter table renders rename column tree to inputs_digest;
alter table renders add column inputs text[] not null default '{}';
comment on column renders.inputs is 'Files and folders of the commit that it came from, those that it looked for and did not find included. A commit that leaves them as they are does not concern the target. Empty: not known, as it was made before this was kept.';
comment on column renders.inputs_digest is 'SHA-256 of their paths, kinds and ids in Git: an equal one, with an equal spec, renders the same.';

alter table render_tries
    drop column inputs,
    drop column revision_id,
    drop column target_version,
    drop column tries,
    drop column tried_at;
comment on table render_tries is 'One row for each target whose renders stored something lately. Written by the bundle stage only; goes with its target.';
