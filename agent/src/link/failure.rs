//! Why there is no connection, in words that a person can act on.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use bellwether_core::session::Violation;
use bellwether_proto::WireError;
use rustls::{CertificateError, Error as TlsError};
use tonic::Code;

const REVOKED: &str =
    "this cluster was revoked: `bellwether cluster reenroll NAME`, apply what it prints, and restart the agent";

#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("the hub ended the session")]
    Ended,
    #[error("{words}")]
    Tls { words: String, hint: Option<&'static str> },
    #[error("{0}")]
    Transport(String),
    #[error("the hub answered {code}: {message}")]
    Refused { code: Code, message: String },
    #[error("the hub broke the protocol: {0}")]
    Violation(Violation),
    #[error("the hub broke the protocol: {0}")]
    Wire(#[from] WireError),
}

impl LinkError {
    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Tls { hint, .. } => hint.map(Cow::Borrowed),
            // Of a certificate that the handshake let through: the list of revoked ones is a moment behind.
            Self::Refused { code: Code::Unauthenticated | Code::PermissionDenied, .. } => Some(Cow::Borrowed(REVOKED)),
            _ => None,
        }
    }

    fn of_transport(error: &(dyn Error + 'static)) -> Self {
        let words = crate::chain(error);
        if let Some(hint) = alert_hint(&words) {
            return Self::Tls { words, hint: Some(hint) };
        }
        match tls_error(error) {
            Some(tls) => Self::Tls { words, hint: tls_hint(tls) },
            None => Self::Transport(words),
        }
    }
}

impl From<tonic::transport::Error> for LinkError {
    fn from(error: tonic::transport::Error) -> Self {
        Self::of_transport(&error)
    }
}

/// A status that the hub sent, or one that tonic made of a broken connection.
impl From<tonic::Status> for LinkError {
    fn from(status: tonic::Status) -> Self {
        match status.source() {
            Some(source) => Self::of_transport(source),
            None => Self::Refused { code: status.code(), message: status.message().to_owned() },
        }
    }
}

/// The TLS error somewhere below this one: hyper and IO wrap it.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<TlsError>() {
            return Some(tls);
        }
        let io = error.downcast_ref::<std::io::Error>();
        // What is inside of an IO error is not its source, but the source's equal.
        next = match io.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// What to do about a certificate of ours that the hub refuses. In TLS 1.3 it says so after the handshake, by an alert
/// that the HTTP/2 layer passes on in words only.
fn alert_hint(words: &str) -> Option<&'static str> {
    let (_, alert) = words.split_once("received fatal alert: ")?;
    let name = alert.split(|character: char| !character.is_ascii_alphanumeric()).next()?;
    Some(match name {
        "CertificateRevoked" | "AccessDenied" => REVOKED,
        "CertificateExpired" => {
            "this agent's certificate has ended: `bellwether cluster reenroll NAME`, apply what it prints, and restart the agent"
        }
        "UnknownCA" | "BadCertificate" | "DecryptError" => {
            "the hub does not know who issued this agent's certificate: is it another hub than the one it joined?"
        }
        _ => return None,
    })
}

/// What to do about a hub that we refuse.
fn tls_hint(error: &TlsError) -> Option<&'static str> {
    Some(match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the hub's root certificate is not the trusted one: is BELLWETHER_HUB another hub, or BELLWETHER_CA_FINGERPRINT wrong?"
        }
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the hub's certificate has ended, or this machine's clock is wrong"
        }
        TlsError::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "this machine's clock is behind"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] std::io::Error);

    #[test]
    fn a_hub_that_is_not_trusted_is_told_from_one_that_does_not_answer() {
        let untrusted = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = Wrapped(std::io::Error::new(std::io::ErrorKind::InvalidData, untrusted));

        let error = LinkError::of_transport(&wrapped);

        assert!(matches!(&error, LinkError::Tls { .. }), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("BELLWETHER_CA_FINGERPRINT")));
    }

    #[test]
    fn a_certificate_that_the_hub_refuses_has_its_hint() {
        use rustls::AlertDescription::{CertificateExpired, CertificateRevoked, UnknownCA};
        let cases = [(CertificateRevoked, "revoked"), (CertificateExpired, "has ended"), (UnknownCA, "another hub")];
        for (alert, word) in cases {
            let words = TlsError::AlertReceived(alert).to_string();
            let error = LinkError::of_transport(&Wrapped(std::io::Error::other(words)));
            assert!(error.hint().is_some_and(|hint| hint.contains(word)), "{error:?}");
        }
    }

    #[test]
    fn another_error_is_told_with_its_causes() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");

        assert_eq!(LinkError::of_transport(&Wrapped(refused)).to_string(), "wrapped: connection refused");
    }

    #[test]
    fn what_the_hub_says_is_told_apart_from_what_broke() {
        let error = LinkError::from(tonic::Status::resource_exhausted("too many sessions"));

        assert!(matches!(&error, LinkError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains("too many sessions"));
    }
}
