//! The same change in many clusters, told once.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{PlanDryRun, PlanGroup, PlanObject, counts};
use crate::{Digest, Name};

/// Each is a change of its own; who has more of them looks at some clusters.
const GROUPS_MAX: usize = 50;

/// Of one group; further ones are counted.
const OBJECTS_MAX: usize = 200;

/// Of all that is told of fields: what a browser and a terminal still show.
const FIELDS_BYTES_MAX: usize = 3 * 1024 * 1024;

/// What changes in one cluster.
#[derive(Debug, Clone)]
pub struct ClusterChange {
    pub cluster: Name,
    /// It is assigned nothing of the target yet.
    pub first_install: bool,
    /// In the order of their keys. Clusters share lists, and lists share what they name: a fleet has far more of them together
    /// than are told.
    pub objects: Arc<[Arc<PlanObject>]>,
    pub unchanged: usize,
    /// What its API server said; `None`: it was not asked, or did not answer.
    pub dry_run: Option<PlanDryRun>,
}

/// Clusters for which the same is told, and what that is.
#[derive(Debug)]
pub struct Shared {
    /// Without objects.
    group: PlanGroup,
    objects: Arc<[Arc<PlanObject>]>,
}

/// Clusters for which the same is told together: those with most clusters first, and last those for which nothing changes.
pub fn group(changes: Vec<ClusterChange>) -> Vec<Shared> {
    // Their places in memory are nobody else's as long as they are there: all are kept until the end.
    let mut of_objects: BTreeMap<*const PlanObject, Digest> = BTreeMap::new();
    let mut digests: BTreeMap<*const Arc<PlanObject>, Digest> = BTreeMap::new();
    let mut groups: BTreeMap<(bool, Digest, Option<Digest>), Shared> = BTreeMap::new();
    let mut kept = Vec::new();
    for change in changes {
        let digest = if change.objects.is_empty() {
            Digest::of(b"")
        } else {
            *digests.entry(change.objects.as_ptr()).or_insert_with(|| digest_of(&change.objects, &mut of_objects))
        };
        let said = change.dry_run.as_ref().map(|said| Digest::of(&serde_json::to_vec(said).expect("a plan is JSON")));
        let answered = usize::from(said.is_some());
        let found = groups.entry((change.first_install, digest, said)).or_insert_with(|| Shared {
            group: PlanGroup {
                clusters: Vec::new(),
                first_install: change.first_install,
                counts: counts(change.objects.iter().map(|object| &**object), change.unchanged),
                objects: Vec::new(),
                more_objects: 0,
                dry_run: change.dry_run.clone().map(|said| PlanDryRun { answered: 0, ..said }),
            },
            objects: Arc::clone(&change.objects),
        });
        let told = &mut found.group.counts;
        told.unchanged = told.unchanged.filter(|count| *count == change.unchanged);
        if let Some(said) = &mut found.group.dry_run {
            said.answered += answered;
        }
        found.group.clusters.push(change.cluster);
        kept.push(change.objects);
    }
    let mut groups = with_unasked(groups);
    for one in &mut groups {
        one.group.clusters.sort();
    }
    groups.sort_by(|one, other| {
        let place = |group: &PlanGroup| (!is_refused(group), !group.counts.is_any(), Reverse(group.clusters.len()));
        let (one, other) = (&one.group, &other.group);
        place(one).cmp(&place(other)).then_with(|| one.clusters.cmp(&other.clusters))
    });
    groups
}

/// Where an API server would not have something: that is told first, and left out nowhere.
fn is_refused(group: &PlanGroup) -> bool {
    let counts = group.dry_run.as_ref().map(|said| &said.counts);
    counts.is_some_and(|counts| counts.iter().any(|(fate, count)| fate.is_refusal() && *count > 0))
}

