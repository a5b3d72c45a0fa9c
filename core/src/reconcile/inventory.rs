//! What a target has in its cluster, and what may be its own: it outlives assignments, and what the journal is to know of
//! it outlives processes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::bodies::Hook;
use super::error::ClusterError;
use super::event::{Condition, Kind, ObjectState};
use super::finding::{Answer, Finding};
use super::owned::{self, LastApplied, Owned};
use super::phases::Object;
use super::removal::Candidate;
use super::replacement;
use super::step::Step;
use crate::bundle::Entry;
use crate::drift::DriftSignal;
use crate::health::{self, Ending, Health};
use crate::journal::{Applied, Before, Installation, Journalled};
use crate::object::Identity;
use crate::yielded::Yielded;
use crate::{Digest, Generation, ObjectKey};

#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// What may carry our label: all that this and earlier assignments name and that is not known to be gone. What stands
    /// here and in no object of the assignment is left over.
    candidates: BTreeMap<Identity, Candidate>,
    /// What this process applied and has not deleted.
    owned: BTreeMap<Identity, Owned>,
    /// What this process or one before it applied last: the fields of that are ours.
    last_applied: BTreeMap<Identity, LastApplied>,
    /// Something else was sent over what was recorded last, or an earlier process may have sent it: what it is given is
    /// written down before, and what it did after.
    overwritten: BTreeSet<Identity>,
    installation: Option<Installation>,
    /// What was applied last to what a deletion or a release is on its way to.
    doubtful: BTreeMap<Identity, LastApplied>,
    by_uid: BTreeMap<Uuid, Identity>,
    /// What is being deleted to be made anew.
    replacing: BTreeMap<Identity, Replacing>,
    learned: Learned,
    /// The number of what was learned and asked for last, and of what is written down of that.
    told: u64,
    written: u64,
}

#[derive(Debug)]
struct Replacing {
    /// Those that cannot change.
    fields: Vec<String>,
    /// The one before is no more, and nothing that we know of has its name.
    is_gone: bool,
}

/// What the journal is to know.
#[derive(Debug, Default)]
pub(super) struct Learned {
    pub(super) applied: Vec<Applied>,
    /// No longer in the inventory.
    pub(super) gone: Vec<ObjectKey>,
    pub(super) installation: Option<Installation>,
    /// Which one it is.
    pub(super) number: u64,
}

impl Learned {
    pub(super) fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.gone.is_empty() && self.installation.is_none()
    }
}

/// Since when what failed is to run again, if it failed before that.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskedFor {
    /// A person asked for it.
    pub(super) retried: Generation,
    /// Its bundle came: hooks run with that.
    pub(super) bundle_since: Generation,
}

impl AskedFor {
    pub(super) fn since(self, hook: Option<Hook>) -> Generation {
        if hook.is_some() { self.retried.max(self.bundle_since) } else { self.retried }
    }
}

impl Inventory {
    /// What the journal knew of a target before its assignment.
    pub(super) fn of(journalled: &Journalled) -> Self {
        let candidates = journalled.before.iter().cloned().map(Candidate::of);
        // Without a uid nothing was applied: so an earlier version named hooks that were not run.
        let applied = journalled.applied.iter().filter(|applied| !applied.uid.is_nil());
        let last_applied = applied.map(|applied| {
            let body = journalled.objects.get(&applied.digest).cloned().map(Into::into);
            let Applied { uid, digest, finished, generation, .. } = *applied;
            let last = LastApplied { uid, digest, body, finished, generation };
            (Identity::of(&applied.key), last)
        });
        Self {
            candidates: candidates.map(|candidate| (Identity::of(&candidate.key), candidate)).collect(),
            last_applied: last_applied.collect(),
            installation: journalled.installation,
            ..Self::default()
        }
    }

