//! What an agent has accepted, as it stands in its cluster: which entries there are, what is in them, which may go.
//!
//! Every entry holds the assignments that changed, the objects that no entry held before, and what each target had
//! before: so it is also the list of all that may ever have to be deleted, written before anything of it is applied.
//! What was learned since (which object holds what, what is gone) follows when there is time: it saves requests, and
//! tells what an agent that starts anew may take back from somebody who changed it meanwhile. Entries are numbered, and
//! written by creating the next number. Nothing here writes; it decides what is written, and never names an entry as
//! dead that holds something current, or that is newer than one that does.

mod backlog;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::apply::is_applied_once;
use crate::bundle::Manifest;
use crate::health::{self, Ending};
use crate::object::Identity;
use crate::session::agent::Accepted;
use crate::session::{Action, Adopt, Assignment, DriftMode, Forgotten, Prune, Replace, SyncOptions};
use crate::{Digest, Generation, Name, ObjectKey, TargetId, TraceId};

pub use backlog::Backlog;

/// Of one part of an entry: a Secret may hold 1 MiB.
pub const PART_BYTES_MAX: usize = 900 * 1024;

/// Dead bytes that are not worth writing the living ones anew.
const SLACK_BYTES: usize = 64 * 1024;

/// Entries that are not worth it either; they are all read at a start.
const ENTRIES_MAX: usize = 200;

/// About what these take in an entry.
const MANIFEST_LINE_BYTES: usize = 200;
const APPLIED_BYTES: usize = 250;
const BEFORE_BYTES: usize = 100;
const RECORD_BYTES: usize = 200;
const FORGOTTEN_BYTES: usize = 50;

/// Stands in each part, beside its bytes. The last part seals the entry: without it nothing of it was acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Of the process that wrote it.
    pub boot: Uuid,
    /// The number of the entry's first part; the others follow.
    pub entry: u64,
    /// How many parts the entry has; one that lacks some counts for nothing.
    pub parts: u64,
}

/// A part as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// In the order of writing, from 1, without regard to entries.
    pub number: u64,
    pub head: Head,
    pub bytes: Vec<u8>,
}

/// An object that a target had before its assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    pub key: ObjectKey,
    /// A plan has named it, and no bundle since.
    pub prunable: bool,
    /// The last bundle that had it asked for it to be applied once: so it stays, whatever its object in the cluster says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_once: bool,
}

/// What an apply that succeeded put into the cluster: the fields of that are ours, on the object with that uid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub key: ObjectKey,
    /// Of the object as it was then: another one under the name is not ours by this.
    pub uid: Uuid,
    /// Of the body that was applied.
    pub digest: Digest,
    /// How a Job or a Pod ended that ran to its end: when it is gone, it is not missed, and what it did stays known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Ending>,
    /// Under which it was applied. The journals of earlier versions do not say.
    #[serde(default)]
    pub generation: Generation,
}

/// What a target is installed with in its cluster: any other bundle is an upgrade of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// `None`: it had objects there before anybody wrote this down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Digest>,
    /// All of it was in place once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_done: bool,
    /// Parts of another bundle were applied before, and no later one has come since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_mixed: bool,
}

/// What was learned of a target's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryUpdate {
    pub target: TargetId,
    /// Newer ones last.
    pub applied: Vec<Applied>,
    /// Gone from the cluster.
    pub gone: Vec<ObjectKey>,
    /// If that is another one.
    pub installation: Option<Installation>,
    /// Which one it is of this process: whoever waits for it to be written is told of that number or a greater one.
    pub number: u64,
}

impl InventoryUpdate {
    /// It is about something that runs once, or about what the target is installed with: a process that has not learned it would
    /// run that again, or not at all.
    pub fn is_urgent(&self) -> bool {
        let is_done = self.installation.is_some_and(|installation| installation.is_done);
        is_done || self.applied.iter().any(|applied| health::runs_once(applied.key.group(), &applied.key.kind))
    }

    /// Takes in what was learned after it.
    pub fn add(&mut self, Self { target: _, applied, gone, installation, number }: Self) {
        self.applied.extend(applied);
        self.gone.extend(gone);
        self.installation = installation.or(self.installation);
        self.number = number;
    }

    /// With nothing learned yet.
    pub const fn about(target: TargetId) -> Self {
        Self { target, applied: Vec::new(), gone: Vec::new(), installation: None, number: 0 }
    }
}

/// An assignment that was written down, with all that is needed to act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journalled {
    pub assignment: Assignment,
    /// Under which its bundle came: those after it have kept or retried the same.
    pub bundle_since: Generation,
    /// What the target had before and may have to delete, once the plan allows it.
    pub before: Vec<Before>,
    pub applied: Vec<Applied>,
    pub installation: Option<Installation>,
    /// Those of the assignment, and of what was applied.
    pub objects: BTreeMap<Digest, Arc<[u8]>>,
}

/// What is written at once. Its bodies are the journal's own, and no copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    records: Vec<Record>,
    objects: BTreeMap<Digest, Body>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learned: Vec<Learned>,
    /// Targets of which nothing is known any more that stands in an older entry.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    ended: BTreeSet<TargetId>,
    /// All that was let go so far, when that changed; it replaces what earlier entries say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forgotten: Option<Forgotten>,
}

/// An object's bytes: a text to whoever writes them, as they are JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Body(Arc<[u8]>);

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.0).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Arc::from(text.into_bytes())))
    }
}

