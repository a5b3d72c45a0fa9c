//! How a connection to the hub is made: TCP, then TLS with the configuration of now, then HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::failure::LinkError;
use crate::config::HubAddress;
use crate::identity::SERVER_NAME;

/// For all of it, up to the first answer. Longer than a handshake over a bad line, shorter than the hub's patience.
const DEADLINE: Duration = Duration::from_secs(15);

/// The hub never holds more than this for one agent that does not read.
const WINDOW_BYTES: u32 = 256 * 1024;

/// The scheme is plain because TLS is done here: tonic would read its own configuration once, and keep it.
const ENDPOINT: &str = "http://bellwether-hub";

pub(super) async fn channel(hub: &HubAddress, tls: Arc<ClientConfig>) -> Result<Channel, LinkError> {
    let hub = hub.clone();
    let connector = tower::service_fn(move |_| {
        let (hub, tls) = (hub.clone(), Arc::clone(&tls));
        async move { stream(&hub, tls).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static(ENDPOINT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    Ok(endpoint.connect_with_connector(connector).await?)
}

async fn stream(hub: &HubAddress, tls: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect((hub.host.as_str(), hub.port)).await?;
    // A report is a few hundred bytes that somebody waits for.
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).expect("it is a DNS name");
    TlsConnector::from(tls).connect(name, tcp).await
}

pub(super) async fn within_deadline<T>(work: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    tokio::time::timeout(DEADLINE, work).await.unwrap_or(Err(LinkError::NoAnswer(DEADLINE)))
}
