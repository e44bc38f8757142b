//! A network that behaves badly on purpose: delay, jitter, loss and cuts per destination, without root.
//!
//! A [`Shape`] is what the laboratory turns; `Shaped` is a UDP socket that obeys it. Each side shapes what it
//! sends, so a round trip is the sum of two one-way delays, as between real places. A cut can be made on either
//! end and in either direction. What is sent late keeps its order towards each destination: jitter here is a
//! queue whose length varies, not a path that reorders.
//!
//! One thread holds the delayed datagrams, since an async timer is good to a millisecond and the numbers
//! measured over this socket are of that size.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Datagrams that may be on their way at once; more are lost, as in a router's queue.
pub const DELAYED_COUNT_MAX: usize = 65_536;
/// Bytes that may be on their way at once.
pub const DELAYED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long to wait when the real socket's buffer is full.
const BLOCKED_RETRY: Duration = Duration::from_millis(1);

/// How one direction towards one address behaves. The default is a perfect network.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Link {
    /// One way, for what we send.
    pub delay: Duration,
    /// Added to the delay: uniform between zero and this.
    pub jitter: Duration,
    /// Probability in 0..=1 that a datagram we send is lost.
    pub loss: f64,
    /// Drop all that we send there.
    pub cut_out: bool,
    /// Drop all that arrives from there.
    pub cut_in: bool,
}

/// What the shaped socket did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Casualties {
    /// Datagrams lost by chance.
    pub lost: u64,
    /// Datagrams dropped by a cut, in either direction.
    pub cut: u64,
    /// Datagrams dropped because too many were on their way.
    pub overflowed: u64,
}

/// The settings of one socket, to be changed at any time.
pub struct Shape {
    state: Mutex<State>,
    lost: AtomicU64,
    cut: AtomicU64,
    overflowed: AtomicU64,
}

struct State {
    links: HashMap<SocketAddr, Link>,
    chance: StdRng,
}

/// What becomes of a datagram that is about to be sent.
enum Fate {
    Drop,
    Send,
    Delay(Duration),
}

impl Shape {
    /// A perfect network, whose later losses and jitter follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                links: HashMap::new(),
                chance: StdRng::seed_from_u64(seed),
            }),
            lost: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        })
    }

    /// From now on the link to this address behaves so. What is on its way already arrives as it was to.
    pub fn set(&self, address: SocketAddr, link: Link) {
        self.state().links.insert(canonical(address), link);
    }

    /// How the link to this address behaves.
    #[must_use]
    pub fn get(&self, address: SocketAddr) -> Link {
        self.state()
            .links
            .get(&canonical(address))
            .copied()
            .unwrap_or_default()
    }

    /// Makes the network perfect again.
    pub fn clear(&self) {
        self.state().links.clear();
    }

    /// Counts since the beginning.
    #[must_use]
    pub fn casualties(&self) -> Casualties {
        Casualties {
            lost: self.lost.load(Ordering::Relaxed),
            cut: self.cut.load(Ordering::Relaxed),
            overflowed: self.overflowed.load(Ordering::Relaxed),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self, destination: SocketAddr) -> Fate {
        let mut state = self.state();
        let Some(link) = state.links.get(&canonical(destination)).copied() else {
            return Fate::Send;
        };
        if link.cut_out {
            self.cut.fetch_add(1, Ordering::Relaxed);
            return Fate::Drop;
        }
        if link.loss > 0.0 && state.chance.random::<f64>() < link.loss {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Fate::Drop;
        }
        let jitter = if link.jitter.is_zero() {
            Duration::ZERO
        } else {
            link.jitter.mul_f64(state.chance.random::<f64>())
        };
        match link.delay + jitter {
            Duration::ZERO => Fate::Send,
            delay => Fate::Delay(delay),
        }
    }

    fn drops_from(&self, source: SocketAddr) -> bool {
        self.get(source).cut_in
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shape")
            .field("links", &self.state().links)
            .finish_non_exhaustive()
    }
}

/// An IPv4 address has one form here, whichever family the socket is of.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A UDP socket that sends late, or not at all.
pub(super) struct Shaped {
    inner: Arc<dyn AsyncUdpSocket>,
    shape: Arc<Shape>,
    queue: Arc<Queue>,
}

impl Shaped {
    /// Wraps a socket, and starts the thread that holds its delayed datagrams.
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, shape: Arc<Shape>) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let (theirs, socket) = (Arc::clone(&queue), Arc::clone(&inner));
        std::thread::Builder::new()
            .name("shaped-socket".into())
            .spawn(move || theirs.run(&*socket))?;
        Ok(Self { inner, shape, queue })
    }
}