/// All that is known of a target's objects; it replaces what earlier entries say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Learned {
    target: TargetId,
    generation: Generation,
    before: Vec<Before>,
    applied: Vec<Applied>,
    /// Journals of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    installation: Option<Installation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    target: TargetId,
    name: Name,
    generation: Generation,
    action: String,
    digest: Digest,
    manifest: String,
    prunable: Vec<ObjectKey>,
    prune: Prune,
    drift: DriftMode,
    #[serde(default)]
    adopt: Adopt,
    #[serde(default)]
    replace: Replace,
    #[serde(default)]
    create_namespace: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service_account: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    project: Option<Name>,
    before: Vec<Before>,
    /// The records of earlier versions do not say: then nothing counts as changed by a bundle.
    #[serde(default)]
    bundle_since: Generation,
    #[serde(default)]
    retried: Generation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<TraceId>,
}

/// A whole entry that cannot be read. No journal comes of it: that entry may hold what is newest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("entry {entry} of the journal cannot be read: {problem}")]
pub struct LoadError {
    pub entry: u64,
    problem: String,
}

/// An entry without its bodies.
#[derive(Deserialize)]
struct Outline {
    records: Vec<Record>,
    #[serde(default)]
    learned: Vec<Learned>,
    #[serde(default)]
    ended: BTreeSet<TargetId>,
    #[serde(default)]
    forgotten: Option<Forgotten>,
}

/// An entry's bodies alone.
#[derive(Deserialize)]
struct Bodies {
    objects: BTreeMap<Digest, Body>,
}

/// Reads a journal part by part, in the order of their numbers, and twice. What is current is known after the first time,
/// so that of all that was ever current no body stands in memory for longer than its entry: the process that starts has no
/// more room than the one that wrote it.
pub struct Loading<D> {
    journal: Journal,
    decompress: D,
    open: Option<OpenEntry>,
    /// The second time: the bodies of what is current.
    wanted: Option<BTreeSet<Digest>>,
}

/// An entry of which the parts come.
struct OpenEntry {
    head: Head,
    /// That have come.
    parts: u64,
    bytes: Vec<u8>,
}

impl<R: io::Read, D: Fn(Vec<u8>) -> io::Result<R>> Loading<D> {
    /// `decompress` reads what [`Entry::write`] wrote out of the bytes that it became.
    pub fn new(decompress: D) -> Self {
        Self { journal: Journal::default(), decompress, open: None, wanted: None }
    }

    /// The next part, in the order of their numbers.
    pub fn take(&mut self, part: Part) -> Result<(), LoadError> {
        self.journal.last = self.journal.last.max(part.number);
        match self.open.as_mut().filter(|open| open.head.entry == part.head.entry) {
            Some(open) => {
                open.parts += 1;
                open.bytes.extend(part.bytes);
            }
            None => {
                self.close()?;
                self.open = Some(OpenEntry { head: part.head, parts: 1, bytes: part.bytes });
            }
        }
        Ok(())
    }

    /// All parts were taken once; now they come again.
    pub fn rewind(&mut self) -> Result<(), LoadError> {
        self.close()?;
        self.wanted = Some(self.journal.current.values().flat_map(Current::bodies).collect());
        Ok(())
    }

    /// All parts were taken twice.
    pub fn finish(mut self) -> Result<Journal, LoadError> {
        self.close()?;
        Ok(self.journal)
    }

    fn close(&mut self) -> Result<(), LoadError> {
        let Some(OpenEntry { head, parts, bytes }) = self.open.take() else { return Ok(()) };
        // One that was never sealed, or that was half deleted: nothing of it counts, and it goes with the others.
        if parts != head.parts {
            self.journal.stored.entry(head.entry).or_insert(Stored { parts: head.parts, bytes: 0 });
            return Ok(());
        }
        let unreadable = |problem: String| LoadError { entry: head.entry, problem };
        let plain = (self.decompress)(bytes).map_err(|_| unreadable("it is damaged".to_owned()))?;
        let plain = io::BufReader::new(plain);
        if let Some(wanted) = &self.wanted {
            let Bodies { objects } = read(plain).map_err(unreadable)?;
            self.journal.take_bodies(head.entry, objects, wanted);
            return Ok(());
        }
        let outline = read(plain).map_err(unreadable)?;
        self.journal.take_outline(head.entry, parts, outline).map_err(unreadable)
    }
}

fn read<T: DeserializeOwned>(plain: impl io::Read) -> Result<T, String> {
    serde_json::from_reader(plain).map_err(|error| error.to_string())
}

/// What the agent holds and what is stored of it, in memory: the value that says what is written next
/// ([`Journal::plan`]), is told that it was ([`Journal::note_written`]), and then names what may go
/// ([`Journal::take_dead`]). One entry is written at a time.
#[derive(Debug, Default)]
pub struct Journal {
    current: BTreeMap<TargetId, Current>,
    bodies: BTreeMap<Digest, Arc<[u8]>>,
    /// By the number of the first part.
    stored: BTreeMap<u64, Stored>,
    /// The entry that holds the newest copy.
    homes: BTreeMap<Digest, u64>,
    /// Let go, and no entry says so yet.
    ended: BTreeSet<TargetId>,
    forgotten: Forgotten,
    /// The newest entry that holds them.
    forgotten_home: Option<u64>,
    last: u64,
}

#[derive(Debug)]
struct Current {
    assignment: Assignment,
    bundle_since: Generation,
    before: Vec<Before>,
    /// Whatever version they were applied in.
    applied: BTreeMap<Identity, Applied>,
    installation: Option<Installation>,
    /// The entry that holds the assignment.
    home: u64,
    /// The newest entry that holds what was learned, and whether there is more.
    learned_home: Option<u64>,
    updates: Updates,
    /// Of the newest update that was learned.
    update_number: u64,
}

