//! What each row of the table says, by what objects say of themselves: `vectors/README.md` has the form.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::rule::{Ask, Clause, Row};
use super::{assess, assess_by_kstatus, table};
use crate::report::Verdict;

const FILES: [&str; 5] = [
    include_str!("vectors/kubernetes.yaml"),
    include_str!("vectors/delivery.yaml"),
    include_str!("vectors/platform.yaml"),
    include_str!("vectors/data.yaml"),
    include_str!("vectors/cloud.yaml"),
];

#[derive(Debug, Deserialize)]
struct Document {
    of: String,
    #[serde(flatten)]
    cases: BTreeMap<String, Vec<Map<String, Value>>>,
}

struct Vector {
    /// For whoever reads a failure.
    name: String,
    group: String,
    kind: String,
    object: Value,
    verdict: Verdict,
    says: String,
}

fn vectors() -> Vec<Vector> {
    let documents = FILES.into_iter().flat_map(|text| serde_saphyr::from_multiple::<Document>(text).expect("YAML"));
    documents.flat_map(Document::vectors).collect()
}

impl Document {
    fn vectors(self) -> Vec<Vector> {
        let (api_version, kind) = self.of.split_once(' ').expect("a version and a kind");
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let of_verdict = |(verdict, cases): (String, Vec<Map<String, Value>>)| {
            let of: Verdict = verdict.parse().expect("a verdict");
            cases.into_iter().enumerate().map(move |(index, case)| (of, index, case))
        };
        let vector = |(verdict, index, mut case): (Verdict, usize, Map<String, Value>)| {
            let says = case.remove("says").and_then(|says| says.as_str().map(str::to_owned)).unwrap_or_default();
            case.insert("apiVersion".to_owned(), json!(api_version));
            case.insert("kind".to_owned(), json!(kind));
            let mut object = Value::Object(case);
            object["metadata"]["name"] = json!("a");
            spell_out(&mut object);
            let name = format!("{} {verdict} {}", self.of, index + 1);
            Vector { name, group: group.to_owned(), kind: kind.to_owned(), object, verdict, says }
        };
        self.cases.into_iter().flat_map(of_verdict).map(vector).collect()
    }
}

/// Each `TYPE=STATUS REASON MESSAGE` among conditions, as an object has it.
fn spell_out(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::Array(conditions) if key == "conditions" => conditions.iter_mut().for_each(condition),
                    value => spell_out(value),
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(spell_out),
        _ => {}
    }
}

fn condition(value: &mut Value) {
    let Some(text) = value.as_str() else { return };
    let (kind, rest) = text.split_once('=').expect("TYPE=STATUS");
    let mut parts = rest.splitn(3, ' ');
    let mut part = || parts.next().unwrap_or_default();
    *value = json!({"type": kind, "status": part(), "reason": part(), "message": part()});
}

/// Everything that is called a condition, also of elements.
fn each_condition(value: &mut Value, change: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::Array(conditions) if key == "conditions" => conditions.iter_mut().for_each(&mut *change),
                    value => each_condition(value, change),
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| each_condition(element, change)),
        _ => {}
    }
}

fn rows() -> impl Iterator<Item = &'static Row> {
    table::TABLES.into_iter().flatten()
}

/// kstatus' rule is one of them, or its manifest alone says enough.
fn may_be_well_without_a_word(row: &Row) -> bool {
    row.clauses.iter().any(|clause| matches!(clause, Clause::As(..) | Clause::Healthy(_, [] | [Ask::Unset(_)])))
}

#[test]
fn each_kind_of_the_table_is_judged_by_what_its_api_documents() {
    for Vector { name, object, verdict, says, .. } in vectors() {
        let health = assess(&object, true);

        assert_eq!(health.verdict, verdict, "{name}: {}", health.message);
        assert!(health.message.contains(&says), "{name}: {}", health.message);
        assert!(!health.message.is_empty(), "{name}");
    }
}

