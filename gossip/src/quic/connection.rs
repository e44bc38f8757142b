//! One connection to one peer: the tasks that read and write its streams.
//!
//! They only move bytes. Whatever they learn goes to the driver as an [`Arrival`], each holding permits for its
//! bytes until the driver has taken it, so what peers send is bounded before the core ever sees it. Push and
//! pull streams moreover wait while the core holds too much; control streams never do, since acks free memory.
//!
//! Promise: a frame that no correct peer sends closes its connection, is counted, and does nothing else.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::Replica;
use super::driver::Command;
use super::gate::Gate;
use super::ground::{Blocking, Chance};
use super::pull::{self, Serving};
use super::streams::{self, Control, FrameError, FrameReader, HEADER_BYTES, Queued, Sending, code};
use super::talk::TalkError;
use super::throttle::Throttle;
use super::tls::Tls;
use super::traffic::Counters;
use super::{copy, repair};
use crate::reconcile::{Purpose, Verdict};
use crate::{
    ConnectionId, Event, FRAME_BYTES_MAX, MemberId, Message, PullEnd, StreamClass, TRANSACTION_BYTES_MAX,
    Vector,
};

/// Bytes of transactions between the readers and the driver, over all connections.
pub(super) const ARRIVING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What an arrival costs at least, so that the budget also bounds the count.
const ARRIVAL_BYTES_MIN: usize = 1024;
/// Control frames of one connection between its reader and the driver.
const ARRIVING_CONTROL_MAX: usize = 64;
/// Bytes queued for one peer's control stream; a peer that lets more gather is cut off, since what is said
/// there is said once.
const CONTROL_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes queued for one peer's push stream; what does not fit is dropped, and pulled.
const PUSH_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// After its control stream has ended a peer has this long to close the connection itself.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often the round trip time is reported, at most.
const ROUND_TRIP_INTERVAL: Duration = Duration::from_secs(1);

/// What the tasks of all connections share.
#[derive(Clone)]
pub(super) struct Environment {
    pub(super) replica: Arc<dyn Replica>,
    pub(super) tls: Arc<Tls>,
    pub(super) counters: Arc<Counters>,
    pub(super) arrivals: mpsc::UnboundedSender<Arrival>,
    pub(super) arriving: Arc<Semaphore>,
    /// Whether the core has room for transactions.
    pub(super) room: Arc<Gate>,
    pub(super) chance: Arc<Chance>,
    pub(super) blocking: Blocking,
    pub(super) serving: Arc<Semaphore>,
    /// Slots for what is asked of peers beside their logs, for answered conversations, and for given copies.
    pub(super) asking: Arc<Semaphore>,
    pub(super) answering: Arc<Semaphore>,
    pub(super) giving: Arc<Semaphore>,
    /// Over all given copies.
    pub(super) throttle: Arc<Throttle>,
    /// Weak, since a node ends when the last handle to it is dropped.
    pub(super) commands: mpsc::WeakUnboundedSender<Command>,
    pub(super) next_connection: Arc<AtomicU64>,
    /// Held by every task; when all are gone the node has really stopped.
    pub(super) alive: mpsc::Sender<Infallible>,
}

impl Environment {
    /// Tells the driver what must not overtake what the store tells it.
    pub(super) fn command(&self, command: Command) {
        if let Some(commands) = self.commands.upgrade() {
            // Without a driver there is nobody to tell: the node stops.
            let _ = commands.send(command);
        }
    }
}

/// Something a connection's tasks learned.
pub(super) struct Arrival {
    pub(super) connection: ConnectionId,
    pub(super) news: News,
    /// Given back when the driver drops the arrival.
    _permit: Option<OwnedSemaphorePermit>,
}

pub(super) enum News {
    Connected(Link),
    Message {
        message: Message,
        round_trip: Option<Duration>,
    },
    Pushed(Arc<[u8]>),
    Pulled {
        pull: u64,
        transactions: Vec<Arc<[u8]>>,
        end: Option<PullEnd>,
    },
    Disconnected {
        reason: String,
    },
}

/// The driver's end of a connection.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) member: MemberId,
    pub(super) public_key: Vec<u8>,
    pub(super) dialed: bool,
    control: Sending<Control>,
    push: Sending<Arc<[u8]>>,
    pulls: BTreeMap<u64, AbortHandle>,
    /// What is asked of this peer beside its log.
    talks: Vec<AbortHandle>,
    /// No more is taken from a connection that is being closed.
    pub(super) closing: bool,
}

impl Link {
    /// Queues a message. False: the peer reads too slowly, and must be closed.
    pub(super) fn say(&self, message: &Message) -> bool {
        let frame = message.to_frame();
        let bytes = frame.len();
        self.closing || self.control.offer(Control::Frame(frame), bytes)
    }

