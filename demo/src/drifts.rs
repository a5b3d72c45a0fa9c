//! The benchmark `drift`: what somebody else edits in a settled cluster, and how soon it is as in Git again.
//!
//! Edits go to different objects: what is edited again and again within minutes is put right less and less often, by design.
//! In turns with single edits the bare client applies an object: nobody corrects sooner than the watcher learns of that.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;
use futures_util::future::try_join;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::bare::{AT_ONCE, BareClient};
use crate::bench::{Milliseconds, Outcome, build};
use crate::figures::{hundredths, ms_between};
use crate::ground::now_unix_ns;
use crate::load::{Item, Lap, Load, Row, Size, table};
use crate::requests::Asked;

/// One after another.
const EDITS: usize = 200;
const WARM_UP: usize = 3;
/// Requests of whoever edits everything, at once.
const EDITS_AT_ONCE: usize = 32;

/// All samples, in milliseconds.
#[derive(Debug, Default)]
struct Samples {
    /// From the edit's answer until it was seen as in Git.
    corrected: Vec<f64>,
    /// The bare client's apply until its answer, and until it was seen.
    answered: Vec<f64>,
    seen: Vec<f64>,
}

/// All objects edited at once.
#[derive(Debug)]
struct Mass {
    /// From the first edit on.
    corrected: Lap,
    edited_s: f64,
    floor: Lap,
}

/// Measures on a state folder of its own.
pub async fn drift(state: &Path, size: Size) -> Result<Outcome> {
    let mut load = Load::start(state, size).await?;
    load.prepare().await?;
    load.sync(0).await?;
    load.apply_bare(0).await?;
    load.take_when_quiet().await?;
    let editor = BareClient::of(&load.ground.clusters[0].kubeconfig).await?;
    let mut samples = Samples::default();
    let asked = edit_singly(&mut load, &editor, &mut samples).await?;
    load.take_when_quiet().await?;
    let mass = edit_all(&mut load, &editor).await?;
    outcome(size, &samples, &asked, &mass)
}

/// Answers what the agent asked for meanwhile.
async fn edit_singly(load: &mut Load, editor: &BareClient, samples: &mut Samples) -> Result<Asked> {
    let maps =
        |items: &[Item]| items.iter().filter(|item| item.is_config_map()).copied().take(EDITS + WARM_UP).collect();
    let (ours, theirs): (Vec<Item>, Vec<Item>) = (maps(&load.items), maps(&load.bare_items));
    load.show.step("edits one after another", ours.len());
    load.requests.take()?;
    for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let from = load.ground.stamps.count()?;
        ours.edit_by(editor, 0).await?;
        let edited = now_unix_ns()?;
        let corrected = load.wait_for_corrections(&[*ours], 0, from).await?.last_unix_ns;

        let (object, values) = (theirs.prepared(1)?, HashSet::from([theirs.value(1)]));
        let from = load.ground.stamps.count()?;
        let begun = now_unix_ns()?;
        load.bare.apply(&object).await?;
        let answered = now_unix_ns()?;
        let seen = load.wait_for(values, from).await?.last_unix_ns;
        load.show.reach(number + 1);
        if number >= WARM_UP {
            samples.corrected.push(ms_between(edited, corrected));
            samples.answered.push(ms_between(begun, answered));
            samples.seen.push(ms_between(begun, seen));
        }
    }
    load.show.done(format_args!("{} edits one after another", samples.corrected.len()));
    load.requests.take()
}

async fn edit_all(load: &mut Load, editor: &BareClient) -> Result<Mass> {
    let items = load.items.clone();
    load.show.step("all objects are edited at once", items.len());
    let from = load.ground.stamps.count()?;
    let begun = now_unix_ns()?;
    let edits = async {
        let edits = stream::iter(&items).map(Ok);
        edits.try_for_each_concurrent(EDITS_AT_ONCE, async |item| item.edit_by(editor, 0).await).await?;
        now_unix_ns()
    };
    let (edited, corrected) = try_join(edits, load.wait_for_corrections(&items, 0, from)).await?;
    let (corrected, edited_s) = (corrected.since(begun), ms_between(begun, edited) / 1e3);
    load.show.done(format_args!("{} edits at once: {:.2} s", items.len(), corrected.last_s));
    load.take_when_quiet().await?;
    let floor = load.apply_bare(2).await?;
    Ok(Mass { corrected, edited_s, floor })
}

fn outcome(size: Size, samples: &Samples, asked: &Asked, mass: &Mass) -> Result<Outcome> {
    let corrected = Milliseconds::of(&samples.corrected)?;
    let (answered, seen) = (Milliseconds::of(&samples.answered)?, Milliseconds::of(&samples.seen)?);
    let edits = samples.corrected.len();
    let ms = |ms: Milliseconds| format!("{:.1}, {:.1} ms", ms.p50, ms.p99);
    let rows: [Row<'_>; 7] = [
        ("single edit: answered → corrected (p50, p99)", ms(corrected), "≤ 8, 25 ms"),
        ("… floor: one apply by the bare client, until answered", ms(answered), ""),
        ("… floor: the same, until the watcher saw it", ms(seen), ""),
        ("… the agent's requests for all of them", asked.total().to_string(), ""),
        ("all edited at once: first edit → last corrected", format!("{:.2} s", mass.corrected.last_s), "≤ 8 s"),
        ("… until the last edit was answered", format!("{:.2} s", mass.edited_s), ""),
        ("… floor: as many applies by the bare client", format!("{:.2} s", mass.floor.last_s), ""),
    ];
    let metrics = json!({
        "p50_ms": corrected.p50, "p99_ms": corrected.p99, "floor_answered_ms": answered, "floor_seen_ms": seen,
        "api_requests": asked.total(), "by_kind": asked.kinds,
        "mass_s": hundredths(mass.corrected.last_s), "mass_objects": size.objects,
        "mass_edited_s": hundredths(mass.edited_s), "mass_floor_s": hundredths(mass.floor.last_s),
    });
    let conditions = json!({
        "build": build(), "clusters": 1, "targets": size.targets, "objects": size.objects, "edits": edits,
        "edits_at_once": EDITS_AT_ONCE, "floor_at_once": AT_ONCE, "fsync": true, "percentiles": "nearest rank",
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
    });
    Ok(Outcome {
        table: table(&rows)?,
        document: json!({"bench": "drift", "conditions": conditions, "metrics": metrics}),
    })
}
