//! A proxy between a hub and its Postgres server, which stops one message at a moment that a test names, lets nothing pass
//! any more, or is slow.
//!
//! It knows of Postgres' protocol how messages are cut, and which statement each one runs: so a test says *the COMMIT of the
//! transaction that writes this*, waits until the proxy has it, ends a process, and lets the message go or cuts its
//! connection. All other connections go on meanwhile. What passes is never changed.
//! Neighbours: `harness` starts a scene's hub behind one; `balancer` stands before hubs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use url::Url;

use crate::held::{Held, wait_in};

/// When a message is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A statement has not reached the server.
    Statement,
    /// The COMMIT of a transaction that ran the statement has not reached the server.
    Commit,
    /// The server has committed, and the hub does not know.
    Committed,
}

#[derive(Debug)]
struct Trap {
    moment: Moment,
    words: String,
    caught: oneshot::Sender<Held>,
}

/// How everything passes.
#[derive(Debug, Clone, Copy, Default)]
struct Passage {
    is_cut_off: bool,
    /// Of what asks the server for an answer.
    delay: Duration,
}

/// What a test says, for all connections.
#[derive(Debug, Clone, Default)]
struct Orders {
    traps: Arc<Mutex<Vec<Trap>>>,
    passage: watch::Sender<Passage>,
}

#[derive(Debug)]
pub struct PostgresProxy {
    port: u16,
    orders: Orders,
    /// Ends with the proxy, and every connection with it.
    _serving: JoinSet<()>,
}

impl PostgresProxy {
    /// Before the server of this URL.
    pub async fn start(server: &Url) -> Result<Self> {
        let place = Arc::new(Place::of(server)?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let orders = Orders::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, place, orders.clone()));
        Ok(Self { port, orders, _serving: serving })
    }

    /// The same database, through the proxy. Messages are read, so nothing is encrypted.
    pub fn url(&self, database: &Url) -> Result<Url> {
        let mut url = database.clone();
        url.set_query(Some("sslmode=disable"));
        url.set_host(Some("127.0.0.1"))?;
        url.set_port(Some(self.port)).ok().context("a database's URL has a port")?;
        Ok(url)
    }

    /// Stops the next message at this moment of a statement that has these words, on whatever connection. What is answered
    /// tells when that has come.
    pub fn hold(&self, moment: Moment, words: &str) -> oneshot::Receiver<Held> {
        let (caught, told) = oneshot::channel();
        let trap = Trap { moment, words: words.to_owned(), caught };
        self.orders.traps.lock().unwrap_or_else(PoisonError::into_inner).push(trap);
        told
    }

    /// Ends all connections, and takes none, until [`Self::let_through`].
    pub fn cut_off(&self) {
        self.orders.passage.send_modify(|passage| passage.is_cut_off = true);
    }

    pub fn let_through(&self) {
        self.orders.passage.send_modify(|passage| passage.is_cut_off = false);
    }

    /// From now on each answer takes so much longer.
    pub fn slow_down(&self, delay: Duration) {
        self.orders.passage.send_modify(|passage| passage.delay = delay);
    }
}

/// Where the server is.
#[derive(Debug)]
enum Place {
    Socket(PathBuf),
    Tcp(String),
}

impl Place {
    fn of(url: &Url) -> Result<Self> {
        let port = url.port().unwrap_or(5432);
        let folder = url.query_pairs().find(|(key, _)| key == "host").map(|(_, folder)| folder.into_owned());
        match folder {
            Some(folder) => Ok(Self::Socket(PathBuf::from(folder).join(format!(".s.PGSQL.{port}")))),
            None => Ok(Self::Tcp(format!("{}:{port}", url.host_str().context("a server has a host")?))),
        }
    }
}

