//! A simulated socket as quinn takes it, and identities that are the same in every run.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use gossip::quic::Identity;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use turmoil::net::UdpSocket;

type Readable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// A UDP socket of a simulated host, which loses datagrams by chance.
pub(crate) struct Socket {
    socket: Arc<UdpSocket>,
    readable: Mutex<Option<Readable>>,
    chance: Mutex<StdRng>,
    loss: f64,
    /// Hears of every datagram that leaves, and of those that are lost.
    told: Box<dyn Fn(SocketAddr, bool) + Send + Sync>,
}

impl Socket {
    pub(crate) async fn bind(
        port: u16,
        seed: u64,
        loss: f64,
        told: impl Fn(SocketAddr, bool) + Send + Sync + 'static,
    ) -> Arc<Socket> {
        Arc::new(Socket {
            socket: Arc::new(UdpSocket::bind(("0.0.0.0", port)).await.unwrap()),
            readable: Mutex::new(None),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            loss,
            told: Box::new(told),
        })
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let lost = self.chance.lock().unwrap().random_bool(self.loss);
        (self.told)(transmit.destination, lost);
        if !lost {
            self.socket.try_send_to(transmit.contents, transmit.destination)?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut waiting = self.readable.lock().unwrap();
        loop {
            let readable = waiting.get_or_insert_with(|| {
                let socket = Arc::clone(&self.socket);
                Box::pin(async move { socket.readable().await })
            });
            let is_readable = ready!(readable.as_mut().poll(cx));
            *waiting = None;
            is_readable?;
            match self.socket.try_recv_from(&mut bufs[0]) {
                Ok((len, addr)) => {
                    meta[0] = RecvMeta {
                        addr,
                        len,
                        stride: len,
                        ecn: None,
                        dst_ip: None,
                    };
                    return Poll::Ready(Ok(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Nothing stands in the way of what is sent here.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// An Ed25519 identity that follows from its number: its signatures are of one length, so that the handshake's
/// datagrams are as many in each run.
pub(crate) fn identity(number: usize) -> Identity {
    /// PKCS #8 version 1 around 32 bytes of an Ed25519 key (RFC 8410, section 7).
    const PKCS8: [u8; 16] = [
        0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ];
    let secret = *blake3::hash(&number.to_be_bytes()).as_bytes();
    let pkcs8 = rustls::pki_types::PrivatePkcs8KeyDer::from([&PKCS8[..], &secret].concat());
    let key = rcgen::KeyPair::try_from(&pkcs8).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["anything".to_owned()]).unwrap();
    params.serial_number = Some(rcgen::SerialNumber::from(1_u64));
    let certificate = params.self_signed(&key).unwrap();
    Identity::from_pem(certificate.pem(), key.serialize_pem()).unwrap()
}
