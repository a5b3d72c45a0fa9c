//! The agents' port: who calls, and what is answered.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bellwether_core::ClusterId;
use bellwether_proto::v1::agents_server::{Agents, AgentsServer};
use bellwether_proto::v1::{Certificate, EnrollRequest, FromAgent, FromHub, RenewRequest};
use bellwether_proto::{MESSAGE_BYTES_MAX, to_wire_certificate};
use futures_util::Stream;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Response, Status, Streaming};

use super::enroll::{self, EnrollError};
use super::session;
use crate::ca::{self, AgentIdentity};
use crate::{Hub, tls};

/// Per stream and connection: what the hub buffers for an agent that sends faster than it is read.
const WINDOW_BYTES: u32 = 64 * 1024;
/// Streams of one connection: an agent has one, and calls to enrol or renew.
const STREAMS_MAX: u32 = 4;

/// Serves agents until `stop`.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let incoming = tls::incoming(listener, hub.trust.agents.clone(), stop.clone()).map(Ok::<_, std::io::Error>);
    let service = AgentsServer::new(Service { hub, stop: stop.clone() })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    tonic::transport::Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

struct Service {
    hub: Arc<Hub>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Agents for Service {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<Certificate>, Status> {
        let address = address(&request);
        let request = request.into_inner();
        let issued = enroll::enroll(&self.hub, &request.token, &request.csr, &address)
            .await
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(to_wire_certificate(issued.chain, self.hub.authority.roots())))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Certificate>, Status> {
        let caller = caller(&request)?;
        let issued =
            enroll::renew(&self.hub, &caller, &request.into_inner().csr).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(to_wire_certificate(issued.chain, self.hub.authority.roots())))
    }

    type SessionStream = Pin<Box<dyn Stream<Item = Result<FromHub, Status>> + Send>>;

    async fn session(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Self::SessionStream>, Status> {
        let caller = caller(&request)?;
        let outbound = session::begin(&self.hub, caller, request.into_inner(), self.stop.child_token()).await.map_err(
            |error| match error {
                session::BeginError::Refused => Status::unauthenticated("this certificate is revoked or not known"),
                session::BeginError::Store(error) => unavailable(&crate::chain(&error)),
            },
        )?;
        Ok(Response::new(Box::pin(outbound)))
    }
}

/// Who is at the other end, as the handshake verified.
pub(super) struct Caller {
    pub(super) cluster: ClusterId,
    /// Of the certificate.
    pub(super) serial: String,
    /// Of the certificate.
    pub(super) not_after: Timestamp,
    pub(super) address: String,
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let certificates = request
        .extensions()
        .get::<TlsConnectInfo<TcpConnectInfo>>()
        .and_then(TlsConnectInfo::peer_certs)
        .ok_or_else(|| Status::unauthenticated("a session needs a client certificate: enrol first"))?;
    let leaf = certificates.first().ok_or_else(|| Status::unauthenticated("the certificate chain is empty"))?;
    let AgentIdentity { cluster, serial, not_after } =
        ca::identity_of(leaf).map_err(|error| Status::unauthenticated(crate::chain(&error)))?;
    Ok(Caller { cluster, serial, not_after, address: address(request) })
}

fn address<T>(request: &Request<T>) -> String {
    let address = request
        .extensions()
        .get::<TlsConnectInfo<TcpConnectInfo>>()
        .and_then(|connection| connection.get_ref().remote_addr());
    address.as_ref().map_or_else(|| "unknown".to_owned(), SocketAddr::to_string)
}

fn to_status(error: &EnrollError) -> Status {
    let message = crate::chain(&error);
    match error {
        EnrollError::Request(_) => Status::invalid_argument(message),
        EnrollError::Store(_) => unavailable(&message),
        _ => Status::permission_denied(message),
    }
}

/// Postgres is away: the agent is to come again. What exactly failed is for the hub's log.
fn unavailable(message: &str) -> Status {
    tracing::warn!(error = message, "an agent could not be served");
    Status::unavailable("the hub cannot reach its database")
}
