//! ssh for the Git protocol, in this process: no program is started that could be given an option, and no key lies in a file.
//!
//! A connection is kept between fetches, and each conversation is a command of its own on it. A host is who the repo's
//! known hosts say, and nobody is trusted for being met first. As over HTTP, every wait ends at the fetch's bounds, all
//! that comes is charged to them, and only addresses that a repo may be at are connected to.

mod key;
mod known_hosts;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::git::{ConnectMode, blocking_io};
use hyper::body::Bytes;
use russh::client::{self, AuthResult, ChannelOpenHandle, Handle, Msg, Session};
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Preferred};
use secrecy::ExposeSecret as _;
use tokio::runtime;

pub(crate) use self::key::{InvalidKey, SshKey};
pub(crate) use self::known_hosts::KnownHosts;
use self::known_hosts::Verdict;
use super::Remote;
use super::budget::Budget;
use super::error::{Cause, FetchError};
use super::url::{SSH_PORT, SshPlace};
use crate::egress;

/// Longer than the default poll, so that a quiet repo keeps its connection; and longer than a server may be silent.
const IDLE_MIN: Duration = Duration::from_secs(90);

/// Of what a server says beside the conversation: a line or two.
const SAID_BYTES_MAX: usize = 1024;

/// The end of a conversation that nobody waits for.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// What servers say of a repo that is not there, or not to be seen with this key: Git itself, GitHub, GitLab and others.
const NO_SUCH_REPO: [&str; 4] = [
    "does not appear to be a git repository",
    "epository not found",
    "could not be found",
    "no such file or directory",
];

/// A connection to one remote's host, on which this repo's key was accepted.
pub(super) struct Connection {
    remote: Remote,
    handle: Handle<Doorkeeper>,
    runtime: runtime::Handle,
    command: String,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("url", &self.remote.url).finish_non_exhaustive()
    }
}

impl Connection {
    /// To be called where tokio's runtime can be entered, which is so in `spawn_blocking`.
    pub(super) fn open(remote: &Remote, budget: &Budget<'_>) -> Result<Self, FetchError> {
        let place = remote.url.ssh().ok_or_else(|| super::protocol("the URL is none of ssh"))?;
        let host = remote.url.host();
        let runtime = runtime::Handle::try_current().map_err(|source| unreachable(&host, source))?;
        let known = KnownHosts::parse(remote.known_hosts.as_deref().unwrap_or_default());
        let known = known.map_err(|source| FetchError::InvalidKnownHosts { source: source.into() })?;
        if !known.has(place) {
            return Err(FetchError::unknown_host(place));
        }
        let key = read_key(remote, place)?;
        let stream = budget.wait(&runtime, egress::connect(&place.host, place.port, remote.may_be_private))?;
        let stream = stream.map_err(|failure| FetchError::of_egress(host.clone(), failure))?;
        let algorithms = known.prefer(place, &Preferred::DEFAULT.key);
        let doorkeeper = Doorkeeper { place: place.clone(), known };
        let session = client::connect_stream(Arc::new(config(algorithms, budget)), stream, doorkeeper);
        let mut handle = budget.wait(&runtime, session)?.map_err(|failure| failure.described(&host))?;
        budget.wait(&runtime, authenticate(&mut handle, place, key))??;
        Ok(Self { remote: remote.clone(), handle, runtime, command: command(&place.path) })
    }

    pub(super) fn serves(&self, remote: &Remote) -> bool {
        self.remote.is(remote) && !self.handle.is_closed()
    }
}

fn config(algorithms: Vec<Algorithm>, budget: &Budget<'_>) -> client::Config {
    client::Config {
        preferred: Preferred { key: algorithms.into(), ..Preferred::DEFAULT },
        inactivity_timeout: Some(IDLE_MIN.max(budget.stall() * 2)),
        nodelay: true,
        ..client::Config::default()
    }
}

fn read_key(remote: &Remote, place: &SshPlace) -> Result<SshKey, FetchError> {
    let Some(text) = &remote.credential else {
        return Err(FetchError::NoKey { host: remote.url.host(), user: place.user.clone() });
    };
    SshKey::parse(text.expose_secret()).map_err(|source| FetchError::InvalidKey { source: source.into() })
}

async fn authenticate(handle: &mut Handle<Doorkeeper>, place: &SshPlace, key: SshKey) -> Result<(), FetchError> {
    let host = place.host.to_string();
    let lost = |source: russh::Error| unreachable(&host, source);
    let SshKey(key) = key;
    let fingerprint = known_hosts::fingerprint(key.public_key());
    let hash = if key.algorithm().is_rsa() {
        // Never SHA-1. A server that does not say what it takes is asked with what all take today.
        let best = handle.best_supported_rsa_hash().await.map_err(lost)?;
        Some(best.flatten().unwrap_or(HashAlg::Sha512))
    } else {
        None
    };
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    match handle.authenticate_publickey(&place.user, key).await.map_err(lost)? {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { .. } => Err(FetchError::KeyRefused { host, user: place.user.clone(), fingerprint }),
    }
}

