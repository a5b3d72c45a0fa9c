//! HTTP for the Git protocol: our client under gix's conversation.
//!
//! gix brings an HTTP client of its own, which lives for one fetch, follows redirects to other hosts and offers
//! credentials only after a refusal. This one is kept between fetches with its connection and with what the server said
//! about itself, so a fetch that finds nothing new costs one request; it sends the token with the first request and to
//! the repo's own host only; and every wait in it ends at the fetch's deadline.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, BufRead, Cursor, Read, Write};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use gix::protocol::transport::client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse};
use hyper::body::Bytes;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use tokio::runtime::Handle;

use super::Remote;
use super::budget::{Budget, TICK};
use super::error::FetchError;
use crate::egress::{self, Failure};

/// What tells a Git server from a page for people.
const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";

/// What is asked for in it is a pack, after which nothing more is asked.
const FETCH: &[u8] = b"command=fetch";

/// A client for one remote, and what is worth keeping of it between fetches.
#[derive(Debug)]
pub(super) struct Connection {
    remote: Remote,
    client: reqwest::Client,
    authorization: Option<HeaderValue>,
    advertisement: OnceLock<Advertisement>,
}

/// What a server answers first: its capabilities in protocol 2, the same for every fetch.
#[derive(Debug, Clone)]
struct Advertisement {
    headers: String,
    body: Bytes,
    /// Where the repo really is, on the same host.
    base_url: String,
}

impl Connection {
    pub(super) fn open(remote: &Remote) -> Result<Self, FetchError> {
        let host = remote.url.host();
        let client = remote.destination(&host, remote.url.is_loopback()).build_client(egress::same_host());
        let client = client.map_err(|failure| FetchError::of_egress(host, failure))?;
        Ok(Self {
            remote: remote.clone(),
            client,
            authorization: remote.authorization()?,
            advertisement: OnceLock::new(),
        })
    }

    pub(super) fn serves(&self, remote: &Remote) -> bool {
        self.remote.is(remote)
    }

    fn describe_status(&self, response: &reqwest::Response) -> FetchError {
        let url = self.remote.url.to_string();
        describe_status(response, self.remote.url.host(), url, self.authorization.is_some())
    }

    fn describe(&self, error: reqwest::Error) -> FetchError {
        FetchError::of_egress(self.remote.url.host(), Failure::of(error))
    }
}

pub(in crate::source) fn describe_status(
    response: &reqwest::Response,
    host: String,
    url: String,
    with_token: bool,
) -> FetchError {
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| parse_wait(value.to_str().ok()?));
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FetchError::Unauthorized { host, with_token },
        StatusCode::NOT_FOUND | StatusCode::GONE => FetchError::NoSuchRepo { url },
        StatusCode::TOO_MANY_REQUESTS => FetchError::Limited { host, retry_after },
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => FetchError::Limited { host, retry_after },
        status => FetchError::ServerFailed { host, status: status.as_u16() },
    }
}

/// Seconds, or the moment when they are over.
pub(crate) fn parse_wait(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(Duration::try_from(moment.duration_since(crate::process::clock::now())).unwrap_or(Duration::ZERO))
}

/// One fetch's use of a connection, handed to gix.
///
/// gix wraps errors deeply, so what really happened is kept aside and asked for with [`Wire::failure`].
#[derive(Clone)]
pub(super) struct Wire<'a> {
    connection: &'a Connection,
    budget: &'a Budget<'a>,
    runtime: Handle,
    failure: Rc<RefCell<Option<FetchError>>>,
}

impl<'a> Wire<'a> {
    /// To be called where tokio's runtime can be entered, which is so in `spawn_blocking`.
    pub(super) fn new(connection: &'a Connection, budget: &'a Budget<'a>) -> Result<Self, FetchError> {
        let runtime = Handle::try_current()
            .map_err(|source| FetchError::Unreachable { host: connection.remote.url.host(), source: source.into() })?;
        Ok(Self { connection, budget, runtime, failure: Rc::default() })
    }

    pub(super) fn failure(&self) -> Rc<RefCell<Option<FetchError>>> {
        Rc::clone(&self.failure)
    }

    fn fail(&self, error: FetchError) -> io::Error {
        let text = error.to_string();
        self.failure.borrow_mut().get_or_insert(error);
        io::Error::other(text)
    }

    fn wait<T>(&self, work: impl Future<Output = reqwest::Result<T>>) -> io::Result<T> {
        let done = self.budget.wait(&self.runtime, work).map_err(|error| self.fail(error))?;
        done.map_err(|error| self.fail(self.connection.describe(error)))
    }

    fn send(&self, request: reqwest::RequestBuilder) -> io::Result<reqwest::Response> {
        let request = match &self.connection.authorization {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        };
        let response = self.wait(request.send())?;
        if response.status() == StatusCode::OK {
            Ok(response)
        } else {
            Err(self.fail(self.connection.describe_status(&response)))
        }
    }

    fn next_chunk(&self, response: &mut reqwest::Response) -> io::Result<Option<Bytes>> {
        let chunk = self.wait(response.chunk())?;
        let bytes = chunk.as_ref().map_or(0, Bytes::len);
        self.budget.charge(bytes).map_err(|error| self.fail(error))?;
        Ok(chunk)
    }

