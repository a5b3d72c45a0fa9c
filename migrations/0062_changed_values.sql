-- What others changed, by value.

alter table drift_events
    add column changed_values jsonb;
comment on column drift_events.changed_values is 'core::drift::ChangedValues, at most 16 and 4 KiB; of a Secret none. Null: an agent or a hub of before, which told paths only.';
comment on column drift_events.fields is 'Paths that differed, at most 20.';
