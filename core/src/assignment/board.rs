//! The objects of one agent: what each is to say, what is there, and what is written next.
//!
//! Fed with what is to be shown and with what a watch sees, and asked for the next write and for who is suspended. An object
//! is ours when its spec names this agent, which the API server lets nobody change; any other one is left alone, whatever
//! its name: ours then has a longer one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::notes::{self, Note, Notes, Reason};
use super::standing::{self, Shown};
use super::suspension::{Asked, Suspension};
use super::{API_VERSION, KIND, PAUSE, SUSPEND_ANNOTATION};
use crate::TargetId;
use crate::backoff::{Backoff, Jitter};

/// The name of the object of the agent itself.
pub(super) const AGENT: &str = "agent";

/// After a start, what is said before all was looked at is not written: a restart that changes nothing writes nothing. A
/// target that is still on its way by then is.
const SETTLING: SignedDuration = SignedDuration::from_secs(10);

/// Between tries of what the API server does not take.
const REFUSED: Backoff = Backoff {
    first: std::time::Duration::from_secs(2),
    longest: std::time::Duration::from_mins(5),
    jitter: Jitter::None,
};

/// Between two reminders of a suspension that ends by nothing but somebody.
const NAG_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// Whose an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Agent,
    Target(TargetId),
}

/// One of our objects, as the API server has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    name: String,
    uid: Uuid,
    version: u64,
    generation: i64,
    subject: Subject,
    asked: Option<Asked>,
    spec: Value,
    status: Value,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Refused where something has the name.
    Create { name: String, body: Value },
    /// A merge patch of the object with that uid.
    Spec { name: String, patch: Value },
    /// The same of its status.
    Status { name: String, patch: Value },
    /// The object with this uid.
    Delete { name: String, uid: Uuid },
}

/// What came of one.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and nearly all are of the large kind")]
pub enum Written {
    /// This is there now; `None`: it is gone, or somebody else's.
    Done(Option<Seen>),
    /// Another object has the name.
    Taken,
    Failed,
}

/// Who is suspended. A target that is in none of these may be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// By the object of the agent: everything.
    pub all: Option<Suspension>,
    pub targets: BTreeMap<TargetId, Suspension>,
}

impl Holds {
    /// What holds this target: its own comes first.
    pub fn of(&self, target: TargetId) -> Option<&Suspension> {
        self.targets.get(&target).or(self.all.as_ref())
    }
}

#[derive(Debug, Default)]
struct Row {
    shown: Option<Shown>,
    suspension: Option<Suspension>,
    /// The object whose status was read for how long it has been suspended.
    judged: Option<Uuid>,
    /// The target is no more, or was never one of this agent's: its object goes.
    is_ended: bool,
    /// Something may be to write.
    is_doubtful: bool,
    /// Nothing is written before.
    free_at: Option<Timestamp>,
    failures: u32,
    /// The status that a write on its way takes the place of: the watch may tell of that before its answer comes.
    written_over: Option<Value>,
    /// When it is said again that it is suspended.
    nag_at: Option<Timestamp>,
}

/// See the module.
#[derive(Debug)]
pub struct Board {
    /// The namespace that the agent is installed in: no two of a cluster share one.
    home: String,
    settles_at: Timestamp,
    rows: BTreeMap<Subject, Row>,
    seen: BTreeMap<(Subject, String), Seen>,
    /// Names that others have.
    taken: BTreeSet<String>,
    /// What is being listed has been seen.
    listing: Option<BTreeSet<(Subject, String)>>,
    is_listed: bool,
    notes: Notes,
}

impl Board {
    /// Of an agent that begins with these targets.
    pub fn new(home: &str, targets: impl IntoIterator<Item = TargetId>, now: Timestamp) -> Self {
        let subjects = targets.into_iter().map(Subject::Target).chain([Subject::Agent]);
        Self {
            home: home.to_owned(),
            settles_at: later(now, SETTLING),
            rows: subjects.map(|subject| (subject, Row { is_doubtful: true, ..Row::default() })).collect(),
            seen: BTreeMap::new(),
            taken: BTreeSet::new(),
            listing: None,
            is_listed: false,
            notes: Notes::default(),
        }
    }