    fn fetch_advertisement(&self, url: &str, base_url: &str, headers: HeaderMap) -> io::Result<Advertisement> {
        let mut response = self.send(self.connection.client.get(url).headers(headers))?;
        if response.headers().get(CONTENT_TYPE).is_none_or(|kind| kind != ADVERTISEMENT) {
            return Err(self.fail(FetchError::NotGit { url: self.connection.remote.url.to_string() }));
        }
        let tail = url.strip_prefix(base_url).unwrap_or_default();
        // After a redirect within the host the repo is there from now on.
        let base_url = response.url().as_str().strip_suffix(tail).unwrap_or(base_url).to_owned();
        let headers = list_headers(response.headers());
        let mut body = Vec::new();
        while let Some(chunk) = self.next_chunk(&mut response)? {
            body.extend_from_slice(&chunk);
        }
        Ok(Advertisement { headers, body: body.into(), base_url })
    }
}

fn list_headers(headers: &HeaderMap) -> String {
    headers.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name}:{}", value.to_str().unwrap_or_default());
        text
    })
}

fn parse_headers(lines: impl IntoIterator<Item = impl AsRef<str>>) -> HeaderMap {
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.trim()).ok()?))
    };
    lines.into_iter().filter_map(|line| pair(line.as_ref())).collect()
}

impl<'a> Http for Wire<'a> {
    type Headers = Headers<'a>;
    type ResponseBody = Body<'a>;
    type PostBody = Upload<'a>;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Self::Headers, Self::ResponseBody>> {
        let known = match self.connection.advertisement.get() {
            Some(known) => known.clone(),
            None => self.fetch_advertisement(url, base_url, parse_headers(headers)).map_err(gix::Error::from_error)?,
        };
        let known = self.connection.advertisement.get_or_init(|| known).clone();
        Ok(GetResponse {
            headers: Headers { exchange: None, text: Some(Cursor::new(known.headers)) },
            body: Body { exchange: None, chunk: known.body },
        })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _kind: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Self::Headers, Self::ResponseBody, Self::PostBody>> {
        let request = self.connection.client.post(url).headers(parse_headers(headers));
        let exchange =
            Exchange { wire: self.clone(), request: Some(request), upload: Vec::new(), is_last: false, response: None };
        let exchange = Rc::new(RefCell::new(exchange));
        Ok(PostResponse {
            post_body: Upload(Rc::clone(&exchange)),
            headers: Headers { exchange: Some(Rc::clone(&exchange)), text: None },
            body: Body { exchange: Some(exchange), chunk: Bytes::new() },
        })
    }

    fn configure(&mut self, _config: &dyn std::any::Any) -> gix::Result {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.connection.advertisement.get().map(|known| known.base_url.clone())
    }
}

/// A request whose body gix still writes, or its answer. It goes out when the answer is first asked for.
struct Exchange<'a> {
    wire: Wire<'a>,
    request: Option<reqwest::RequestBuilder>,
    upload: Vec<u8>,
    /// The last request of a conversation.
    is_last: bool,
    response: Option<reqwest::Response>,
}

impl Exchange<'_> {
    fn response(&mut self) -> io::Result<Option<&mut reqwest::Response>> {
        if let Some(request) = self.request.take() {
            let upload = std::mem::take(&mut self.upload);
            self.is_last = upload.windows(FETCH.len()).any(|bytes| bytes == FETCH);
            self.response = Some(self.wire.send(request.body(upload))?);
        }
        Ok(self.response.as_mut())
    }

    /// The empty chunk is the end.
    fn next_chunk(&mut self) -> io::Result<Bytes> {
        self.response()?;
        while let Some(response) = self.response.as_mut() {
            match self.wire.next_chunk(response)? {
                Some(chunk) if chunk.is_empty() => {}
                Some(chunk) => return Ok(chunk),
                None => self.response = None,
            }
        }
        Ok(Bytes::new())
    }
}

impl Drop for Exchange<'_> {
    /// gix stops at the end of the conversation, not of the body; the connection can be used again after both.
    fn drop(&mut self) {
        if let Some(mut response) = self.response.take()
            && self.wire.failure.borrow().is_none()
        {
            let end = async move { tokio::time::timeout(TICK, response.chunk()).await.is_ok() };
            if self.is_last {
                // The server's process ends now, which nobody needs to wait for.
                self.wire.runtime.spawn(end);
            } else {
                self.wire.runtime.block_on(end);
            }
        }
    }
}

/// The body of a request, collected: what is asked of a server fits into a few KiB.
pub(super) struct Upload<'a>(Rc<RefCell<Exchange<'a>>>);

impl Write for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().upload.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct Headers<'a> {
    exchange: Option<Rc<RefCell<Exchange<'a>>>>,
    text: Option<Cursor<String>>,
}

impl Headers<'_> {
    fn text(&mut self) -> io::Result<&mut Cursor<String>> {
        if let Some(exchange) = self.exchange.take() {
            let mut exchange = exchange.borrow_mut();
            self.text = exchange.response()?.map(|response| Cursor::new(list_headers(response.headers())));
        }
        Ok(self.text.get_or_insert_default())
    }
}

impl Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.text()?.read(buffer)
    }
}

impl BufRead for Headers<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.text()?.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        if let Some(text) = &mut self.text {
            text.consume(bytes);
        }
    }
}

pub(super) struct Body<'a> {
    exchange: Option<Rc<RefCell<Exchange<'a>>>>,
    chunk: Bytes,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?.read(buffer)?;
        self.consume(bytes);
        Ok(bytes)
    }
}

impl BufRead for Body<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let (true, Some(exchange)) = (self.chunk.is_empty(), &self.exchange) {
            self.chunk = exchange.borrow_mut().next_chunk()?;
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, bytes: usize) {
        let _ = self.chunk.split_to(bytes.min(self.chunk.len()));
    }
}