#[test]
fn each_row_of_the_table_has_vectors_of_both_ends_and_can_be_reached() {
    let vectors = vectors();
    for row in rows() {
        let of_row = || {
            let is_it = |vector: &&Vector| {
                table::find(&vector.group, &vector.kind)
                    .is_some_and(|it| (it.group, it.kinds) == (row.group, row.kinds))
            };
            vectors.iter().filter(is_it)
        };
        assert!(of_row().any(|vector| vector.verdict == Verdict::Healthy), "{} {}", row.group, row.kinds);
        let is_static = matches!(row.clauses, [Clause::As(..)]);
        assert!(
            is_static || of_row().any(|vector| vector.verdict != Verdict::Healthy),
            "{} {}: nothing that is not well",
            row.group,
            row.kinds
        );
    }
}

#[test]
fn each_row_of_the_table_stands_in_the_docs() {
    let docs = include_str!("../../../docs/health.md");
    for row in rows() {
        for name in row.group.split('|').chain(row.kinds.split('|')).filter(|name| *name != "*") {
            assert!(docs.contains(name), "{name}");
        }
    }
}

#[test]
fn what_nobody_has_said_anything_of_is_not_taken_for_well() {
    for Vector { name, group, kind, object, .. } in vectors() {
        let row = table::find(&group, &kind).expect("a row");
        let bare = json!({"apiVersion": object["apiVersion"], "kind": kind, "metadata": {"name": "a"}});
        let health = assess(&bare, false);

        assert!(health.verdict != Verdict::Healthy || may_be_well_without_a_word(row), "{name}: {}", health.message);
    }
}

/// Those that are healthy because something said so, and not because their manifest asks for nothing more.
fn well_by_their_word() -> impl Iterator<Item = Vector> {
    let is_suspended = |object: &Value| assess(object, true).message.contains("suspended by its manifest");
    vectors().into_iter().filter(move |one| one.verdict == Verdict::Healthy && !is_suspended(&one.object))
}

/// Of these a text decides, or kstatus' rule, whatever the conditions are.
fn is_by_conditions(object: &mut Value) -> bool {
    let mut has_conditions = false;
    each_condition(object, &mut |_| has_conditions = true);
    let of_kind = ["HorizontalPodAutoscaler", "Pipeline", "PodDisruptionBudget"].map(Value::from);
    has_conditions && !of_kind.contains(&object["kind"]) && object["status"]["state"] != "UpgradePending"
}

#[test]
fn what_is_about_an_older_generation_is_no_word_of_now() {
    for Vector { name, mut object, .. } in well_by_their_word() {
        object["metadata"]["generation"] = json!(7);
        let mut by_conditions = object.clone();
        object["status"]["observedGeneration"] = json!(6);
        let health = assess(&object, true);
        let is_asked_for = object["metadata"]["annotations"].get("bellwether.dev/health").is_some();
        assert!(health.verdict == Verdict::Progressing || is_asked_for, "{name}: {}", health.message);

        each_condition(&mut by_conditions, &mut |condition| condition["observedGeneration"] = json!(6));
        let health = assess(&by_conditions, true);
        assert!(health.verdict != Verdict::Healthy || !is_by_conditions(&mut object), "{name}: {}", health.message);
    }
}

#[test]
fn a_condition_of_a_status_that_nobody_knows_is_no_word_of_being_well() {
    for Vector { name, mut object, .. } in well_by_their_word() {
        each_condition(&mut object, &mut |condition| condition["status"] = json!("Perhaps"));
        let health = assess(&object, true);

        assert!(health.verdict != Verdict::Healthy || !is_by_conditions(&mut object), "{name}: {}", health.message);
    }
}

#[test]
fn kstatus_alone_knows_nothing_of_the_table() {
    let canary = json!({"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "a"},
        "status": {"phase": "Failed"}});
    let mut chosen = canary.clone();
    chosen["metadata"]["annotations"] = json!({"bellwether.dev/health": "kstatus"});

    assert_eq!(assess(&canary, true).verdict, Verdict::Failed);
    assert_eq!(assess_by_kstatus(&canary).verdict, Verdict::Healthy);
    assert_eq!(assess(&chosen, true).verdict, Verdict::Healthy, "its manifest asks for it");

    let asks = json!({"name": "a", "annotations": {"bellwether.dev/health": "address"}});
    let balancer = json!({"apiVersion": "v1", "kind": "Service", "metadata": asks,
        "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.7"}});
    assert_eq!(assess(&balancer, true).verdict, Verdict::Progressing);
    assert_eq!(assess_by_kstatus(&balancer).verdict, Verdict::Healthy);
}
