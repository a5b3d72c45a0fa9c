//! The way out: every connection that the hub opens to a host that somebody else named.
//!
//! Which addresses are allowed, whose certificates are trusted, what a redirect may do and how long a host may take to
//! answer is decided here and nowhere else.

mod reach;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect;
use tokio::net::TcpStream;
use url::Host;

pub(crate) use self::reach::is_public;
use self::reach::{PrivateAddress, PublicOnly};

/// A host that takes longer is down or drops what is sent to it, and whoever waits for it may hold one of few slots.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A renamed repo redirects once, some servers add `.git` with another.
const REDIRECTS_MAX: usize = 3;

/// Longer than repos are polled by default, so that a quiet one keeps its connection.
const IDLE_MAX: Duration = Duration::from_secs(90);

type Cause = Box<dyn Error + Send + Sync>;

/// A host, and how it may be reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination<'a> {
    /// As it stands in a URL.
    pub(crate) host: &'a str,
    /// It is this machine, and so behind no proxy.
    pub(crate) is_loopback: bool,
    /// Its name may lead to an address inside the hub's network.
    pub(crate) may_be_private: bool,
    /// PEM; trusted instead of the system's certificates.
    pub(crate) ca_pem: Option<&'a str>,
}

/// Why a host was not reached, or was not spoken to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The authority that it was to be trusted by cannot be used.
    InvalidAuthority(Cause),
    /// A name that leads inside the hub's network.
    Private {
        host: String,
        address: IpAddr,
    },
    /// To another host.
    Redirected {
        target: String,
    },
    /// Why its certificate is not trusted.
    Untrusted {
        reason: String,
    },
    Unreachable(Cause),
}

impl Failure {
    pub(crate) fn of(error: reqwest::Error) -> Self {
        if let Some(RedirectRefused { target }) = find_cause(&error) {
            return Self::Redirected { target: target.clone() };
        }
        if let Some(PrivateAddress { host, address }) = find_cause(&error) {
            return Self::Private { host: host.clone(), address: *address };
        }
        if let Some(rustls::Error::InvalidCertificate(reason)) = find_cause(&error) {
            return Self::Untrusted { reason: reason.to_string() };
        }
        Self::Unreachable(error.without_url().into())
    }
}

impl Destination<'_> {
    /// What a redirect leads to needs a client of its own, unless it is the same host.
    pub(crate) fn build_client(&self, follow: redirect::Policy) -> Result<reqwest::Client, Failure> {
        let mut builder = reqwest::Client::builder()
            .redirect(follow)
            .connect_timeout(CONNECT_MAX)
            // One request at a time goes to a host.
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE_MAX);
        if !self.may_be_private {
            builder = builder.dns_resolver(Arc::new(PublicOnly { host: self.host.to_owned() }));
        }
        if self.is_loopback {
            builder = builder.no_proxy();
        }
        if let Some(pem) = self.ca_pem {
            let invalid = |source: reqwest::Error| Failure::InvalidAuthority(source.into());
            let authorities = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(invalid)?;
            if authorities.is_empty() {
                return Err(Failure::InvalidAuthority("it holds no certificate".into()));
            }
            builder = builder.tls_certs_only(authorities);
        }
        builder.build().map_err(|source| match self.ca_pem {
            Some(_) => Failure::InvalidAuthority(source.into()),
            None => Failure::Unreachable(source.into()),
        })
    }
}

/// To the first address that answers, of those that are allowed.
pub(crate) async fn connect(host: &Host, port: u16, may_be_private: bool) -> Result<TcpStream, Failure> {
    let found: Vec<SocketAddr> = match host {
        Host::Domain(name) => {
            let found = tokio::net::lookup_host((&**name, port)).await;
            found.map_err(|source| Failure::Unreachable(source.into()))?.collect()
        }
        Host::Ipv4(address) => vec![(*address, port).into()],
        Host::Ipv6(address) => vec![(*address, port).into()],
    };
    let allowed = found.iter().filter(|at| may_be_private || is_public(at.ip()));
    let mut last: Option<Cause> = None;
    for address in allowed {
        match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(|source| Failure::Unreachable(source.into()))?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = Some(error.into()),
            Err(elapsed) => last = Some(elapsed.into()),
        }
    }
    match (last, found.first()) {
        (Some(source), _) => Err(Failure::Unreachable(source)),
        (None, Some(refused)) => Err(Failure::Private { host: host.to_string(), address: refused.ip() }),
        (None, None) => Err(Failure::Unreachable("it has no address".into())),
    }
}

/// Follows to another place of the same host, scheme and port, because what was said to it was meant for it alone.
pub(crate) fn same_host() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let origin = |url: &reqwest::Url| {
            (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default())
        };
        let first = attempt.previous().first().map(origin);
        if first.as_ref() != Some(&origin(attempt.url())) {
            let target = attempt.url().host_str().unwrap_or_default().to_owned();
            return attempt.error(RedirectRefused { target });
        }
        if attempt.previous().len() > REDIRECTS_MAX { attempt.stop() } else { attempt.follow() }
    })
}

#[derive(Debug)]
struct RedirectRefused {
    target: String,
}

impl fmt::Display for RedirectRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redirect to {} refused", self.target)
    }
}

impl Error for RedirectRefused {}

/// The first cause of a type; what an `io::Error` wraps is not among an error's sources.
fn find_cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref::<T>() {
        return Some(found);
    }
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => find_cause(inner),
        None => error.source().and_then(find_cause),
    }
}
