//! Trades a join token for a certificate: one call, on a connection of its own.

use std::borrow::Cow;
use std::sync::Arc;

use bellwether_proto::v1;
use rustls::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::Code;

use super::failure::LinkError;
use super::{client, connect};
use crate::config::HubAddress;
use crate::identity::Granted;

#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollError {
    /// The hub knows the token, and will not have it; trying again does not help.
    #[error("the hub refused the join token: {message}")]
    Refused { message: String },
    /// Not answered, or not now. The same token and key may be tried again, even if the hub has used them.
    #[error("the hub cannot be asked to join")]
    Unanswered(#[source] LinkError),
}

impl EnrollError {
    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Refused { .. } => Some("run `bellwether cluster reenroll NAME` and apply what it prints".into()),
            Self::Unanswered(error) => error.hint(),
        }
    }
}

pub(crate) async fn enroll(
    hub: &HubAddress,
    tls: Arc<ClientConfig>,
    token: &SecretString,
    csr: Vec<u8>,
) -> Result<Granted, EnrollError> {
    let request = v1::EnrollRequest { token: token.expose_secret().to_owned(), csr };
    let answered = connect::within_deadline(async {
        let channel = connect::channel(hub, tls).await?;
        Ok(client(channel).enroll(request).await?.into_inner())
    });
    let certificate = answered.await.map_err(judge)?;
    Ok(Granted { chain: certificate.chain, roots: certificate.roots })
}

fn judge(error: LinkError) -> EnrollError {
    match error {
        LinkError::Refused {
            code:
                Code::Unauthenticated
                | Code::PermissionDenied
                | Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::NotFound
                | Code::AlreadyExists,
            message,
        } => EnrollError::Refused { message },
        error => EnrollError::Unanswered(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_by_the_hub_itself_ends_the_join() {
        let refused = judge(tonic::Status::permission_denied("used before").into());
        let busy = judge(tonic::Status::unavailable("starting").into());

        assert!(matches!(refused, EnrollError::Refused { .. }));
        assert!(matches!(busy, EnrollError::Unanswered(_)));
        assert!(matches!(judge(LinkError::Ended), EnrollError::Unanswered(_)));
    }
}
