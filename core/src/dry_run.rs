//! What an API server would make of a bundle, found out without a change: what is asked, and what is answered.
//!
//! It is a read. Of what stands in a cluster only that is told which the target owns there already; of what is somebody
//! else's it is told whose, and nothing that it holds. What is carried out is the agent's, what is compared with a plan is
//! [`crate::plan`]'s.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::bundle::Manifest;
use crate::drift::{ChangedValue, ChangedValues, VALUES_MAX};
use crate::object::is_secret_kind;
use crate::plan::{HIDDEN, Hidden};
use crate::quoting::without_values;
use crate::reconcile::ClusterError;
use crate::report::bounded_text;
use crate::session::SyncOptions;
use crate::{Digest, Name, ObjectKey, TargetId};

/// At a time in one cluster. Whoever plans more waits for nobody: the plan says so.
pub const AT_ONCE_MAX: usize = 2;

/// Of the objects of one, compressed: about as much as a Desired brings at once, so that none waits longer for it.
pub const ASKED_BYTES_MAX: usize = 512 * 1024;

/// Of the objects of one, as they are: an agent holds so much of each that goes on.
pub const OBJECTS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Objects of one: at eight requests at a time, far less than its deadline.
pub const OBJECTS_MAX: usize = 1_000;

/// Of an answer, as JSON. A thousand objects that stay as they are have 40 KB; values of changes fill the rest.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Of an answer, compressed.
pub const ANSWER_PACKED_BYTES_MAX: usize = 512 * 1024;

/// Of what is told of one object, in an API server's words.
pub const MESSAGE_BYTES_MAX: usize = 512;

/// From the question to the last answer: somebody waits for it.
pub const DEADLINE: SignedDuration = SignedDuration::from_secs(30);

/// Of that an agent has so much less, to say what it found out, and for that to arrive: a part of an answer that is there
/// says more than a whole one that is not.
pub const MARGIN: SignedDuration = SignedDuration::from_secs(4);

/// Whether an agent answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DryRuns {
    /// It is of a version that knows of none: it is never asked.
    #[default]
    Unknown,
    Taken,
    /// Switched off where it runs.
    Off,
}

/// What is asked of the agent of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct DryRun {
    pub id: Uuid,
    pub target: TargetId,
    /// All objects of the bundle: which of them there are says what comes with which.
    pub manifest: Manifest,
    /// Those that are asked about, each compressed and in no order: by its digest each is known.
    pub objects: Vec<Vec<u8>>,
    /// The target's own namespace.
    pub namespace: Option<Name>,
    /// Whose the target is; `None`: a hub of before, which had one project.
    pub project: Option<Name>,
    /// As it would be kept.
    pub options: SyncOptions,
    /// What has no answer by then, has none.
    pub deadline: SignedDuration,
}

/// Without the objects, which may be Secrets'.
impl std::fmt::Debug for DryRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DryRun").field("id", &self.id).field("target", &self.target).finish_non_exhaustive()
    }
}

/// What would become of an object, if its bundle were applied now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Unchanged,
    Created,
    Changed,
    /// It cannot be changed, and would be deleted and made anew.
    Replaced,
    /// It is no target's, and would be taken.
    Adopted,
    /// It is somebody else's, and would stay as it is.
    Exists,
    /// By the API server, or by what that asks.
    Refused,
    /// The API server serves no such kind.
    KindMissing,
    NamespaceMissing,
    /// Nobody could tell; or it is a fate that only a later version knows.
    #[serde(other)]
    Unknown,
}

impl Fate {
    /// As documents have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Replaced => "replaced",
            Self::Adopted => "adopted",
            Self::Exists => "exists",
            Self::Refused => "refused",
            Self::KindMissing => "kind_missing",
            Self::NamespaceMissing => "namespace_missing",
            Self::Unknown => "unknown",
        }
    }

    /// It would not come to be what is wanted.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Exists | Self::Refused | Self::KindMissing)
    }
}

