//! Scenario scripts: what happens to a small fleet, in words, and what is expected after it.
//!
//! ```text
//! # a title, and as many comments as are needed
//! clusters  c1=canary e1=eu e2!=eu        name=ring, `!`: away from the start
//! ran       rev-a                         what all ran before; `none`: nothing
//! strategy  canary soak 10m, then eu 50% min 2, then all; soak 5m; budget 1; deadline 1h; on-failure rollback; offline wait
//! start     rev-b
//! report    c1 e1 rev-b healthy a message   also `applying`; a report about what the cluster was last given of rev-b
//! stale     c1 rev-b healthy                the same about a generation before that
//! away c1   back c1   restart   tick 10m   join e3=eu   overtake c1
//! blink 5s c1                               it is away for so long, and back before anything is decided
//! down 12m c1                               no hub hears anybody for so long; c1 is heard again before anything is decided
//! pause why   resume   abort   promote why   skip c1   retry c1
//! expect    paused at canary: c1 failed rev-b; e1 rev-a
//! why       some words of the explanation
//! refused   some words of the last refusal
//! ```

use super::rows::{Intent, MemberState, RolloutState, WaveState};
use super::simulator::World;
use super::{Amount, Decision, HumanDuration, Strategy, WaveSpec, why};
use crate::report::Verdict;
use crate::scripts;
use crate::{ClusterId, Digest, Generation, LabelSelector, Labels};

struct Script {
    world: World,
    runs: Option<Digest>,
    digest: Digest,
}

fn digest(revision: &str) -> Digest {
    Digest::of(revision.as_bytes())
}

fn ring(name: &str) -> Labels {
    [("ring".to_owned(), name.to_owned())].into()
}

fn duration(text: &str) -> HumanDuration {
    text.parse().expect("a length of time")
}

fn amount(text: &str) -> Amount {
    serde_json::from_value(text.into()).expect("an amount")
}

fn strategy(text: &str) -> Strategy {
    let mut parts = text.split(';').map(str::trim);
    let waves = parts.next().unwrap_or_default();
    let mut strategy = Strategy { waves: waves.split(", then ").map(wave).collect(), ..Strategy::default() };
    for part in parts {
        let (word, value) = part.split_once(' ').expect("a setting and its value");
        match word {
            "soak" => strategy.waves.iter_mut().for_each(|wave| wave.soak = duration(value)),
            "budget" => strategy.failure_budget = amount(value),
            "deadline" => strategy.deadline = duration(value),
            "on-failure" => strategy.on_failure = serde_json::from_value(value.into()).expect("what to do"),
            "offline" => strategy.offline = serde_json::from_value(value.into()).expect("a policy"),
            other => panic!("`{other}` is not a setting"),
        }
    }
    strategy.check().expect("a strategy that is accepted");
    strategy
}

fn wave(text: &str) -> WaveSpec {
    let mut words = text.split_whitespace();
    let name = words.next().expect("a wave's name");
    let mut wave = WaveSpec::named(name.parse().expect("a name"));
    if name != "all" {
        wave.clusters = Some(LabelSelector { match_labels: ring(name), ..LabelSelector::default() });
    }
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("a value");
        match word {
            "soak" => wave.soak = duration(value()),
            "min" => wave.min_healthy = amount(value()),
            "count" => (wave.clusters, wave.count) = (None, value().parse().ok()),
            concurrent => wave.max_concurrent = amount(concurrent),
        }
    }
    wave
}

impl Script {
    fn id(&self, name: &str) -> ClusterId {
        let cluster = self.world.clusters.iter().find(|cluster| cluster.name == name);
        cluster.unwrap_or_else(|| panic!("no cluster `{name}`")).id
    }

    fn add(&mut self, text: &str) -> u32 {
        let (name, ring_name) = text.split_once('=').expect("name=ring");
        let is_connected = !name.ends_with('!');
        self.world.add_cluster(name.trim_end_matches('!'), ring(ring_name), is_connected, self.runs);
        let wave = self.world.waves.iter().position(|wave| wave.name == ring_name);
        u32::try_from(wave.unwrap_or_default()).expect("a small number")
    }

