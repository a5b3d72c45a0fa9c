//! The agents' port: who calls, and what is answered.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bellwether_proto::v1::agents_server::{Agents, AgentsServer};
use bellwether_proto::v1::{Certificate, EnrollRequest, FromAgent, FromHub, RenewRequest};
use bellwether_proto::{AGENT_BYTES_MAX, HUB_BYTES_MAX, to_wire_certificate};
use futures_util::{Stream, StreamExt as _};
use http_body_util::Limited;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use tower::util::MapRequestLayer;

use super::caller::Caller;
use super::enroll::{self, EnrollError};
use super::session;
use crate::Hub;
use crate::pki::ca::{self, AgentIdentity};
use crate::ports::{self, ActiveRequest, Usage};
use crate::store::{Cause, StoreError};

/// Per stream and connection: what the hub buffers for an agent that sends faster than it is read.
const WINDOW_BYTES: u32 = 64 * 1024;
/// Streams of one connection: an agent has one, and calls to enrol or renew.
const STREAMS_MAX: u32 = 4;
/// Of a call of one message, which is a token and a request for a certificate (4 KiB at most). It lies in memory before
/// anybody asks who sent it.
const CALL_BYTES_MAX: usize = 16 * 1024;
/// tonic's own headers are a few hundred bytes.
const HEADERS_BYTES_MAX: u32 = 8 * 1024;
/// A peer that is gone without a word and has no stream, whose deadline would tell, is noticed by this.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_DEADLINE: Duration = Duration::from_secs(20);

/// What a call knows of the connection that it came on.
#[derive(Debug, Clone)]
pub(crate) struct CalledOn {
    address: Option<SocketAddr>,
    leaf: Option<CertificateDer<'static>>,
    usage: Arc<Usage>,
}

impl Connected for ports::Connection {
    type ConnectInfo = CalledOn;

    fn connect_info(&self) -> CalledOn {
        let (tcp, tls) = self.connection().get_ref();
        let leaf = tls.peer_certificates().and_then(|chain| chain.first()).cloned();
        CalledOn { address: tcp.peer_addr().ok(), leaf, usage: Arc::clone(self.usage()) }
    }
}

/// Serves agents until `stop`.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let lists = (hub.trust.known_agents.clone(), hub.trust.revoked.clone());
    let incoming = ports::incoming(listener, hub.trust.agents.clone(), ports::AGENTS, lists, stop.clone());
    let incoming = incoming.map(Ok::<_, std::io::Error>);
    let service = AgentsServer::new(Service { hub, stop: stop.clone() })
        .max_decoding_message_size(AGENT_BYTES_MAX)
        .max_encoding_message_size(HUB_BYTES_MAX);
    tonic::transport::Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_DEADLINE))
        .layer(MapRequestLayer::new(bound_call))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

/// A stream's messages are bounded one by one.
fn bound_call(request: hyper::Request<Body>) -> hyper::Request<Body> {
    if request.uri().path().ends_with("/Session") {
        return request;
    }
    request.map(|body| Body::new(Limited::new(body, CALL_BYTES_MAX)))
}

