-- What people write at a cluster that goes into what is rendered for it, and that nothing is chosen by.

alter table clusters add column annotations jsonb not null default '{}';
comment on column clusters.annotations is 'String to string, by people with the right to; what is rendered may read them, selectors and waves do not.';
