alter table assignments
    add column retried bigint;
comment on column assignments.retried is 'The generation under which a person asked to have it tried again there: what runs once may do so again. Null: nobody did since it was assigned.';