    fn step(&mut self, word: &str, rest: &str) {
        let named = |script: &Self| script.id(rest.trim());
        match word {
            "clusters" => {
                for text in rest.split_whitespace() {
                    self.add(text);
                }
            }
            "ran" => self.runs = (rest != "none").then(|| digest(rest)),
            "strategy" => self.world.strategy = strategy(rest),
            "start" => {
                self.digest = digest(rest);
                self.world.start(self.digest);
            }
            "report" => self.report(rest, 0),
            "stale" => self.report(rest, 1),
            "away" | "back" => {
                rest.split_whitespace().for_each(|name| self.world.connect(self.id(name), word == "back"));
            }
            "restart" => self.world.restart_hub(),
            "down" => {
                let (length, back) = rest.split_once(' ').unwrap_or((rest, ""));
                let back: Vec<_> = back.split_whitespace().map(|name| self.id(name)).collect();
                self.world.pass_unseen(duration(length).duration(), &back);
            }
            "blink" => {
                let (length, name) = rest.split_once(' ').expect("a length and a cluster");
                self.world.blink(self.id(name), duration(length).duration());
                self.world.reconcile();
            }
            "overtake" => self.world.overtake(named(self)),
            "tick" => self.world.tick(duration(rest).duration()),
            "join" => {
                let wave = self.add(rest);
                self.world.join(wave, self.digest);
            }
            "pause" => self.world.ask(Intent::Pause, rest),
            "resume" => self.world.ask(Intent::Resume, rest),
            "abort" => self.world.ask(Intent::Abort, rest),
            "promote" => self.world.ask(Intent::Promote, rest),
            "skip" => self.world.ask(Intent::Skip { cluster: named(self) }, ""),
            "retry" => self.world.ask(Intent::Retry { cluster: named(self) }, ""),
            "expect" => self.expect(rest),
            "why" => {
                let why = why(&self.world.rollout(None), self.world.now);
                assert!(why.contains(rest), "`{rest}` is not in `{why}`");
            }
            "refused" => {
                let refusal = self.world.log.iter().rev().find_map(|decision| match decision {
                    Decision::Answer { refused } => Some(refused.clone().unwrap_or_default()),
                    _ => None,
                });
                let refusal = refusal.unwrap_or_default();
                assert!(!refusal.is_empty() && refusal.contains(rest), "`{rest}` is not in `{refusal}`");
            }
            other => panic!("`{other}` is not a step"),
        }
    }

    fn report(&mut self, text: &str, generations_before: i64) {
        let mut words = text.split_whitespace();
        let names: Vec<&str> = words.by_ref().take_while(|word| !word.starts_with("rev-")).collect();
        let about = text.split_whitespace().find(|word| word.starts_with("rev-")).expect("a revision");
        let verdict = words.next().expect("a verdict");
        let message = words.collect::<Vec<_>>().join(" ");
        let (applied, verdict) = match verdict {
            "applying" => (false, Verdict::Progressing),
            word => (true, word.parse().expect("a verdict")),
        };
        for name in names {
            let id = self.id(name);
            let (generation, _) = self.world.cluster(id).assignment.expect("an assignment to report about");
            let generation = Generation::new(generation.get() - generations_before);
            self.world.report(id, (generation, digest(about)), applied, verdict, &message);
        }
    }

    fn expect(&self, text: &str) {
        let (head, members) = text.split_once(':').unwrap_or((text, ""));
        assert_eq!(self.head(head.contains(" at ")), head.trim(), "{}", self.transcript());
        for item in members.split(';').map(str::trim).filter(|item| !item.is_empty()) {
            let mut words = item.split_whitespace();
            let name = words.next().expect("a cluster's name");
            for word in words {
                assert!(self.is_so(name, word), "{name} is not {word}\n{}", self.transcript());
            }
        }
    }

    fn head(&self, with_wave: bool) -> String {
        let rollout = self.world.rollout(None);
        let open = rollout.open_wave().map(|(_, wave)| wave);
        let is_held = rollout.state == RolloutState::Rolling && open.is_some_and(super::rows::Wave::holds);
        let state = if is_held { "held".to_owned() } else { snake(rollout.state) };
        match open {
            Some(wave) if with_wave && wave.state == WaveState::Soaking => format!("{state} at {} soaking", wave.name),
            Some(wave) if with_wave => format!("{state} at {}", wave.name),
            _ => state,
        }
    }