struct Service {
    hub: Arc<Hub>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Agents for Service {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<Certificate>, Status> {
        let _in_hand = begin(&request);
        let address = address(&request);
        let request = request.into_inner();
        let issued = enroll::enroll(&self.hub, &request.token, &request.csr, address)
            .await
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(to_wire_certificate(issued.chain, self.hub.authority.roots())))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Certificate>, Status> {
        let in_hand = begin(&request);
        let caller = caller(&request)?;
        let issued =
            enroll::renew(&self.hub, &caller, &request.into_inner().csr).await.map_err(|error| to_status(&error))?;
        let_in(in_hand.as_ref());
        Ok(Response::new(to_wire_certificate(issued.chain, self.hub.authority.roots())))
    }

    type SessionStream = Pin<Box<dyn Stream<Item = Result<FromHub, Status>> + Send>>;

    async fn session(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Self::SessionStream>, Status> {
        let in_hand = begin(&request);
        let caller = caller(&request)?;
        let outbound = session::begin(&self.hub, caller, request.into_inner(), self.stop.child_token()).await.map_err(
            |error| match error {
                session::BeginError::Refused => Status::unauthenticated("this certificate is revoked or not known"),
                error @ session::BeginError::TooOften => Status::resource_exhausted(error.to_string()),
                session::BeginError::Store(error) => unserved(&error),
            },
        )?;
        let_in(in_hand.as_ref());
        Ok(Response::new(Box::pin(outbound.inspect(move |_| {
            let _ = &in_hand;
        }))))
    }
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let leaf = called_on(request).and_then(|connection| connection.leaf.as_ref());
    let leaf = leaf.ok_or_else(|| Status::unauthenticated("a session needs a client certificate: enrol first"))?;
    let AgentIdentity { cluster, serial, not_after, key } =
        ca::identity_of(leaf).map_err(|error| Status::unauthenticated(crate::chain(&error)))?;
    Ok(Caller { cluster, serial, not_after, key, address: told(request) })
}

fn called_on<T>(request: &Request<T>) -> Option<&CalledOn> {
    request.extensions().get::<CalledOn>()
}

/// Keeps the connection open for as long as it lives.
fn begin<T>(request: &Request<T>) -> Option<ActiveRequest> {
    called_on(request).map(|connection| connection.usage.begin())
}

/// Its certificate counts: whose does not keeps its connection for a moment only, however often it calls.
fn let_in(in_hand: Option<&ActiveRequest>) {
    in_hand.inspect(|in_hand| in_hand.let_in());
}

fn address<T>(request: &Request<T>) -> Option<SocketAddr> {
    called_on(request).and_then(|connection| connection.address)
}

fn told<T>(request: &Request<T>) -> String {
    address(request).map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

fn to_status(error: &EnrollError) -> Status {
    let message = crate::chain(&error);
    match error {
        EnrollError::Request(_) => Status::invalid_argument(message),
        EnrollError::Store(error) => unserved(error),
        EnrollError::TooOften => Status::resource_exhausted(message),
        _ => Status::permission_denied(message),
    }
}

/// The agent is to come again. It hears what kind of failure it is; what exactly failed is for the hub's log.
fn unserved(error: &StoreError) -> Status {
    tracing::warn!(error = %crate::chain(error), "an agent could not be served");
    match error.cause() {
        _ if error.is_outage() => Status::unavailable("the hub cannot reach its database"),
        Some(Cause::Busy | Cause::Excessive) => Status::unavailable(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::ClusterId;
    use tonic::Code;
    use uuid::Uuid;

    use super::*;
    use crate::pki::ca::tests::{agent_request, authority, cluster, now};
    use crate::store::{self, Pool};

    /// A call on a connection whose handshake showed this, with headers by which proxies say whom they have let in.
    fn call_that_claims(claimed: ClusterId, leaf: Option<CertificateDer<'static>>) -> Request<()> {
        let mut request = Request::new(());
        let uri = format!("URI=spiffe://bellwether/cluster/{claimed}");
        for (name, value) in [
            ("x-forwarded-client-cert", uri.as_str()),
            ("x-client-cert", &uri),
            ("x-ssl-client-verify", "SUCCESS"),
            ("x-cluster", &claimed.to_string()),
            ("x-forwarded-for", "203.0.113.9"),
            ("forwarded", "for=203.0.113.9"),
        ] {
            request.metadata_mut().insert(
                name.parse::<tonic::metadata::MetadataKey<_>>().expect("a name"),
                value.parse().expect("a value"),
            );
        }
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 1)));
        request.extensions_mut().insert(CalledOn { address, leaf, usage: Usage::new(ports::AGENTS.timeouts) });
        request
    }

    #[test]
    fn no_header_says_which_cluster_calls_or_from_where() {
        let authority = authority();
        let (_, csr) = agent_request();
        let issued = authority.issue_agent(&csr, cluster(), now(), Duration::from_hours(1)).expect("issued");
        let leaf = CertificateDer::from(issued.chain[0].clone());
        let another = ClusterId::new(Uuid::from_u128(2));

        let nobody = caller(&call_that_claims(another, None));
        let somebody = caller(&call_that_claims(another, Some(leaf)));

        assert_eq!(nobody.err().map(|status| status.code()), Some(Code::Unauthenticated));
        let somebody = somebody.unwrap_or_else(|status| panic!("it has a certificate: {status}"));
        assert_eq!((somebody.cluster, somebody.address.as_str()), (cluster(), "127.0.0.1:1"));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn an_agent_is_told_of_an_outage_only_when_there_is_one(pool: Pool) {
        let fault = store::execute_raw(&pool, "select hunter2").await.expect_err("there is no such column");
        pool.close().await;
        let outage = store::execute_raw(&pool, "select 1").await.expect_err("nobody is served");

        let (fault, outage) = (unserved(&fault), unserved(&outage));

        assert_eq!((fault.code(), outage.code()), (Code::Internal, Code::Unavailable));
        assert!(!fault.message().contains("hunter2") && !fault.message().contains("reach"), "{}", fault.message());
        assert!(outage.message().contains("cannot reach its database"));
    }
}
