//! How a connection to the hub is made: TCP, straight or through a proxy, then TLS with the configuration of now, then
//! HTTP/2. A proxy passes bytes on, and sees none of what they say.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt as _;

use super::failure::LinkError;
use crate::config::HubAddress;
use crate::identity::SERVER_NAME;

/// For all of it, up to the first answer. Longer than a handshake over a bad line, shorter than the hub's patience.
const DEADLINE: Duration = Duration::from_secs(15);

/// The hub never holds more than this for one agent that does not read.
const WINDOW_BYTES: u32 = 256 * 1024;

/// Of a proxy that is named without one.
const HTTP_PORT: u16 = 80;

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

/// Either of the hub's ports: both speak HTTP/2 and show the same certificate.
pub(crate) async fn stream(hub: &HubAddress, tls: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let tcp = dial(hub, &Matcher::from_env()).await?;
    // A report is a few hundred bytes that somebody waits for.
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).expect("it is a DNS name");
    TlsConnector::from(tls).connect(name, tcp).await
}

/// Through the proxy that is set for https, and straight to a hub that the exceptions name.
async fn dial(hub: &HubAddress, proxies: &Matcher) -> io::Result<TcpStream> {
    let destination = Uri::try_from(format!("https://{hub}/")).map_err(io::Error::other)?;
    match proxies.intercept(&destination) {
        Some(proxy) => dial_through(&proxy, destination).await,
        None => TcpStream::connect((hub.host.as_str(), hub.port)).await,
    }
}

async fn dial_through(proxy: &Intercept, destination: Uri) -> io::Result<TcpStream> {
    let address = proxy.uri().clone();
    if address.scheme_str() != Some("http") {
        return Err(io::Error::other(format!("the proxy {address} is not of the form http://HOST:PORT")));
    }
    let connector = tower::service_fn(|proxy: Uri| async move {
        let host = proxy.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        TcpStream::connect((host, proxy.port_u16().unwrap_or(HTTP_PORT))).await.map(TokioIo::new)
    });
    let mut tunnel = Tunnel::new(address.clone(), connector);
    if let Some(credentials) = proxy.basic_auth() {
        tunnel = tunnel.with_auth(credentials.clone());
    }
    let opened = tunnel.oneshot(destination).await;
    opened.map(TokioIo::into_inner).map_err(|error| {
        // Its address without what it asks for as a password: the matcher keeps that apart.
        io::Error::other(format!("through the proxy {address}: {}", crate::chain(&error)))
    })
}

pub(super) async fn within_deadline<T>(work: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    tokio::time::timeout(DEADLINE, work).await.unwrap_or(Err(LinkError::NoAnswer(DEADLINE)))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
    use tokio::net::TcpListener;

    use super::*;

    const HUB: &str = "hub!";

    /// Greets whoever connects.
    async fn hub() -> HubAddress {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("has an address");
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let _ = connection.write_all(HUB.as_bytes()).await;
            }
        });
        HubAddress { host: "127.0.0.1".to_owned(), port: address.port() }
    }

    /// A proxy for one connection: answers with this status, and tells what it was asked.
    async fn proxy(status: &'static str) -> (SocketAddr, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("has an address");
        let served = tokio::spawn(async move {
            let (connection, _) = listener.accept().await.expect("somebody comes");
            let mut connection = BufReader::new(connection);
            let mut asked = Vec::new();
            while asked.last().is_none_or(|line: &String| !line.is_empty()) {
                let mut line = String::new();
                connection.read_line(&mut line).await.expect("is asked something");
                asked.push(line.trim_end().to_owned());
            }
            connection.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.expect("answers");
            let destination = asked[0].split(' ').nth(1).expect("asks for a destination").to_owned();
            if status.starts_with("200") {
                let mut onward = TcpStream::connect(destination).await.expect("the hub is there");
                let _ = copy_bidirectional(&mut connection, &mut onward).await;
            }
            asked
        });
        (address, served)
    }

    async fn greeting(mut connection: TcpStream) -> String {
        let mut text = String::new();
        connection.read_to_string(&mut text).await.expect("is greeted");
        text
    }

    #[tokio::test]
    async fn the_way_to_the_hub_leads_through_the_proxy_with_its_password() {
        let hub = hub().await;
        let (address, served) = proxy("200 OK").await;
        let proxies = Matcher::builder().https(format!("http://user:secret@{address}")).build();

        let greeting = greeting(dial(&hub, &proxies).await.expect("is let through")).await;

        assert_eq!(greeting, HUB);
        let asked = served.await.expect("served");
        assert_eq!(asked[0], format!("CONNECT {hub} HTTP/1.1"));
        assert!(asked.iter().any(|line| line == "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ="), "{asked:?}");
    }

    #[tokio::test]
    async fn a_hub_among_the_exceptions_is_reached_without_the_proxy() {
        let hub = hub().await;
        // Nobody listens there.
        let proxies = Matcher::builder().https("http://127.0.0.1:1").no("example.org,127.0.0.0/8").build();

        assert_eq!(greeting(dial(&hub, &proxies).await.expect("is reached")).await, HUB);
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_is_named_without_its_password() {
        let (address, _served) = proxy("407 Proxy Authentication Required").await;
        let proxies = Matcher::builder().https(format!("http://user:secret@{address}")).build();

        let refused = dial(&hub().await, &proxies).await.expect_err("is refused").to_string();

        assert!(refused.contains(&address.to_string()) && refused.contains("authorization required"), "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[tokio::test]
    async fn a_proxy_of_another_kind_is_refused_with_the_kind_that_would_do() {
        let proxies = Matcher::builder().https("socks5://127.0.0.1:1080").build();

        let refused = dial(&hub().await, &proxies).await.expect_err("is not spoken").to_string();

        assert!(refused.contains("http://HOST:PORT"), "{refused}");
    }
}
