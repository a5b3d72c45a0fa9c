-- A chart whose migration is a hook of upgrades alone runs none here, and nobody was told at the target.

alter table renders
    add column left_out_hooks jsonb not null default '[]';
comment on column renders.left_out_hooks is 'Hooks of Helm that are not applied, since their times are not those of a target: kind, name and times of each, at most 50. Empty also where it is not known, as it was made before this was kept.';