    /// Queues a transaction. False: the peer is slow, and will pull it.
    pub(super) fn push(&self, transaction: Arc<[u8]>) -> bool {
        let bytes = transaction.len();
        self.closing || self.push.offer(transaction, bytes)
    }

    /// Closes when all that was said before has arrived.
    pub(super) fn close(&mut self, reason: String) {
        self.closing = true;
        self.cancel_requests();
        self.control.insist(Control::Close {
            code: code::CLOSED,
            reason,
        });
    }

    /// Closes at once.
    pub(super) fn cut(&mut self, code: VarInt, reason: &str) {
        self.closing = true;
        self.cancel_requests();
        self.connection.close(code, reason.as_bytes());
    }

    pub(super) fn pull(&mut self, environment: &Environment, id: ConnectionId, pull: u64, vector: Vector) {
        self.pulls.retain(|_, task| !task.is_finished());
        let peer = self.peering(environment, id);
        self.pulls
            .insert(pull, tokio::spawn(peer.pull(pull, vector)).abort_handle());
    }

    pub(super) fn cancel_pull(&mut self, pull: u64) {
        if let Some(task) = self.pulls.remove(&pull) {
            task.abort();
        }
    }

    /// Compares what both hold. The outcome is told to the driver, whatever it is.
    pub(super) fn converse(&mut self, environment: &Environment, id: ConnectionId, purpose: Purpose) {
        self.talks.retain(|task| !task.is_finished());
        let peer = self.peering(environment, id);
        let mut told = Told::failed(&peer, Outcome::Verdict(purpose, None));
        let talk = async move {
            match repair::ask(&peer, purpose).await {
                Ok(verdict) => told.came_to(Outcome::Verdict(purpose, Some(verdict))),
                Err(error) => peer.failed("reconciliation", &error),
            }
        };
        self.talks.push(tokio::spawn(talk).abort_handle());
    }

    /// Takes a copy of the peer's data. The outcome is told to the driver, whatever it is.
    pub(super) fn copy(&mut self, environment: &Environment, id: ConnectionId) {
        self.talks.retain(|task| !task.is_finished());
        let peer = self.peering(environment, id);
        let mut told = Told::failed(&peer, Outcome::Copied(false));
        let talk = async move {
            match copy::take(&peer).await {
                Ok(()) => told.came_to(Outcome::Copied(true)),
                Err(error) => peer.failed("snapshot", &error),
            }
        };
        self.talks.push(tokio::spawn(talk).abort_handle());
    }

    /// Ends all that is asked of this peer.
    pub(super) fn cancel_requests(&mut self) {
        let pulls = std::mem::take(&mut self.pulls).into_values();
        for task in pulls.chain(self.talks.drain(..)) {
            task.abort();
        }
    }

    fn peering(&self, environment: &Environment, id: ConnectionId) -> Peering {
        Peering {
            id,
            member: self.member,
            connection: self.connection.clone(),
            environment: environment.clone(),
        }
    }
}

/// Takes a connection whose handshake is done: checks whose it is, tells the driver, starts its tasks.
///
/// `expected` is who was dialed. False when the peer is somebody else, or nobody any more.
pub(super) fn establish(
    environment: &Environment,
    connection: Connection,
    expected: Option<MemberId>,
) -> bool {
    let remote = connection.remote_address();
    // Again, though the handshake looked: the list may have changed meanwhile.
    let Some((member, public_key)) = environment.tls.keys.member_of(&connection) else {
        tracing::warn!(%remote, "closed: the peer's key is not listed any more");
        connection.close(code::UNLISTED, b"key not listed");
        return false;
    };
    if let Some(expected) = expected
        && expected != member
    {
        tracing::warn!(%remote, %expected, found = %member, "another member answers at this address");
        connection.close(code::DONE, b"dialed somebody else");
        return false;
    }
    let id = ConnectionId(environment.next_connection.fetch_add(1, Ordering::Relaxed));
    environment.counters.connections.increase();
    let (control, control_queued) = streams::budgeted(CONTROL_QUEUE_BYTES_MAX);
    let (push, push_queued) = streams::budgeted(PUSH_QUEUE_BYTES_MAX);
    let peer = Peering {
        id,
        member,
        connection: connection.clone(),
        environment: environment.clone(),
    };
    peer.tell(
        News::Connected(Link {
            connection,
            member,
            public_key,
            dialed: expected.is_some(),
            control,
            push,
            pulls: BTreeMap::new(),
            talks: Vec::new(),
            closing: false,
        }),
        None,
    );
    tokio::spawn(peer.run(control_queued, push_queued));
    true
}

/// A task's view of its connection.
#[derive(Clone)]
pub(super) struct Peering {
    id: ConnectionId,
    pub(super) member: MemberId,
    pub(super) connection: Connection,
    pub(super) environment: Environment,
}