    /// Something was done to an object of the target, which the text names.
    pub fn note(&mut self, target: TargetId, reason: Reason, text: String) {
        self.notes.put(Subject::Target(target), reason, text);
    }

    /// The next event, if there is one whose time has come. What happened to a target that has no object is said to nobody.
    pub fn take_note(&mut self, now: Timestamp) -> Option<Note> {
        if !self.is_listed {
            return None;
        }
        for (&subject, row) in &mut self.rows {
            let suspension = row.suspension.as_ref().filter(|it| it.until.is_none());
            let due = row.nag_at.filter(|&at| at <= now).and(suspension);
            if let Some(suspension) = due {
                self.notes.put(subject, Reason::Suspended, suspension.to_string());
                row.nag_at = Some(later(now, NAG_PAUSE));
            }
        }
        loop {
            let (subject, reason, text) = self.notes.take(now)?;
            if let Some(seen) = self.first(subject) {
                return Some(Note { name: seen.name.clone(), uid: seen.uid, reason, text });
            }
        }
    }

    /// When there may be something to say.
    pub fn note_at(&self, now: Timestamp) -> Option<Timestamp> {
        let nags = self.rows.values().filter_map(|row| row.nag_at);
        nags.chain(self.notes.next_at(now)).min().filter(|_| self.is_listed)
    }

    /// The namespace of the agent.
    pub fn home(&self) -> &str {
        &self.home
    }

    /// How a target stands.
    pub fn show(&mut self, shown: Shown) {
        let row = self.rows.entry(Subject::Target(shown.target)).or_default();
        row.is_doubtful |= row.is_ended || row.shown.as_ref() != Some(&shown);
        (row.shown, row.is_ended) = (Some(shown), false);
    }

    /// It is no more.
    pub fn end(&mut self, target: TargetId) {
        if let Some(row) = self.rows.get_mut(&Subject::Target(target)) {
            (row.is_ended, row.is_doubtful) = (true, true);
        }
    }

    /// A list begins: what it does not name is gone.
    pub fn begin_list(&mut self) {
        self.listing = Some(BTreeSet::new());
    }

    /// All that there are have been seen: from now on it is known who is suspended.
    pub fn end_list(&mut self, now: Timestamp) {
        let listed = self.listing.take().unwrap_or_default();
        let gone: Vec<_> = self.seen.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in gone {
            self.lose(&key, now);
        }
        self.is_listed = true;
        self.taken.clear();
    }

    /// It cannot be known: nobody is suspended, and all that is shown waits.
    pub fn forget(&mut self) {
        self.seen.clear();
        self.is_listed = false;
        for row in self.rows.values_mut() {
            (row.suspension, row.judged, row.is_doubtful) = (None, None, true);
        }
    }

    /// Reads an object; `None`: it is not ours.
    pub fn read(&self, object: &Value) -> Option<Seen> {
        Seen::read(object).filter(|_| object["spec"]["agent"] == self.home.as_str())
    }

    /// One of ours is there like this.
    pub fn see(&mut self, seen: Seen, now: Timestamp) {
        let key = (seen.subject, seen.name.clone());
        let is_listed = self.listing.as_mut().is_some_and(|listing| listing.insert(key.clone()));
        // Our own write may have been answered before the watch tells of what was there earlier. A list is believed in any
        // case: versions go back where a backup was restored, and a watch goes on from where its list ends.
        let is_older = |known: &Seen| known.uid == seen.uid && known.version > seen.version;
        if !is_listed && self.seen.get(&key).is_some_and(is_older) {
            return;
        }
        let subject = seen.subject;
        self.lose_named(&seen.name, Some(subject), now);
        self.seen.insert(key, seen);
        self.judge(subject, now);
    }

