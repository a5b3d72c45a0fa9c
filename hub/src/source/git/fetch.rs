//! One fetch from a Git server: where the refs are, what of that is not here, and what is told of each.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bellwether_core::source::{self, GitRef};
use bellwether_core::version_range::VersionRange;
use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::objs::Kind;
use gix::protocol::handshake::Ref;
use gix::protocol::transport::client::blocking_io::Transport;

use super::budget::Budget;
use super::commit::{Commit, read_commit};
use super::descent::Descent;
use super::error::{FetchError, RefError, nearest};
use super::lacking::Lacking;
use super::session::{self, Session};
use super::unpack::Stored;
use super::verify::{Signable, Verifier};
use super::{Head, damaged, protocol, tidy};
use crate::process::clock;

const TAGS: &str = "refs/tags/";

/// Names looked through for a suggestion.
const SUGGESTIONS_MAX: usize = 10_000;

/// Commits whose pack was too large: it is not sent again while the same ones are wanted.
#[derive(Debug)]
pub(super) struct Refused {
    wants: Vec<ObjectId>,
    what: String,
    max: u64,
}

/// What one fetch brought.
pub(super) struct Fetched {
    pub(super) heads: Vec<Head>,
    pub(super) tips: Vec<ObjectId>,
    pub(super) stored: Option<Stored>,
}

/// Where each wanted ref leads, before anything is fetched.
enum Found {
    Commit(At),
    /// A tag: of all that are in a range of versions, or what a name means.
    Tagged {
        tag: String,
        at: At,
    },
    /// No tag is in that range; the nearest to it.
    NoneInRange {
        range: String,
        nearest: Vec<String>,
    },
    Missing,
    Invalid,
}

impl Found {
    /// What is to be signed there.
    fn signable<'a>(&'a self, reference: &'a GitRef) -> Option<Signable<'a>> {
        match (self, reference) {
            (Self::Commit(at), GitRef::Tag(name)) => Some(Signable { commit: at.id, tag: Some((name, at.tag)) }),
            (Self::Commit(at), _) => Some(Signable { commit: at.id, tag: None }),
            (Self::Tagged { tag, at }, _) => Some(Signable { commit: at.id, tag: Some((tag, at.tag)) }),
            _ => None,
        }
    }
}

/// Where a name leads.
#[derive(Debug, Clone, Copy)]
struct At {
    id: ObjectId,
    /// A tag that is more than a name is an object itself, and may be signed.
    tag: Option<ObjectId>,
}

impl From<ObjectId> for At {
    fn from(id: ObjectId) -> Self {
        Self { id, tag: None }
    }
}

/// What a fetch builds on.
pub(super) struct Here<'a> {
    pub(super) repo: &'a gix::Repository,
    pub(super) tips: &'a [ObjectId],
    pub(super) lacking: &'a Lacking,
    pub(super) refused: &'a mut Option<Refused>,
    pub(super) expects_news: bool,
    pub(super) bases: &'a BTreeMap<String, ObjectId>,
    pub(super) waiting: &'a BTreeMap<String, ObjectId>,
    /// Where a history may be for as long as it is looked at.
    pub(super) scratch: &'a Path,
    pub(super) verifier: Option<&'a Verifier>,
}

