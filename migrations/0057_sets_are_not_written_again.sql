-- Whoever says what is stored already writes nothing: a fleet that says the same at once would wait for one row.

comment on column api_sets.seen_at is 'When an agent first brought it; hubs before 0057 also wrote each time after.';
comment on column definition_lists.seen_at is 'When an agent first brought it; hubs before 0057 also wrote each time after.';
