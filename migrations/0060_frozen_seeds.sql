-- What charts leave to chance, made once and kept.

create table frozen_seeds (
    target_id uuid not null references targets on delete cascade,
    generation text not null check (octet_length(generation) <= 63),
    sealed bytea not null,
    made_at timestamptz not null,
    primary key (target_id, generation)
);
comment on table frozen_seeds is 'What follows from it is all that a target''s chart would leave to chance, where the target says `volatile: freeze`. Written by the bundle stage, when it first renders such a target, and never changed: what was made of it would be another. Kept as long as the target, the newest hundred of each.';
comment on column frozen_seeds.target_id is 'Of which target.';
comment on column frozen_seeds.generation is 'The word of `render.helm.volatile.freeze`; empty: it says none.';
comment on column frozen_seeds.sealed is '32 random bytes, bound to `frozen/TARGET_ID/GENERATION`.';
comment on column frozen_seeds.made_at is 'When it was made, which the chart takes for the present.';