/// Whoever was not asked stands with those for which the same changes, and of whom most said the same.
fn with_unasked(groups: BTreeMap<(bool, Digest, Option<Digest>), Shared>) -> Vec<Shared> {
    let (asked, unasked): (Vec<_>, Vec<_>) = groups.into_iter().partition(|((.., said), _)| said.is_some());
    let mut all: Vec<_> = asked;
    for (key, shared) in unasked {
        let is_same = |other: &(bool, Digest, Option<Digest>)| (other.0, other.1) == (key.0, key.1);
        let same = all.iter_mut().filter(|(other, _)| is_same(other));
        let most = |group: &PlanGroup| {
            let answered = group.dry_run.as_ref().map(|said| said.answered);
            (answered, Reverse(group.clusters.first().cloned()))
        };
        match same.max_by_key(|(_, shared)| most(&shared.group)) {
            Some((_, found)) => {
                let (told, other) = (&mut found.group.counts, shared.group.counts.unchanged);
                told.unchanged = told.unchanged.filter(|count| Some(*count) == other);
                found.group.clusters.extend(shared.group.clusters);
            }
            None => all.push((key, shared)),
        }
    }
    all.into_iter().map(|(_, shared)| shared).collect()
}

/// Of a list; each object is written out once, however many lists name it.
fn digest_of(objects: &[Arc<PlanObject>], known: &mut BTreeMap<*const PlanObject, Digest>) -> Digest {
    let mut all = String::new();
    for object in objects {
        let told = || Digest::of(&serde_json::to_vec(&**object).expect("a plan is JSON"));
        all += &known.entry(Arc::as_ptr(object)).or_insert_with(told).to_string();
    }
    Digest::of(all.as_bytes())
}

