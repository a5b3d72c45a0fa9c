//! Two hubs on one database, mostly behind a balancer: none is the leader, and one is enough.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bellwether_core::report::{Counts, Report, Verdict};
use bellwether_core::session::{AgentMessage, HubMessage};
use bellwether_core::{Digest, Generation, ReportSequence, TargetId};
use bellwether_e2e::api::Api;
use bellwether_e2e::balancer::Balancer;
use bellwether_e2e::fake_agent::FakeSession;
use bellwether_e2e::harness::{FAST_HEARTBEAT_FLAGS, PATIENCE, Scene, SceneOptions, eventually};
use reqwest::Method;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::config_map;
use crate::faults::{enroll_fake, expect_it_went_on, make_room, stop_in_second_wave};

/// The scene's hub, to which the first cluster is connected while it lives, beside one that has the second cluster. People
/// speak to that other one.
struct Pair {
    first: Api,
    prefers_first: Balancer,
    /// Its connections end with it.
    _prefers_other: Balancer,
}

async fn start_pair(scene: &mut Scene) -> Result<Pair> {
    let first = scene.api.clone();
    let other = scene.start_other_hub().await?;
    let agents = scene.hub.agents_address();
    let prefers_first = Balancer::start(&[&agents, &other.agents]).await?;
    let prefers_other = Balancer::start(&[&other.agents, &agents]).await?;
    scene.join_through(1, &prefers_first.address).await?;
    scene.join_through(2, &prefers_other.address).await?;
    scene.api = first.at(other.api);
    expect_sessions(&first, 1).await?;
    expect_sessions(&scene.api, 1).await?;
    Ok(Pair { first, prefers_first, _prefers_other: prefers_other })
}

async fn expect_sessions(hub: &Api, sessions: u64) -> Result<()> {
    eventually(PATIENCE, &format!("{} has {sessions} sessions", hub.url), async || {
        let there = hub.metric("bellwether_sessions").await?;
        ensure!(there == sessions, "it has {there}");
        Ok(())
    })
    .await
}

const HEARD: &str = "bellwether_signals_heard_total";
/// A hub's figures are as old as a second.
const UNTIL_OTHER_FIGURES: Duration = Duration::from_millis(1500);

/// How many signals a hub has heard, once it hears of nothing new.
async fn heard_at_rest(hub: &Api) -> Result<u64> {
    eventually(PATIENCE, &format!("{} hears nothing", hub.url), async || {
        let before = hub.metric(HEARD).await?;
        sleep(UNTIL_OTHER_FIGURES).await;
        let heard = hub.metric(HEARD).await?;
        ensure!(heard == before, "it had heard {before}, and then {heard}");
        Ok(heard)
    })
    .await
}

