-- What a render came from, and whether it was begun and never ended.

create table render_tries (
    target_id uuid primary key references targets on delete cascade,
    inputs text[] not null default '{}',
    revision_id uuid,
    target_version bigint,
    tries integer not null default 0,
    tried_at timestamptz
);
comment on table render_tries is 'One row for each target that was rendered. Written by the bundle stage only; goes with its target.';
comment on column render_tries.target_id is 'Of which target.';
comment on column render_tries.inputs is 'Files and folders of the commit that the last render came from, those that it looked for and did not find included. A commit that leaves them as they are does not concern the target.';
comment on column render_tries.revision_id is 'What the last render was begun of; it may be swept.';
comment on column render_tries.target_version is 'And with which version of the spec.';
comment on column render_tries.tries is 'How often that was begun since one ended: more than one, and a hub ended in the middle of it.';
comment on column render_tries.tried_at is 'When it was last begun.';