    /// An object of that name is gone, whoever had it.
    pub fn see_gone(&mut self, name: &str, now: Timestamp) {
        self.taken.remove(name);
        self.lose_named(name, None, now);
        for row in self.rows.values_mut().filter(|row| row.failures > 0) {
            row.is_doubtful = true;
        }
    }

    /// Something that is not ours has the name: if that was one of ours, it is gone.
    pub fn see_other(&mut self, name: &str, now: Timestamp) {
        self.lose_named(name, None, now);
    }

    fn lose_named(&mut self, name: &str, but: Option<Subject>, now: Timestamp) {
        let is_it = |(subject, of): &&(Subject, String)| of == name && Some(*subject) != but;
        for key in self.seen.keys().filter(is_it).cloned().collect::<Vec<_>>() {
            self.lose(&key, now);
        }
    }

    fn lose(&mut self, key: &(Subject, String), now: Timestamp) {
        self.seen.remove(key);
        self.judge(key.0, now);
    }

    /// Who suspends it now.
    fn judge(&mut self, subject: Subject, now: Timestamp) {
        let row = self.rows.entry(subject).or_insert_with(|| Row { is_ended: true, ..Row::default() });
        let (known, judged) = (row.suspension.clone(), row.judged);
        let first = self.first(subject);
        let suspension = first.and_then(|seen| {
            // What the status says was written by an earlier process, and counts once: it lags behind what is asked for, and
            // the same text may have been taken away and written again.
            let is_new = judged != Some(seen.uid);
            let stored = || serde_json::from_value(seen.status["suspended"].clone()).ok().filter(|_| is_new);
            let before: Option<Suspension> = known.or_else(stored);
            Suspension::read(seen.asked.as_ref()?, before.as_ref(), now)
        });
        let judged = first.map(|seen| seen.uid);
        let row = self.rows.entry(subject).or_default();
        row.judged = judged;
        let lasts = suspension.as_ref().is_some_and(|it| it.until.is_none());
        row.nag_at = lasts.then(|| row.nag_at.unwrap_or_else(|| later(now, NAG_PAUSE)));
        (row.suspension, row.is_doubtful) = (suspension, true);
    }

    /// The one that counts of those that say they are this target's.
    fn first(&self, subject: Subject) -> Option<&Seen> {
        let mut of_it = self.of(subject);
        let first = of_it.next()?;
        let names = self.names(subject);
        Some(names.iter().find_map(|name| self.seen.get(&(subject, name.clone()))).unwrap_or(first))
    }

    fn of(&self, subject: Subject) -> impl Iterator<Item = &Seen> {
        let all = self.seen.range((subject, String::new())..);
        all.take_while(move |((of, _), _)| *of == subject).map(|(_, seen)| seen)
    }

    fn names(&self, subject: Subject) -> Vec<String> {
        match subject {
            Subject::Agent => vec![AGENT.to_owned(), format!("{AGENT}.{}", self.home)],
            Subject::Target(_) => {
                let shown = self.rows.get(&subject).and_then(|row| row.shown.as_ref());
                shown.map(|shown| shown.names().to_vec()).unwrap_or_default()
            }
        }
    }

    /// Who is suspended now; `None`: it is not known yet.
    pub fn holds(&self, now: Timestamp) -> Option<Holds> {
        self.is_listed.then(|| self.known_holds(now))
    }

    /// Who is suspended as far as it is known.
    pub fn known_holds(&self, now: Timestamp) -> Holds {
        let mut holds = Holds::default();
        for (subject, row) in &self.rows {
            let Some(suspension) = row.suspension.as_ref().filter(|it| !it.is_over(now)) else { continue };
            match subject {
                Subject::Agent => holds.all = Some(suspension.clone()),
                Subject::Target(target) => drop(holds.targets.insert(*target, suspension.clone())),
            }
        }
        holds
    }