async fn expect_more_heard(hub: &Api, heard: u64) -> Result<()> {
    eventually(PATIENCE, &format!("{} has heard signals", hub.url), async || {
        let now = hub.metric(HEARD).await?;
        ensure!(now > heard, "it has heard {now}, as before");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_rollout_goes_on_at_the_other_hub_when_one_is_killed_in_the_second_wave() -> Result<()> {
    Scene::run(&[], async |scene| {
        let pair = start_pair(scene).await?;
        scene.join_through(3, &pair.prefers_first.address).await?;
        let heard = heard_at_rest(&pair.first).await?;
        let (commit, rollout) = stop_in_second_wave(scene).await?;
        // What was asked of one hub reached the clusters of the other, and that one was told to reconcile.
        expect_more_heard(&pair.first, heard).await?;

        scene.hub.kill9().await?;
        make_room(scene, 2).await?;
        make_room(scene, 3).await?;

        expect_it_went_on(scene, &commit, &rollout).await?;
        expect_sessions(&scene.api, 3).await?;
        let next = scene.push(&[("shop/greeting.yaml", &config_map("greeting", "text", "one"))]).await?;
        scene.wait_until_healthy(&next).await?;
        assert_eq!(scene.value(1, "greeting", "text").await?, "one");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cluster_that_is_lost_with_its_hub_is_missed_by_the_other() -> Result<()> {
    let options = SceneOptions { flags: FAST_HEARTBEAT_FLAGS.to_vec(), ..SceneOptions::default() };
    Scene::run_with(&[], options, async |scene| {
        let _pair = start_pair(scene).await?;
        // No balancer: it has no other way.
        scene.join_through(3, &scene.hub.agents_address()).await?;
        let (commit, _) = stop_in_second_wave(scene).await?;

        scene.hub.kill9().await?;
        make_room(scene, 2).await?;

        // The rollout's own deadline would reconcile after ten minutes.
        let places = [("/state", "done"), ("/members/1/state", "healthy"), ("/members/2/state", "offline")];
        scene.wait_for_rollout("shop", &commit, &places).await?;
        make_room(scene, 3).await?;
        scene.hub.restart().await?;
        scene.wait_until_healthy(&commit).await?;
        Ok(())
    })
    .await
}

/// Between two heartbeats of an agent that is ours to speak for.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Sends heartbeats until something has happened; answers with what came of that, and with what the hub said meanwhile.
async fn hear_during<T>(
    session: &mut FakeSession,
    something: impl Future<Output = Result<T>>,
) -> Result<(T, Vec<HubMessage>)> {
    let (mut something, mut heard) = (pin!(something), Vec::new());
    loop {
        heard.push(answer(session).await?);
        tokio::select! {
            happened = something.as_mut() => return Ok((happened?, heard)),
            () = sleep(HEARTBEAT) => {}
        }
    }
}

/// What the hub says next, after a heartbeat.
async fn answer(session: &mut FakeSession) -> Result<HubMessage> {
    session.send(AgentMessage::Heartbeat).await?;
    let said = timeout(PATIENCE, session.next()).await.context("a heartbeat was not answered")?;
    said?.context("the hub ended the stream")
}

/// About nothing that there is: whoever takes it notes that it was told.
fn report() -> Report {
    Report {
        target: TargetId::new(Uuid::new_v4()),
        generation: Generation::new(1),
        digest: Digest::of(b"nothing"),
        applied: true,
        verdict: Verdict::Healthy,
        objects: Counts::default(),
        lines: Vec::new(),
        suspended: None,
    }
}

#[tokio::test]
async fn a_hub_that_loses_the_database_keeps_its_streams_and_acknowledges_and_sends_nothing_new() -> Result<()> {
    // No agent is missed for what takes seconds.
    let options = SceneOptions { has_proxy: true, flags: Vec::new(), ..SceneOptions::default() };
    Scene::run_with(&[], options, async |scene| {
        let nothing = HubMessage::Ack(ReportSequence::default());
        let everything = HubMessage::Ack(ReportSequence::new(1));
        let cut_off = scene.api.clone();
        let other = scene.start_other_hub().await?;
        scene.join_through(1, &other.agents).await?;
        let greeting = |text: &str| config_map("greeting", "text", text);
        let files = [("shop/greeting.yaml", greeting("one")), ("fake/greeting.yaml", greeting("fake"))];
        let first = scene.push(&files.each_ref().map(|(path, text)| (*path, text.as_str()))).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "  clusters: {matchLabels: {ring: canary}}\n").await?.ended_with(0)?;
        scene.wait_until_healthy(&first).await?;
        let mut session = enroll_fake(scene, "fake").await?.open().await?;
        while answer(&mut session).await? != nothing {}

        let proxy = scene.proxy.as_ref().context("the hub has a proxy")?;
        proxy.cut_off();
        session.send(AgentMessage::Report(ReportSequence::new(1), report())).await?;
        scene.api = cut_off.at(other.api);
        let goes_on = async {
            scene.push(&[("shop/greeting.yaml", &greeting("two"))]).await?;
            scene.apply_target("fake", "  clusters: {matchLabels: {ring: fake}}\n").await?.ended_with(0)?;
            scene.wait_for_value(1, "greeting", "text", "two").await?;
            cut_off.send(Method::GET, "/api/v1/status", None).await
        };
        let (refused, heard) = hear_during(&mut session, goes_on).await?;

        assert_eq!(refused.status, 503, "{refused:?}");
        ensure!(heard.iter().all(|said| *said == nothing), "{heard:?}");
        // On the very stream.
        proxy.let_through();
        let (mut is_acknowledged, mut is_told) = (false, false);
        timeout(PATIENCE, async {
            while !(is_acknowledged && is_told) {
                let said = answer(&mut session).await?;
                is_acknowledged |= said == everything;
                is_told |= matches!(&said, HubMessage::Desired(desired) if !desired.assignments.is_empty());
                sleep(HEARTBEAT).await;
            }
            Ok(()) as Result<()>
        })
        .await
        .with_context(|| format!("acknowledged: {is_acknowledged}, told: {is_told}"))??;
        ensure!(scene.hub.is_alive(), "the hub ended with its database");
        Ok(())
    })
    .await
}