/// `connect` begins a conversation. One that ended in an error is not gone on with: a process at the other end is gone
/// by then, and over HTTP a new one costs nothing.
pub(super) fn run_fetch<T: Transport>(
    connect: impl Fn() -> T,
    wanted: &[GitRef],
    here: Here<'_>,
    budget: &Budget<'_>,
) -> Result<Fetched, FetchError> {
    let Here { repo, tips, lacking, refused, expects_news, bases, waiting, scratch, verifier } = here;
    let mut session = Session::open(connect(), budget)?;
    // Of what was too large before nothing is asked for before it is known to be something else.
    let asks_by_name = expects_news && !tips.is_empty() && refused.is_none();
    let named = if asks_by_name { fetch_named(&mut session, wanted, tips, repo)? } else { Named::Unanswered };
    let (mut found, mut stored) = match named {
        Named::Found(found, stored) => (found, Some(stored)),
        not_found => {
            if matches!(not_found, Named::Refused) {
                session = Session::open(connect(), budget)?;
            }
            let found = locate(&mut session, wanted)?;
            let needs_tags = verifier.is_some_and(Verifier::needs_tags);
            let wants = list_missing(&found, wanted, needs_tags, repo);
            let stored = fetch_missing(&mut session, &wants, tips, repo, refused)?;
            (found, stored)
        }
    };
    stored = fetch_pinned(&connect, (&mut found, wanted), tips, repo, budget)?.max(stored);
    session.close();
    stored = fetch_lacking(&connect, lacking, repo, budget)?.max(stored);
    let listing = OnceCell::new();
    let suggest = &|prefix: &str, wanted: &str| {
        // A suggestion is worth one listing, however many refs are missing, and no failure.
        let list = || {
            let prefixes = ["refs/heads/".to_owned(), TAGS.to_owned()];
            let listed = Session::open(connect(), budget).and_then(|mut session| session.list(prefixes));
            listed.unwrap_or_default()
        };
        nearest_ref(listing.get_or_init(list), prefix, wanted)
    };
    let outcomes = found.iter().zip(wanted).map(|(found, reference)| {
        let outcome = describe(found, reference, repo, suggest)?;
        let tag = if let Found::Tagged { tag, .. } = found { Some(tag.clone()) } else { None };
        let verified = match (verifier, found.signable(reference)) {
            (Some(verifier), Some(signable)) if outcome.is_ok() => {
                Some(verifier.verify(signable, repo, clock::now())?)
            }
            _ => None,
        };
        Ok(Head { reference: reference.clone(), tag, builds_on: None, verified, outcome })
    });
    let mut heads: Vec<Head> = outcomes.collect::<Result<_, FetchError>>()?;
    for head in &mut heads {
        let name = source::full_name(&head.reference);
        let Some(base) = bases.get(&name) else { continue };
        let Ok(new) = head.outcome.as_ref().map(|commit| ObjectId::from_hex(commit.id.as_bytes())) else { continue };
        let new = new.map_err(protocol)?;
        // One that waits was looked at when it came, and somebody is asked about it.
        if waiting.get(&name) != Some(&new) {
            let descent = Descent { new, old: *base, repo, scratch };
            let is_true = descent.is_true(budget, || Session::open(connect(), budget))?;
            head.builds_on = is_true.then(|| base.to_string());
        }
    }
    let tips = heads.iter().filter_map(|head| ObjectId::from_hex(head.outcome.as_ref().ok()?.id.as_bytes()).ok());
    Ok(Fetched { tips: tips.collect(), heads, stored })
}

/// Commits that are pinned go one by one: a server refuses the whole request for one that it does not have.
fn fetch_pinned<T: Transport>(
    connect: &impl Fn() -> T,
    (found, wanted): (&mut [Found], &[GitRef]),
    tips: &[ObjectId],
    repo: &gix::Repository,
    budget: &Budget<'_>,
) -> Result<Option<Stored>, FetchError> {
    let mut stored = None;
    for (found, reference) in found.iter_mut().zip(wanted) {
        let (Found::Commit(At { id, .. }), GitRef::Commit(_)) = (&*found, reference) else { continue };
        if repo.has_object(*id) {
            continue;
        }
        match Session::open(connect(), budget)?.receive(&[*id], tips, repo) {
            Ok(done) => stored = Some(done).max(stored),
            Err(error) if session::is_not_our_ref(&error) => *found = Found::Missing,
            Err(error) => return Err(error),
        }
    }
    Ok(stored)
}

/// What came of asking for branches by name.
enum Named {
    Found(Vec<Found>, Stored),
    /// One of them is not there, or what they lead to is too much: a listing tells. The conversation is over.
    Refused,
    /// They were not asked for.
    Unanswered,
}

/// One round trip instead of two. Only branches: a tag's name leads to the tag, and not to its commit.
fn fetch_named<T: Transport>(
    session: &mut Session<'_, T>,
    wanted: &[GitRef],
    tips: &[ObjectId],
    repo: &gix::Repository,
) -> Result<Named, FetchError> {
    let is_branch = |reference: &GitRef| matches!(reference, GitRef::Branch(_)) && source::is_valid(reference);
    if wanted.is_empty() || !wanted.iter().all(is_branch) || !session.takes_names() {
        return Ok(Named::Unanswered);
    }
    let names: Vec<String> = wanted.iter().map(source::full_name).collect();
    match session.receive_named(&names, tips, repo) {
        Ok((ids, stored)) => Ok(Named::Found(ids.into_iter().map(|id| Found::Commit(id.into())).collect(), stored)),
        Err(FetchError::Refused { .. } | FetchError::TooLarge { .. }) => Ok(Named::Refused),
        Err(error) => Err(error),
    }
}