    /// The next request, if there is one whose time has come. It is to be answered ([`Board::record`]) before another is taken.
    pub fn take_write(&mut self, now: Timestamp) -> Option<Write> {
        if !self.is_listed {
            return None;
        }
        self.note_ends(now);
        let due: Vec<_> = self.rows.iter().filter(|(_, row)| row.is_due(now)).map(|(&subject, _)| subject).collect();
        for subject in due {
            if self.waits_to_settle(subject, now) {
                continue;
            }
            let write = self.plan(subject, now);
            let before = self.first(subject).map(|seen| seen.status.clone());
            let row = self.rows.get_mut(&subject)?;
            match write {
                Some(write) => {
                    row.free_at = Some(later(now, PAUSE));
                    row.written_over = before.filter(|_| matches!(write, Write::Status { .. }));
                    return Some(write);
                }
                None if row.is_ended => {
                    self.rows.remove(&subject);
                    self.notes.drop_of(subject);
                }
                None => row.is_doubtful = false,
            }
        }
        None
    }

    /// What time alone has ended is to be said.
    fn note_ends(&mut self, now: Timestamp) {
        for row in self.rows.values_mut() {
            let ended = row.suspension.as_ref().is_some_and(|it| it.is_over(now));
            row.is_doubtful |= ended;
        }
    }

    /// What was written before this agent began stands until all was looked at.
    fn waits_to_settle(&self, subject: Subject, now: Timestamp) -> bool {
        let (Some(row), Some(seen)) = (self.rows.get(&subject), self.first(subject)) else { return false };
        let Some(shown) = &row.shown else { return false };
        now < self.settles_at
            && row.suspension.is_none()
            && !shown.is_settled()
            && seen.status.is_object()
            && seen.spec == shown.spec(&self.home)
    }

    fn plan(&self, subject: Subject, now: Timestamp) -> Option<Write> {
        let row = self.rows.get(&subject)?;
        let delete = |seen: &Seen| Write::Delete { name: seen.name.clone(), uid: seen.uid };
        if row.is_ended || row.shown.as_ref().is_some_and(Shown::is_gone) {
            return self.first(subject).map(delete);
        }
        let spec = match (subject, &row.shown) {
            (Subject::Agent, _) => json!({"agent": self.home}),
            (Subject::Target(_), Some(shown)) => shown.spec(&self.home),
            // Nothing is known of it yet, but that it is there.
            (Subject::Target(_), None) => return None,
        };
        let Some(seen) = self.first(subject) else {
            let name = self.names(subject).into_iter().find(|name| !self.taken.contains(name))?;
            let metadata = json!({"name": name, "labels": {"app.kubernetes.io/managed-by": "bellwether-agent"}});
            let body = json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec});
            return Some(Write::Create { name, body });
        };
        if let Some(second) = self.of(subject).find(|other| other.name != seen.name) {
            return Some(delete(second));
        }
        let of_it = |field: &str, patch: Value| json!({"metadata": {"uid": seen.uid}, field: patch});
        if let Some(patch) = merge_patch(&seen.spec, &spec) {
            return Some(Write::Spec { name: seen.name.clone(), patch: of_it("spec", patch) });
        }
        let (suspension, before) = (row.suspension.as_ref(), (seen.generation, &seen.status));
        let status = match &row.shown {
            Some(shown) => shown.status(suspension, before, now),
            None => standing::agent_status(suspension, before, now),
        };
        let patch = merge_patch(&seen.status, &status)?;
        Some(Write::Status { name: seen.name.clone(), patch: of_it("status", patch) })
    }

    /// What came of a write.
    pub fn record(&mut self, write: &Write, written: Written, now: Timestamp) {
        let subject = match write {
            Write::Create { body, .. } => Subject::of(&body["spec"]),
            Write::Spec { name, .. } | Write::Status { name, .. } | Write::Delete { name, .. } => {
                self.seen.keys().find(|(_, of)| of == name).map(|(subject, _)| *subject)
            }
        };
        let row = subject.and_then(|subject| self.rows.get_mut(&subject));
        match (written, row) {
            (Written::Done(Some(seen)), row) => {
                if let Some(row) = row {
                    row.failures = 0;
                    let turns = row.written_over.take().map(|before| notes::turns(&seen.spec, &before, &seen.status));
                    for (reason, text) in turns.unwrap_or_default() {
                        self.notes.put(seen.subject, reason, text);
                    }
                }
                self.see(seen, now);
            }
            (Written::Done(None), _) => self.see_gone(write.name(), now),
            (Written::Taken, row) => {
                // One of ours is told by the watch before the next try.
                self.taken.insert(write.name().to_owned());
                if let Some(row) = row {
                    row.failures += 1;
                }
            }
            (Written::Failed, Some(row)) => {
                row.failures = row.failures.saturating_add(1);
                let wait = SignedDuration::try_from(REFUSED.whole(row.failures)).unwrap_or(SignedDuration::MAX);
                row.free_at = Some(later(now, wait));
            }
            (Written::Failed, None) => {}
        }
    }

    /// When there may be something to write, if nothing happens before.
    pub fn write_at(&self, now: Timestamp) -> Option<Timestamp> {
        let write_at = |(subject, row): (&Subject, &Row)| {
            let at = row.is_doubtful.then(|| row.free_at.unwrap_or(now))?;
            Some(if self.waits_to_settle(*subject, now) { at.max(self.settles_at) } else { at })
        };
        let writes = self.rows.iter().filter_map(write_at).filter(|_| self.is_listed);
        writes.min()
    }

    /// When somebody is no more suspended.
    pub fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = self.rows.values().filter_map(|row| row.suspension.as_ref()?.until);
        ends.filter(|&until| until > now).min()
    }
}

