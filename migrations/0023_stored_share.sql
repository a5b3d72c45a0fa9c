-- What a target's renders wrote lately: a push right must not fill the database for all targets.

alter table render_tries
    add column stored_bytes bigint not null default 0,
    add column stored_since timestamptz;
comment on column render_tries.stored_bytes is 'Compressed bytes of objects that its renders added, within a day from then on.';
comment on column render_tries.stored_since is 'When that day began; null: nothing was added yet.';
