//! A cluster without a cluster: the decider, what it has asked for, and what it has said.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::words::{Words, answer, duration, ending, key, name, time, uid, written};
use crate::bundle::{Entry, Manifest};
use crate::journal::{Applied, Before, Installation, Journalled};
use crate::reconcile::{Drifted, Event, Freshness, Kind, ObjectEvent, ObjectState, Step, Targets, WatchEvent};
use crate::report::{ObjectLine, Report};
use crate::session::{Action, Assignment, DriftMode, Prune, Replace, SyncOptions};
use crate::{Digest, Generation, ObjectKey, TargetId};

const SHOP: TargetId = TargetId::new(Uuid::from_u128(7));
pub(super) const OTHER: TargetId = TargetId::new(Uuid::from_u128(8));

/// The longest of all waits that jitter allows.
const CHANCE: f64 = 0.999;

#[derive(Default)]
pub(super) struct World {
    targets: Targets,
    pub(super) now: Timestamp,
    contents: BTreeMap<Digest, String>,
    /// Asked for and not looked at yet, and not answered; those of the other target apart.
    fresh: Vec<Step>,
    sent: Vec<Step>,
    theirs: Vec<Step>,
    sent_by_them: Vec<Step>,
    /// Asked for since they were counted.
    taken: usize,
    drifts: Vec<Drifted>,
    learned: Vec<String>,
    /// What was learned of this process's objects, and what the next one is told of it.
    journal: BTreeMap<String, Applied>,
    installation: Option<Installation>,
    restarted_with: (Vec<Applied>, Option<Installation>),
    /// What each target had last, and since when.
    bundles: BTreeMap<TargetId, (Digest, Generation)>,
    is_journal_stuck: bool,
    unwritten: BTreeMap<TargetId, u64>,
}

impl World {
    pub(super) fn step(&mut self, word: &str, rest: &str) {
        match word {
            "assign" => self.assign(SHOP, rest),
            "other" => self.assign(OTHER, rest),
            "restart" => {
                (self.targets, self.sent) = (Targets::default(), Vec::new());
                (self.theirs, self.sent_by_them) = (Vec::new(), Vec::new());
                self.assign(SHOP, rest);
            }
            "restart-as-learned" => {
                let learned = self.journal.values().cloned().collect();
                (self.targets, self.sent) = (Targets::default(), Vec::new());
                (self.theirs, self.sent_by_them) = (Vec::new(), Vec::new());
                self.restarted_with = (learned, self.installation);
                self.assign(SHOP, rest);
            }
            "bounded" => self.targets = Targets::bounded(rest.parse().expect("a number")),
            "tombstone" => self.bury(SHOP, rest),
            "other-tombstone" => self.bury(OTHER, rest),
            "journal" if rest == "stuck" => self.is_journal_stuck = true,
            "journal" => {
                self.is_journal_stuck = false;
                for (target, number) in std::mem::take(&mut self.unwritten) {
                    self.tell(Event::Written(target, number));
                }
            }
            "ended" => self.tell(Event::Ended(SHOP)),
            "holds" => {
                let generation =
                    self.targets.assignment(SHOP).map(|assignment| assignment.generation.get().to_string());
                assert_eq!(generation.as_deref().unwrap_or("nothing"), rest);
            }
            "at" => self.now = time(rest),
            "do" => self.expect_steps(rest),
            "count" => self.expect_count(rest),
            "answer" => self.answer(rest),
            "they-do" => self.expect_their_steps(rest),
            "they-answer" => self.answer_them(rest),
            "settle" => self.settle(),
            "see" => self.see(rest),
            "list" => self.list(rest),
            "lost" => self.watched(WatchEvent::Freshness { kind: kind(rest), freshness: Freshness::Lost }),
            "watched" => self.watched(WatchEvent::Freshness { kind: kind(rest), freshness: Freshness::Watched }),
            "known" => self.know(rest),
            "wake" => self.wake(rest),
            "asleep" => assert_eq!(self.targets.next_wake(), None),
            "report" => self.expect_report(rest, true),
            "quiet-report" => self.expect_report(rest, false),
            "drifts" => self.expect_drifts(rest),
            "learned" => assert_eq!(joined(&std::mem::take(&mut self.learned)), rest),
            other => panic!("`{other}` is not a step"),
        }
    }

