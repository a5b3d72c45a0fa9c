//! Scenario scripts: what a target is given and what happens to it, in words, and what it does and says then.
//!
//! ```text
//! # what the script shows, in a sentence, and as many comments as are needed
//! assign 2: ConfigMap/a@1 Realm/ns/b@x a{00..99}   kind, namespace if it is not shop, name and content
//!        ; prunable ConfigMap/old ; drift warn ; prune never ; retried 2              options, all in one line
//!        ; replace immutable ; makes shop                           and its own namespace, which is made where it is absent
//! tombstone 2 delete             or orphan; other-tombstone is the other target's
//! ended, holds 2                 nobody asks about it again; the generation that the target has, or `nothing`
//! restart-as-learned 1: ConfigMap/a@1                            the same, and it knows what the one before said to its journal
//! bounded 2                      a target has so many steps under way at most
//! other 1: ConfigMap/b@1         what another target of the cluster is given
//! restart 1: ConfigMap/a@1 ; had Job/b@1 ended failed under 1     a new process, and what the one before applied
//!        ; before ConfigMap/c once prunable                       and what the target had before, and was to have only once
//! at 5s                          the time, since the start; all else takes none
//! do apply a, inspect-and-apply b                                 all steps that come next; `nothing`, `anything`
//! count 2..9                     how many steps came since the last count
//! they-do inspect b, they-answer b there v2                       the same of the other target; all its steps since the last they-do
//! answer a applied v3 healthy owning f:x ended failed fails 30s heals 30s yields busy drift modified
//! answer a as-found v2 ours note not-changed                      it is applied once, and there; `ours`: with our label
//! answer a kept | absent | exists WHOSE | gone | released | there v2 in ns uid 5 leaving finalizer x keep
//! answer a read without-label | of-other | left                   as it is found, without a label or with the other's, or as a target left it
//! answer all rejected WHY | forbidden WHY | stale WHY | no-namespace shop | namespace-not-made shop | unanswered after 40s | unasked
//! answer all conflict .f helm
//! answer a unchangeable spec.f uid 2 | unlabelled | keep | leaving finalizer x   the field is immutable; the uid of the new one
//!        never | then-forbidden                                   somebody says so of what is there; it was deleted, and the new one is refused
//! settle                         all is done and answered with `applied`, until nothing is left to do
//! see a v2 degraded saying x owning f:x ended failed listed 1s, see a v2 deleted, see a v2 job-running or job-complete
//! list ConfigMap 1s: a b         a list that began then
//! lost ConfigMap, watched ConfigMap, known ConfigMap 1s           its watch is broken, or well, or it has none: as of then
//! wake, wake at 40s, wake within 20s                              goes on to when there is something to do; `asleep`
//! report applied healthy passing gen3 total=2 ; a exists failed: words of its message or hint
//! quiet-report                   the same, without what may change with the next answer; `report nothing`
//! drifts a modified corrected 5s                                  those that are new; `nothing`
//! learned applied a, gone b                what the journal is to know that is new; `nothing`
//! journal stuck, journal writes   nothing that was learned is written down from now on; all of it is
//! repeat 100, until 60s          and indented lines after it
//! ```
//!
//! A step is `inspect-and-apply`, `apply`, `correct`, `check`, `inspect`, `delete`, `orphan` or `give`, and a name; `a@2` also says
//! which content, `was 1` which content of it was ours, `once` that it is only made where it is absent, `again` that one that failed
//! makes room for it, `twin x` which object may be the same one, and `making x` which namespace is made where it is absent.

mod words;
mod world;

use world::World;

use crate::scripts;

