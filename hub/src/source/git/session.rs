//! One conversation with a Git server, in protocol 2.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use gix::ObjectId;
use gix::bstr::BString;
use gix::protocol::fetch::{Arguments, Response};
use gix::protocol::handshake::Ref;
use gix::protocol::ls_refs::RefPrefixes;
use gix::protocol::transport::client::Capabilities;
use gix::protocol::transport::client::blocking_io::Transport;
use gix::protocol::transport::{Protocol, Service, packetline};
use gix::protocol::{Command, LsRefsCommand, command};

use super::budget::Budget;
use super::error::{Cause, FetchError, find_cause};
use super::unpack::{self, Stored};

/// What a server says when it does not have, or does not give, a commit that was asked for by its id.
const NOT_OUR_REF: &str = "not our ref";

/// A manifest is smaller, so films and dumps beside them are not sent by servers that can leave them out. Larger files
/// that a target does need are asked for by their ids.
const FILTER: &str = "blob:limit=1m";

/// Nothing that a commit leads to.
const ONLY_COMMITS: &str = "tree:0";

/// More commits than a day brings; what is further back is not known to be built upon.
pub(super) const HISTORY_MAX: usize = 1_000;

pub(super) struct Session<'a, T> {
    transport: T,
    capabilities: Capabilities,
    budget: &'a Budget<'a>,
}

impl<'a, T: Transport> Session<'a, T> {
    pub(super) fn open(mut transport: T, budget: &'a Budget<'a>) -> Result<Self, FetchError> {
        budget.allow_listing();
        let (protocol, capabilities) = {
            let answer = transport.handshake(Service::UploadPack, &[]).map_err(conversation)?;
            (answer.actual_protocol, answer.capabilities)
        };
        if protocol != Protocol::V2 {
            return Err(FetchError::Unsupported { reason: "does not speak version 2 of the protocol" });
        }
        let format = capabilities.capability("object-format");
        if format.and_then(|format| format.value()).is_some_and(|format| format != "sha1") {
            return Err(FetchError::Unsupported { reason: "names objects by something else than SHA-1" });
        }
        Ok(Self { transport, capabilities, budget })
    }

    pub(super) fn list(&mut self, prefixes: impl IntoIterator<Item = String>) -> Result<Vec<Ref>, FetchError> {
        self.budget.allow_listing();
        let mut wanted = RefPrefixes::new();
        wanted.extend(prefixes.into_iter().map(BString::from));
        LsRefsCommand::new(Some(wanted), &self.capabilities, agent())
            .invoke_blocking(&mut self.transport, &mut gix::progress::Discard, false)
            .map_err(conversation)
    }

    /// Fetches the commits `wants` without their history. `haves` are commits that are here already, equally shallow:
    /// what they share with the new ones is not sent.
    pub(super) fn receive(
        &mut self,
        wants: &[ObjectId],
        haves: &[ObjectId],
        repo: &gix::Repository,
    ) -> Result<Stored, FetchError> {
        let mut arguments = self.arguments(wants);
        without_history(&mut arguments, haves);
        self.store(arguments, wants, repo)
    }

    /// Whether refs can be asked for by their names.
    pub(super) fn takes_names(&self) -> bool {
        self.arguments(&[]).can_use_ref_in_want()
    }

    /// The same of the commits that these refs lead to, which the answer says, in their order.
    pub(super) fn receive_named(
        &mut self,
        names: &[String],
        haves: &[ObjectId],
        repo: &gix::Repository,
    ) -> Result<(Vec<ObjectId>, Stored), FetchError> {
        let mut arguments = self.arguments(&[]);
        let different: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        for name in different {
            arguments.want_ref(name.into());
        }
        without_history(&mut arguments, haves);
        let (response, stored) = self.exchange(arguments, repo)?;
        let id_of = |name: &String| {
            let mut wanted = response.wanted_refs().iter();
            wanted.find(|wanted| wanted.path == name.as_str()).map(|wanted| wanted.id)
        };
        let ids: Option<Vec<_>> = names.iter().map(id_of).collect();
        let ids = ids.ok_or_else(|| conversation("the answer does not say where a ref is"))?;
        check_complete(&ids, repo)?;
        Ok((ids, stored))
    }

