-- Which engine made a render: another version of Kustomize or Helm may make something else of the same files.

alter table renders
    add column engine text;
comment on column renders.engine is 'The versions of the render engine, of Helm and of Kustomize that made it. Null: none was asked, or not known, as it was made before this was kept.';
-- One commit and spec are rendered again by another engine, and by the one before when a hub is put back.
alter table renders drop constraint renders_once_key;
