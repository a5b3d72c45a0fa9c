//! Somebody who changes an object back again and again, in a real API server.

use bellwether_core::report::{Outcome, Report, Verdict};
use serde_json::json;

#[tokio::test]
async fn what_two_writers_change_in_turns_is_degraded_until_the_other_stops() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;
    let theirs = json!({"data": {"key": "theirs"}});
    // So often it is put right at once.
    for _ in 0..5 {
        fixture.edit("a", &theirs).await;
        fixture.wait_for_value("a", "1").await;
    }

    // The first wait is a second, the next one two.
    for _ in 0..2 {
        let told = fixture.hub.reports(fixture.target).len();
        fixture.edit("a", &theirs).await;
        let is_degraded = |report: &Report| report.verdict == Verdict::Degraded;
        let reports = fixture.reports(|reports| reports[told..].iter().any(is_degraded)).await;
        let report = reports[told..].iter().find(|report| is_degraded(report)).expect("it is there");
        assert_eq!((report.lines.len(), report.lines[0].key.name.as_str()), (1, "a"));
        assert_eq!(report.lines[0].outcome, Outcome::Drifted);
        assert_eq!(report.lines[0].message, "modified by kubectl-edit: .data.key");
        fixture.wait_for_value("a", "1").await;
        fixture.report(|report| report.verdict == Verdict::Healthy).await;
    }

    assert_eq!(fixture.drifts(7).await.len(), 7);
}
