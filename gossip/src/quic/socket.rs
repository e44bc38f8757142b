//! A UDP socket that says when it is really gone.
//!
//! quinn frees a socket some time after its endpoint was closed, when its tasks have noticed. Whoever stops a
//! node to start another on the same port must know when.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::mpsc;

/// Holds the socket, then the token: fields are dropped in this order.
pub(super) struct Tracked {
    inner: Arc<dyn AsyncUdpSocket>,
    _alive: mpsc::Sender<Infallible>,
}

impl Tracked {
    pub(super) fn wrap(
        inner: Arc<dyn AsyncUdpSocket>,
        alive: mpsc::Sender<Infallible>,
    ) -> Arc<dyn AsyncUdpSocket> {
        Arc::new(Self { inner, _alive: alive })
    }
}

impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl AsyncUdpSocket for Tracked {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let poller = Arc::clone(&self.inner).create_io_poller();
        Box::pin(TrackedPoller {
            poller,
            _socket: self,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// A poller holds the socket too.
#[derive(Debug)]
struct TrackedPoller {
    poller: Pin<Box<dyn UdpPoller>>,
    _socket: Arc<Tracked>,
}

impl UdpPoller for TrackedPoller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poller.as_mut().poll_writable(cx)
    }
}