/// One listing for all branches and tags, and of all tags only where versions are compared; a commit is where it says. It is asked for even if there is none of them:
/// that the server answers is half of what a fetch is for.
fn locate<T: Transport>(session: &mut Session<'_, T>, wanted: &[GitRef]) -> Result<Vec<Found>, FetchError> {
    let is_listed = |reference: &&GitRef| {
        !matches!(reference, GitRef::Commit(_) | GitRef::Digest(_)) && source::is_valid(reference)
    };
    let prefixes = |reference: &GitRef| match reference {
        GitRef::Semver(_) => vec![TAGS.to_owned()],
        GitRef::Named(name) => source::meant_by(name),
        full => vec![source::full_name(full)],
    };
    let mut names: Vec<String> = wanted.iter().filter(is_listed).flat_map(prefixes).collect();
    names.dedup();
    if names.is_empty() {
        // Without a prefix a server lists everything.
        names.push("HEAD".to_owned());
    }
    let refs = session.list(names)?;
    let targets: HashMap<&[u8], At> = refs.iter().filter_map(target).collect();
    let find = |reference: &GitRef| match reference {
        reference if !source::is_valid(reference) => Found::Invalid,
        GitRef::Commit(id) => ObjectId::from_hex(id.as_bytes()).map_or(Found::Invalid, |id| Found::Commit(id.into())),
        GitRef::Semver(range) => find_newest(range, &targets),
        GitRef::Named(name) => find_named(name, &targets),
        GitRef::Digest(_) => Found::Missing,
        listed => targets.get(source::full_name(listed).as_bytes()).map_or(Found::Missing, |at| Found::Commit(*at)),
    };
    Ok(wanted.iter().map(find).collect())
}

fn find_named(name: &str, targets: &HashMap<&[u8], At>) -> Found {
    let meant = source::meant_by(name).into_iter().find_map(|full| Some((*targets.get(full.as_bytes())?, full)));
    match meant {
        Some((at, full)) => match full.strip_prefix(TAGS) {
            Some(tag) => Found::Tagged { tag: tag.to_owned(), at },
            None => Found::Commit(at),
        },
        None => Found::Missing,
    }
}

fn find_newest(range: &str, targets: &HashMap<&[u8], At>) -> Found {
    let Some(parsed) = VersionRange::parse(range) else { return Found::Invalid };
    let tags = targets.iter().filter_map(|(name, at)| Some((name.strip_prefix(TAGS.as_bytes())?.to_str().ok()?, *at)));
    let tags: BTreeMap<&str, At> = tags.collect();
    match parsed.newest(tags.keys().copied()) {
        Some(tag) => Found::Tagged { tag: tag.to_owned(), at: tags[tag] },
        None => {
            let nearest = parsed.nearest(tags.keys().copied());
            let nearest = nearest.into_iter().map(|tag| tidy(tag.as_bytes())).collect();
            Found::NoneInRange { range: range.to_owned(), nearest }
        }
    }
}

/// A ref's full name, and what it leads to when tags and symbolic refs are followed.
fn target(listed: &Ref) -> Option<(&[u8], At)> {
    match listed {
        Ref::Direct { full_ref_name, object } => Some((full_ref_name.as_bytes(), (*object).into())),
        Ref::Peeled { full_ref_name, object, tag } => {
            Some((full_ref_name.as_bytes(), At { id: *object, tag: Some(*tag) }))
        }
        Ref::Symbolic { full_ref_name, object, tag, .. } => {
            Some((full_ref_name.as_bytes(), At { id: *object, tag: *tag }))
        }
        Ref::Unborn { .. } => None,
    }
}

/// Commits at branches and tags that are not here; and the tags themselves where they have to be signed.
fn list_missing(found: &[Found], wanted: &[GitRef], needs_tags: bool, repo: &gix::Repository) -> Vec<ObjectId> {
    let named = found.iter().zip(wanted).filter_map(|(found, reference)| match (found, reference) {
        (Found::Commit(at), GitRef::Branch(_) | GitRef::Tag(_) | GitRef::Named(_)) | (Found::Tagged { at, .. }, _) => {
            Some(*at)
        }
        _ => None,
    });
    let named = named.flat_map(|at| [Some(at.id), at.tag.filter(|_| needs_tags)]).flatten();
    let mut wants: Vec<ObjectId> = named.filter(|id| !repo.has_object(id)).collect();
    wants.sort_unstable();
    wants.dedup();
    wants
}