/// What was learned of a target and no entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Updates {
    None,
    Unwritten,
    /// Taken into an entry that is being written.
    Planned,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    parts: u64,
    bytes: usize,
}

impl Journal {
    /// From all parts that there are, when they are in memory anyway.
    pub fn load<R: io::Read>(
        mut parts: Vec<Part>,
        decompress: impl Fn(Vec<u8>) -> io::Result<R>,
    ) -> Result<Self, LoadError> {
        parts.sort_by_key(|part| part.number);
        let mut loading = Loading::new(decompress);
        for part in &parts {
            loading.take(part.clone())?;
        }
        loading.rewind()?;
        for part in parts {
            loading.take(part)?;
        }
        loading.finish()
    }

    fn take_outline(&mut self, number: u64, parts: u64, outline: Outline) -> Result<(), String> {
        let Outline { records, learned, ended, forgotten } = outline;
        self.stored.insert(number, Stored { parts, bytes: bytes(&records, &learned, forgotten.as_ref()) });
        // What came in this entry comes after what it ends.
        self.current.retain(|target, _| !ended.contains(target));
        if let Some(forgotten) = forgotten {
            (self.forgotten, self.forgotten_home) = (forgotten, Some(number));
        }
        for record in records {
            self.replace((record.assignment()?, record.bundle_since), record.before, number);
        }
        for learned in learned {
            let Some(current) = self.current.get_mut(&learned.target) else { continue };
            if current.assignment.generation == learned.generation {
                current.before = learned.before;
            }
            let applied = learned.applied.into_iter();
            current.applied = applied.map(|applied| (Identity::of(&applied.key), applied)).collect();
            current.installation = learned.installation;
            current.learned_home = Some(number);
        }
        Ok(())
    }

    fn take_bodies(&mut self, number: u64, bodies: BTreeMap<Digest, Body>, wanted: &BTreeSet<Digest>) {
        if let Some(stored) = self.stored.get_mut(&number) {
            stored.bytes += bodies.values().map(|body| body.0.len()).sum::<usize>();
        }
        self.homes.extend(bodies.keys().map(|digest| (*digest, number)));
        let wanted = bodies.into_iter().filter(|(digest, _)| wanted.contains(digest));
        self.bodies.extend(
            wanted.filter(|(digest, body)| Digest::of(&body.0) == *digest).map(|(digest, body)| (digest, body.0)),
        );
    }

    /// What was learned of its objects outlives an assignment.
    fn replace(&mut self, (assignment, bundle_since): (Assignment, Generation), before: Vec<Before>, home: u64) {
        self.forgotten.remove(assignment.target);
        let current = match self.current.remove(&assignment.target) {
            Some(current) => Current { assignment, bundle_since, before, home, ..current },
            None => Current {
                assignment,
                bundle_since,
                before,
                home,
                applied: BTreeMap::new(),
                installation: None,
                learned_home: None,
                updates: Updates::None,
                update_number: 0,
            },
        };
        self.current.insert(current.assignment.target, current);
    }

    /// Its tombstone was carried out, and nobody asks about it again. The next entry says so, which is needed as long as an
    /// older one holds it: those go first.
    pub fn end(&mut self, target: TargetId) {
        if let Some(current) = self.current.remove(&target) {
            self.ended.insert(target);
            self.forgotten.add(target, current.assignment.generation);
        }
    }

    /// What was let go here, and under which generation.
    pub fn forgotten(&self) -> &Forgotten {
        &self.forgotten
    }

    /// Whether the next entry has a tombstone to say that was carried out.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// What the agent holds, with all its bodies. What lacks one is left out, and is among [`Journal::lacking`].
    pub fn inventory(&self) -> Vec<Journalled> {
        let whole = self.current.values().filter(|current| self.missing(current).next().is_none());
        whole.map(|current| self.journalled(current)).collect()
    }

    /// What cannot be acted on before these bodies have come again.
    pub fn lacking(&self) -> Vec<(Assignment, BTreeSet<Digest>)> {
        let all = self.current.values().map(|current| (current.assignment.clone(), self.missing(current).collect()));
        all.filter(|(_, missing): &(_, BTreeSet<_>)| !missing.is_empty()).collect()
    }

    fn missing<'a>(&'a self, current: &'a Current) -> impl Iterator<Item = Digest> + 'a {
        current.assignment.objects().filter(|digest| !self.bodies.contains_key(digest))
    }

    /// A target as it stands.
    pub fn find(&self, target: TargetId) -> Option<Journalled> {
        self.current.get(&target).map(|current| self.journalled(current))
    }

    fn journalled(&self, current: &Current) -> Journalled {
        let body = |digest| Some((digest, Arc::clone(self.bodies.get(&digest)?)));
        Journalled {
            assignment: current.assignment.clone(),
            bundle_since: current.bundle_since,
            before: current.before.clone(),
            applied: current.applied.values().cloned().collect(),
            installation: current.installation,
            objects: current.bodies().filter_map(body).collect(),
        }
    }

    /// Written down with the next entry.
    pub fn learn(&mut self, update: InventoryUpdate) {
        let Some(current) = self.current.get_mut(&update.target) else { return };
        current.update_number = update.number;
        current.installation = update.installation.or(current.installation);
        current.applied.extend(update.applied.into_iter().map(|applied| (Identity::of(&applied.key), applied)));
        if !update.gone.is_empty() {
            let gone: BTreeSet<_> = update.gone.iter().map(Identity::of).collect();
            current.before.retain(|before| !gone.contains(&Identity::of(&before.key)));
            current.applied.retain(|identity, _| !gone.contains(identity));
        }
        current.updates = Updates::Unwritten;
    }

