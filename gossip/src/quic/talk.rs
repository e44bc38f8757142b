//! A conversation on a stream of its own: a machine on a thread that may block, its frames on the stream.
//!
//! The machines of [`crate::reconcile`] and [`crate::snapshot`] read and write the disk, hold a pinned cut for as long as
//! they run, and wait for the store: so each has a thread. The task that carries its frames gives it one step at a time
//! and no next one before the last was answered. So there is at most a frame, a step's answer and [`OUT_BYTES_MAX`] in
//! memory for each conversation, and whoever is slow makes all the others wait, back to the far end's disk.
//!
//! While its thread works, an end shows every [`BEAT_INTERVAL`] by an empty frame that it lives: a disk may take its time.
//! So silence means that nobody is there any more.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use quinn::SendStream;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ground::Blocking;
use super::streams::{FrameError, FrameReader, HEADER_BYTES, code, put_frame};
use super::throttle::Throttle;
use super::traffic::Count;
use crate::FRAME_BYTES_MAX;

/// Beyond so many bytes that the far end has not taken, nothing more is read from it: both ends then have far more than
/// any answer to a single frame in the other's way.
const OUT_BYTES_MAX: usize = 1024 * 1024;
/// Between two looks whether what a thread waits with is wanted back.
const OVER_LOOK: Duration = Duration::from_millis(50);
/// How often an end shows that it lives.
const BEAT_INTERVAL: Duration = Duration::from_secs(3);
/// An end that nothing was heard of for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What the thread is to do.
pub(super) enum Step {
    /// Say the first word.
    Begin,
    /// Take in what the far end said.
    Frame(BytesMut),
    /// Say what can be said without being asked.
    More,
}

/// What a step came to.
pub(super) struct Turn<T> {
    /// For the far end.
    pub(super) frames: Vec<Vec<u8>>,
    /// There was nothing to do. If it was [`Step::More`], there is nothing until the far end says something.
    pub(super) idle: bool,
    pub(super) end: Option<Result<T, TalkError>>,
}

impl<T> Turn<T> {
    pub(super) fn failed(error: TalkError) -> Self {
        Self {
            frames: Vec::new(),
            idle: true,
            end: Some(Err(error)),
        }
    }
}

/// Why a conversation came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum TalkError {
    /// Our own disk, or no thread for it.
    #[error("{0}")]
    Here(String),
    /// The far end gave up.
    #[error("{0}")]
    There(String),
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the stream ended too early")]
    Ended,
    #[error("nothing was heard for {SILENCE_MAX:?}")]
    Silent,
    #[error("it took too long")]
    TooLong,
}

impl TalkError {
    /// Whether a correct peer could never have caused this.
    pub(super) fn is_misbehaviour(&self) -> bool {
        matches!(
            self,
            Self::Malformed(_) | Self::Frame(FrameError::TooLong(_) | FrameError::Truncated)
        )
    }
}

type Reply<T> = Box<dyn FnOnce(Turn<T>) + Send>;

/// The thread's end of a conversation.
pub(super) struct Desk<T> {
    steps: mpsc::Receiver<(Step, Reply<T>)>,
    first: Option<(Step, Reply<T>)>,
}

impl<T> Desk<T> {
    /// Answers each step, until there are no more.
    pub(super) fn serve(&mut self, answer: &mut dyn FnMut(Step) -> Turn<T>) {
        self.serve_until(&|| false, answer);
    }

    /// The same, unless it is over before: that is asked now and then, so that a silent far end holds on to nothing of ours.
    /// Says whether steps may still come.
    pub(super) fn serve_until(
        &mut self,
        is_over: &dyn Fn() -> bool,
        answer: &mut dyn FnMut(Step) -> Turn<T>,
    ) -> bool {
        while let Ok(next) = self.next(is_over) {
            let Some((step, reply)) = next else { return true };
            let turn = answer(step);
            let ended = turn.end.is_some();
            reply(turn);
            if ended {
                return false;
            }
        }
        false
    }