/// What was found out of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    pub fate: Fate,
    /// Why, or whose it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What it would change in the one that is there: only of what the target owns already.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub values: ChangedValues,
    /// What is applied and comes out as something else: admission, or the API server's own spelling.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub admitted: ChangedValues,
}

fn is_nothing(values: &ChangedValues) -> bool {
    values.values.is_empty() && !values.are_more
}

/// Why there is no answer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unanswered {
    /// The agent is of a version before dry runs.
    Unsupported,
    /// Switched off where the agent runs.
    Off,
    /// As many go on in the cluster as may.
    Busy,
    /// What came could not be read.
    Unreadable,
    /// Even without any values and words it has no room.
    TooLong,
    /// The agent's stream ended before it answered.
    Lost,
    /// As a later version may say.
    #[serde(other)]
    Other,
}

/// What an agent answers; as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DryRunAnswer {
    /// Of each object of the manifest, in its order.
    Tried(Vec<Tried>),
    Unanswered(Unanswered),
}

impl Tried {
    /// With what is told of it, cut where it is too long.
    pub fn new(fate: Fate, message: impl Into<String>) -> Self {
        // It is cut later, since what is hidden is searched for before.
        let message = message.into();
        Self { fate, message, values: ChangedValues::default(), admitted: ChangedValues::default() }
    }

    /// Why it is not known.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Fate::Unknown, message)
    }

    /// Of a request that did not succeed. What passes by itself says nothing of the object.
    pub fn failed(error: &ClusterError) -> Self {
        let message = error.to_string();
        match error {
            // Of a webhook that would do something when it is only asked, an API server asks nothing.
            _ if message.contains(NO_DRY_RUN) => Self::unknown(message),
            ClusterError::Rejected { .. }
            | ClusterError::Policy(_)
            | ClusterError::Forbidden { .. }
            | ClusterError::Conflict(_)
            | ClusterError::NotReplaced { .. }
            | ClusterError::NewOneRefused { .. } => Self::new(Fate::Refused, message),
            ClusterError::NamespaceMissing { .. } => Self::new(Fate::NamespaceMissing, message),
            ClusterError::KindMissing { .. } => Self::new(Fate::KindMissing, message),
            ClusterError::NotFound
            | ClusterError::Stale { .. }
            | ClusterError::Leaving { .. }
            | ClusterError::Absent { .. }
            | ClusterError::Retry { .. } => Self::unknown(message),
        }
    }

    /// As much as an honest agent tells.
    fn bound(&mut self) {
        self.message = cut(&without_values(&self.message));
        for told in [&mut self.values, &mut self.admitted] {
            told.are_more |= told.values.len() > VALUES_MAX;
            told.values.truncate(VALUES_MAX);
            for ChangedValue { path, found, wanted, .. } in &mut told.values {
                for text in [Some(path), found.as_mut(), wanted.as_mut()].into_iter().flatten() {
                    *text = cut(text);
                }
            }
        }
    }

    /// Of what nobody knows what to hide in.
    pub fn drop_values(&mut self) {
        for told in [&mut self.values, &mut self.admitted] {
            told.are_more |= !told.values.is_empty();
            told.values.clear();
        }
    }

    /// The same, and says why.
    pub fn withhold_values(&mut self) {
        let had = !self.values.values.is_empty() || !self.admitted.values.is_empty();
        self.drop_values();
        if had && self.message.is_empty() {
            UNKNOWN_SECRET.clone_into(&mut self.message);
        }
    }

    fn drop_message(&mut self) {
        if self.message.len() > ELLIPSIS.len() {
            ELLIPSIS.clone_into(&mut self.message);
        }
    }

    /// Without what is hidden, wherever it stands in what is told. What was cut before is hidden too if it may end with the start
    /// of that.
    pub fn hide(&mut self, hidden: &Hidden) {
        if stands_in(&self.message, hidden) {
            HIDDEN.clone_into(&mut self.message);
        }
        for told in [&mut self.values, &mut self.admitted] {
            let before = told.values.len();
            told.values.retain(|value| !hidden.is_in(&value.path) && !hidden.is_in(&value.path.replace('\\', "")));
            told.are_more |= told.values.len() < before;
            for ChangedValue { found, wanted, .. } in &mut told.values {
                for text in [found, wanted].into_iter().flatten().filter(|text| stands_in(text, hidden)) {
                    *text = format!("\"{HIDDEN}\"");
                }
            }
        }
    }
}