impl Row {
    fn is_due(&self, now: Timestamp) -> bool {
        self.is_doubtful && self.free_at.is_none_or(|at| at <= now)
    }
}

impl Write {
    /// Of its object.
    pub fn name(&self) -> &str {
        match self {
            Self::Create { name, .. }
            | Self::Spec { name, .. }
            | Self::Status { name, .. }
            | Self::Delete { name, .. } => name,
        }
    }
}

impl Subject {
    fn of(spec: &Value) -> Option<Self> {
        match &spec["targetId"] {
            Value::Null => Some(Self::Agent),
            id => id.as_str()?.parse().ok().map(|id| Self::Target(TargetId::new(id))),
        }
    }
}

impl Seen {
    fn read(object: &Value) -> Option<Self> {
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str();
        let asked = metadata["annotations"][SUSPEND_ANNOTATION].as_str();
        Some(Self {
            name: text("name")?.to_owned(),
            uid: text("uid")?.parse().ok()?,
            version: text("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default(),
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            subject: Subject::of(&object["spec"])?,
            asked: asked.map(|text| Asked::new(text, manager(&metadata["managedFields"]))),
            spec: object["spec"].clone(),
            status: object["status"].clone(),
        })
    }
}

/// Who has written the annotation.
fn manager(managed_fields: &Value) -> &str {
    let field = format!("f:{SUSPEND_ANNOTATION}");
    let has_it = |entry: &&Value| entry["fieldsV1"]["f:metadata"]["f:annotations"].get(&field).is_some();
    let entry = managed_fields.as_array().and_then(|entries| entries.iter().find(has_it));
    entry.and_then(|entry| entry["manager"].as_str()).unwrap_or_default()
}

/// What makes one value the other (RFC 7396); `None`: they are the same.
fn merge_patch(from: &Value, to: &Value) -> Option<Value> {
    if from == to {
        return None;
    }
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return Some(to.clone()) };
    let gone = from.keys().filter(|name| !to.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let changed = to.iter().filter_map(|(name, value)| {
        let patch = from.get(name).map_or_else(|| Some(value.clone()), |before| merge_patch(before, value))?;
        Some((name.clone(), patch))
    });
    Some(Value::Object(changed.chain(gone).collect::<Map<_, _>>()))
}

fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