async fn serve(listener: TcpListener, place: Arc<Place>, orders: Orders) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connect(client, Arc::clone(&place), orders.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(client: TcpStream, place: Arc<Place>, orders: Orders) {
    let (from_client, to_client) = client.into_split();
    match &*place {
        Place::Socket(path) => {
            let Ok(server) = UnixStream::connect(path).await else { return };
            let (from_server, to_server) = server.into_split();
            carry((from_client, to_client), (from_server, to_server), &orders).await;
        }
        Place::Tcp(address) => {
            let Ok(server) = TcpStream::connect(address).await else { return };
            let (from_server, to_server) = server.into_split();
            carry((from_client, to_client), (from_server, to_server), &orders).await;
        }
    }
}

/// Until either end is gone, what was held is cut, or all are.
async fn carry(
    client: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    server: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    orders: &Orders,
) {
    let awaited = Mutex::default();
    let mut passage = orders.passage.subscribe();
    tokio::select! {
        biased;
        _ = passage.wait_for(|passage| passage.is_cut_off) => {}
        _ = carry_asked(client.0, server.1, orders, &awaited) => {}
        _ = carry_answered(server.0, client.1, &awaited) => {}
    }
}

/// Who waits for the answer to a COMMIT that has passed.
type Awaited = Mutex<Option<oneshot::Sender<Held>>>;

async fn carry_asked(
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
    orders: &Orders,
    awaited: &Awaited,
) -> Result<()> {
    // The first message has no kind.
    let length = client.read_u32().await?;
    server.write_all(&[&length.to_be_bytes()[..], &read_body(&mut client, length).await?].concat()).await?;
    let mut session = Session::default();
    loop {
        let message = Message::read(&mut client).await?;
        let moments = session.note(&message);
        for (moment, statements) in moments {
            let Some(caught) = spring(&orders.traps, moment, &statements) else { continue };
            if moment == Moment::Committed {
                *awaited.lock().unwrap_or_else(PoisonError::into_inner) = Some(caught);
            } else {
                wait_in(caught).await?;
            }
        }
        if message.asks_for_an_answer() {
            let delay = orders.passage.borrow().delay;
            sleep(delay).await;
        }
        server.write_all(&message.bytes()).await?;
    }
}

async fn carry_answered(
    mut server: impl AsyncRead + Unpin,
    mut client: impl AsyncWrite + Unpin,
    awaited: &Awaited,
) -> Result<()> {
    loop {
        let message = Message::read(&mut server).await?;
        if message.kind == b'C' && message.body.starts_with(b"COMMIT\0") {
            let caught = awaited.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(caught) = caught {
                wait_in(caught).await?;
            }
        }
        client.write_all(&message.bytes()).await?;
    }
}

/// The trap for this moment of one of these statements. It is used once.
fn spring(traps: &Mutex<Vec<Trap>>, moment: Moment, statements: &[String]) -> Option<oneshot::Sender<Held>> {
    let mut traps = traps.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |trap: &Trap| trap.moment == moment && statements.iter().any(|one| one.contains(&trap.words));
    let at = traps.iter().position(fits)?;
    Some(traps.remove(at).caught)
}

struct Message {
    kind: u8,
    body: Vec<u8>,
}

impl Message {
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Self> {
        let kind = from.read_u8().await?;
        let length = from.read_u32().await?;
        Ok(Self { kind, body: read_body(from, length).await? })
    }

    /// Query and Sync: whoever sends one waits.
    fn asks_for_an_answer(&self) -> bool {
        matches!(self.kind, b'Q' | b'S')
    }

    fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.body.len() + 4).expect("it was read with such a length");
        [&[self.kind][..], &length.to_be_bytes(), &self.body].concat()
    }
}

/// The length counts itself.
async fn read_body(from: &mut (impl AsyncRead + Unpin), length: u32) -> Result<Vec<u8>> {
    let length = length.checked_sub(4).context("a message is longer than its length")?;
    let mut body = vec![0; usize::try_from(length)?];
    from.read_exact(&mut body).await?;
    Ok(body)
}

/// What one connection has prepared, and what ran in its transaction.
#[derive(Debug, Default)]
struct Session {
    prepared: HashMap<String, String>,
    in_transaction: Vec<String>,
}

impl Session {
    /// Which moments a message is, each with the statements that it is about.
    fn note(&mut self, message: &Message) -> Vec<(Moment, Vec<String>)> {
        let mut texts = message.body.split(|&byte| byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        let (first, second) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
        match message.kind {
            // Parse: a name and its statement. A connection prepares a statement once, and runs it by its name.
            b'P' => {
                self.prepared.insert(first, second);
                vec![]
            }
            // Bind: a portal, and the statement that is run in it.
            b'B' => match self.prepared.get(&second) {
                Some(statement) => {
                    self.in_transaction.push(statement.clone());
                    vec![(Moment::Statement, vec![statement.clone()])]
                }
                None => vec![],
            },
            b'Q' => self.note_plain(first),
            _ => vec![],
        }
    }

    /// What is neither a transaction's beginning nor its end is a migration: many statements in one message.
    fn note_plain(&mut self, text: String) -> Vec<(Moment, Vec<String>)> {
        let begins_with = |word: &str| text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
        if begins_with("commit") {
            let ran = std::mem::take(&mut self.in_transaction);
            return vec![(Moment::Commit, ran.clone()), (Moment::Committed, ran)];
        }
        if begins_with("begin") || begins_with("rollback") {
            self.in_transaction.clear();
            return vec![];
        }
        self.in_transaction.push(text.clone());
        vec![(Moment::Statement, vec![text])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &str) -> Message {
        Message { kind, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_commit_is_known_by_what_ran_in_its_transaction() {
        let mut session = Session::default();
        session.note(&message(b'P', "s1\0insert into revisions\0"));
        session.note(&message(b'Q', "BEGIN\0"));
        let insert = "insert into revisions".to_owned();

        let ran = session.note(&message(b'B', "\0s1\0"));
        let committed = session.note(&message(b'Q', "COMMIT\0"));
        session.note(&message(b'B', "\0s1\0"));
        session.note(&message(b'Q', "begin; set local synchronous_commit = off\0"));
        let empty = session.note(&message(b'Q', "COMMIT\0"));

        assert_eq!(ran, [(Moment::Statement, vec![insert.clone()])]);
        assert_eq!(committed, [(Moment::Commit, vec![insert.clone()]), (Moment::Committed, vec![insert])]);
        assert_eq!(empty, [(Moment::Commit, vec![]), (Moment::Committed, vec![])]);
    }
}