    /// Written down before the first apply: what may be there from now on, and what a plan allows to go.
    pub(super) fn track<'a>(&mut self, prunable: &[ObjectKey], wanted: impl Iterator<Item = &'a Object>) {
        for key in prunable {
            if let Some(candidate) = self.candidates.get_mut(&Identity::of(key)) {
                candidate.prunable = true;
            }
        }
        for object in wanted {
            let (key, phase, is_once) = (object.key.clone(), object.phase, object.is_once);
            let candidate = Candidate { key, phase, prunable: false, is_once };
            self.candidates.insert(object.identity(), candidate);
        }
    }

    /// It may carry our label, whoever put that on.
    pub(super) fn adopt(&mut self, key: &ObjectKey) {
        let candidate = || Candidate::of(Before { key: key.clone(), prunable: false, is_once: false });
        self.candidates.entry(Identity::of(key)).or_insert_with(candidate);
    }

    /// What was applied last under the name that an object has in the cluster.
    pub(super) fn last_uid(&self, key: &ObjectKey) -> Option<Uuid> {
        self.last_applied(&Identity::of(key)).map(|last| last.uid)
    }

    /// Of what an assignment wants and nobody has looked at since an earlier process.
    pub(super) fn note_wanted<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) {
        for entry in entries {
            let identity = Identity::of(&entry.key);
            let is_other = |last: &LastApplied| last.digest != entry.digest;
            if self.owned(&identity).is_none() && self.last_applied(&identity).is_some_and(is_other) {
                self.overwritten.insert(identity);
            }
        }
    }

    /// A person asked for what an assignment wants to be tried again, or another bundle came, which is as good for a hook that
    /// failed. What ran once before that, is not there and did not come to a good end is made again; of what runs, the process
    /// after this one is to know that it was asked about. What failed and still stands there holds it up, unless it asks to be
    /// deleted before that: see [`Inventory::owes_a_run`].
    pub(super) fn note_retried<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
        asked_for: AskedFor,
        hook: impl Fn(&Entry) -> Option<Hook>,
    ) {
        for entry in entries.filter(|entry| health::runs_once(entry.key.group(), &entry.key.kind)) {
            let identity = Identity::of(&entry.key);
            let hook = hook(entry);
            let since = asked_for.since(hook);
            let Some(last) = self.last_applied.get_mut(&identity).filter(|last| last.generation < since) else {
                continue;
            };
            let may_run_again = if last.generation < asked_for.retried {
                last.may_be_asked_for_again()
            } else {
                last.finished == Some(Ending::Failed)
            };
            let is_made_anew = hook.is_some_and(|hook| hook.policy.before_creation);
            let owned = self.owned.get(&identity);
            if owned.is_some_and(|owned| owned.is_there && owned.finished != Some(Ending::Failed)) {
                last.generation = since;
                self.learned.applied.push(last.applied(&entry.key));
            } else if may_run_again && (is_made_anew || owned.is_none_or(|owned| !owned.is_there)) {
                self.have_made_again(&identity);
            }
        }
    }

    /// Whether it failed, and a run was asked for since that did not come: it cannot while the failed one is there.
    pub(super) fn owes_a_run(&self, object: &Object, asked_for: AskedFor) -> bool {
        let identity = object.identity();
        let failed = |owned: &Owned| owned.finished == Some(Ending::Failed);
        health::runs_once(object.key.group(), &object.key.kind)
            && self.owned(&identity).is_some_and(failed)
            && self.last_applied(&identity).is_some_and(|last| last.generation < asked_for.since(object.hook))
    }

    /// Whatever was applied under its name, it is sent again.
    pub(super) fn have_made_again(&mut self, identity: &Identity) {
        self.overwritten.insert(identity.clone());
        if let Some(owned) = self.owned.get_mut(identity) {
            owned.digest = None;
        }
    }

    /// What is there was asked for as somebody else: whether it may be as it is has to be asked anew. What runs once is not sent
    /// again for that, as it might run again.
    pub(super) fn ask_anew(&mut self) {
        for (identity, owned) in &mut self.owned {
            let runs_once = |candidate: &Candidate| health::runs_once(candidate.key.group(), &candidate.key.kind);
            if !self.candidates.get(identity).is_some_and(runs_once) {
                owned.digest = None;
            }
        }
    }

    /// What a target is installed with, of which that bundle is about to be applied.
    pub(super) fn begin_bundle(&mut self, bundle: Digest) -> Installation {
        let has_parts = !self.last_applied.is_empty();
        let before = self.installation.unwrap_or_else(|| {
            let is_new = self.candidates.is_empty() && !has_parts;
            Installation { bundle: is_new.then_some(bundle), is_done: false, is_mixed: false }
        });
        let installation = match before {
            _ if before.bundle == Some(bundle) => before,
            // The upgrade runs what did not run before it.
            Installation { is_done: true, .. } => Installation { is_mixed: false, ..before },
            Installation { bundle: None, .. } => before,
            _ => Installation { bundle: Some(bundle), is_mixed: before.is_mixed || has_parts, ..before },
        };
        self.set_installation(installation);
        installation
    }

    fn set_installation(&mut self, installation: Installation) {
        if self.installation != Some(installation) {
            (self.installation, self.learned.installation) = (Some(installation), Some(installation));
        }
    }

    /// All of what it is installed with has not been in place yet.
    pub(super) fn is_installing(&self) -> bool {
        self.installation.is_some_and(|installation| !installation.is_done)
    }

    /// Hooks of upgrades have not run that parts of an earlier bundle may need.
    pub(super) fn is_mixed(&self) -> bool {
        self.installation.is_some_and(|installation| installation.is_mixed)
    }

    pub(super) fn note_installed(&mut self) {
        if let Some(before) = self.installation {
            self.set_installation(Installation { is_done: true, ..before });
        }
    }

    /// A hook that was deleted since it ran is there for the next one that runs.
    pub(super) fn have_departed_made_again(&mut self, identity: &Identity) {
        let has_run = self.last_applied(identity).is_some_and(|last| last.finished.is_some());
        let may_be_there = self.owned(identity).is_some_and(|owned| owned.is_there && !owned.is_departing);
        if has_run && !may_be_there {
            self.have_made_again(identity);
        }
    }

    /// A hook has run: whoever finds it gone does not miss it.
    pub(super) fn note_run(&mut self, identity: &Identity) {
        if let Some(owned) = self.owned.get_mut(identity) {
            owned.finished.get_or_insert(Ending::Succeeded);
        }
        self.note_ending(identity);
    }

    /// How the very one that was applied last ended is known to the process after this one.
    fn note_ending(&mut self, identity: &Identity) {
        if let Some(owned) = self.owned.get(identity).filter(|owned| owned.finished.is_some())
            && let Some(last) = self.last_applied.get_mut(identity)
            && (last.uid, last.finished) == (owned.uid, None)
            && let Some(candidate) = self.candidates.get(identity)
        {
            last.finished = owned.finished;
            self.learned.applied.push(last.applied(&candidate.key));
        }
    }

    /// Its deletion is asked for: of exactly this one.
    pub(super) fn begin_departure(&mut self, identity: &Identity) -> Option<Uuid> {
        let owned = self.owned.get_mut(identity)?;
        owned.finished.get_or_insert(Ending::Succeeded);
        owned.is_departing = true;
        Some(owned.uid)
    }

    pub(super) fn is_departing(&self, identity: &Identity) -> bool {
        self.owned(identity).is_some_and(|owned| owned.is_departing)
    }

    /// It is gone, or stays and why.
    pub(super) fn end_departure(&mut self, identity: &Identity, stays: Option<String>) {
        let Some(owned) = self.owned.get_mut(identity) else { return };
        if stays.is_some() {
            owned.is_departing = false;
        } else if std::mem::replace(&mut owned.is_there, false) {
            // What a watch tells late is of before.
            owned.health = owned.gone_after(owned.finished.unwrap_or(Ending::Succeeded));
        }
        owned.note = stays;
    }

    pub(super) fn left_over(&self, is_wanted: impl Fn(&Identity) -> bool) -> Vec<Candidate> {
        let left = self.candidates.iter().filter(|(identity, _)| !is_wanted(identity));
        left.map(|(_, candidate)| candidate.clone()).collect()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.candidates.values().map(|candidate| &candidate.key)
    }

    pub(super) fn owned(&self, identity: &Identity) -> Option<&Owned> {
        self.owned.get(identity)
    }

    pub(super) fn all_owned(&self) -> impl Iterator<Item = &Owned> {
        self.owned.values()
    }

    pub(super) fn last_applied(&self, identity: &Identity) -> Option<&LastApplied> {
        self.last_applied.get(identity)
    }

    /// This process applied exactly that.
    pub(super) fn has(&self, identity: &Identity, digest: Digest) -> bool {
        self.owned(identity).is_some_and(|owned| owned.digest == Some(digest))
    }

    /// Exactly that was applied, and nothing over it since.
    pub(super) fn holds(&self, identity: &Identity, digest: Digest) -> bool {
        let is_latest = !self.overwritten.contains(identity);
        is_latest && self.last_applied(identity).is_some_and(|last| last.digest == digest)
    }

    /// The same, and whatever became of it nobody saw.
    pub(super) fn had(&self, identity: &Identity, digest: Digest) -> bool {
        self.holds(identity, digest) && (self.owned(identity).is_none() || self.may_have_ended(identity))
    }

    /// It goes by itself once it has run to its end, and nobody watched.
    pub(super) fn may_have_ended(&self, identity: &Identity) -> bool {
        let is_watched = self.owned(identity).is_some_and(|owned| !owned.went_unseen);
        let runs_once = self
            .candidates
            .get(identity)
            .is_some_and(|candidate| health::runs_once(candidate.key.group(), &candidate.key.kind));
        runs_once && !is_watched && self.last_applied(identity).is_some_and(LastApplied::goes_by_itself)
    }

    /// What an object is kept as that something else is wanted of.
    pub(super) fn held(&self, identity: &Identity) -> Option<Digest> {
        let last = self.last_applied(identity).filter(|last| last.body.is_some())?;
        let is_followed = self.owned(identity).is_some();
        (is_followed && self.holds(identity, last.digest)).then_some(last.digest)
    }

    /// It may be applied from now on, whatever its answer is.
    pub(super) fn note_sent(&mut self, identity: &Identity, digest: Digest) {
        if self.last_applied(identity).is_some_and(|last| last.digest != digest) {
            self.overwritten.insert(identity.clone());
        }
    }

    /// It may be applied to exactly the one that we applied last; under the name of what is gone, there may be somebody
    /// else's.
    pub(super) fn is_known(&self, identity: &Identity) -> bool {
        let known = self.owned(identity).zip(self.last_applied(identity));
        known.is_some_and(|(owned, last_applied)| owned.is_there && owned.uid == last_applied.uid)
    }

    /// A field of it was somebody else's when it was last asked about.
    pub(super) fn yields(&self, identity: &Identity) -> bool {
        self.owned(identity).is_some_and(|owned| owned.yielded.is_some())
    }

    /// Whether the object is one that this target applied, whatever its label says; our name of it.
    pub(super) fn followed(&self, uid: Uuid) -> Option<&Identity> {
        self.by_uid.get(&uid)
    }

    /// Objects of a kind that are like this, each with the version at which it was last seen.
    pub(super) fn followed_of(&self, kind: &Kind, is_so: impl Fn(&Owned) -> bool) -> Vec<(Identity, u64)> {
        let of_kind = self.candidates.iter().filter(|(_, candidate)| Kind::of(&candidate.key) == *kind);
        let owned =
            of_kind.filter_map(|(identity, _)| Some((identity, self.owned(identity).filter(|owned| is_so(owned))?)));
        owned.map(|(identity, owned)| (identity.clone(), owned.version)).collect()
    }

    /// It is no longer known to be ours.
    pub(super) fn disown(&mut self, identity: &Identity) {
        self.last_applied.remove(identity);
        self.replacing.remove(identity);
        if let Some(owned) = self.owned.remove(identity) {
            self.unfollow(owned.uid, identity);
        }
    }

    /// Before it is deleted or released.
    pub(super) fn begin_doubt(&mut self, identity: &Identity) {
        if let Some(last_applied) = self.last_applied(identity).cloned() {
            self.doubtful.insert(identity.clone(), last_applied);
        }
        self.disown(identity);
    }

    /// After that: whether it is as it was before.
    pub(super) fn end_doubt(&mut self, identity: &Identity, is_as_before: bool) {
        if let Some(last_applied) = self.doubtful.remove(identity).filter(|_| is_as_before) {
            self.last_applied.entry(identity.clone()).or_insert(last_applied);
        }
    }

    /// One object may be followed under another spelling of its name by now.
    fn unfollow(&mut self, uid: Uuid, identity: &Identity) {
        if self.by_uid.get(&uid) == Some(identity) {
            self.by_uid.remove(&uid);
        }
    }

    /// It is gone, or somebody else's.
    pub(super) fn forget(&mut self, identity: &Identity) {
        self.disown(identity);
        self.learned.gone.extend(self.candidates.remove(identity).map(|candidate| candidate.key));
    }

    pub(super) fn forget_all(&mut self) {
        self.last_applied.clear();
        self.installation = None;
        let left = std::mem::take(&mut self.candidates);
        self.learned.gone.extend(left.into_values().map(|candidate| candidate.key));
    }

    /// Keeps what came of applying or inspecting an object, whatever the current assignment says. Returns its uid if it is
    /// followed from now on.
    pub(super) fn note(
        &mut self,
        (step, identity): (&Step, &Identity),
        digest: Digest,
        answer: &Answer,
        now: Timestamp,
    ) -> Option<Uuid> {
        let Answer { finding, drift, yielded, .. } = answer;
        let is_new = self.is_new(identity, finding);
        let replaced = self.replaced(identity, answer, is_new, digest);
        let (uid, version, condition, digest) = match finding {
            Finding::Applied { uid, version, condition, body } => {
                let (finished, generation) = (condition.finished, self.applied_under(step, identity, *uid, condition));
                let last_applied = LastApplied { uid: *uid, digest, body: Some(body.clone()), finished, generation };
                self.note_applied(identity, &step.key, last_applied);
                (*uid, *version, condition.clone(), Some(digest))
            }
            // It is what is wanted, however it is.
            Finding::AsFound { uid, version, condition, .. } => (*uid, *version, condition.clone(), Some(digest)),
            // What is left drifted is overwritten by the next assignment.
            Finding::Kept { seen: Some((uid, version, condition)) } => {
                (*uid, *version, condition.clone(), drift.is_none().then_some(digest))
            }
            Finding::Kept { seen: None } | Finding::Finished | Finding::EndedUnseen => {
                self.note_missing(identity, digest, finding)
            }
            Finding::Failed(error) => {
                self.doubt(identity, error);
                self.note_replacing(identity, error);
                return None;
            }
            Finding::Exists { .. } => {
                self.replacing.remove(identity);
                return None;
            }
            Finding::Unlabelled | Finding::There { .. } | Finding::Gone | Finding::Released | Finding::Unasked(_) => {
                return None;
            }
        };
        // No list of what carries our label has what is another's.
        let is_there = matches!(
            finding,
            Finding::Applied { .. } | Finding::Kept { seen: Some(_) } | Finding::AsFound { is_watched: true, .. }
        );
        let note = if let Finding::AsFound { note, .. } = finding { note.clone() } else { replaced };
        let is_anothers = matches!(finding, Finding::AsFound { is_watched: false, .. });
        let Condition { health, finished, fingerprint, .. } = condition;
        let owned = Owned {
            digest,
            uid,
            is_there,
            is_departing: false,
            went_unseen: false,
            note,
            version,
            health,
            failed_at: None,
            finished,
            last_seen: fingerprint.clone(),
            fingerprint,
            signal: DriftSignal::None,
            yielded: yielded.clone(),
            goes_unseen: is_anothers || yielded.as_ref().is_some_and(Yielded::may_end),
            asked_at: now,
        };
        self.follow(identity, owned, is_new);
        self.note_ending(identity);
        Some(uid)
    }

    /// What there is to say of one that took the place of another because fields cannot change: until something else is
    /// wanted of it.
    fn replaced(&mut self, identity: &Identity, answer: &Answer, is_new: bool, digest: Digest) -> Option<String> {
        if matches!(answer.finding, Finding::Applied { .. }) {
            let while_it_went = self.replacing.remove(identity).filter(|_| is_new).map(|it| it.fields);
            let fields = if answer.replaced.is_empty() { while_it_went } else { Some(answer.replaced.clone()) };
            if let Some(fields) = fields {
                return Some(replacement::note(&fields));
            }
        }
        let as_before = self.owned(identity).filter(|owned| !is_new && owned.digest == Some(digest));
        as_before.and_then(|owned| owned.note.clone())
    }

    fn note_replacing(&mut self, identity: &Identity, error: &ClusterError) {
        let (fields, is_gone) = match error {
            ClusterError::Leaving { fields, .. } => (fields, false),
            ClusterError::Absent { fields, .. } => (fields, true),
            // Somebody has made one.
            ClusterError::Stale { .. } => {
                return self.replacing.get_mut(identity).map_or((), |replacing| replacing.is_gone = false);
            }
            _ => return,
        };
        self.replacing.insert(identity.clone(), Replacing { fields: fields.clone(), is_gone });
    }

    /// Whatever keeps from being made what is to take the place of one that was deleted: it says that, too.
    pub(super) fn with_deletion(&self, identity: &Identity, mut answer: Answer) -> Answer {
        let deleted = self.replacing.get(identity).filter(|replacing| replacing.is_gone);
        if let (Some(deleted), Finding::Failed(why)) = (deleted, &answer.finding) {
            let is_of_one_that_is_there = matches!(
                why,
                ClusterError::Absent { .. }
                    | ClusterError::Leaving { .. }
                    | ClusterError::NotReplaced { .. }
                    | ClusterError::NewOneRefused { .. }
                    | ClusterError::Conflict(_)
                    | ClusterError::Stale { .. }
            );
            if !is_of_one_that_is_there {
                let (fields, why) = (deleted.fields.clone(), Box::new(why.clone()));
                answer.finding = Finding::Failed(ClusterError::Absent { fields, why });
            }
        }
        answer
    }

    /// It is another object than the one that we applied last.
    fn is_new(&self, identity: &Identity, finding: &Finding) -> bool {
        let Finding::Applied { uid, .. } = finding else { return false };
        self.last_applied(identity).is_none_or(|last| last.uid != *uid)
    }

    fn follow(&mut self, identity: &Identity, mut owned: Owned, is_new: bool) {
        let (uid, now) = (owned.uid, owned.asked_at);
        let before = self.owned.remove(identity);
        let same = before.as_ref().filter(|before| before.uid == uid);
        // What it says right after an apply is from before that; only what we saw begin has a time.
        let as_before = same.filter(|before| before.health.verdict == owned.health.verdict);
        owned.failed_at = as_before.and_then(|before| before.failed_at);
        let given = if is_new { Some(Health::given_at(now)) } else { same.and_then(|before| before.health.heals_at) };
        owned.health = owned.health.seen_at(given, now);
        if let Some(before) = before {
            self.unfollow(before.uid, identity);
        }
        self.owned.insert(identity.clone(), owned);
        self.by_uid.insert(uid, identity.clone());
    }

    /// An object that was only asked about is as old as it was, and so is a failure that was found standing there.
    fn applied_under(&self, step: &Step, identity: &Identity, uid: Uuid, condition: &Condition) -> Generation {
        let is_old = step.is_question() || condition.finished == Some(Ending::Failed);
        let before = self.last_applied(identity).filter(|before| is_old && before.uid == uid);
        before.map_or(step.generation, |before| before.generation)
    }

    fn note_applied(&mut self, identity: &Identity, key: &ObjectKey, last_applied: LastApplied) {
        self.overwritten.remove(identity);
        if self.last_applied.get(identity) != Some(&last_applied) {
            self.learned.applied.push(last_applied.applied(key));
            self.last_applied.insert(identity.clone(), last_applied);
        }
    }

    /// It is not there: somebody deleted it, or it ran to its end.
    fn note_missing(
        &self,
        identity: &Identity,
        digest: Digest,
        finding: &Finding,
    ) -> (Uuid, u64, Condition, Option<Digest>) {
        let last_applied = self.last_applied(identity);
        let is_as_wanted = !matches!(finding, Finding::Kept { .. });
        let finished = last_applied.and_then(|last_applied| last_applied.finished).filter(|_| is_as_wanted);
        let health = match finished {
            Some(ending) => owned::finished(ending),
            None if is_as_wanted => owned::ended_unseen(),
            None => owned::deleted(),
        };
        let uid = last_applied.map_or(Uuid::nil(), |last_applied| last_applied.uid);
        (uid, 0, Condition { health, finished, fingerprint: None, is_kept: false }, is_as_wanted.then_some(digest))
    }

    /// The request may have been carried out, though its answer never came; or another object has its name.
    fn doubt(&mut self, identity: &Identity, error: &ClusterError) {
        let may_be_another = matches!(error, ClusterError::Stale { .. } | ClusterError::Absent { .. });
        if !may_be_another && !matches!(error, ClusterError::Retry { .. } | ClusterError::Leaving { .. }) {
            return;
        }
        if let Some(owned) = self.owned.get_mut(identity) {
            owned.digest = None;
            owned.is_there &= !may_be_another;
        }
    }

    /// What was seen of an object that is followed: whether that changes its health, and what else it calls for. `None`:
    /// it is not followed.
    pub(super) fn see(
        &mut self,
        identity: &Identity,
        (version, listed_at): (u64, Option<Timestamp>),
        seen: ObjectState,
        now: Timestamp,
    ) -> Option<(bool, DriftSignal)> {
        let is_deleted = matches!(seen, ObjectState::Deleted);
        let owned = self.owned.get_mut(identity)?;
        let told = owned.see(version, listed_at, seen, now);
        if let Some(replacing) = self.replacing.get_mut(identity) {
            replacing.is_gone |= is_deleted;
        }
        self.note_ending(identity);
        Some(told)
    }

    /// Another object may stand in its place: what that calls for.
    pub(super) fn suspect(&mut self, identity: &Identity) -> DriftSignal {
        let Some(owned) = self.owned.get_mut(identity) else { return DriftSignal::None };
        // Once: until it is known what it is, it is asked about anyway.
        match std::mem::replace(&mut owned.signal, DriftSignal::Certain) {
            DriftSignal::Certain => DriftSignal::None,
            _ => DriftSignal::Certain,
        }
    }

    /// What the journal is to know since it was last asked.
    pub(super) fn take_learned(&mut self) -> Learned {
        if !self.learned.is_empty() {
            self.told += 1;
        }
        Learned { number: self.told, ..std::mem::take(&mut self.learned) }
    }

    /// The number under which all that is known by now is written down.
    pub(super) fn next_number(&self) -> u64 {
        self.told + u64::from(!self.learned.is_empty())
    }

    pub(super) fn note_written(&mut self, number: u64) {
        self.written = self.written.max(number);
    }

    pub(super) fn is_written(&self, number: u64) -> bool {
        self.written >= number
    }
}