    fn assign(&mut self, target: TargetId, text: &str) {
        let (generation, rest) = text.split_once(':').expect("a generation and objects");
        let mut parts = rest.split(" ;").map(str::trim);
        let entries = self.entries(parts.next().unwrap_or_default());
        let manifest = Manifest::new(entries).expect("a manifest");
        let mut assignment = assignment(target, generation, Action::Apply, manifest);
        let ((mut had, installation), mut before) = (std::mem::take(&mut self.restarted_with), Vec::new());
        for part in parts {
            let (word, value) = part.split_once(' ').expect("an option and its value");
            match word {
                "prunable" => assignment.prunable = value.split_whitespace().map(key).collect(),
                "drift" => assignment.options.drift = drift_mode(value),
                "prune" => assignment.options.prune = prune(value),
                "replace" => assignment.options.replace = replace(value),
                "makes" => {
                    assignment.namespace = Some(value.parse().expect("a name"));
                    assignment.options.create_namespace = true;
                }
                "had" => had.push(self.had(value)),
                "before" => before.push(had_before(value)),
                "retried" => assignment.retried = Generation::new(value.parse().expect("a number")),
                other => panic!("`{other}` is not an option"),
            }
        }
        self.accept(assignment, before, (had, installation));
    }

    fn bury(&mut self, target: TargetId, text: &str) {
        let (generation, action) = text.split_once(' ').expect("a generation and an action");
        let action = if action == "orphan" { Action::Orphan } else { Action::Delete };
        let manifest = Manifest::new(Vec::new()).expect("a manifest");
        self.accept(assignment(target, generation, action, manifest), Vec::new(), Default::default());
    }

    fn accept(&mut self, assignment: Assignment, before: Vec<Before>, learned: (Vec<Applied>, Option<Installation>)) {
        let ((applied, installation), bundle) = (learned, assignment.manifest.digest());
        let bundle_since = match self.bundles.get(&assignment.target) {
            Some(&(same, since)) if same == bundle => since,
            _ => assignment.generation,
        };
        self.bundles.insert(assignment.target, (bundle, bundle_since));
        let objects = self.contents.iter().map(|(digest, text)| (*digest, body(text).as_bytes().into())).collect();
        self.tell(Event::Accepted(Journalled { assignment, bundle_since, before, applied, installation, objects }));
    }

    fn entries(&mut self, text: &str) -> Vec<Entry> {
        text.split_whitespace().flat_map(spread).map(|text| self.entry(&text)).collect()
    }

    fn entry(&mut self, text: &str) -> Entry {
        let (object, content) = text.split_once('@').expect("an object and its content");
        let digest = Digest::of(content.as_bytes());
        self.contents.insert(digest, content.to_owned());
        Entry { key: key(object), digest }
    }

    fn had(&mut self, text: &str) -> Applied {
        let (object, more) = text.split_once(' ').unwrap_or((text, ""));
        let Entry { key, digest } = self.entry(object);
        let (uid, words) = (uid(&key.name), Words::of(more));
        let generation = words.after("under").map_or(0, |number| number.parse().expect("a number"));
        let finished = words.after("ended").map(ending);
        Applied { key, uid, digest, finished, generation: Generation::new(generation) }
    }