    /// The next step; none if it is over before one comes.
    fn next(&mut self, is_over: &dyn Fn() -> bool) -> Result<Option<(Step, Reply<T>)>, RecvTimeoutError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        loop {
            match self.steps.recv_timeout(OVER_LOOK) {
                Err(RecvTimeoutError::Timeout) if is_over() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                next => return next.map(Some),
            }
        }
    }
}

/// The task's end of a conversation.
pub(super) struct Speaker<T> {
    /// None at the end only.
    steps: Option<mpsc::SyncSender<(Step, Reply<T>)>>,
    thread: Option<JoinHandle<()>>,
    blocking: Blocking,
}

type Working<T> = Pin<Box<dyn Future<Output = Option<Turn<T>>> + Send>>;

impl<T: Send + 'static> Speaker<T> {
    /// Starts a thread that serves a desk, once there is a first step: nobody's silence pins anything.
    pub(super) fn start(
        blocking: Blocking,
        serve: impl FnOnce(Desk<T>) + Send + 'static,
    ) -> Result<Self, TalkError> {
        let (steps, taken) = mpsc::sync_channel(1);
        let served = move || {
            if let Ok(first) = taken.recv() {
                serve(Desk {
                    steps: taken,
                    first: Some(first),
                });
            }
        };
        let thread = std::thread::Builder::new()
            .name("gossip-talk".to_owned())
            .spawn(served)
            .map_err(|error| TalkError::Here(format!("no thread: {error}")))?;
        Ok(Self {
            steps: Some(steps),
            thread: Some(thread),
            blocking,
        })
    }

    /// `None`: the thread is gone.
    fn work(&self, step: Step) -> Working<T> {
        let steps = self.steps.clone();
        match self.blocking {
            Blocking::OnThreads => Box::pin(async move {
                let (reply, turn) = oneshot::channel();
                // Whoever no longer waits needs no answer.
                let reply: Reply<T> = Box::new(move |turn| drop(reply.send(turn)));
                steps?.try_send((step, reply)).ok()?;
                turn.await.ok()
            }),
            Blocking::InPlace => Box::pin(async move {
                let (reply, turn) = mpsc::sync_channel(1);
                let reply: Reply<T> = Box::new(move |turn| drop(reply.send(turn)));
                steps?.try_send((step, reply)).ok()?;
                turn.recv().ok()
            }),
        }
    }
}

impl<T> Drop for Speaker<T> {
    fn drop(&mut self) {
        self.steps = None;
        if self.blocking == Blocking::InPlace
            && let Some(thread) = self.thread.take()
        {
            // An error means that it panicked, which was reported where it happened.
            let _ = thread.join();
        }
    }
}

/// One end's stream, and its limits.
pub(super) struct Carrier<'a> {
    pub(super) send: SendStream,
    pub(super) frames: FrameReader,
    /// It takes no longer than this in all.
    pub(super) lasts_max: Duration,
    /// What is sent is paid for here.
    pub(super) throttle: Option<Arc<Throttle>>,
    pub(super) sent: &'a Count,
    pub(super) received: &'a Count,
}

