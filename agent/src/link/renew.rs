//! Trades a live certificate for a later one: one call, on a connection of its own.

use std::sync::Arc;

use bellwether_proto::v1;
use rustls::ClientConfig;

use super::failure::LinkError;
use super::{client, connect};
use crate::config::HubAddress;
use crate::identity::Granted;

pub(crate) async fn renew(hub: &HubAddress, tls: Arc<ClientConfig>, csr: Vec<u8>) -> Result<Granted, LinkError> {
    let answered = connect::within_deadline(async {
        let channel = connect::channel(hub, tls).await?;
        Ok(client(channel).renew(v1::RenewRequest { csr }).await?.into_inner())
    });
    let certificate = answered.await?;
    Ok(Granted { chain: certificate.chain, roots: certificate.roots })
}