    /// A word is a member's state, the revision that it was given last, or the verdict that it reported last.
    fn is_so(&self, name: &str, word: &str) -> bool {
        let cluster = self.world.cluster(self.id(name));
        let member = self.world.members.iter().find(|member| member.cluster == cluster.id);
        if word.starts_with("rev-") {
            return cluster.assignment.is_some_and(|(_, assigned)| assigned == digest(word));
        }
        member.is_some_and(|member: &super::Member| snake_member(member.state) == word)
            || cluster.evidence.as_ref().is_some_and(|evidence| evidence.verdict.as_str() == word)
    }

    fn transcript(&self) -> String {
        let world = &self.world;
        format!("{}\n{:#?}\n{:#?}", why(&world.rollout(None), world.now), world.log, world.members)
    }
}

fn snake(state: RolloutState) -> String {
    serde_json::to_value(state).expect("JSON").as_str().expect("a word").to_owned()
}

fn snake_member(state: MemberState) -> String {
    serde_json::to_value(state).expect("JSON").as_str().expect("a word").to_owned()
}

fn play(text: &str) {
    let start = Digest::of(b"rev-a");
    let mut script = Script { world: World::new(Strategy::default()), runs: Some(start), digest: start };
    for (number, line) in scripts::lines(text) {
        scripts::step(number, line, |word, rest| script.step(word, rest));
    }
    assert!(script.world.violations.is_empty(), "{:#?}", script.world.violations);
}

scripts::scenarios! {
    play:
    a_clean_rollout_goes_wave_by_wave,
    a_degraded_canary_holds_the_next_wave,
    a_failed_canary_pauses_before_the_next_wave,
    a_failure_within_the_budget_does_not_stop,
    a_failing_wave_rolls_everything_back,
    a_first_install_that_fails_is_kept_and_pauses,
    a_member_that_degrades_restarts_the_soak,
    a_member_that_stays_degraded_fails_by_the_deadline_of_its_relapse,
    a_named_wave_without_clusters_holds_until_promoted,
    a_paused_rollout_assigns_nothing_and_passes_nothing,
    a_restarted_hub_calls_nobody_offline_and_nobody_late,
    a_retried_cluster_goes_on_after_the_pause,
    a_returning_cluster_catches_up_after_its_wave,
    a_short_absence_at_the_deadline_does_not_fail,
    a_silent_member_holds_a_wave_without_a_soak,
    a_blink_that_nobody_saw_costs_a_soak_no_more_than_its_own_time,
    a_silent_member_stops_the_soak_clock,
    a_wave_of_offline_clusters_holds_until_one_answers,
    an_aborted_rollout_touches_nothing_more,
    at_most_so_many_are_in_flight,
    catching_up_stops_when_the_budget_is_spent,
    what_went_through_past_failures_still_serves_who_comes_later,
    a_rollout_whose_clusters_others_took_over_is_superseded,
    a_cluster_that_another_rollout_took_over_counts_for_nothing,
    a_failure_that_another_rollout_took_over_is_none_here,
    a_hub_that_was_down_in_a_soak_soaks_for_the_rest,
    a_soak_goes_on_where_all_were_heard_last_though_nobody_saw_one_go,
    a_rollback_returns_also_who_is_away,
    a_resumed_rollback_policy_rolls_back,
    a_return_that_fails_is_said_so,
    nobody_passes_on_stale_evidence,
    offline_clusters_fail_when_told_so,
    offline_clusters_block_when_told_so,
    one_cluster_goes_first_where_nothing_is_written,
    a_skipped_cluster_blocks_nothing,
    a_suspended_cluster_holds_its_wave_and_never_fails,
    a_joiner_enters_its_wave,
    too_few_healthy_clusters_hold_a_wave,
    a_rejected_object_fails_at_once,
    a_failure_that_passes_fails_nothing,
    a_failure_that_lasts_fails_although_it_might_pass,
}

#[test]
fn every_script_is_played() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rollout/scenarios");
    let source = include_str!("scenarios.rs");
    let entries = std::fs::read_dir(folder).expect("the folder of the scripts");
    for entry in entries {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        let name = name.strip_suffix(".txt").expect("a script");
        assert!(source.contains(&format!("    {name},\n")), "{name} is not played");
    }
}