    fn tell(&mut self, event: Event) {
        let told = self.targets.handle(event, self.now, CHANCE);
        self.drifts.extend(told.drifts);
        for update in told.updates {
            let applied = update.applied.iter().map(|applied| {
                let ended = if applied.finished.is_some() { " ended" } else { "" };
                format!("applied {}{ended}", name(&applied.key))
            });
            self.learned.extend(applied);
            if update.target == SHOP {
                self.installation = update.installation.or(self.installation);
            }
            self.journal.extend(update.applied.iter().map(|applied| (name(&applied.key), applied.clone())));
            if !self.is_journal_stuck {
                self.targets.handle(Event::Written(update.target, update.number), self.now, CHANCE);
            }
            self.unwritten.insert(update.target, update.number);
            self.learned.extend(update.gone.iter().map(|key| format!("gone {}", name(key))));
        }
    }

    fn take_all(&mut self) {
        while let Some(step) = self.targets.take_step(self.now) {
            if step.target == SHOP { self.fresh.push(step) } else { self.theirs.push(step) }
        }
    }

    fn take_steps(&mut self) -> Vec<Step> {
        self.take_all();
        let ours = std::mem::take(&mut self.fresh);
        self.taken += ours.len();
        self.sent.extend(ours.iter().cloned());
        ours
    }

    fn expect_their_steps(&mut self, text: &str) {
        self.take_all();
        let theirs = std::mem::take(&mut self.theirs);
        assert_eq!(joined(&self.written(&theirs, text)), text);
        self.sent_by_them.extend(theirs);
    }

    fn written(&self, steps: &[Step], text: &str) -> Vec<String> {
        steps.iter().map(|step| written(step, text, &self.contents)).collect()
    }

    fn expect_steps(&mut self, text: &str) {
        let steps = self.take_steps();
        if text != "anything" {
            assert_eq!(joined(&self.written(&steps, text)), text);
        }
    }

    fn expect_count(&mut self, text: &str) {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let range = least.parse().expect("a number")..=most.parse().expect("a number");
        let taken = std::mem::take(&mut self.taken);
        assert!(range.contains(&taken), "{taken} steps");
    }

    fn answer(&mut self, text: &str) {
        let (named, text) = text.split_once(' ').expect("a name and an answer");
        let is_meant = |step: &Step| named == "all" || name(&step.key) == named;
        let answered: Vec<_> = match named {
            "all" => self.sent.drain(..).collect(),
            _ => self.sent.iter().position(is_meant).map(|at| self.sent.remove(at)).into_iter().collect(),
        };
        assert!(named == "all" || !answered.is_empty(), "{named} is not under way");
        for step in answered {
            self.tell_answer(step, text);
        }
    }

    fn answer_them(&mut self, text: &str) {
        let (named, text) = text.split_once(' ').expect("a name and an answer");
        let at = self.sent_by_them.iter().position(|step| name(&step.key) == named).expect("it is under way");
        let step = self.sent_by_them.remove(at);
        self.tell_answer(step, text);
    }

    fn tell_answer(&mut self, step: Step, text: &str) {
        let content = step.act.digest().and_then(|digest| self.contents.get(&digest)).cloned().unwrap_or_default();
        let answer = answer(&step, text, body(&content).as_bytes());
        self.tell(Event::Answered(Box::new(step), answer));
    }

    fn settle(&mut self) {
        while !self.take_steps().is_empty() {
            self.answer("all applied");
        }
    }

    fn see(&mut self, text: &str) {
        let words = Words::of(text);
        let named = text.split_whitespace().next().expect("a name");
        let seen = if words.has("deleted") { ObjectState::Deleted } else { ObjectState::Present(words.condition()) };
        let kinds = self.targets.assignment(SHOP).into_iter().flat_map(|assignment| assignment.manifest.entries());
        let known = kinds.map(|entry| entry.key.clone()).find(|key| name(key) == named);
        let event = ObjectEvent {
            target: SHOP.as_uuid().simple().to_string(),
            key: known.unwrap_or_else(|| key(&format!("ConfigMap/{named}"))),
            uid: uid(named),
            version: words.version(),
            listed_at: words.after("listed").map(time),
            seen,
        };
        self.watched(WatchEvent::Object(Box::new(event)));
    }

