//! A bad network in front of a site: passes datagrams on, and some of them again, late, cut short or changed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rand::{RngExt, rngs::StdRng};
use tokio::{net::UdpSocket, task::JoinHandle};

use crate::process::loopback;

/// Remembered, to be sent again.
const REMEMBERED_MAX: usize = 256;

/// Forwards between one client and a site. Ends when dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    /// Datagrams that reached the site and that nobody had sent like that.
    pub(crate) forged: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn to(site: SocketAddr, random: StdRng) -> Relay {
        let front = UdpSocket::bind(loopback()).await.expect("a port");
        let back = UdpSocket::bind(loopback()).await.expect("a port");
        back.connect(site).await.expect("connected");
        let address = front.local_addr().expect("an address");
        let forged = Arc::default();
        let task = tokio::spawn(pass_on(front, back, random, Arc::clone(&forged)));
        Relay {
            address,
            forged,
            task,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(front: UdpSocket, back: UdpSocket, mut random: StdRng, forged: Arc<AtomicU64>) {
    let (mut out, mut home) = (vec![0; 65_536], vec![0; 65_536]);
    let mut client = None;
    let mut remembered: Vec<Vec<u8>> = Vec::new();
    loop {
        tokio::select! {
            received = front.recv_from(&mut out) => {
                let Ok((length, from)) = received else { continue };
                client = Some(from);
                let datagram = &out[..length];
                let _ = back.send(datagram).await;
                if remembered.len() < REMEMBERED_MAX {
                    remembered.push(datagram.to_vec());
                } else {
                    remembered[random.random_range(0..REMEMBERED_MAX)] = datagram.to_vec();
                }
                for _ in 0..random.random_range(0..4) {
                    let again = &remembered[random.random_range(0..remembered.len())];
                    let _ = back.send(&spoil(again, &mut random)).await;
                    forged.fetch_add(1, Ordering::Relaxed);
                }
            }
            received = back.recv(&mut home) => {
                // An error tells that the site was gone for a moment.
                if let (Ok(length), Some(client)) = (received, client) {
                    let _ = front.send_to(&home[..length], client).await;
                }
            }
        }
    }
}

/// The same again, or cut short, longer, or with a few bytes changed.
pub(crate) fn spoil(bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match random.random_range(0..5) {
        0 => {}
        1 => bytes.truncate(random.random_range(0..=bytes.len())),
        2 => bytes.extend((0..random.random_range(1..64)).map(|_| random.random::<u8>())),
        _ => {
            for _ in 0..random.random_range(1..5) {
                if !bytes.is_empty() {
                    let at = random.random_range(0..bytes.len());
                    bytes[at] = random.random();
                }
            }
        }
    }
    bytes
}