/// What the server's shell gets. Quoted as Git quotes it.
fn command(path: &str) -> String {
    let mut quoted = String::from("git-upload-pack '");
    for character in path.chars() {
        match character {
            '\'' | '!' => quoted.extend(["'\\", &character.to_string(), "'"]),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

fn unreachable(host: &str, source: impl Into<Cause>) -> FetchError {
    FetchError::Unreachable { host: host.to_owned(), source: source.into() }
}

impl FetchError {
    pub(crate) fn unknown_host(place: &SshPlace) -> Self {
        let host = place.host.to_string();
        let port = if place.port == SSH_PORT { String::new() } else { format!("-p {} ", place.port) };
        Self::HostUnknown { scan: format!("ssh-keyscan {port}{}", host.trim_matches(['[', ']'])), host }
    }
}

/// Lets only the host in that is known.
struct Doorkeeper {
    place: SshPlace,
    known: KnownHosts,
}

/// Why a connection did not come to be.
#[derive(Debug)]
enum Failure {
    Refused(FetchError),
    Broken(russh::Error),
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Self::Broken(error)
    }
}

impl Failure {
    fn described(self, host: &str) -> FetchError {
        match self {
            Self::Refused(error) => error,
            Self::Broken(error) => unreachable(host, error),
        }
    }
}

impl client::Handler for Doorkeeper {
    type Error = Failure;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        let host = self.place.host.to_string();
        // Certificates are never asked for.
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        let fingerprint = known_hosts::fingerprint(key);
        let refused = match self.known.judge(&self.place, key) {
            Verdict::Known => return Ok(true),
            Verdict::Changed(known) => FetchError::HostKeyChanged { host, fingerprint, known },
            Verdict::Revoked => FetchError::HostKeyRevoked { host, fingerprint },
            Verdict::UnknownHost => FetchError::unknown_host(&self.place),
        };
        Err(Failure::Refused(refused))
    }

    // No Git server opens a channel. Each would be kept for as long as the connection is, so this ends it.

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        Err(opened_by_server())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        Err(opened_by_server())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        Err(opened_by_server())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        Err(opened_by_server())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        Err(opened_by_server())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        Err(opened_by_server())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        Err(opened_by_server())
    }
}

fn opened_by_server() -> Failure {
    Failure::Refused(super::protocol("the server opens a channel, as no Git server does"))
}

/// One fetch's use of a connection, handed to gix.
///
/// gix wraps errors deeply, so what really happened is kept aside and asked for with [`Talk::failure`].
#[derive(Clone)]
pub(super) struct Talk<'a> {
    connection: &'a Connection,
    budget: &'a Budget<'a>,
    failure: Rc<RefCell<Option<FetchError>>>,
}

impl<'a> Talk<'a> {
    pub(super) fn new(connection: &'a Connection, budget: &'a Budget<'a>) -> Self {
        Self { connection, budget, failure: Rc::default() }
    }

    pub(super) fn failure(&self) -> Rc<RefCell<Option<FetchError>>> {
        Rc::clone(&self.failure)
    }

    /// A conversation, whose command is started when something is first read of it.
    pub(super) fn begin(&self) -> blocking_io::Connection<Answers<'a>, Questions<'a>> {
        let exchange = Exchange {
            talk: self.clone(),
            channel: None,
            upload: Vec::new(),
            chunk: Bytes::new(),
            said: Vec::new(),
            has_answered: false,
            has_ended: false,
        };
        let exchange = Rc::new(RefCell::new(exchange));
        let no_virtual_host = None::<(&str, _)>;
        let (answers, questions) = (Answers(Rc::clone(&exchange)), Questions(exchange));
        blocking_io::Connection::new(
            answers,
            questions,
            Protocol::V2,
            self.connection.remote.url.as_str(),
            no_virtual_host,
            ConnectMode::Process,
            false,
        )
    }

    fn host(&self) -> String {
        self.connection.remote.url.host()
    }

    fn fail(&self, error: FetchError) -> io::Error {
        let text = error.to_string();
        self.failure.borrow_mut().get_or_insert(error);
        io::Error::other(text)
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> io::Result<T> {
        self.budget.wait(&self.connection.runtime, work).map_err(|error| self.fail(error))
    }

    fn charge(&self, bytes: &Bytes) -> io::Result<()> {
        self.budget.charge(bytes.len()).map_err(|error| self.fail(error))
    }
}

/// A command on the server, and what is still on its way to or from it.
struct Exchange<'a> {
    talk: Talk<'a>,
    channel: Option<Channel<Msg>>,
    /// What is asked of a server fits into a few KiB, and goes out when its answer is waited for.
    upload: Vec<u8>,
    chunk: Bytes,
    /// Beside the conversation.
    said: Vec<u8>,
    has_answered: bool,
    has_ended: bool,
}