/// Whether something that is hidden stands in a text, which may be JSON, also in part if it was cut.
fn stands_in(text: &str, hidden: &Hidden) -> bool {
    let is_in_value = || serde_json::from_str(text).is_ok_and(|value: Value| hidden.is_in_value(&value));
    // Marks that JSON puts before others are taken out.
    let plain = text.replace('\\', "");
    let is_cut_in = |text: &str| text.strip_suffix(ELLIPSIS).is_some_and(|text| hidden.is_cut_in(text));
    hidden.is_in(text) || is_in_value() || hidden.is_in(&plain) || is_cut_in(text) || is_cut_in(&plain)
}

fn cut(text: &str) -> String {
    if text.len() <= MESSAGE_BYTES_MAX {
        return bounded_text(text, MESSAGE_BYTES_MAX);
    }
    bounded_text(text, MESSAGE_BYTES_MAX - ELLIPSIS.len()) + ELLIPSIS
}

/// At the end of what was cut, or for all of it.
const ELLIPSIS: &str = "…";

/// Why nothing is told of what an object holds.
const UNKNOWN_SECRET: &str = "what a Secret of the target holds there is not known, so no values are told";

const NO_DRY_RUN: &str = "does not support dry run";

impl DryRunAnswer {
    /// As it travels, compressed by `compress`: as it is checked where it arrives. What has no room is told without its values and
    /// then without its message, the last ones first.
    pub fn encode(mut self, compress: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        if let Self::Tried(all) = &mut self {
            all.iter_mut().for_each(Tried::bound);
        }
        for drop in [Tried::drop_values, Tried::drop_message] {
            let mut kept = self.len();
            loop {
                if let Some(packed) = self.pack(compress) {
                    return packed;
                }
                if kept == 0 {
                    break;
                }
                kept /= 2;
                if let Self::Tried(all) = &mut self {
                    all[kept..].iter_mut().for_each(drop);
                }
            }
        }
        Self::Unanswered(Unanswered::TooLong).pack(compress).unwrap_or_default()
    }

    fn len(&self) -> usize {
        if let Self::Tried(all) = self { all.len() } else { 0 }
    }

    /// If it has room.
    fn pack(&self, compress: fn(&[u8]) -> Vec<u8>) -> Option<Vec<u8>> {
        let plain = serde_json::to_vec(self).expect("an answer is JSON");
        if plain.len() > ANSWER_BYTES_MAX {
            return None;
        }
        Some(compress(&plain)).filter(|packed| packed.len() <= ANSWER_PACKED_BYTES_MAX)
    }

    /// What an agent says of a bundle; `None`: it is no answer to that.
    pub fn decode(bytes: &[u8], objects: usize) -> Option<Self> {
        let mut answer: Self = serde_json::from_slice(bytes).ok()?;
        if let Self::Tried(all) = &mut answer {
            if all.len() != objects {
                return None;
            }
            all.iter_mut().for_each(Tried::bound);
        }
        Some(answer)
    }
}

/// How many objects have which fate.
pub fn count<'a>(all: impl IntoIterator<Item = &'a Tried>) -> BTreeMap<Fate, usize> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one.fate).or_default() += 1;
    }
    counts
}