    /// Something was learned that is neither written nor being written.
    pub fn has_learned(&self) -> bool {
        self.current.values().any(|current| current.updates == Updates::Unwritten)
    }

    /// Takes in what was accepted, older ones of a target first, and answers with what has to be written before it is acted on.
    pub fn plan(&mut self, accepted: Vec<Accepted>) -> Entry {
        let kept: BTreeSet<_> = self.current.values().flat_map(Current::bodies).collect();
        let ended = std::mem::take(&mut self.ended);
        let mut changed = BTreeSet::new();
        for Accepted { assignment, objects } in accepted {
            changed.insert(assignment.target);
            self.bodies.extend(objects);
            let before = self.before(&assignment);
            let bundle_since = self.bundle_since(&assignment);
            self.replace((assignment, bundle_since), before, 0);
        }
        // Another target may be about to name what the last message took out of use.
        self.drop_bodies(&kept);
        let stored: usize = self.stored.values().map(|stored| stored.bytes).sum();
        let is_worth_it = stored > 2 * self.living_bytes() + SLACK_BYTES || self.stored.len() >= ENTRIES_MAX;
        let entry = if is_worth_it {
            self.entry(&self.current.keys().copied().collect(), |_| true, |_| true)
        } else {
            let has_more = |current: &Current| current.updates == Updates::Unwritten;
            self.entry(&changed, |digest| !self.homes.contains_key(digest), has_more)
        };
        for learned in &entry.learned {
            if let Some(current) = self.current.get_mut(&learned.target) {
                current.updates = Updates::Planned;
            }
        }
        let forgotten = (is_worth_it || !ended.is_empty()).then(|| self.forgotten.clone());
        Entry { ended, forgotten, ..entry }
    }

    /// Of an entry with everything, about.
    fn living_bytes(&self) -> usize {
        let bodies: BTreeSet<_> = self.current.values().flat_map(Current::bodies).collect();
        let bodies = bodies.iter().filter_map(|digest| self.bodies.get(digest)).map(|body| body.len());
        let records = self.current.values().map(|current| {
            let lines = MANIFEST_LINE_BYTES * current.assignment.manifest.entries().len();
            lines + APPLIED_BYTES * current.applied.len() + BEFORE_BYTES * current.before.len() + RECORD_BYTES
        });
        bodies.chain(records).sum::<usize>() + FORGOTTEN_BYTES * self.forgotten.len()
    }

    fn bundle_since(&self, next: &Assignment) -> Generation {
        let same = self.current.get(&next.target).filter(|current| {
            let now = &current.assignment;
            (now.action, now.manifest.digest()) == (next.action, next.manifest.digest())
        });
        same.map_or(next.generation, |current| current.bundle_since)
    }

    fn before(&self, next: &Assignment) -> Vec<Before> {
        let Some(current) = self.current.get(&next.target) else { return Vec::new() };
        let wanted: BTreeSet<_> = next.manifest.entries().iter().map(|entry| entry.key.identity()).collect();
        let allowed: BTreeSet<_> = next.prunable.iter().map(ObjectKey::identity).collect();
        let stays = |key: &ObjectKey| next.action == Action::Apply && wanted.contains(&key.identity());
        let applied =
            current.assignment.manifest.entries().iter().filter(|_| current.assignment.action == Action::Apply);
        let had = applied.filter(|entry| !stays(&entry.key)).map(|entry| {
            let is_once = self.bodies.get(&entry.digest).is_some_and(|body| is_applied_once(body));
            Before { key: entry.key.clone(), prunable: false, is_once }
        });
        had.chain(current.before.iter().filter(|before| !stays(&before.key)).cloned())
            .map(|before| Before { prunable: before.prunable || allowed.contains(&before.key.identity()), ..before })
            .collect()
    }

    fn entry(
        &self,
        targets: &BTreeSet<TargetId>,
        is_new: impl Fn(&Digest) -> bool,
        is_to_be_learned: impl Fn(&Current) -> bool,
    ) -> Entry {
        let of = targets.iter().filter_map(|target| self.current.get(target));
        let records = of.clone().map(Record::of).collect();
        let objects = of
            .flat_map(Current::bodies)
            .filter(is_new)
            .filter_map(|digest| Some((digest, Body(Arc::clone(self.bodies.get(&digest)?)))))
            .filter(|(_, body)| std::str::from_utf8(&body.0).is_ok());
        let knows = |current: &&Current| current.updates != Updates::None || current.learned_home.is_some();
        let learned = self.current.values().filter(knows).filter(|current| is_to_be_learned(current));
        let learned = learned.map(Learned::of).collect();
        Entry { records, objects: objects.collect(), learned, ended: BTreeSet::new(), forgotten: None }
    }

    /// The numbers that the parts of the next entry have.
    pub fn next_numbers(&self, parts: u64) -> std::ops::RangeInclusive<u64> {
        self.last + 1..=self.last + parts
    }

    /// The newest part that there was before: while it stands, nobody has taken a later number and given it up again.
    pub fn last(&self) -> Option<u64> {
        (self.last > 0).then_some(self.last)
    }

