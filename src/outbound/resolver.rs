//! Names to addresses, once a request.

use std::{
    fmt, io,
    net::{IpAddr, ToSocketAddrs},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Where names are looked up.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// All addresses of a name.
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
#[derive(Debug)]
pub(super) struct SystemResolver {
    /// A look-up cannot be called off, so each keeps its slot until the system has an answer, whoever still waits.
    slots: Arc<Semaphore>,
}

impl SystemResolver {
    pub(super) fn new() -> SystemResolver {
        SystemResolver {
            slots: Arc::new(Semaphore::new(LOOK_UPS_MAX)),
        }
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        // With a dot at its end it is the whole name: no search domain of this machine is tried behind it.
        let name = format!("{name}.");
        let slots = Arc::clone(&self.slots);
        Box::pin(async move {
            let slot = slots.acquire_owned().await.map_err(io::Error::other)?;
            let addresses = spawn_blocking(move || {
                let _slot = slot;
                let sockets = (name.as_str(), 0).to_socket_addrs()?;
                Ok(sockets.map(|socket| socket.ip()).collect())
            });
            addresses.await.map_err(io::Error::other)?
        })
    }
}

/// Look-ups that the system has not answered yet: each takes a thread.
const LOOK_UPS_MAX: usize = 64;
