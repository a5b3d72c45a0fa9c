//! A TCP balancer before several servers: each connection goes to the first of them that takes it.
//!
//! What an installation has before its hubs' port for agents. It knows nothing of what passes.

use std::sync::Arc;

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Debug)]
pub struct Balancer {
    pub address: String,
    /// Ends with the balancer, and every connection with it.
    _serving: JoinSet<()>,
}

impl Balancer {
    /// `servers` as host:port, the preferred one first.
    pub async fn start(servers: &[&str]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let servers: Arc<[String]> = servers.iter().map(|&server| server.to_owned()).collect();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, servers));
        Ok(Self { address, _serving: serving })
    }
}

async fn serve(listener: TcpListener, servers: Arc<[String]>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(carry(client, Arc::clone(&servers)));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(mut client: TcpStream, servers: Arc<[String]>) {
    for server in servers.iter() {
        if let Ok(mut taken) = TcpStream::connect(server).await {
            // An error means that either end is gone.
            let _ = copy_bidirectional(&mut client, &mut taken).await;
            return;
        }
    }
}