    /// It is written, under these numbers. Of which targets all is written that was learned, up to which update.
    pub fn note_written(&mut self, entry: &Entry, numbers: &std::ops::RangeInclusive<u64>) -> BTreeMap<TargetId, u64> {
        let (first, mut written) = (*numbers.start(), BTreeMap::new());
        for record in &entry.records {
            if let Some(current) =
                self.current.get_mut(&record.target).filter(|it| it.assignment.generation == record.generation)
            {
                current.home = first;
            }
        }
        for learned in &entry.learned {
            let Some(current) = self.current.get_mut(&learned.target) else { continue };
            current.learned_home = Some(first);
            // What was learned meanwhile is still to be written.
            if current.updates == Updates::Planned {
                current.updates = Updates::None;
                written.insert(learned.target, current.update_number);
            }
        }
        if entry.forgotten.is_some() {
            self.forgotten_home = Some(first);
        }
        self.last = *numbers.end();
        self.note_stored(first, numbers.end() - first + 1, entry);
        written
    }

    fn note_stored(&mut self, number: u64, parts: u64, entry: &Entry) {
        self.stored.insert(number, Stored { parts, bytes: entry.bytes() });
        self.homes.extend(entry.objects.keys().map(|digest| (*digest, number)));
    }

    /// The parts, oldest first, that hold nothing current, and before which there is none that does. They are no longer
    /// counted as stored.
    pub fn take_dead(&mut self) -> Vec<u64> {
        let objects = self.current.values().flat_map(Current::bodies);
        let homes = objects.filter_map(|digest| self.homes.get(&digest).copied());
        let of_targets = self.current.values().flat_map(|current| [Some(current.home), current.learned_home]);
        let of_forgotten = self.forgotten_home.filter(|_| !self.forgotten.is_empty());
        // The last one stays even if nothing is held any more: it is the lock.
        let last = self.stored.last_key_value().map_or(self.last, |(number, _)| *number);
        let oldest = of_targets.flatten().chain(of_forgotten).chain(homes).min().unwrap_or(last);
        let living = self.stored.split_off(&oldest);
        let dead = std::mem::replace(&mut self.stored, living);
        self.homes.retain(|_, home| *home >= oldest);
        dead.into_iter().flat_map(|(first, stored)| first..first + stored.parts).collect()
    }

    fn drop_bodies(&mut self, kept: &BTreeSet<Digest>) {
        let current: BTreeSet<_> = self.current.values().flat_map(Current::bodies).collect();
        self.bodies.retain(|digest, _| current.contains(digest) || kept.contains(digest));
    }
}

impl Entry {
    /// Into whatever makes it smaller on the way: as a whole it may be as large as everything that a cluster runs.
    pub fn write(&self, to: impl io::Write) -> io::Result<()> {
        Ok(serde_json::to_writer(to, self)?)
    }

    fn bytes(&self) -> usize {
        let bodies = self.objects.values().map(|body| body.0.len()).sum::<usize>();
        bytes(&self.records, &self.learned, self.forgotten.as_ref()) + bodies
    }
}

/// About what these take in an entry.
fn bytes(records: &[Record], learned: &[Learned], forgotten: Option<&Forgotten>) -> usize {
    let records = records.iter().map(|it| it.manifest.len() + BEFORE_BYTES * it.before.len() + RECORD_BYTES);
    let learned = learned.iter().map(|it| APPLIED_BYTES * it.applied.len() + BEFORE_BYTES * it.before.len());
    records.chain(learned).sum::<usize>() + FORGOTTEN_BYTES * forgotten.map_or(0, Forgotten::len)
}

impl Current {
    /// What must be kept: what the assignment needs, and what was applied before it and may still be there.
    fn bodies(&self) -> impl Iterator<Item = Digest> + '_ {
        let applied = self.applied.values().map(|applied| applied.digest);
        self.assignment.objects().chain(applied.filter(|_| self.assignment.action == Action::Apply))
    }
}

impl Learned {
    fn of(current: &Current) -> Self {
        Self {
            target: current.assignment.target,
            generation: current.assignment.generation,
            before: current.before.clone(),
            applied: current.applied.values().cloned().collect(),
            installation: current.installation,
        }
    }
}

impl Record {
    fn of(current: &Current) -> Self {
        let Current { assignment, bundle_since, before, .. } = current;
        Self {
            target: assignment.target,
            name: assignment.name.clone(),
            generation: assignment.generation,
            action: assignment.action.as_str().to_owned(),
            digest: assignment.manifest.digest(),
            manifest: String::from_utf8(assignment.manifest.encode()).expect("JSON is UTF-8"),
            prunable: assignment.prunable.clone(),
            prune: assignment.options.prune,
            drift: assignment.options.drift,
            adopt: assignment.options.adopt,
            replace: assignment.options.replace,
            create_namespace: assignment.options.create_namespace,
            service_account: assignment.options.service_account.clone(),
            namespace: assignment.namespace.clone(),
            project: assignment.project.clone(),
            before: before.clone(),
            bundle_since: *bundle_since,
            retried: assignment.retried,
            trace: assignment.trace,
        }
    }