impl Drop for Shaped {
    fn drop(&mut self) {
        self.queue.waiting().closed = true;
        self.queue.wake.notify_one();
    }
}

impl fmt::Debug for Shaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shaped")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Shaped {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.shape.fate(transmit.destination) {
            Fate::Drop => Ok(()),
            Fate::Send => self.inner.try_send(transmit),
            Fate::Delay(delay) => {
                if !self.queue.push(Instant::now() + delay, transmit) {
                    self.shape.overflowed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        for datagram in meta.iter_mut().take(received) {
            if self.shape.drops_from(datagram.addr) {
                self.shape.cut.fetch_add(1, Ordering::Relaxed);
                // quinn splits a buffer into datagrams of `stride` bytes: of an empty one it makes none.
                datagram.len = 0;
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// One at a time, so that each datagram has its own fate.
    fn max_transmit_segments(&self) -> usize {
        1
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Datagrams that are on their way, and the bell that tells of a new first one.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    heap: BinaryHeap<Reverse<Datagram>>,
    bytes: usize,
    sequence: u64,
    /// When the last datagram to each address is due: no later one may overtake it.
    last_due: HashMap<SocketAddr, Instant>,
    closed: bool,
}

/// Ordered by when it is due, then by when it was sent.
struct Datagram {
    due: Instant,
    sequence: u64,
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    source: Option<IpAddr>,
    contents: Vec<u8>,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when there is no room.
    fn push(&self, due: Instant, transmit: &Transmit<'_>) -> bool {
        let mut waiting = self.waiting();
        if waiting.heap.len() >= DELAYED_COUNT_MAX
            || waiting.bytes + transmit.contents.len() > DELAYED_BYTES_MAX
        {
            return false;
        }
        let due = waiting
            .last_due
            .get(&transmit.destination)
            .map_or(due, |last| due.max(*last));
        if waiting.last_due.len() >= LAST_DUE_MAX {
            let now = Instant::now();
            waiting.last_due.retain(|_, last| *last > now);
        }
        waiting.last_due.insert(transmit.destination, due);
        waiting.sequence += 1;
        waiting.bytes += transmit.contents.len();
        let first = waiting.heap.peek().is_none_or(|head| due < head.0.due);
        let sequence = waiting.sequence;
        waiting.heap.push(Reverse(Datagram {
            due,
            sequence,
            destination: transmit.destination,
            ecn: transmit.ecn,
            source: transmit.src_ip,
            contents: transmit.contents.to_vec(),
        }));
        drop(waiting);
        if first {
            self.wake.notify_one();
        }
        true
    }

    /// Sends each datagram when it is due, until the socket is closed.
    fn run(&self, socket: &dyn AsyncUdpSocket) {
        let mut due = Vec::new();
        let mut waiting = self.waiting();
        loop {
            if waiting.closed {
                return;
            }
            let now = Instant::now();
            while waiting.heap.peek().is_some_and(|head| head.0.due <= now) {
                let Some(Reverse(datagram)) = waiting.heap.pop() else {
                    break;
                };
                waiting.bytes = waiting.bytes.saturating_sub(datagram.contents.len());
                due.push(datagram);
            }
            if due.is_empty() {
                waiting = match waiting.heap.peek().map(|head| head.0.due) {
                    None => self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                    Some(next) => {
                        self.wake
                            .wait_timeout(waiting, next.saturating_duration_since(now))
                            .unwrap_or_else(PoisonError::into_inner)
                            .0
                    }
                };
                continue;
            }
            drop(waiting);
            for datagram in due.drain(..) {
                self.send(socket, &datagram);
            }
            waiting = self.waiting();
        }
    }

    /// Waits while the socket's own buffer is full; any other error is a lost datagram, as it is on a wire.
    fn send(&self, socket: &dyn AsyncUdpSocket, datagram: &Datagram) {
        let transmit = Transmit {
            destination: datagram.destination,
            ecn: datagram.ecn,
            contents: &datagram.contents,
            segment_size: None,
            src_ip: datagram.source,
        };
        while let Err(error) = socket.try_send(&transmit) {
            if error.kind() != io::ErrorKind::WouldBlock || self.waiting().closed {
                return;
            }
            std::thread::sleep(BLOCKED_RETRY);
        }
    }
}

/// Addresses whose order is remembered before the past ones are swept.
const LAST_DUE_MAX: usize = 1024;

impl PartialEq for Datagram {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Datagram {}

impl PartialOrd for Datagram {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Datagram {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.sequence).cmp(&(other.due, other.sequence))
    }
}