fn fetch_missing<T: Transport>(
    session: &mut Session<'_, T>,
    wants: &[ObjectId],
    tips: &[ObjectId],
    repo: &gix::Repository,
    refused: &mut Option<Refused>,
) -> Result<Option<Stored>, FetchError> {
    if wants.is_empty() {
        return Ok(None);
    }
    if let Some(Refused { what, max, .. }) = refused.as_ref().filter(|refused| refused.wants == wants) {
        return Err(FetchError::TooLarge { what: what.clone(), max: *max });
    }
    let received = session.receive(wants, tips, repo);
    if let Err(FetchError::TooLarge { what, max }) = &received {
        *refused = Some(Refused { wants: wants.to_vec(), what: what.clone(), max: *max });
    }
    received.map(Some)
}

/// All at once, or one by one if that is too much: then only those that are too large stay away.
fn fetch_lacking<T: Transport>(
    connect: &impl Fn() -> T,
    lacking: &Lacking,
    repo: &gix::Repository,
    budget: &Budget<'_>,
) -> Result<Option<Stored>, FetchError> {
    let wants = lacking.list_wanted();
    if wants.is_empty() {
        return Ok(None);
    }
    let receive = |wants: &[ObjectId]| {
        let received = Session::open(connect(), budget)?.receive_files(wants, repo);
        match received {
            // What a commit names and the server does not have was lost here, or is of a commit that is gone.
            Err(error) if session::is_not_our_ref(&error) => Err(damaged(error)),
            other => other,
        }
    };
    let mut stored = match receive(&wants) {
        Err(FetchError::TooLarge { .. }) => None,
        received => {
            lacking.mark_here(&wants);
            return received.map(Some);
        }
    };
    for id in wants {
        match receive(&[id]) {
            Err(FetchError::TooLarge { .. }) => lacking.mark_too_large(id),
            received => {
                stored = Some(received?).max(stored);
                lacking.mark_here(&[id]);
            }
        }
    }
    Ok(stored)
}

fn describe(
    found: &Found,
    reference: &GitRef,
    repo: &gix::Repository,
    suggest: impl Fn(&str, &str) -> Option<String>,
) -> Result<Result<Commit, RefError>, FetchError> {
    Ok(match (found, reference) {
        (Found::Commit(At { id, .. }) | Found::Tagged { at: At { id, .. }, .. }, _)
            if repo.find_header(*id).map_err(damaged)?.kind() == Kind::Commit =>
        {
            read_commit(*id, repo)?
        }
        (Found::Tagged { tag, .. }, _) => Err(RefError::NotACommit { reference: format!("{TAGS}{tag}") }),
        (Found::Commit(_), _) => Err(RefError::NotACommit { reference: source::full_name(reference) }),
        (Found::NoneInRange { range, nearest }, _) => {
            Err(RefError::NoVersion { range: range.clone(), nearest: nearest.clone() })
        }
        (Found::Invalid, _) => Err(RefError::Invalid { reference: tidy(source::full_name(reference).as_bytes()) }),
        (Found::Missing, GitRef::Branch(branch)) => {
            Err(RefError::NoSuchBranch { branch: branch.clone(), nearest: suggest("refs/heads/", branch) })
        }
        (Found::Missing, GitRef::Tag(tag)) => {
            Err(RefError::NoSuchTag { tag: tag.clone(), nearest: suggest(TAGS, tag) })
        }
        (Found::Missing, GitRef::Named(name)) if name == source::HEAD => Err(RefError::NoDefaultBranch),
        (Found::Missing, GitRef::Named(name)) => {
            let both = [TAGS, "refs/heads/"].into_iter().filter_map(|prefix| suggest(prefix, name));
            let nearest = both.min_by_key(|found| strsim::damerau_levenshtein(name, found));
            Err(RefError::NoSuchName { name: name.clone(), nearest })
        }
        (Found::Missing, GitRef::Commit(commit)) => Err(RefError::NoSuchCommit { commit: commit.clone() }),
        (Found::Missing, GitRef::Semver(range)) => {
            Err(RefError::NoVersion { range: range.clone(), nearest: Vec::new() })
        }
        (Found::Missing, GitRef::Digest(_)) => Err(RefError::OfRegistry),
    })
}

fn nearest_ref(listed: &[Ref], prefix: &str, wanted: &str) -> Option<String> {
    let names = listed.iter().filter_map(target);
    let names = names.filter_map(|(name, _)| name.strip_prefix(prefix.as_bytes())?.to_str().ok());
    nearest(wanted, names.take(SUGGESTIONS_MAX))
}
