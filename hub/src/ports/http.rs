//! HTTP on the connections of a port, with the bounds of what strangers can fill.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::usage::Untaken;
use super::{Connection, Peer};

/// Slow senders of headers lose their connection.
const HTTP_HEADERS_DEADLINE: Duration = Duration::from_secs(10);
/// A browser that went away without a word, in the middle of a stream of events, is noticed by this.
const HTTP_PING_EVERY: Duration = Duration::from_secs(30);
const HTTP_PING_DEADLINE: Duration = Duration::from_secs(10);
/// Of one connection: the command line asks one thing after the other, a page in a browser a dozen.
const HTTP_STREAMS_MAX: u32 = 32;
/// A token and a trace; browsers send some cookies.
const HTTP_HEADERS_BYTES: u32 = 16 * 1024;
/// What a connection may have sent without being read by a handler: with the number of connections, this bounds what
/// strangers can fill.
const HTTP_WINDOW_BYTES: u32 = 64 * 1024;
const HTTP_BUFFER_BYTES: usize = 64 * 1024;

/// Of an answer, what may lie between it and the connection: beyond, it waits where it counts. A frame of HTTP/2 is as large,
/// and who does not take so much within a minute is not there.
const PIECE_BYTES: usize = 16 * 1024;

/// A turn that an answer has until it was taken, or nobody waits for it any more; one of a response's extensions.
#[derive(Debug, Clone)]
pub(crate) struct UntilTaken {
    _turn: Arc<OwnedSemaphorePermit>,
}

impl UntilTaken {
    pub(crate) fn new(turn: OwnedSemaphorePermit) -> Self {
        Self { _turn: Arc::new(turn) }
    }
}

/// Answers HTTP on these connections until `stop`, then finishes the requests in hand. How long that may take is the
/// caller's to bound: dropping this drops them.
pub(crate) async fn serve_http<S, B>(
    incoming: impl Stream<Item = Connection> + Send,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static,
{
    let mut incoming = pin!(incoming);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = incoming.next() => match next {
                Some(connection) => connections.spawn(serve_connection(connection, service.clone(), stop.clone())),
                None => break,
            },
            Some(_) = connections.join_next() => continue,
        };
    }
    while connections.join_next().await.is_some() {}
}

async fn serve_connection<S, B>(connection: Connection, service: S, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static,
{
    // Gone before its first request.
    let Ok(peer) = connection.connection().get_ref().0.peer_addr().map(Peer) else { return };
    let usage = Arc::clone(connection.usage());
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(Arc::clone(&usage));
        let (usage, in_hand) = (Arc::clone(&usage), usage.begin());
        let answered = service.clone().oneshot(request);
        async move {
            let mut answer = answered.await?;
            let (untaken, turn) = (usage.answer(), answer.extensions_mut().remove());
            drop(in_hand);
            Ok::<_, Infallible>(answer.map(|body| Answer { body, rest: Bytes::new(), untaken, _turn: turn }))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HTTP_HEADERS_DEADLINE).max_buf_size(HTTP_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP_PING_EVERY)
        .keep_alive_timeout(HTTP_PING_DEADLINE)
        .max_concurrent_streams(HTTP_STREAMS_MAX)
        .max_header_list_size(HTTP_HEADERS_BYTES)
        .initial_stream_window_size(HTTP_WINDOW_BYTES)
        .initial_connection_window_size(HTTP_WINDOW_BYTES)
        // A piece is taken from an answer once the piece before has gone.
        .max_send_buf_size(1);
    let mut served = pin!(builder.serve_connection(TokioIo::new(connection), answer));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &*error, "a connection ended early");
    }
}

/// An answer's body, which says what becomes of it. hyper would take all of it at once, and let it lie until its client asks
/// for it.
struct Answer<B> {
    body: B,
    /// Of what the body gave, not given on yet.
    rest: Bytes,
    untaken: Untaken,
    _turn: Option<UntilTaken>,
}

impl<B> Answer<B> {
    /// The last byte goes alone: once it does, all before it has gone. It is copied, as a part keeps the whole in memory, and
    /// this one outlives what counts that.
    fn cut(&mut self) -> Bytes {
        let bytes = self.rest.len().saturating_sub(1).clamp(1, PIECE_BYTES);
        let piece = self.rest.split_to(bytes);
        if self.rest.is_empty() { Bytes::copy_from_slice(&piece) } else { piece }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        while self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        self.untaken.went_on();
        Poll::Ready(Some(Ok(Frame::data(self.cut()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