/// Of bodies by their digests those that are asked about, as many as there is room for: those of `first` before the others, new
/// definitions before all, since without one nobody can tell what needs it; then Secrets, since without one no values are told.
pub fn choose<'a>(
    manifest: &Manifest,
    first: &dyn Fn(&Digest) -> bool,
    body: &dyn Fn(&Digest) -> Option<&'a [u8]>,
    compress: fn(&[u8]) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let mut entries: Vec<_> = manifest.entries().iter().collect();
    entries.sort_by_key(|entry| {
        let is_first = first(&entry.digest);
        (!(is_first && is_definition(&entry.key)), !is_first, !is_secret_kind(&entry.key.kind))
    });
    let digests: Vec<_> = entries.into_iter().map(|entry| entry.digest).collect();
    let (mut chosen, mut known) = (Vec::new(), std::collections::BTreeSet::new());
    let (mut plain_left, mut packed_left) = (OBJECTS_BYTES_MAX, ASKED_BYTES_MAX);
    for digest in digests.into_iter().filter(|digest| known.insert(*digest)) {
        let Some(body) = body(&digest).filter(|_| chosen.len() < OBJECTS_MAX) else { continue };
        let packed = compress(body);
        let rest = plain_left.checked_sub(body.len()).zip(packed_left.checked_sub(packed.len()));
        let Some(rest) = rest else { continue };
        (plain_left, packed_left) = rest;
        chosen.push(packed);
    }
    chosen
}