    fn assignment(&self) -> Result<Assignment, String> {
        Ok(Assignment {
            target: self.target,
            name: self.name.clone(),
            generation: self.generation,
            action: self.action.parse()?,
            manifest: Manifest::decode(self.manifest.as_bytes(), self.digest).map_err(|error| error.to_string())?,
            prunable: self.prunable.clone(),
            namespace: self.namespace.clone(),
            project: self.project.clone(),
            options: SyncOptions {
                prune: self.prune,
                drift: self.drift,
                adopt: self.adopt,
                replace: self.replace,
                create_namespace: self.create_namespace,
                service_account: self.service_account.clone(),
            },
            retried: self.retried,
            trace: self.trace,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle;

    /// `name@content`.
    pub(super) fn accepted(generation: i64, objects: &str) -> Accepted {
        let split =
            |text: &str| text.split_once('@').map(|(name, body)| (key(name), body.to_owned())).expect("a content");
        let objects: Vec<_> = objects.split_whitespace().map(split).collect();
        let entries =
            objects.iter().map(|(key, body)| bundle::Entry { key: key.clone(), digest: Digest::of(body.as_bytes()) });
        let assignment = Assignment {
            target: TargetId::new(Uuid::from_u128(7)),
            name: "shop".parse().expect("is a name"),
            generation: Generation::new(generation),
            action: Action::Apply,
            manifest: Manifest::new(entries.collect()).expect("is a manifest"),
            prunable: Vec::new(),
            namespace: None,
            project: None,
            options: SyncOptions::default(),
            retried: Generation::default(),
            trace: Some(TraceId::new(Uuid::from_u128(3))),
        };
        let bodies = objects.into_iter().map(|(_, body)| (Digest::of(body.as_bytes()), Arc::from(body.into_bytes())));
        Accepted { assignment, objects: bodies.collect() }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey { api_version: "v1".to_owned(), kind: "ConfigMap".to_owned(), namespace: None, name: name.to_owned() }
    }

    #[derive(Default)]
    struct Store(BTreeMap<u64, Part>);

    impl Store {
        fn write(&mut self, journal: &mut Journal, accepted: Vec<Accepted>) -> Entry {
            let entry = journal.plan(accepted);
            let numbers = journal.next_numbers(1);
            let number = *numbers.start();
            let head = Head { boot: Uuid::nil(), entry: number, parts: 1 };
            let mut bytes = Vec::new();
            entry.write(&mut bytes).expect("it is in memory");
            self.0.insert(number, Part { number, head, bytes });
            journal.note_written(&entry, &numbers);
            for dead in journal.take_dead() {
                self.0.remove(&dead);
            }
            entry
        }

        fn load(&self) -> Journal {
            Journal::load(self.0.values().cloned().collect(), |bytes| Ok(io::Cursor::new(bytes)))
                .expect("it can be read")
        }
    }

    fn names(before: &[Before]) -> Vec<(&str, bool)> {
        before.iter().map(|before| (before.key.name.as_str(), before.prunable)).collect()
    }

    #[test]
    fn a_new_process_holds_what_the_last_one_accepted() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@1 b@1")]);
        store.write(&mut journal, vec![accepted(2, "a@2")]);

        let loaded = store.load();

        assert_eq!(loaded.inventory(), journal.inventory());
        assert_eq!(loaded.inventory()[0].objects.len(), 1);
        assert_eq!(names(&loaded.inventory()[0].before), [("b", false)]);
        assert_eq!(loaded.next_numbers(2), 3..=4);
    }

    #[test]
    fn what_was_to_be_applied_once_last_is_known_to_a_new_process_after_it_left() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        let once = r#"{"metadata":{"annotations":{"bellwether.dev/apply":"once"}}}"#;
        store.write(&mut journal, vec![accepted(1, &format!("a@1 b@{once}"))]);
        store.write(&mut journal, vec![accepted(2, &format!("a@{once} b@2")), accepted(3, "c@1")]);

        let is_once = |journal: &Journal| {
            let before = &journal.inventory()[0].before;
            before.iter().map(|before| (before.key.name.clone(), before.is_once)).collect::<Vec<_>>()
        };
        assert_eq!(is_once(&store.load()), [("a".to_owned(), true), ("b".to_owned(), false)]);
        store.write(&mut journal, vec![accepted(4, "c@2")]);
        assert_eq!(is_once(&store.load()), [("a".to_owned(), true), ("b".to_owned(), false)]);
    }

    #[test]
    fn a_body_is_never_copied_on_its_way_into_an_entry() {
        let mut journal = Journal::default();
        let accepted = accepted(1, "a@1");
        let body = Arc::clone(&accepted.objects[&Digest::of(b"1")]);

        let entry = journal.plan(vec![accepted]);

        assert!(Arc::ptr_eq(&body, &entry.objects[&Digest::of(b"1")].0));
        assert!(Arc::ptr_eq(&body, &journal.inventory()[0].objects[&Digest::of(b"1")]));
    }

    #[test]
    fn an_object_is_written_once() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@x b@y")]);

        let second = store.write(&mut journal, vec![accepted(2, "a@x b@y c@z")]);

        assert_eq!(second.objects.keys().collect::<Vec<_>>(), [&Digest::of(b"z")]);
        assert_eq!(store.load().inventory()[0].objects.len(), 3, "the first entry still holds two of them");
    }

    #[test]
    fn what_no_plan_took_away_is_remembered_over_many_assignments() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@1 b@1 c@1")]);
        let mut second = accepted(2, "a@1");
        second.assignment.prunable = vec![key("b")];
        store.write(&mut journal, vec![second]);
        store.write(&mut journal, vec![accepted(3, "a@2 c@2")]);