impl Exchange<'_> {
    fn start(&self) -> io::Result<Channel<Msg>> {
        let Connection { handle, command, .. } = self.talk.connection;
        let start = async {
            let channel = handle.channel_open_session().await?;
            // A server that does not take it answers in the first version of the protocol, which is then told.
            channel.set_env(false, "GIT_PROTOCOL", "version=2").await?;
            channel.exec(true, command.as_bytes()).await?;
            Ok::<_, russh::Error>(channel)
        };
        self.talk.wait(start)?.map_err(|source| self.talk.fail(unreachable(&self.talk.host(), source)))
    }

    /// The empty chunk is the end.
    fn next_chunk(&mut self) -> io::Result<Bytes> {
        if self.has_ended {
            return Ok(Bytes::new());
        }
        let mut channel = match self.channel.take() {
            Some(channel) => channel,
            None => self.start()?,
        };
        let upload = std::mem::take(&mut self.upload);
        if !upload.is_empty() {
            // Should the command have ended already, what it said last is still to be read.
            let _ = self.talk.wait(channel.data_bytes(upload))?;
        }
        let chunk = self.read(&mut channel);
        self.channel = Some(channel);
        chunk
    }

    fn read(&mut self, channel: &mut Channel<Msg>) -> io::Result<Bytes> {
        let mut failed = false;
        loop {
            match self.talk.wait(channel.wait())? {
                Some(ChannelMsg::Data { data }) => {
                    self.talk.charge(&data)?;
                    if !data.is_empty() {
                        self.has_answered = true;
                        return Ok(data);
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    self.talk.charge(&data)?;
                    let room = SAID_BYTES_MAX.saturating_sub(self.said.len()).min(data.len());
                    self.said.extend_from_slice(&data[..room]);
                }
                Some(ChannelMsg::Failure | ChannelMsg::ExitSignal { .. }) => failed = true,
                Some(ChannelMsg::ExitStatus { exit_status }) => failed |= exit_status != 0,
                // The whole connection.
                None if self.talk.connection.handle.is_closed() => {
                    return Err(self.talk.fail(unreachable(&self.talk.host(), "the connection was cut")));
                }
                Some(ChannelMsg::Close) | None => break,
                Some(_) => {}
            }
        }
        self.has_ended = true;
        if failed || !self.has_answered { Err(self.talk.fail(self.describe_end())) } else { Ok(Bytes::new()) }
    }

    /// A command that said nothing, or that ended in the middle.
    fn describe_end(&self) -> FetchError {
        let url = self.talk.connection.remote.url.to_string();
        let said = String::from_utf8_lossy(&self.said);
        // Servers put names and blank lines around it.
        let lines = said.lines().map(|line| line.trim().trim_start_matches("remote:").trim());
        let telling = lines.filter(|line| line.chars().any(char::is_alphanumeric)).collect::<Vec<_>>();
        match telling.first() {
            Some(_) if telling.iter().any(|line| NO_SUCH_REPO.iter().any(|words| line.contains(words))) => {
                FetchError::NoSuchRepo { url }
            }
            Some(line) => FetchError::Refused { message: super::tidy(line.as_bytes()) },
            None => FetchError::NotGit { url },
        }
    }
}

impl Drop for Exchange<'_> {
    /// The command gets what was not sent yet, and the end; a kept connection has room for few of them.
    fn drop(&mut self) {
        let Some(channel) = self.channel.take() else { return };
        let upload = std::mem::take(&mut self.upload);
        let farewell = async move {
            if !upload.is_empty() {
                channel.data_bytes(upload).await?;
            }
            channel.eof().await?;
            channel.close().await
        };
        self.talk.connection.runtime.spawn(tokio::time::timeout(FAREWELL_MAX, farewell));
    }
}

pub(super) struct Questions<'a>(Rc<RefCell<Exchange<'a>>>);

impl Write for Questions<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().upload.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct Answers<'a>(Rc<RefCell<Exchange<'a>>>);

impl Read for Answers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut exchange = self.0.borrow_mut();
        if exchange.chunk.is_empty() {
            exchange.chunk = exchange.next_chunk()?;
        }
        let bytes = buffer.len().min(exchange.chunk.len());
        buffer[..bytes].copy_from_slice(&exchange.chunk.split_to(bytes));
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_word_of_the_server_shell() {
        let cases = [
            ("/apps.git", "git-upload-pack '/apps.git'"),
            ("/a b'; touch x", r"git-upload-pack '/a b'\''; touch x'"),
            ("a!b", r"git-upload-pack 'a'\!'b'"),
            ("$(x)`y`", "git-upload-pack '$(x)`y`'"),
        ];

        for (path, expected) in cases {
            assert_eq!(command(path), expected);
        }
    }
}