/// Of a kind of objects.
pub(crate) fn is_definition(key: &ObjectKey) -> bool {
    (key.group(), key.kind.as_str()) == ("apiextensions.k8s.io", "CustomResourceDefinition")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Entry;
    use crate::drift::Wanted;

    fn changed(found: &str) -> Tried {
        let value = ChangedValue {
            path: ".data.a".to_owned(),
            found: Some(found.to_owned()),
            wanted: Some("\"b\"".to_owned()),
            is_cut: false,
        };
        let values = ChangedValues { values: vec![value], are_more: false };
        Tried { values, ..Tried::new(Fate::Changed, "") }
    }

    #[test]
    fn what_is_hidden_stands_nowhere_in_what_is_told() {
        let hidden = Hidden::new(["hunter2\"x"]);
        let mut told = changed("\"a hunter2\\\"x b\"");
        told.message = "no: hunter2\"x".to_owned();
        let mut by_name = changed("\"c\"");
        by_name.values.values[0].path = ".data.hunter2\"x".to_owned();

        let mut whole = changed(r#"{"b": ["x", "a hunter2\"x"]}"#);
        let mut was_cut = changed(r#"{"b": "hunter2\"x…"#);

        told.hide(&hidden);
        by_name.hide(&hidden);
        whole.hide(&hidden);
        was_cut.hide(&hidden);

        let text = serde_json::to_string(&[&told, &by_name, &whole, &was_cut]).expect("JSON");
        assert!(!text.contains("hunter"), "{text}");
        assert_eq!(told.values.values[0].wanted.as_deref(), Some("\"b\""));
        assert!(by_name.values.are_more, "nothing is left out without a word");
    }

    /// What is random is compressed to no less.
    fn as_is(bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    #[test]
    fn an_answer_that_is_too_long_is_told_without_values_of_the_last_ones() {
        let all: Vec<_> = (0..6_000).map(|_| changed(&format!("\"{}\"", "x".repeat(250)))).collect();

        let bytes = DryRunAnswer::Tried(all).encode(as_is);

        assert!(bytes.len() <= ANSWER_PACKED_BYTES_MAX, "{}", bytes.len());
        let Some(DryRunAnswer::Tried(told)) = DryRunAnswer::decode(&bytes, 6_000) else { panic!("it is an answer") };
        assert!(!told[0].values.values.is_empty() && told[5_999].values.values.is_empty());
        assert!(told[5_999].values.are_more);
        assert_eq!(DryRunAnswer::decode(&bytes, 5_999), None, "it is of another bundle");
    }

    #[test]
    fn of_many_refusals_the_last_ones_are_told_without_their_words() {
        let all: Vec<_> = (0..4_000).map(|_| Tried::new(Fate::Refused, "n".repeat(MESSAGE_BYTES_MAX))).collect();

        let bytes = DryRunAnswer::Tried(all).encode(as_is);

        assert!(bytes.len() <= ANSWER_PACKED_BYTES_MAX, "{}", bytes.len());
        let Some(DryRunAnswer::Tried(told)) = DryRunAnswer::decode(&bytes, 4_000) else { panic!("it is an answer") };
        assert_eq!(told[0].message.len(), MESSAGE_BYTES_MAX);
        assert_eq!((told[3_999].fate, told[3_999].message.as_str()), (Fate::Refused, "…"));
    }

    #[test]
    fn half_of_what_is_hidden_is_told_nowhere_either() {
        let hidden = Hidden::new(["hunter2-long-password"]);
        let long = format!("{}hunter2-long-password", "x".repeat(240));
        let object = |value: &str| serde_json::json!({"kind": "ConfigMap", "data": {"a": value}});
        let told_by_agent =
            crate::drift::changed_values_without(&hidden, Wanted::After(&object("b")), &object(&long)).values;
        // As of an agent that does not know of it.
        let values = crate::drift::changed_values(Wanted::After(&object("b")), &object(&long));
        let message = format!("{}hunter2-long-password", "y".repeat(MESSAGE_BYTES_MAX - 13));
        let unhidden = Tried { values, ..Tried::new(Fate::Changed, message.clone()) };
        let packed = DryRunAnswer::Tried(vec![unhidden]).encode(as_is);
        let Some(DryRunAnswer::Tried(mut told)) = DryRunAnswer::decode(&packed, 1) else { panic!("it is an answer") };
        assert!(format!("{told:?}").contains("hunter2"));

        told[0].hide(&hidden);
        let mut own = Tried::new(Fate::Refused, message);
        own.hide(&hidden);

        let text = format!("{told:?} {told_by_agent:?} {own:?}");
        assert!(!text.contains("hunt"), "{text}");
    }

    #[test]
    fn what_only_a_later_version_says_is_unknown() {
        let answer = |text: &str| DryRunAnswer::decode(text.as_bytes(), 1);

        assert_eq!(answer(r#"{"tried":[{"fate":"teleported"}]}"#), Some(DryRunAnswer::Tried(vec![Tried::unknown("")])));
        let other = DryRunAnswer::Unanswered(Unanswered::Other);
        assert_eq!(answer(r#"{"unanswered":"on_holiday"}"#), Some(other));
    }

    #[test]
    fn what_an_agent_quotes_is_told_without_the_values() {
        let text = br#"{"tried":[{"fate":"refused","message":"spec.x: Invalid value: \"swordfish\": too long"}]}"#;

        let Some(DryRunAnswer::Tried(told)) = DryRunAnswer::decode(text, 1) else { panic!("it is an answer") };

        assert_eq!(told[0].message, "spec.x: Invalid value: …: too long");
    }

    #[test]
    fn what_passes_by_itself_is_no_refusal() {
        let fate = |error: ClusterError| Tried::failed(&error).fate;

        assert_eq!(fate(ClusterError::rejected("Invalid", "spec.x: Required value")), Fate::Refused);
        assert_eq!(fate(ClusterError::retry("the API server cannot be reached")), Fate::Unknown);
        let webhook = "admission webhook \"a.b\" does not support dry run";
        assert_eq!(fate(ClusterError::rejected("BadRequest", webhook)), Fate::Unknown);
    }

    #[test]
    fn what_changes_is_asked_about_before_the_rest_and_no_more_than_has_room() {
        let entry = |name: &str| Entry {
            key: ObjectKey {
                api_version: "v1".to_owned(),
                kind: "ConfigMap".to_owned(),
                namespace: None,
                name: name.to_owned(),
            },
            digest: Digest::of(name.as_bytes()),
        };
        let manifest = Manifest::new(["a", "b", "c"].map(entry).to_vec()).expect("is one");
        let (half, rest) = (vec![0; ASKED_BYTES_MAX / 2 + 1], vec![0; 10]);
        let of = |name: &str| Digest::of(name.as_bytes());
        let body = |digest: &Digest| Some(if *digest == of("c") { &rest[..] } else { &half[..] });

        let chosen = choose(&manifest, &|digest| *digest == of("b"), &body, <[u8]>::to_vec);

        let sizes: Vec<_> = chosen.iter().map(Vec::len).collect();
        assert_eq!(sizes, [half.len(), rest.len()], "two of the large ones have no room");
    }
}
