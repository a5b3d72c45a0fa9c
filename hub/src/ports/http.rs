//! HTTP on the connections of a port, with the bounds of what strangers can fill.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

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

/// Answers HTTP on these connections until `stop`, then finishes the requests in hand. How long that may take is the
/// caller's to bound: dropping this drops them.
pub(crate) async fn serve_http<S, B>(
    incoming: impl Stream<Item = Connection> + Send,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
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
    B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    // Gone before its first request.
    let Ok(peer) = connection.connection().get_ref().0.peer_addr().map(Peer) else { return };
    let usage = Arc::clone(connection.usage());
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let (in_hand, answered) = (usage.begin(), service.clone().oneshot(request));
        async move {
            let answer = answered.await;
            drop(in_hand);
            answer
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
        .initial_connection_window_size(HTTP_WINDOW_BYTES);
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