        assert_eq!(names(&store.load().inventory()[0].before), [("b", true)], "c is wanted again");
        journal.learn(InventoryUpdate {
            gone: vec![key("b")],
            ..InventoryUpdate::about(TargetId::new(Uuid::from_u128(7)))
        });
        store.write(&mut journal, vec![accepted(4, "c@2")]);
        assert_eq!(names(&store.load().inventory()[0].before), [("a", false)]);
    }

    fn applied(name: &str, body: &str) -> Applied {
        let (uid, digest) = (Uuid::from_u128(1), Digest::of(body.as_bytes()));
        Applied { key: key(name), uid, digest, finished: None, generation: Generation::new(1) }
    }

    fn update(applied: Vec<Applied>) -> InventoryUpdate {
        InventoryUpdate { applied, ..InventoryUpdate::about(TargetId::new(Uuid::from_u128(7))) }
    }

    #[test]
    fn a_new_process_knows_what_a_target_is_installed_with_and_since_when_it_has_its_bundle() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@1")]);
        store.write(&mut journal, vec![accepted(2, "a@2")]);
        let installation = Some(Installation { bundle: Some(Digest::of(b"1")), is_done: true, is_mixed: false });
        journal.learn(InventoryUpdate { installation, ..update(Vec::new()) });
        journal.learn(update(vec![applied("a", "2")]));

        store.write(&mut journal, vec![accepted(3, "a@2")]);

        let loaded = &store.load().inventory()[0];
        assert_eq!((loaded.bundle_since, loaded.installation), (Generation::new(2), installation));
        assert_eq!(store.load().inventory(), journal.inventory());
    }

    #[test]
    fn a_journal_that_says_less_or_more_of_hooks_is_read_all_the_same() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@1")]);
        let installation = Some(Installation { bundle: None, is_done: true, is_mixed: true });
        journal.learn(InventoryUpdate { installation, ..update(vec![applied("a", "1")]) });
        store.write(&mut journal, vec![accepted(2, "a@2")]);
        let part = store.0.values_mut().next_back().expect("it is written");
        let mut entry: serde_json::Value = serde_json::from_slice(&part.bytes).expect("is JSON");
        let without = |of: &mut serde_json::Value, field: &str| of.as_object_mut().and_then(|of| of.remove(field));
        assert!(without(&mut entry["records"][0], "bundle_since").is_some());
        assert!(without(&mut entry["learned"][0], "installation").is_some());
        entry["learned"][0]["applied"][0]["passed_over"] = serde_json::json!({"bundle": Digest::of(b"1")});
        part.bytes = entry.to_string().into_bytes();

        let loaded = &store.load().inventory()[0];

        assert_eq!((loaded.bundle_since, loaded.installation), (Generation::default(), None));
        assert_eq!(loaded.applied, [applied("a", "1")]);
    }

    #[test]
    fn a_new_process_knows_what_was_applied_though_the_bundle_has_moved_on() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@1 b@1")]);
        journal.learn(update(vec![applied("a", "1"), applied("b", "1")]));
        assert!(journal.has_learned());
        store.write(&mut journal, vec![accepted(2, "a@2")]);
        assert!(!journal.has_learned());
        store.write(&mut journal, vec![accepted(3, "a@3")]);

        let inventory = store.load().inventory();

        assert_eq!(inventory, journal.inventory());
        assert_eq!(inventory[0].applied, [applied("a", "1"), applied("b", "1")]);
        assert_eq!(inventory[0].objects.len(), 2, "what is in the cluster, and what is to be");
    }

    #[test]
    fn what_is_applied_in_another_version_takes_the_place_of_the_older() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@1")]);
        let mut old = applied("a", "1");
        old.key.api_version = "v1beta1".to_owned();

        journal.learn(update(vec![old]));
        journal.learn(update(vec![applied("a", "1")]));

        assert_eq!(journal.inventory()[0].applied, [applied("a", "1")]);
    }

    #[test]
    fn what_is_learned_alone_is_an_entry_of_its_own_and_replaces_the_one_before() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@1")]);
        for _ in 0..3 {
            journal.learn(update(vec![applied("a", "1")]));
            store.write(&mut journal, Vec::new());
        }
        let inventory = store.load().inventory();
        assert_eq!(inventory[0].applied, [applied("a", "1")]);

        journal.learn(InventoryUpdate { gone: vec![key("a")], ..update(Vec::new()) });
        store.write(&mut journal, vec![accepted(2, "b@2")]);

        assert_eq!(store.load().inventory()[0].applied, []);
        assert_eq!(store.0.keys().collect::<Vec<_>>(), [&5], "what is current is all in the last");
    }

    #[test]
    fn entries_with_nothing_current_go_and_a_tombstone_needs_no_bodies() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@1")]);
        let mut tombstone = accepted(2, "");
        tombstone.assignment.action = Action::Delete;

        store.write(&mut journal, vec![tombstone]);

        assert_eq!(store.0.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!(names(&store.load().inventory()[0].before), [("a", false)]);
    }

    #[test]
    fn a_target_that_ended_is_in_no_inventory_and_leaves_nothing_behind() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        let other = |generation, objects| {
            let mut other = accepted(generation, objects);
            other.assignment.target = TargetId::new(Uuid::from_u128(8));
            other
        };
        store.write(&mut journal, vec![other(1, "b@1"), accepted(2, "a@1")]);
        let mut tombstone = accepted(3, "");
        tombstone.assignment.action = Action::Delete;
        store.write(&mut journal, vec![tombstone]);

        journal.end(TargetId::new(Uuid::from_u128(7)));
        assert!(journal.has_ended());
        assert_eq!(store.load().inventory().len(), 2, "it is not written down yet");
        store.write(&mut journal, Vec::new());

        assert!(!journal.has_ended());
        assert_eq!(store.load().inventory(), journal.inventory());
        assert_eq!(journal.inventory().len(), 1);
        store.write(&mut journal, vec![accepted(4, "c@1")]);
        assert_eq!(store.load().inventory().len(), 2, "another generation is another assignment");
    }

    #[test]
    fn the_generation_of_what_was_forgotten_outlives_every_entry_that_held_it() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        let gone = TargetId::new(Uuid::from_u128(7));
        let other = |generation, objects: &str| {
            let mut other = accepted(generation, objects);
            other.assignment.target = TargetId::new(Uuid::from_u128(8));
            other
        };
        let mut tombstone = accepted(3, "");
        tombstone.assignment.action = Action::Delete;
        store.write(&mut journal, vec![tombstone]);
        journal.end(gone);
        store.write(&mut journal, Vec::new());
        // So many entries that what is current is written anew, and the older ones go.
        for generation in (4..).take(ENTRIES_MAX + 6) {
            store.write(&mut journal, vec![other(generation, &format!("a@same b@{generation}"))]);
        }
        assert!(store.0.len() < ENTRIES_MAX, "what is older than that is gone");

        let mut loaded = store.load();

        assert_eq!(loaded.forgotten(), journal.forgotten());
        assert!(loaded.forgotten().outdates(gone, Generation::new(3)));
        store.write(&mut loaded, vec![accepted(9, "c@1")]);
        assert!(store.load().forgotten().is_empty(), "it is held again");
    }

    #[test]
    fn a_journal_that_holds_nothing_any_more_keeps_its_lock() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        let mut tombstone = accepted(1, "");
        tombstone.assignment.action = Action::Delete;
        store.write(&mut journal, vec![tombstone]);
        journal.end(TargetId::new(Uuid::from_u128(7)));

        store.write(&mut journal, Vec::new());

        assert_eq!(store.0.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!((store.load().inventory(), store.load().next_numbers(1)), (Vec::new(), 3..=3));
    }

    #[test]
    fn an_entry_of_several_parts_stays_though_all_that_it_holds_ended_while_it_was_written() {
        let mut journal = Journal::default();
        let mut tombstone = accepted(1, "");
        tombstone.assignment.action = Action::Delete;
        let entry = journal.plan(vec![tombstone]);
        journal.end(TargetId::new(Uuid::from_u128(7)));

        journal.note_written(&entry, &journal.next_numbers(2));

        assert_eq!(journal.take_dead(), [] as [u64; 0], "the last part is the lock");
    }

    #[test]
    fn of_bodies_that_are_read_only_the_current_ones_are_kept() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@1 b@1 c@old")]);
        store.write(&mut journal, vec![accepted(2, "a@1 c@newer")]);
        store.write(&mut journal, vec![accepted(3, "a@1 c@old")]);
        let mut loading = Loading::new(|bytes| Ok(io::Cursor::new(bytes)));
        let parts: Vec<_> = store.0.values().cloned().collect();
        for part in &parts {
            loading.take(part.clone()).expect("it can be read");
        }
        loading.rewind().expect("it can be read");
        assert!(loading.journal.bodies.is_empty(), "the first time");

        for part in parts {
            loading.take(part).expect("it can be read");
            assert!(loading.journal.bodies.len() <= 2, "1 and old");
        }

        let loaded = loading.finish().expect("it can be read");
        assert_eq!(loaded.inventory(), journal.inventory());
        assert_eq!(loaded.inventory()[0].objects.len(), 2);
    }

    #[test]
    fn when_most_is_dead_the_living_is_written_anew() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        let large = "x".repeat(SLACK_BYTES - 1024);
        store.write(&mut journal, vec![accepted(1, &format!("a@small b@{large}"))]);
        store.write(&mut journal, vec![accepted(2, "a@small")]);
        assert_eq!(store.0.len(), 2, "the first still holds a");

        for generation in 3..15 {
            store.write(&mut journal, vec![accepted(generation, "a@small")]);
        }

        assert!(!store.0.contains_key(&1));
        assert_eq!(store.load().inventory(), journal.inventory());
    }

    #[test]
    fn an_entry_that_was_not_sealed_does_not_count_and_its_numbers_are_not_used_again() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@1")]);
        let head = Head { boot: Uuid::nil(), entry: 2, parts: 3 };
        store.0.insert(2, Part { number: 2, head, bytes: b"half".to_vec() });

        let loaded = store.load();

        assert_eq!((loaded.inventory(), loaded.next_numbers(1)), (journal.inventory(), 3..=3));
    }

    #[test]
    fn a_target_without_all_of_its_bodies_is_not_in_the_inventory_and_what_it_had_is_not_forgotten() {
        let (mut journal, mut store) = (Journal::default(), Store::default());
        store.write(&mut journal, vec![accepted(1, "a@1")]);
        let mut second = accepted(2, "b@2 d@4");
        let lost = Digest::of(b"2");
        second.objects.remove(&lost);
        store.write(&mut journal, vec![second.clone()]);

        let mut loaded = store.load();
        assert_eq!(loaded.inventory(), []);
        assert_eq!(loaded.lacking(), [(second.assignment.clone(), BTreeSet::from([lost]))]);
        let body = BTreeMap::from([(lost, Arc::from(b"2".as_slice()))]);
        store.write(&mut loaded, vec![Accepted { objects: body, ..second }]);
        assert_eq!((store.load().inventory(), store.load().lacking()), (loaded.inventory(), Vec::new()));
        assert_eq!(loaded.inventory()[0].objects.len(), 2);
        store.write(&mut loaded, vec![accepted(3, "c@3")]);

        assert_eq!(names(&loaded.inventory()[0].before), [("b", false), ("d", false), ("a", false)]);
    }
}