    fn list(&mut self, text: &str) {
        let (head, names) = text.split_once(':').expect("a kind, a time and names");
        let (kind_name, began) = head.split_once(' ').expect("a kind and a time");
        let uids = names.split_whitespace().map(uid).collect();
        self.watched(WatchEvent::Listed { kind: kind(kind_name), began_at: time(began), uids });
    }

    fn know(&mut self, text: &str) {
        let (kind_name, listed_at) = text.split_once(' ').expect("a kind and a time");
        self.watched(WatchEvent::Freshness { kind: kind(kind_name), freshness: Freshness::AsOf(time(listed_at)) });
    }

    fn watched(&mut self, event: WatchEvent) {
        self.tell(Event::Watched(event));
    }

    fn wake(&mut self, text: &str) {
        let wake = self.targets.next_wake().expect("there is something to wake up for");
        match text.split_once(' ') {
            Some(("at", when)) => assert_eq!(wake, time(when)),
            Some(("within", most)) => assert!(wake.duration_since(self.now) <= duration(most), "{wake}"),
            _ => assert_eq!(text, ""),
        }
        assert!(wake.duration_since(self.now) >= SignedDuration::ZERO);
        self.now = wake;
    }

    fn expect_report(&mut self, text: &str, may_be_partial: bool) {
        let reports = self.targets.take_reports(may_be_partial, self.now);
        let report = reports.into_iter().find(|report| report.target == SHOP);
        if text == "nothing" {
            return assert_eq!(report, None);
        }
        let report = report.expect("something new is said");
        let mut parts = text.split(" ;").map(str::trim);
        for word in parts.next().unwrap_or_default().split_whitespace() {
            assert!(is_so(&report, word), "it is not {word}: {report:#?}");
        }
        for part in parts {
            assert!(report.lines.iter().any(|line| is_line(line, part)), "no line says `{part}`: {report:#?}");
        }
    }

    fn expect_drifts(&mut self, text: &str) {
        let said = std::mem::take(&mut self.drifts).into_iter().map(|drifted| {
            let after = drifted.found_at.duration_since(Timestamp::UNIX_EPOCH);
            let (change, response) = (drifted.found.change.as_str(), drifted.response.as_str());
            format!("{} {change} {response} {}s", name(&drifted.key), after.as_secs())
        });
        assert_eq!(joined(&said.collect::<Vec<_>>()), text);
    }
}

fn had_before(text: &str) -> Before {
    let (object, more) = text.split_once(' ').unwrap_or((text, ""));
    let words = Words::of(more);
    Before { key: key(object), prunable: words.has("prunable"), is_once: words.has("once") }
}

fn assignment(target: TargetId, generation: &str, action: Action, manifest: Manifest) -> Assignment {
    Assignment {
        target,
        name: "shop".parse().expect("a name"),
        generation: Generation::new(generation.trim().parse().expect("a number")),
        action,
        manifest,
        prunable: Vec::new(),
        namespace: None,
        project: None,
        options: SyncOptions::default(),
        retried: Generation::default(),
        trace: None,
    }
}

fn is_so(report: &Report, word: &str) -> bool {
    let counts = report.objects;
    match word.split_once('=') {
        Some(("total", number)) => counts.total.to_string() == number,
        Some(("in-place", number)) => counts.in_place.to_string() == number,
        Some(("healthy", number)) => counts.healthy.to_string() == number,
        Some(("lines", number)) => report.lines.len().to_string() == number,
        _ => match word {
            "applied" | "applying" => report.applied == (word == "applied"),
            "passing" | "lasting" => report.may_pass() == (word == "passing"),
            _ if word.starts_with("gen") => format!("gen{}", report.generation.get()) == word,
            verdict => report.verdict.as_str() == verdict,
        },
    }
}

/// `name outcome verdict: words of its message or hint`
fn is_line(line: &ObjectLine, text: &str) -> bool {
    let (head, words) = text.split_once(": ").unwrap_or((text, ""));
    let written = format!("{} {} {}", name(&line.key), line.outcome.as_str(), line.verdict);
    written == head && (line.message.contains(words) || line.hint.contains(words))
}