impl Carrier<'_> {
    /// Carries frames until the machine says that it is over, or the far end is gone.
    pub(super) async fn carry<T: Send + 'static>(
        mut self,
        speaker: Speaker<T>,
        begins: bool,
    ) -> Result<T, TalkError> {
        let carried = tokio::time::timeout(self.lasts_max, self.converse(&speaker, begins)).await;
        let ended = carried.unwrap_or(Err(TalkError::TooLong));
        // An error means that the stream is over already.
        match &ended {
            // What was said is to arrive, a machine's last words included.
            Ok(_) | Err(TalkError::Here(_) | TalkError::There(_) | TalkError::Malformed(_)) => {
                drop(self.send.finish());
            }
            Err(_) => drop(self.send.reset(code::FAILED)),
        }
        self.frames.decline(code::DONE);
        ended
    }

    async fn converse<T: Send + 'static>(
        &mut self,
        speaker: &Speaker<T>,
        begins: bool,
    ) -> Result<T, TalkError> {
        let mut out = BytesMut::new();
        let mut working = begins.then(|| speaker.work(Step::Begin));
        let (mut has_more, mut asked_for_more) = (false, false);
        let mut is_heard = true;
        let mut end = None;
        let mut heard = Instant::now();
        let mut beat = heard + BEAT_INTERVAL;
        let mut paid_at = heard;
        loop {
            if out.is_empty()
                && let Some(end) = end.take()
            {
                return end;
            }
            let is_working = working.is_some();
            let turn = async {
                match &mut working {
                    Some(working) => working.await,
                    None => std::future::pending().await,
                }
            };
            let now = Instant::now();
            tokio::select! {
                biased;
                turn = turn => {
                    working = None;
                    heard = Instant::now();
                    let turn = turn.ok_or_else(|| TalkError::Here("the thread is gone".to_owned()))?;
                    let before = out.len();
                    for frame in turn.frames.iter().filter(|_| is_heard) {
                        put_frame(&mut out, frame);
                    }
                    if let Some(throttle) = &self.throttle {
                        paid_at = throttle.pay(heard, out.len() - before);
                    }
                    has_more = !(asked_for_more && turn.idle);
                    end = turn.end;
                }
                written = self.send.write(&out), if !out.is_empty() && paid_at <= now => {
                    // Who stops listening has ended, or failed; which of them, its own direction says.
                    is_heard = written.is_ok();
                    let written = written.unwrap_or(out.len());
                    self.sent.add(written);
                    out.advance(written);
                    heard = Instant::now();
                    beat = heard + BEAT_INTERVAL;
                }
                () = tokio::time::sleep_until(paid_at), if !out.is_empty() && paid_at > now => heard = paid_at,
                frame = self.frames.next(FRAME_BYTES_MAX), if !is_working && end.is_none() && out.len() < OUT_BYTES_MAX => {
                    let frame = frame?.ok_or(TalkError::Ended)?;
                    self.received.add(frame.len() + HEADER_BYTES);
                    heard = Instant::now();
                    if !frame.is_empty() {
                        (working, asked_for_more) = (Some(speaker.work(Step::Frame(frame))), false);
                    }
                }
                () = std::future::ready(()), if has_more && !is_working && out.is_empty() => {
                    (working, asked_for_more) = (Some(speaker.work(Step::More)), true);
                }
                () = tokio::time::sleep_until(beat), if is_working && is_heard && out.is_empty() => {
                    put_frame(&mut out, &[]);
                }
                () = tokio::time::sleep_until(heard + SILENCE_MAX), if !is_working && paid_at <= now => {
                    return end.take().unwrap_or(Err(TalkError::Silent));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_silent_far_end_holds_on_to_nothing() {
        let (steps, taken) = mpsc::sync_channel(1);
        let mut desk: Desk<()> = Desk {
            steps: taken,
            first: None,
        };
        let looks = Cell::new(0);
        let is_over = || looks.replace(looks.get() + 1) == 2;
        let answer = &mut |_| Turn::failed(TalkError::Ended);
        assert!(desk.serve_until(&is_over, answer), "steps may still come");
        assert_eq!(looks.get(), 3);
        let (told, hears) = mpsc::channel();
        let reply: Reply<()> = Box::new(move |turn| told.send(turn.end.is_some()).unwrap());
        assert!(steps.try_send((Step::More, reply)).is_ok());
        assert!(
            !desk.serve_until(&|| true, answer),
            "one that has come is answered"
        );
        assert_eq!(hears.recv(), Ok(true));
        drop(steps);
        assert!(!desk.serve_until(&|| true, answer));
    }
}