fn play(text: &str) {
    assert!(text.starts_with("# "), "the first line says what the script shows");
    let lines: Vec<_> = scripts::lines(text).collect();
    let mut world = World::default();
    let mut index = 0;
    while let Some(&(number, line)) = lines.get(index) {
        let indented: Vec<_> = lines[index + 1..].iter().take_while(|(_, line)| line.starts_with(' ')).collect();
        index += 1 + indented.len();
        let run = |world: &mut World| indented.iter().for_each(|(number, line)| step(world, *number, line.trim()));
        match line.split_once(' ') {
            Some(("repeat", times)) => (0..times.parse().expect("a number")).for_each(|_| run(&mut world)),
            Some(("until", time)) => {
                while world.now < words::time(time) {
                    run(&mut world);
                }
            }
            _ => step(&mut world, number, line),
        }
    }
}

fn step(world: &mut World, number: usize, line: &str) {
    scripts::step(number, line, |verb, rest| world.step(verb, rest));
}

scripts::scenarios! {
    play:
    a_claim_that_is_withdrawn_deletes_nothing_before_its_time,
    a_copy_that_carries_the_label_stays_and_is_told,
    a_correction_that_is_refused_is_a_failure_and_one_that_is_not_answered_is_tried_again,
    a_correction_without_an_answer_waits_for_no_phase,
    a_deletion_that_fails_is_tried_again_after_another_inspection,
    a_drift_that_cannot_be_put_right_stays_shown_until_it_is,
    a_failure_that_begins_after_the_assignment_counts_at_once,
    a_finalizer_is_waited_for_and_named_after_a_minute,
    a_gift_that_is_refused_is_tried_again,
    a_hook_of_a_kind_that_may_run_is_not_made_again_for_another_one,
    a_hook_of_an_installation_alone_does_not_run_again_with_a_later_bundle,
    a_hook_of_an_installation_that_failed_runs_with_the_bundle_that_mends_it,
    a_hook_of_upgrades_runs_though_what_the_target_got_first_is_unwell,
    a_hook_of_upgrades_runs_when_the_target_gets_another_bundle_and_not_at_the_first_installation,
    a_hook_of_upgrades_that_failed_holds_up_no_way_back_to_what_was_installed,
    a_hook_of_upgrades_waits_until_all_that_the_target_got_first_is_applied,
    a_hook_that_cannot_be_deleted_is_well_all_the_same_and_the_line_says_why_it_stays,
    a_hook_that_changes_while_its_deletion_is_on_its_way_is_applied_after_the_answer,
    a_hook_that_ended_while_no_agent_ran_is_known_to_have_ended_so_when_it_is_gone,
    a_hook_that_failed_is_deleted_as_it_asks_and_why_it_failed_stays_known,
    a_hook_that_failed_runs_again_with_another_bundle,
    a_hook_that_has_run_is_deleted_as_it_asks_and_missed_by_nobody,
    a_hook_that_has_run_stays_until_that_is_written_down,
    a_job_that_failed_stays_failed_when_it_is_gone,
    a_job_that_ran_to_its_end_is_not_missed,
    a_job_that_somebody_deletes_is_made_again,
    a_job_that_went_while_nobody_looked_is_not_run_again,
    a_later_phase_waits_for_a_job_to_end,
    a_later_phase_waits_for_the_health_of_the_one_before,
    a_list_is_believed_though_its_versions_are_lower_than_those_seen_before,
    a_missing_namespace_is_tried_again_until_it_is_there,
    a_new_process_asks_about_what_was_applied_and_applies_the_rest,
    a_newer_assignment_drops_the_waits_of_the_old_one_at_once,
    a_prune_after_the_apply_waits_for_the_apply,
    a_question_that_finds_nothing_changed_tells_nothing,
    a_retry_holds_for_a_failed_job_that_still_stands_until_it_is_deleted,
    a_retry_runs_a_failed_hook_again_that_asks_to_be_deleted_before_that,
    a_success_forgets_the_failures_before_it,
    a_target_that_ignores_drift_asks_nothing,
    a_target_that_never_prunes_gives_what_another_one_wants,
    a_target_that_warns_leaves_it_and_says_so_until_the_next_assignment,
    a_targets_own_namespace_is_made_unless_its_bundle_has_it,
    a_tombstone_deletes_in_reverse_and_then_has_nothing_left,
    a_tombstone_ends_though_it_may_not_let_go,
    a_tombstone_lets_go_of_what_it_leaves,
    a_tombstone_that_ended_is_forgotten_and_a_target_that_runs_is_not,
    after_a_request_whose_end_is_unknown_the_object_is_sent_again,
    after_a_restart_later_phases_are_healed_though_an_earlier_one_is_unwell,
    an_earlier_process_may_have_applied_what_it_was_given_last,
    an_edit_is_put_right_at_once_and_told_without_a_change_of_health,
    an_inspection_that_an_older_plan_began_deletes_nothing,
    an_object_never_has_two_requests_on_their_way,
    an_object_of_another_namespace_is_another_object,
    an_object_of_somebody_else_is_left_alone_and_stalls,
    an_object_that_is_wanted_in_another_spelling_is_not_deleted_and_still_followed,
    an_object_that_somebody_deletes_is_no_longer_healthy_and_is_sent_next_time,
    an_object_whose_manifest_gets_a_namespace_is_not_deleted,
    an_object_whose_namespace_leaves_the_manifest_is_not_deleted,
    an_old_failure_of_what_an_assignment_does_not_change_is_no_failure_of_it,
    an_old_failure_that_changes_its_words_is_still_an_old_one,
    an_orphaned_object_loses_our_label_and_is_no_longer_ours,
    an_unwell_object_that_cannot_be_watched_is_told_again_when_it_changes,
    corrections_that_lack_the_same_are_tried_once_for_all,
    custom_resources_are_waited_for_without_limit_while_a_finalizer_holds_them,
    definitions_namespaces_and_volumes_stay_and_the_line_says_so,
    events_do_not_hurry_what_fails,
    going_back_while_the_new_one_is_on_its_way_sends_the_old_one_again,
    health_from_before_our_write_is_not_believed,
    health_that_is_seen_before_the_answer_to_our_write_is_not_lost,
    hooks_before_an_installation_are_waited_for_and_those_after_it_wait_for_all,
    hooks_of_upgrades_whose_names_change_run_with_each_bundle_but_the_one_that_was_installed,
    many_that_are_being_deleted_share_a_pace,
    nothing_at_all_is_pruned_when_something_left_that_is_in_no_plan,
    objects_that_may_be_one_are_sent_with_each_other_s_name,
    of_many_objects_in_a_missing_namespace_one_is_tried_and_all_follow,
    of_many_objects_in_a_namespace_that_may_not_be_made_one_is_tried,
    of_many_that_refuse_a_prune_one_is_looked_at,
    one_bad_object_does_not_hold_up_the_others_of_its_phase,
    prune_after_apply_waits_for_no_health_and_never_is_never,
    questions_and_applies_take_turns,
    refused_corrections_hold_up_no_apply,
    the_first_report_comes_at_once_and_says_progressing,
    the_line_of_what_was_kept_goes_with_it,
    the_server_is_not_asked_again_before_the_time_it_says,
    the_time_that_the_server_asks_for_holds_for_events_too,
    under_the_name_of_what_is_gone_is_inspected_before_anything_is_applied,
    what_a_refused_prune_holds_is_given_to_who_wants_it_later,
    what_an_older_assignment_sent_counts_when_it_is_what_the_newer_one_wants,
    what_another_target_has_now_is_left,
    what_another_target_wants_in_another_spelling_is_left_once_its_scope_is_known,
    what_asks_to_be_kept_is_never_deleted_and_the_line_says_so,
    what_cannot_be_inspected_for_long_is_not_known_to_be_healthy,
    what_cannot_be_watched_is_known_as_of_its_last_list,
    what_cannot_change_is_replaced_where_that_is_asked_for_and_the_line_says_so,
    what_cannot_change_stays_where_nobody_asks_for_more_and_the_hint_names_the_option,
    what_comes_back_while_it_is_being_deleted_is_applied_after_the_answer,
    what_could_not_be_sent_is_no_failure_of_an_object,
    what_did_not_change_is_not_sent,
    what_drifted_while_it_was_ignored_is_asked_about_when_it_no_longer_is,
    what_git_has_kept_or_somebody_declines_in_the_cluster_is_not_replaced,
    what_hangs_in_a_target_leaves_room_for_others,
    what_hooks_need_goes_when_all_is_well_and_comes_back_with_the_next_one_that_runs,
    what_is_applied_once_is_in_place_as_it_is_found_and_the_line_says_so,
    what_is_deleted_is_made_again,
    what_is_given_to_who_wants_it_no_more_goes_with_that,
    what_is_immutable_is_applied_once_the_old_one_is_gone,
    what_is_left_drifted_holds_up_later_phases_and_a_prune,
    what_is_left_to_an_autoscaler_is_said_and_asked_about_again,
    what_is_missing_in_a_list_went_away_unseen,
    what_is_new_is_inspected_before_it_is_applied_and_what_we_own_is_not,
    what_is_not_ours_or_is_to_be_kept_or_holds_data_is_not_replaced,
    what_is_not_there_does_not_refuse_a_prune,
    what_is_not_there_or_not_ours_needs_no_plan,
    what_is_put_right_again_and_again_holds_up_a_prune,
    what_is_put_right_again_and_again_is_told_though_nothing_else_happens,
    what_is_replaced_and_held_is_waited_for_and_made_when_it_is_gone,
    what_is_to_be_applied_once_later_is_left_though_the_cluster_does_not_say_so,
    what_left_and_goes_unseen_is_made_again_by_a_revert,
    what_left_is_deleted_when_the_new_objects_are_healthy_and_not_before,
    what_lost_our_label_stays_at_a_prune_and_the_line_says_so,
    what_lost_the_label_of_a_living_target_is_not_left_by_it,
    what_no_longer_asks_to_be_kept_goes,
    what_refused_a_prune_is_looked_for_again,
    what_refuses_a_prune_and_goes_is_looked_at,
    what_runs_once_runs_again_where_a_person_asks_for_it,
    what_says_nothing_is_healthy_after_a_while_and_the_next_phase_opens,
    what_seems_to_be_the_manifests_own_fault_is_tried_again_rarely,
    what_stayed_is_given_to_who_wants_it_later,
    what_takes_too_long_fails_without_anything_being_seen,
    what_waits_for_its_phase_is_kept_as_it_is,
    what_waits_for_its_stage_is_given_to_who_wants_it_later,
    what_waits_to_be_applied_once_is_not_put_right,
    what_was_deleted_to_be_replaced_and_is_refused_then_is_degraded_at_once_until_it_is_made,
    what_was_deleted_to_be_replaced_is_made_by_the_next_process,
    what_was_given_away_and_forgotten_is_not_taken_back,
    what_was_put_right_often_is_well_while_it_is_only_to_be_asked_about_later,
    what_was_refused_as_a_whole_is_no_installation,
    what_was_replaced_and_given_back_is_no_longer_drifted,
    what_was_taken_is_applied_within_seconds_of_its_being_free_however_long_it_was_taken,
    when_all_is_applied_the_next_report_says_so_and_then_there_is_silence,
    when_another_object_has_the_name_by_now_it_is_inspected_next_time,
    while_a_watch_is_broken_no_gate_opens,
    while_a_watch_is_broken_nothing_is_known_to_be_healthy,
    who_changes_it_again_and_again_is_named,
    who_waits_for_a_webhook_that_waits_for_it_goes_on_once_the_webhook_is_moved,
}

#[test]
fn every_script_is_played() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reconcile/scenarios");
    let source = include_str!("scenarios.rs");
    let entries = std::fs::read_dir(folder).expect("the folder of the scripts");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    for name in names.filter(|name| !name.ends_with(".rs")) {
        let name = name.strip_suffix(".txt").expect("a script");
        assert!(source.contains(&format!("    {name},\n")), "{name} is not played");
    }
}