/// Of an object with that content: of one that says `ttl`, `early`, `pre`, `post`, `goes`, `up`, `once`, `owned`, `anew`
/// or `as-it-is` there is a little more to know.
fn body(content: &str) -> &str {
    match content {
        "ttl" => r#"{"kind": "Job", "spec": {"ttlSecondsAfterFinished": 60}}"#,
        "early" => r#"{"metadata": {"annotations": {"bellwether.dev/phase": "0"}}}"#,
        "pre" => r#"{"metadata": {"annotations": {"helm.sh/hook": "pre-install,pre-upgrade"}}}"#,
        // A hook of upgrades, in two versions.
        "up" => r#"{"metadata": {"annotations": {"helm.sh/hook": "pre-upgrade", "bellwether.dev/hook": "upgrade"}}}"#,
        "up-2" => {
            r#"{"metadata": {"annotations": {"helm.sh/hook": "pre-upgrade,pre-rollback", "bellwether.dev/hook": "upgrade"}}}"#
        }
        // A hook of the installation alone, in two versions.
        "inst" => r#"{"metadata": {"annotations": {"helm.sh/hook": "post-install"}}}"#,
        "inst-2" => r#"{"metadata": {"annotations": {"helm.sh/hook": "post-install,post-rollback"}}}"#,
        // A hook that is deleted however it ended, in two versions.
        "goes" => {
            r#"{"metadata": {"annotations": {"helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-delete-policy": "hook-succeeded,hook-failed"}}}"#
        }
        "goes-2" => {
            r#"{"metadata": {"annotations": {"argocd.argoproj.io/hook": "PreSync", "argocd.argoproj.io/hook-delete-policy": "HookSucceeded,HookFailed"}}}"#
        }
        "once" => r#"{"metadata":{"annotations":{"bellwether.dev/apply":"once"}}}"#,
        "once-too" => r#"{"metadata":{"annotations":{"bellwether.dev/apply":"once"}},"spec":{}}"#,
        "post" => r#"{"metadata": {"annotations": {"helm.sh/hook": "post-install,post-upgrade"}}}"#,
        "owned" => r#"{"metadata": {"annotations": {"bellwether.dev/owner": "main/default/shop"}}}"#,
        "anew" => r#"{"metadata": {"annotations": {"bellwether.dev/replace": "immutable"}}}"#,
        "kept" => r#"{"metadata": {"annotations": {"helm.sh/resource-policy": "keep"}}}"#,
        "as-it-is" => r#"{"metadata": {"annotations": {"bellwether.dev/replace": "never"}}}"#,
        content => content,
    }
}

fn joined(items: &[String]) -> String {
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

fn kind(text: &str) -> Kind {
    let ObjectKey { api_version, kind, .. } = key(&format!("{text}/x"));
    Kind { api_version, kind }
}

/// `a{00..99}@1` is a hundred objects.
fn spread(text: &str) -> Vec<String> {
    let Some((before, rest)) = text.split_once('{') else { return vec![text.to_owned()] };
    let (range, after) = rest.split_once('}').expect("a range ends");
    let (first, last) = range.split_once("..").expect("a range");
    let numbers = first.parse::<usize>().expect("a number")..=last.parse().expect("a number");
    numbers.map(|number| format!("{before}{number:0width$}{after}", width = first.len())).collect()
}

fn drift_mode(word: &str) -> DriftMode {
    match word {
        "warn" => DriftMode::Warn,
        "ignore" => DriftMode::Ignore,
        _ => DriftMode::Correct,
    }
}

fn replace(word: &str) -> Replace {
    if word == "immutable" { Replace::Immutable } else { Replace::Never }
}

fn prune(word: &str) -> Prune {
    match word {
        "never" => Prune::Never,
        "after-apply" => Prune::AfterApply,
        _ => Prune::AfterHealthy,
    }
}
