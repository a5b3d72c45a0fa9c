//! The audit log: who did or decided what, and whether the log still says what it said.

use bellwether_core::api::{AuditEntry, AuditFilter, AuditVerification, List};
use bellwether_core::audit::{ActorKind, Outcome};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Context, note_if_empty};
use crate::args::{AuditCommand, AuditListArgs, OutcomeChoice};
use crate::client::{Answer, Route};
use crate::failure::Exit;
use crate::output::progress::Waiting;
use crate::output::table::{Field, Tone, fields, table};
use crate::output::{Style, time};

pub(super) async fn run(context: &Context, command: AuditCommand) -> anyhow::Result<Exit> {
    match command {
        AuditCommand::List(arguments) => list(context, arguments).await,
        AuditCommand::Verify => verify(context).await,
    }
}

async fn list(context: &Context, arguments: AuditListArgs) -> anyhow::Result<Exit> {
    let limit = arguments.limit;
    let route = route(&filter(arguments, Timestamp::now()));
    let answer: Answer<List<AuditEntry>> = context.client.fetch_list(&route, limit).await?;
    context.output.answer(&answer, |list, style| draw(&list.items, style))?;
    note_if_empty(&answer.document.items, "no entry matches");
    Ok(Exit::Done)
}

fn filter(arguments: AuditListArgs, now: Timestamp) -> AuditFilter {
    AuditFilter {
        actor: arguments.actor,
        action: arguments.action,
        cluster: arguments.cluster.map(|name| name.to_string()),
        target: arguments.target.map(|name| name.to_string()),
        rollout: arguments.rollout,
        outcome: arguments.outcome.map(|outcome| match outcome {
            OutcomeChoice::Done => Outcome::Done,
            OutcomeChoice::Failed => Outcome::Failed,
            OutcomeChoice::Denied => Outcome::Denied,
        }),
        since: arguments.since.map(|since| since.moment(now)),
        ..AuditFilter::default()
    }
}

/// The filter as a query, in the words of its own document. How many are wanted is `fetch_list`'s to say.
fn route(filter: &AuditFilter) -> Route {
    let filter = serde_json::to_value(filter).unwrap_or_default();
    let fields = ["actor", "action", "cluster", "target", "rollout", "outcome", "since"];
    fields.into_iter().fold(Route::new(["audit"]), |route, name| match &filter[name] {
        Value::Null => route,
        Value::String(text) => route.with(name, text),
        other => route.with(name, other.to_string()),
    })
}

fn draw(entries: &[AuditEntry], style: Style) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let row = |entry: &AuditEntry| {
        [
            Field::from(entry.seq),
            time(entry.at).into(),
            actor(entry).into(),
            entry.action.as_str().into(),
            format!("{} {}", entry.subject.kind, entry.subject.name).into(),
            entry.cluster.clone().unwrap_or_default().into(),
            outcome(entry.outcome),
            reason(entry).into(),
        ]
    };
    table(["SEQ", "TIME", "ACTOR", "ACTION", "SUBJECT", "CLUSTER", "OUTCOME", "REASON"], entries.iter().map(row), style)
}

/// `token alice`, `agent eu-1`, `hub`.
fn actor(entry: &AuditEntry) -> String {
    match entry.actor.kind {
        ActorKind::Hub => "hub".to_owned(),
        kind => format!("{} {}", kind.as_str(), entry.actor.name),
    }
}

/// Why, or else of which wave.
fn reason(entry: &AuditEntry) -> String {
    match entry.detail["wave"].as_str() {
        Some(wave) if entry.reason.is_empty() => format!("wave {wave}"),
        _ => entry.reason.clone(),
    }
}

fn outcome(outcome: Outcome) -> Field {
    let tone = match outcome {
        Outcome::Done => Tone::Plain,
        Outcome::Failed | Outcome::Denied => Tone::Bad,
    };
    Field::toned(outcome.as_str(), tone)
}

/// Exit code 3 when an entry does not hold.
async fn verify(context: &Context) -> anyhow::Result<Exit> {
    let verified =
        async { context.client.post::<AuditVerification>(&Route::new(["audit", "verify"]), &json!({})).await };
    let answer = Waiting::during("the hub reads the whole log", verified).await?;
    context.output.answer(&answer, draw_verification)?;
    Ok(if answer.document.verified { Exit::Done } else { Exit::Differs })
}

fn draw_verification(verification: &AuditVerification, style: Style) -> String {
    let verified = if verification.verified { Field::toned("yes", Tone::Good) } else { Field::toned("no", Tone::Bad) };
    let pairs = [
        ("verified", verified),
        ("entries", Field::from(verification.entries)),
        ("root", Field::from(verification.root)),
        ("first bad", verification.first_bad.map(|seq| seq.to_string()).unwrap_or_default().into()),
        ("problem", verification.problem.clone().unwrap_or_default().into()),
    ];
    fields(pairs, style)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Command};

    #[test]
    fn what_is_asked_for_is_what_the_hub_reads() {
        let line = "bellwether audit list --actor alice --outcome denied --since 1h --target shop";
        let arguments = Arguments::try_parse_from(line.split(' ')).expect("arguments");
        let Command::Audit(AuditCommand::List(arguments)) = arguments.command else { panic!("another command") };
        let now = "2026-11-23T20:00:00Z".parse().expect("a time");

        let filter = filter(arguments, now);

        let expected =
            json!({"actor": "alice", "outcome": "denied", "since": "2026-11-23T19:00:00Z", "target": "shop"});
        assert_eq!(serde_json::from_value::<AuditFilter>(expected).expect("a filter"), filter);
        let route = format!("{:?}", route(&filter));
        assert!(route.contains(r#"("outcome", "denied"), ("since", "2026-11-23T19:00:00Z")"#), "{route}");
    }
}
