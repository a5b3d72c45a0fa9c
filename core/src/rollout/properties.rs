//! Properties of whole runs: random fleets, strategies and events, with agents that lose, repeat and mix up reports.
//!
//! What must never happen is watched by the simulator at every decision; here runs are made, and their ends judged.

use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use super::rows::{Intent, MemberState, RolloutState, Wave, WaveState};
use super::simulator::World;
use super::{Amount, HumanDuration, Offline, OnFailure, Strategy, WaveSpec, waves, why};
use crate::report::Verdict;
use crate::{ClusterId, Digest, Generation, LabelSelector, Labels};

const RINGS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
struct Fleet {
    strategy: Strategy,
    /// Ring, whether it is connected, whether it ran something before.
    clusters: Vec<(usize, bool, bool)>,
}

#[derive(Debug, Clone)]
enum Event {
    /// What an agent says about what it was given last.
    Report {
        cluster: usize,
        applied: bool,
        verdict: Verdict,
    },
    /// All agents that are connected say that all is well.
    AllWell,
    /// A report from an earlier time, or about something else.
    Stale {
        cluster: usize,
        generations_before: i64,
        other_digest: bool,
        verdict: Verdict,
    },
    Connect {
        cluster: usize,
        is_connected: bool,
    },
    RestartHub,
    /// So often it goes away and comes back, after some time each, before anything is decided.
    Blink {
        cluster: usize,
        times: u8,
        seconds: i64,
    },
    /// The worker is late, and a cluster goes away meanwhile.
    Nap {
        seconds: i64,
        cluster: usize,
    },
    Tick {
        seconds: i64,
    },
    Ask {
        intent: Asking,
        cluster: usize,
        reason: bool,
    },
    Join {
        ring: usize,
    },
    Overtake {
        cluster: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum Asking {
    Pause,
    Resume,
    Abort,
    Skip,
    Retry,
    Promote,
}

fn amounts(least: u32) -> impl Generator<Value = Amount> {
    prop_oneof![(least..4).prop_map(Amount::Count), (least.max(1)..=100).prop_map(Amount::Percent)]
}

fn wave_specs() -> impl Generator<Value = WaveSpec> {
    let selection = prop_oneof![
        4 => (0..RINGS.len()).prop_map(|ring| (Some(ring), None, None)),
        1 => (1_u32..3).prop_map(|count| (None, Some(count), None)),
        1 => (1_u32..=60).prop_map(|percent| (None, None, Some(percent))),
    ];
    let soak = prop_oneof![Just(0_u32), 1_u32..300];
    let needed = prop_oneof![3 => Just(Amount::Count(1)), 1 => amounts(1)];
    (selection, amounts(1), soak, needed).prop_map(|((ring, count, percent), max_concurrent, soak, min_healthy)| {
        WaveSpec {
            clusters: ring.map(|ring| LabelSelector { match_labels: labels(ring), ..LabelSelector::default() }),
            count,
            percent,
            max_concurrent,
            soak: HumanDuration::from_secs(soak),
            min_healthy,
            ..WaveSpec::named("unnamed".parse().expect("a name"))
        }
    })
}

fn strategies() -> impl Generator<Value = Strategy> {
    let on_failure = prop_oneof![Just(OnFailure::Pause), Just(OnFailure::Rollback), Just(OnFailure::Continue)];
    let offline = prop_oneof![Just(Offline::Skip), Just(Offline::Wait), Just(Offline::Fail)];
    let waves = proptest::collection::vec(wave_specs(), 0..4);
    let deadline = (10_u32..900).prop_map(HumanDuration::from_secs);
    (waves, amounts(0), deadline, on_failure, offline).prop_map(
        |(mut waves, failure_budget, deadline, on_failure, offline)| {
            for (number, wave) in waves.iter_mut().enumerate() {
                wave.name = format!("w{number}").parse().expect("a name");
            }
            Strategy { waves, failure_budget, deadline, on_failure, offline }
        },
    )
}

fn fleets() -> impl Generator<Value = Fleet> {
    let cluster = (0..RINGS.len(), proptest::bool::weighted(0.85), proptest::bool::weighted(0.8));
    let clusters = proptest::collection::vec(cluster, 0..7);
    (strategies(), clusters).prop_map(|(strategy, clusters)| Fleet { strategy, clusters })
}

fn verdicts() -> impl Generator<Value = Verdict> {
    prop_oneof![
        6 => Just(Verdict::Healthy),
        2 => Just(Verdict::Progressing),
        2 => Just(Verdict::Degraded),
        1 => Just(Verdict::Failed),
        1 => Just(Verdict::Unknown),
    ]
}

fn askings() -> impl Generator<Value = Asking> {
    prop_oneof![
        2 => Just(Asking::Pause),
        4 => Just(Asking::Resume),
        1 => Just(Asking::Abort),
        3 => Just(Asking::Skip),
        4 => Just(Asking::Retry),
        2 => Just(Asking::Promote),
    ]
}

fn events() -> impl Generator<Value = Event> {
    prop_oneof![
        8 => (0..9_usize, proptest::bool::weighted(0.9), verdicts())
            .prop_map(|(cluster, applied, verdict)| Event::Report { cluster, applied, verdict }),
        3 => Just(Event::AllWell),
        4 => (0..9_usize, 0..3_i64, any::<bool>(), verdicts()).prop_map(
            |(cluster, generations_before, other_digest, verdict)| Event::Stale { cluster, generations_before, other_digest, verdict }
        ),
        3 => (0..9_usize, any::<bool>()).prop_map(|(cluster, is_connected)| Event::Connect { cluster, is_connected }),
        1 => Just(Event::RestartHub),
        2 => (0..9_usize, 1..3_u8, 1..90_i64)
            .prop_map(|(cluster, times, seconds)| Event::Blink { cluster, times, seconds }),
        2 => (1..400_i64, 0..9_usize).prop_map(|(seconds, cluster)| Event::Nap { seconds, cluster }),
        6 => prop_oneof![1..90_i64, 1..2_000_i64].prop_map(|seconds| Event::Tick { seconds }),
        2 => (askings(), 0..9_usize, any::<bool>()).prop_map(|(intent, cluster, reason)| Event::Ask { intent, cluster, reason }),
        1 => (0..RINGS.len()).prop_map(|ring| Event::Join { ring }),
        1 => (0..9_usize).prop_map(|cluster| Event::Overtake { cluster }),
    ]
}

fn labels(ring: usize) -> Labels {
    [("ring".to_owned(), RINGS[ring].to_owned())].into()
}

fn new_digest() -> Digest {
    Digest::of(b"new")
}

fn world(fleet: &Fleet) -> World {
    let mut world = World::new(fleet.strategy.clone());
    for (number, &(ring, is_connected, ran)) in fleet.clusters.iter().enumerate() {
        world.add_cluster(&format!("c{number}"), labels(ring), is_connected, ran.then(|| Digest::of(b"old")));
    }
    world.start(new_digest());
    world
}

fn play(world: &mut World, event: &Event) {
    let id_of = |world: &World, number: usize| -> Option<ClusterId> {
        let count = world.clusters.len();
        (count > 0).then(|| world.clusters[number % count].id)
    };
    match *event {
        Event::Report { cluster, applied, verdict } => {
            let Some(id) = id_of(world, cluster) else { return };
            report(world, id, applied, verdict);
        }
        Event::AllWell => all_well(world),
        Event::Stale { cluster, generations_before, other_digest, verdict } => {
            let Some(id) = id_of(world, cluster) else { return };
            let Some((generation, digest)) = world.cluster(id).assignment else { return };
            let generation = Generation::new(generation.get() - generations_before);
            let digest = if other_digest { Digest::of(b"other") } else { digest };
            world.report(id, (generation, digest), true, verdict, "old news");
        }
        Event::Connect { cluster, is_connected } => {
            let Some(id) = id_of(world, cluster) else { return };
            world.connect(id, is_connected);
        }
        Event::RestartHub => world.restart_hub(),
        Event::Blink { cluster, times, seconds } => {
            let Some(id) = id_of(world, cluster) else { return };
            for _ in 0..times {
                world.now = super::after(world.now, SignedDuration::from_secs(seconds));
                world.blink(id, SignedDuration::from_secs(seconds / 2 + 1));
            }
            world.reconcile();
        }
        Event::Nap { seconds, cluster } => {
            let left = id_of(world, cluster);
            world.nap(SignedDuration::from_secs(seconds), left.as_slice());
        }
        Event::Tick { seconds } => world.tick(SignedDuration::from_secs(seconds)),
        Event::Ask { intent, cluster, reason } => {
            let Some(cluster) = id_of(world, cluster) else { return };
            ask(world, intent, cluster, if reason { "because" } else { "" });
        }
        Event::Overtake { cluster } => {
            let is_decided = !world.state.is_over() || world.state == RolloutState::Done;
            if let Some(id) = id_of(world, cluster).filter(|_| is_decided) {
                world.overtake(id);
            }
        }
        Event::Join { ring } => {
            if world.clusters.len() < 9 && !world.waves.is_empty() && !world.state.is_over() {
                let number = world.clusters.len();
                world.add_cluster(&format!("c{number}"), labels(ring), true, None);
                let wave = u32::try_from(ring % world.waves.len()).expect("a small number");
                world.join(wave, new_digest());
            }
        }
    }
}

fn ask(world: &mut World, asking: Asking, cluster: ClusterId, reason: &str) {
    let intent = match asking {
        Asking::Pause => Intent::Pause,
        Asking::Resume => Intent::Resume,
        Asking::Abort => Intent::Abort,
        Asking::Skip => Intent::Skip { cluster },
        Asking::Retry => Intent::Retry { cluster },
        Asking::Promote => Intent::Promote,
    };
    world.ask(intent, reason);
}

/// An agent that is away says nothing.
fn report(world: &mut World, id: ClusterId, applied: bool, verdict: Verdict) {
    let cluster = world.cluster(id);
    let Some(about) = cluster.assignment.filter(|_| cluster.presence.is_connected()) else { return };
    world.report(id, about, applied, verdict, "a message");
}

fn all_well(world: &mut World) {
    let ids: Vec<_> = world.clusters.iter().map(|cluster| cluster.id).collect();
    for id in ids {
        report(world, id, true, Verdict::Healthy);
    }
}

/// Everybody comes back and is well, for as long as the longest strategy can take. Agents answer within 9 s, before the
/// shortest deadline.
fn settle_down(world: &mut World) {
    let ids: Vec<_> = world.clusters.iter().map(|cluster| cluster.id).collect();
    for id in ids {
        world.connect(id, true);
    }
    for _ in 0..400 {
        all_well(world);
        if ended_or_explained(world).is_ok() {
            break;
        }
        world.tick(SignedDuration::from_secs(9));
    }
}

/// It is over, or it is paused, or it holds for a reason that only a person can take away.
fn ended_or_explained(world: &World) -> Result<(), String> {
    let rollout = world.rollout(None);
    let explanation = why(&rollout, world.now);
    match (rollout.state, rollout.open_wave()) {
        (RolloutState::Rolling, Some((_, wave))) if wave.holds() => {
            let names_it = explanation.contains(&wave.name) && explanation.contains("holds");
            names_it.then_some(()).ok_or_else(|| format!("a hold without an explanation: {explanation}"))
        }
        (state, _) if state.is_over() || state == RolloutState::Paused => Ok(()),
        (state, _) => Err(format!("{state:?} and not over: {explanation}\n{:#?}", world.members)),
    }
}

fn never_wrong(world: &World) -> Result<(), TestCaseError> {
    prop_assert!(world.violations.is_empty(), "{:#?}\nlog: {:#?}", world.violations, world.log);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_cluster_is_in_exactly_one_wave(fleet in fleets()) {
        let candidates: Vec<_> = world(&fleet).clusters.iter().map(super::simulator::Cluster::candidate).collect();
        let mut planned: Vec<_> = waves(&candidates, &fleet.strategy).into_iter().flat_map(|wave| wave.members).collect();
        let mut all: Vec<_> = candidates.iter().map(|candidate| candidate.cluster).collect();
        planned.sort_unstable();
        all.sort_unstable();

        prop_assert_eq!(planned, all);
    }

    #[test]
    fn whatever_happens_nothing_forbidden_is_decided(fleet in fleets(), events in proptest::collection::vec(events(), 0..60)) {
        let mut world = world(&fleet);
        for event in &events {
            play(&mut world, event);
        }

        never_wrong(&world)?;
    }

    #[test]
    fn a_fleet_that_gets_well_ends_its_rollout_or_says_why_not(
        fleet in fleets(),
        events in proptest::collection::vec(events(), 0..30),
    ) {
        let mut world = world(&fleet);
        for event in &events {
            play(&mut world, event);
        }
        settle_down(&mut world);

        never_wrong(&world)?;
        prop_assert_eq!(ended_or_explained(&world), Ok(()));
    }

    #[test]
    fn a_fleet_that_falls_silent_leaves_nobody_in_flight(
        fleet in fleets(),
        events in proptest::collection::vec(events(), 0..30),
    ) {
        let mut world = world(&fleet);
        for event in &events {
            play(&mut world, event);
        }
        world.tick(SignedDuration::from_hours(240));

        never_wrong(&world)?;
        let is_judged = |state: RolloutState| !state.is_over() || state == RolloutState::Done;
        for member in world.members.iter().filter(|_| is_judged(world.state)) {
            let is_connected = world.cluster(member.cluster).presence.is_connected();
            let is_flying = matches!(member.state, MemberState::Assigned | MemberState::Applied);
            let may_fly = !is_connected && fleet.strategy.offline == Offline::Wait;
            prop_assert!(!is_flying || may_fly, "{:?}", member);
        }
    }

    #[test]
    fn a_soak_takes_its_time_and_that_in_which_somebody_was_away_and_no_more(
        count in 1..5_usize,
        soak in 30..600_u32,
        blinks in proptest::collection::vec((0..120_i64, 0..5_usize, 1..50_i64), 0..12),
    ) {
        let mut wave = WaveSpec::named("all".parse().expect("a name"));
        (wave.max_concurrent, wave.soak) = (Amount::Percent(100), HumanDuration::from_secs(soak));
        let strategy = Strategy { waves: vec![wave], ..Strategy::default() };
        let mut world = world(&Fleet { strategy, clusters: vec![(0, true, true); count] });
        all_well(&mut world);
        let mut left = i64::from(soak);
        for (pause, cluster, seconds) in blinks {
            let pause = pause.min(left);
            left -= pause;
            world.tick(SignedDuration::from_secs(pause));
            let id = world.clusters[cluster % count].id;
            world.blink(id, SignedDuration::from_secs(seconds));
            world.reconcile();
        }
        world.tick(SignedDuration::from_secs(left));

        never_wrong(&world)?;
        prop_assert_eq!(world.state, RolloutState::Done);
    }

    #[test]
    fn a_healthy_fleet_that_nobody_disturbs_gets_done(fleet in fleets()) {
        let mut fleet = fleet;
        for (_, is_connected, _) in &mut fleet.clusters {
            *is_connected = true;
        }
        let mut world = world(&fleet);
        settle_down(&mut world);

        never_wrong(&world)?;
        let holds = world.waves.iter().any(Wave::is_open);
        let passed = world.waves.iter().all(|wave| wave.state == WaveState::Passed);
        prop_assert!(holds || (passed && world.state == RolloutState::Done), "{:?}", world.state);
        prop_assert!(!world.members.iter().any(|member| member.state == MemberState::Failed));
    }
}