    /// Fetches the commits that `new` builds on, without what they hold where the server can leave that out, as far back as
    /// `old` or as a bound.
    pub(super) fn receive_history(
        &mut self,
        new: ObjectId,
        old: ObjectId,
        repo: &gix::Repository,
    ) -> Result<Stored, FetchError> {
        let mut arguments = self.arguments(&[new]);
        arguments.have(old);
        if arguments.can_use_shallow() {
            arguments.deepen(HISTORY_MAX);
        }
        if arguments.can_use_filter() {
            arguments.filter(ONLY_COMMITS);
        }
        self.store(arguments, &[new], repo)
    }

    /// Fetches single files by their ids.
    pub(super) fn receive_files(&mut self, wants: &[ObjectId], repo: &gix::Repository) -> Result<Stored, FetchError> {
        let arguments = self.arguments(wants);
        self.store(arguments, wants, repo)
    }

    fn arguments(&self, wants: &[ObjectId]) -> Arguments {
        let mut features = Command::Fetch.default_features(Protocol::V2, &self.capabilities);
        features.push(agent());
        let mut arguments = Arguments::new(Protocol::V2, features, false);
        arguments.add_feature("no-progress");
        for want in wants {
            arguments.want(want);
        }
        arguments
    }

    fn store(
        &mut self,
        arguments: Arguments,
        wants: &[ObjectId],
        repo: &gix::Repository,
    ) -> Result<Stored, FetchError> {
        let (_, stored) = self.exchange(arguments, repo)?;
        check_complete(wants, repo)?;
        Ok(stored)
    }

    fn exchange(&mut self, mut arguments: Arguments, repo: &gix::Repository) -> Result<(Response, Stored), FetchError> {
        self.budget.allow_listing();
        let complaint = RefCell::new(None);
        // There is nothing to negotiate: what we have is known, and the rest is one commit.
        let mut reader = arguments.send(&mut self.transport, true).map_err(conversation)?;
        let response = Response::from_line_reader(Protocol::V2, &mut reader, true, false).map_err(conversation)?;
        if !response.has_pack() {
            return Err(conversation("there is no pack in the answer"));
        }
        // Lines before the pack are all kept, so they have the bound of a listing.
        self.budget.allow_pack();
        reader.set_progress_handler(Some(Box::new(|is_error, text: &[u8]| {
            if is_error {
                complaint.borrow_mut().get_or_insert_with(|| super::tidy(text));
            }
            ControlFlow::Continue(())
        })));
        let result = unpack::unpack(&mut reader, repo, self.budget).and_then(|stored| {
            std::io::copy(&mut reader, &mut std::io::sink()).map_err(conversation)?;
            Ok(stored)
        });
        drop(reader);
        match complaint.into_inner() {
            Some(message) => Err(FetchError::Refused { message }),
            None => Ok((response, result?)),
        }
    }

    /// A process at the other end would complain if it were just cut off.
    pub(super) fn close(mut self) {
        let _ = gix::protocol::indicate_end_of_interaction(&mut self.transport, false);
    }
}

/// `haves` are commits that are here already, without their history too.
fn without_history(arguments: &mut Arguments, haves: &[ObjectId]) {
    for have in haves {
        if arguments.can_use_shallow() {
            arguments.shallow(have);
        }
        arguments.have(have);
    }
    if arguments.can_use_shallow() {
        arguments.deepen(1);
    }
    if arguments.can_use_filter() {
        arguments.filter(FILTER);
    }
}

fn check_complete(wants: &[ObjectId], repo: &gix::Repository) -> Result<(), FetchError> {
    let is_complete = wants.iter().all(|want| repo.has_object(want));
    if is_complete { Ok(()) } else { Err(conversation("the pack does not hold what was asked for")) }
}

/// Whether a request for one commit was refused because the server does not have it.
///
/// A process at the other end of a pipe (`file://`) may be gone before it has read all of the request. What it said is
/// lost then, and refusing is all that it can have done.
pub(super) fn is_not_our_ref(error: &FetchError) -> bool {
    match error {
        FetchError::Refused { message } => message.contains(NOT_OUR_REF),
        FetchError::Protocol { source } => find_cause::<std::io::Error>(source.as_ref())
            .is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe),
        _ => false,
    }
}

fn agent() -> command::Feature {
    ("agent", Some(concat!("git/bellwether-", env!("CARGO_PKG_VERSION")).to_owned()))
}

/// What a server says in its own words is passed on as such.
fn conversation(source: impl Into<Cause>) -> FetchError {
    let source = source.into();
    match find_cause::<packetline::read::Error>(source.as_ref()) {
        Some(said) => FetchError::Refused { message: super::tidy(&said.message) },
        None => FetchError::Protocol { source },
    }
}
