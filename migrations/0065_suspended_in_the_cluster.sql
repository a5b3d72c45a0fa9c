-- That somebody of a cluster has stopped what its agent does with a target.

alter table reports
    add column suspended jsonb;
comment on column reports.suspended is 'core::report::Suspended, at most 256 bytes of a text. Null: nobody has, or its agent is of before and does not tell.';
