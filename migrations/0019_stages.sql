-- Which stages there are stands in one table, in the hub's code: a new one needs no change of this constraint. A hub that
-- does not know a stage leaves its rows to those that do.
alter table work drop constraint work_stage_check;

-- A person's rollback is asked of a target, and of no rollout any more: what was asked and not answered is refused.
update intents
   set done_at = now(), outcome = 'a target is rolled back, not a rollout: bellwether rollout rollback TARGET'
 where done_at is null and rollout_id is not null and verb ->> 'verb' = 'rollback';