/// Tells the driver what something that was asked of a peer came to. Once, when it is dropped: also when the task that
/// asks is cancelled.
struct Told {
    member: MemberId,
    environment: Environment,
    outcome: Option<Outcome>,
}

enum Outcome {
    Verdict(Purpose, Option<Verdict>),
    /// Whether it was installed.
    Copied(bool),
}

impl Told {
    /// Until it is known better.
    fn failed(peer: &Peering, outcome: Outcome) -> Told {
        Told {
            member: peer.member,
            environment: peer.environment.clone(),
            outcome: Some(outcome),
        }
    }

    fn came_to(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let member = self.member;
        let command = match self.outcome.take() {
            Some(Outcome::Verdict(purpose, verdict)) => Command::Reconciled {
                member,
                purpose,
                verdict,
            },
            Some(Outcome::Copied(installed)) => Command::Copied { member, installed },
            None => return,
        };
        self.environment.command(command);
    }
}

/// What the readers of one connection's streams have seen.
struct Seen {
    /// One bit per class of one-way streams.
    classes: AtomicU8,
    /// The first message has gone to the driver. Until then no other stream is read: what is pushed right after
    /// a hello would otherwise overtake it now and then, and be thrown away.
    greeted: Gate,
}

impl Peering {
    async fn run(self, control: Queued<Control>, push: Queued<Arc<[u8]>>) {
        let counters = &self.environment.counters;
        let seen = Arc::new(Seen {
            classes: AtomicU8::new(0),
            greeted: Gate::new(false),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(streams::write_control(
            self.connection.clone(),
            control,
            Arc::clone(counters),
        ));
        tasks.spawn(streams::write_pushes(
            self.connection.clone(),
            push,
            Arc::clone(counters),
        ));
        let reason = loop {
            tokio::select! {
                biased;
                Some(_) = tasks.join_next() => {}
                stream = self.connection.accept_uni() => match stream {
                    Ok(stream) => { tasks.spawn(self.clone().read(stream, Arc::clone(&seen))); }
                    Err(error) => break error,
                },
                stream = self.connection.accept_bi() => match stream {
                    Ok((send, receive)) => { tasks.spawn(self.clone().answer(send, receive, Arc::clone(&seen))); }
                    Err(error) => break error,
                },
            }
        };
        tasks.shutdown().await;
        self.tell(
            News::Disconnected {
                reason: reason.to_string(),
            },
            None,
        );
    }

    fn tell(&self, news: News, permit: Option<OwnedSemaphorePermit>) {
        // Without a driver there is nobody to tell: the node stops.
        let _ = self.environment.arrivals.send(Arrival {
            connection: self.id,
            news,
            _permit: permit,
        });
    }

    /// The peer sent what it must not.
    fn malformed(&self, why: &dyn std::fmt::Display) {
        let why = why.to_string();
        self.environment.counters.frames_refused.increase();
        self.environment.counters.closes.increase();
        tracing::warn!(member = %self.member, remote = %self.connection.remote_address(), %why, "malformed frame");
        self.connection.close(code::MALFORMED, why.as_bytes());
        self.environment.replica.event(Event::Misbehaved {
            member: self.member,
            why,
        });
    }

    /// Reads a one-way stream, once its first byte has said what it is.
    async fn read(self, stream: RecvStream, seen: Arc<Seen>) {
        let mut frames = FrameReader::new(stream);
        let Ok(Some(byte)) = frames.byte().await else {
            return;
        };
        let Some(class @ (StreamClass::Control | StreamClass::Push)) = StreamClass::from_byte(byte) else {
            self.environment.counters.streams_declined.increase();
            frames.decline(code::UNSUPPORTED);
            return;
        };
        let bit = 1 << class.to_byte();
        if seen.classes.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return self.malformed(&"a second stream of one class");
        }
        let ended = match class {
            StreamClass::Control => self.read_control(&mut frames, &seen).await,
            _ => self.read_pushes(&mut frames, &seen).await,
        };
        match ended {
            Ok(()) => {}
            Err(Unread::Frame(FrameError::Lost | FrameError::Reset)) => {}
            Err(Unread::Stopping) => return,
            Err(error) => return self.malformed(&error),
        }
        if class == StreamClass::Control {
            // A peer that closes ends its stream first, so that its last words arrive.
            tokio::time::sleep(FAREWELL).await;
            self.connection.close(code::DONE, b"the control stream has ended");
        }
    }

    async fn read_control(&self, frames: &mut FrameReader, seen: &Seen) -> Result<(), Unread> {
        let arriving = Arc::new(Semaphore::new(ARRIVING_CONTROL_MAX));
        let mut reported: Option<Instant> = None;
        while let Some(frame) = frames.next(FRAME_BYTES_MAX).await? {
            self.environment
                .counters
                .control_bytes_received
                .add(frame.len() + HEADER_BYTES);
            let message = Message::decode(&frame).map_err(|error| Unread::Undecodable(error.to_string()))?;
            let due = reported.is_none_or(|at| at.elapsed() >= ROUND_TRIP_INTERVAL);
            let round_trip = due.then(|| self.connection.rtt());
            if due {
                reported = Some(Instant::now());
            }
            let permit = Arc::clone(&arriving)
                .acquire_owned()
                .await
                .map_err(|_| Unread::Stopping)?;
            self.tell(News::Message { message, round_trip }, Some(permit));
            seen.greeted.set(true);
        }
        Ok(())
    }

    async fn read_pushes(&self, frames: &mut FrameReader, seen: &Seen) -> Result<(), Unread> {
        seen.greeted.pass().await;
        while let Some(frame) = frames.next(TRANSACTION_BYTES_MAX).await? {
            self.environment
                .counters
                .push_bytes_received
                .add(frame.len() + HEADER_BYTES);
            let permit = self.admit(frame.len()).await.ok_or(Unread::Stopping)?;
            self.tell(News::Pushed(Arc::from(&frame[..])), Some(permit));
        }
        Ok(())
    }

    /// Waits until the core has room, and the way to it too. `None`: the node stops.
    async fn admit(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.environment.room.pass().await;
        let cost = u32::try_from(bytes.clamp(ARRIVAL_BYTES_MIN, ARRIVING_BYTES_MAX)).ok()?;
        Arc::clone(&self.environment.arriving)
            .acquire_many_owned(cost)
            .await
            .ok()
    }

    /// A conversation or a copy failed, ours or theirs.
    fn failed(&self, what: &str, error: &TalkError) {
        self.environment.counters.talks_failed.increase();
        if error.is_misbehaviour() {
            self.malformed(error);
        } else {
            tracing::warn!(member = %self.member, what, %error, "came to nothing");
        }
    }

    /// Reads a two-way stream: something to be answered.
    async fn answer(self, mut send: SendStream, receive: RecvStream, seen: Arc<Seen>) {
        let mut frames = FrameReader::new(receive);
        let Ok(Some(byte)) = frames.byte().await else {
            return;
        };
        let class = StreamClass::from_byte(byte);
        match class {
            Some(StreamClass::Pull) => {
                seen.greeted.pass().await;
                self.answer_pull(frames, send).await;
            }
            Some(StreamClass::Repair) => {
                seen.greeted.pass().await;
                if let Err(error) = repair::answer(&self, frames, send).await {
                    self.failed("answered reconciliation", &error);
                }
            }
            Some(StreamClass::Snapshot) => {
                seen.greeted.pass().await;
                if let Err(error) = copy::give(&self, frames, send).await {
                    self.failed("given snapshot", &error);
                }
            }
            Some(StreamClass::Control | StreamClass::Push) | None => {
                self.environment.counters.streams_declined.increase();
                frames.decline(code::UNSUPPORTED);
                // An error means that the stream is over already.
                let _ = send.reset(code::UNSUPPORTED);
            }
        }
    }

    async fn answer_pull(&self, frames: FrameReader, send: SendStream) {
        let serving = Serving {
            replica: Arc::clone(&self.environment.replica),
            slots: Arc::clone(&self.environment.serving),
            blocking: self.environment.blocking,
            counters: Arc::clone(&self.environment.counters),
            alive: self.environment.alive.clone(),
        };
        if let Err(error) = serving.serve(frames, send).await
            && error.is_misbehaviour()
        {
            self.malformed(&error);
        }
    }

    /// Pulls from the peer until the answer ends.
    async fn pull(self, pull: u64, vector: Vector) {
        let failed = || {
            let end = Some(PullEnd::Failed);
            self.tell(
                News::Pulled {
                    pull,
                    transactions: Vec::new(),
                    end,
                },
                None,
            );
        };
        let Some(mut asking) = pull::ask(&self.connection, vector).await else {
            return failed();
        };
        loop {
            match asking.next(&self.environment.counters).await {
                Ok(Some(piece)) => {
                    let bytes = piece.transactions.iter().map(|bytes| bytes.len()).sum();
                    let Some(permit) = self.admit(bytes).await else {
                        return;
                    };
                    let news = News::Pulled {
                        pull,
                        transactions: piece.transactions,
                        end: piece.end,
                    };
                    self.tell(news, Some(permit));
                }
                Ok(None) => return,
                Err(error) => {
                    if error.is_misbehaviour() {
                        self.malformed(&error);
                    }
                    return failed();
                }
            }
        }
    }
}

/// Why a stream is read no further.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("not a message: {0}")]
    Undecodable(String),
    #[error("the node stops")]
    Stopping,
}