/// As much of them as is told, and how many groups are left out. Objects are named also where their fields are not told.
pub fn cut(all: Vec<Shared>) -> (Vec<PlanGroup>, usize) {
    // As many of those as clusters are asked at most.
    let told = all.iter().filter(|one| is_refused(&one.group)).count().max(GROUPS_MAX);
    let more = all.len().saturating_sub(told);
    let mut groups = Vec::new();
    let mut left = FIELDS_BYTES_MAX;
    for Shared { mut group, objects } in all.into_iter().take(told) {
        group.more_objects = objects.len().saturating_sub(OBJECTS_MAX);
        group.objects = objects.iter().take(OBJECTS_MAX).map(|object| PlanObject::clone(object)).collect();
        for object in &mut group.objects {
            let bytes = serde_json::to_vec(&object.fields).map_or(0, |bytes| bytes.len());
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => object.more_fields += std::mem::take(&mut object.fields).len(),
            }
        }
        if let Some(said) = &mut group.dry_run {
            said.more_objects = said.objects.len().saturating_sub(OBJECTS_MAX);
            said.objects.truncate(OBJECTS_MAX);
            for object in &mut said.objects {
                // A text that is cut is told as three dots.
                match left.checked_sub(object.message.len()) {
                    Some(rest) => left = rest,
                    None => "…".clone_into(&mut object.message),
                }
                let bytes = serde_json::to_vec(&(&object.fields, &object.admitted)).map_or(0, |bytes| bytes.len());
                match left.checked_sub(bytes) {
                    Some(rest) => left = rest,
                    None => {
                        object.more_fields = true;
                        (object.fields, object.admitted) = (Vec::new(), Vec::new());
                    }
                }
            }
        }
        groups.push(group);
    }
    (groups, more)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ObjectKey;
    use crate::dry_run::Fate;
    use crate::plan::{ObjectChange, PlanField, PlanTried};

    fn object(name: &str, value: &str) -> PlanObject {
        let key =
            ObjectKey { api_version: "v1".into(), kind: "ConfigMap".into(), namespace: None, name: name.to_owned() };
        let pointer = "/data/a".to_owned();
        let field =
            PlanField { pointer, before: None, after: Some(json!(value)), line: None, hidden: false, cut: false };
        PlanObject {
            key,
            change: ObjectChange::Changed,
            from_namespace: None,
            fields: vec![field],
            more_fields: 0,
            restarts: false,
            hook: None,
            note: None,
        }
    }

    fn change(cluster: &str, objects: Vec<PlanObject>, unchanged: usize) -> ClusterChange {
        let (cluster, objects) = (cluster.parse().expect("a name"), objects.into_iter().map(Arc::new).collect());
        ClusterChange { cluster, first_install: false, objects, unchanged, dry_run: None }
    }

    #[test]
    fn clusters_with_the_same_change_are_told_together_and_those_without_one_last() {
        let changes = vec![
            change("a", Vec::new(), 3),
            change("b", vec![object("x", "1")], 2),
            change("c", vec![object("x", "2")], 2),
            change("d", vec![object("x", "1")], 1),
            change("e", Vec::new(), 3),
        ];

        let (groups, _) = cut(group(changes));

        let told: Vec<_> = groups
            .iter()
            .map(|group| (group.clusters.iter().map(Name::as_str).collect::<Vec<_>>(), group.counts.changed))
            .collect();
        assert_eq!(told, [(vec!["b", "d"], 1), (vec!["c"], 1), (vec!["a", "e"], 0)]);
        let unchanged: Vec<_> = groups.iter().map(|group| group.counts.unchanged).collect();
        assert_eq!(unchanged, [None, Some(2), Some(3)], "nothing is said of a number that is not theirs");
    }

    #[test]
    fn the_same_change_is_told_apart_where_api_servers_say_something_else_and_not_where_nobody_was_asked() {
        let said = |refused: usize| {
            Some(PlanDryRun { answered: 1, counts: [(Fate::Refused, refused)].into(), ..PlanDryRun::default() })
        };
        let asked = |cluster: &str, dry_run| ClusterChange { dry_run, ..change(cluster, vec![object("x", "1")], 1) };
        let all = [("a", said(1)), ("b", said(0)), ("c", None), ("d", said(0)), ("e", None)];

        let (groups, _) = cut(group(all.map(|(cluster, said)| asked(cluster, said)).to_vec()));

        let told: Vec<_> = groups
            .iter()
            .map(|group| {
                let clusters: Vec<_> = group.clusters.iter().map(Name::as_str).collect();
                (clusters.join(" "), group.dry_run.as_ref().map(|said| (said.answered, said.counts[&Fate::Refused])))
            })
            .collect();
        assert_eq!(told, [("a".to_owned(), Some((1, 1))), ("b c d e".to_owned(), Some((2, 0)))], "a refusal first");
    }

    #[test]
    fn a_group_that_is_refused_is_told_however_many_there_are_and_its_words_have_a_bound() {
        let tried = |at: usize| PlanTried {
            key: object(&format!("o{at}"), "1").key,
            fate: Fate::Refused,
            message: "n".repeat(512),
            drifted: false,
            fields: Vec::new(),
            more_fields: false,
            admitted: Vec::new(),
        };
        let said = || {
            let objects = (0..OBJECTS_MAX).map(tried).collect();
            Some(PlanDryRun { answered: 1, counts: [(Fate::Refused, 1)].into(), objects, more_objects: 0 })
        };
        let plain = (0..100).flat_map(|at| ["a", "b"].map(|way| (format!("{way}{at}"), at)));
        let mut all: Vec<_> =
            plain.map(|(cluster, at)| change(&cluster, vec![object(&format!("x{at}"), "1")], 1)).collect();
        all.extend((0..100).map(|at| ClusterChange {
            dry_run: said(),
            ..change(&format!("z{at}"), vec![object(&format!("y{at}"), "1")], 1)
        }));

        let (groups, more) = cut(group(all));

        assert_eq!((groups.len(), more), (100, 100));
        assert!(groups.iter().all(|group| group.clusters[0].as_str().starts_with('z')));
        let bytes: usize = groups
            .iter()
            .flat_map(|group| &group.dry_run.as_ref().expect("said").objects)
            .map(|object| object.message.len())
            .sum();
        assert!(bytes <= FIELDS_BYTES_MAX + 100 * OBJECTS_MAX * "…".len(), "{bytes}");
    }

    #[test]
    fn what_is_too_much_is_left_out_and_counted() {
        let many = |from: usize, count: usize, bytes: usize| {
            (from..from + count).map(|at| object(&format!("x{at}"), &"y".repeat(bytes))).collect::<Vec<_>>()
        };
        let mut changes = vec![change("a-many", many(0, 300, 10), 0)];
        changes.extend((0..60).map(|at| change(&format!("c{at:02}"), many(at, 100, 1_000), 0)));

        let (groups, more) = cut(group(changes));

        assert_eq!((groups.len(), more), (50, 11));
        assert_eq!((groups[0].objects.len(), groups[0].more_objects), (200, 100));
        let bytes = serde_json::to_vec(&groups).expect("JSON").len();
        assert!(bytes < 8 * 1024 * 1024, "{bytes}");
        let last = &groups[49].objects[99];
        assert_eq!((last.fields.len(), last.more_fields), (0, 1), "it is named all the same");
    }
}
