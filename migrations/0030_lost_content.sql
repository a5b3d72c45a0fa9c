-- What is remembered of content that is lost, and of rollouts that are history.

create table lost_content (
    target_id uuid primary key references targets on delete cascade,
    found_at timestamptz not null,
    tries integer not null default 0,
    again_at timestamptz not null,
    condition jsonb
);
comment on table lost_content is 'Targets of which a cluster is to run what is not stored any more. Written by the link stage when it finds that out, and by the bundle stage, which makes it anew and then deletes the row.';
comment on column lost_content.found_at is 'When it was found out.';
comment on column lost_content.tries is 'How often it could not be made anew.';
comment on column lost_content.again_at is 'When that is tried again, if nobody asks before.';
comment on column lost_content.condition is 'What the target says of it: core::api::Condition; null: it was not tried yet.';

-- Members of rollouts that ended and that a later one replaced: nothing is decided about them.
update rollout_clusters m
   set overtaken = true, state = 'skipped', reason = 'a later rollout goes on with it'
  from rollouts o
  join target_states s using (target_id)
 where o.rollout_id = m.rollout_id and o.ended_at is not null and o.rollout_id < s.current_from and m.is_unsettled;
