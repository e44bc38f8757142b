//! Reconciliations: which end asks and which answers, and what of it goes to the store.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::SendStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::{Environment, Peering};
use super::driver::Command;
use super::streams::{self, FrameReader, code};
use super::talk::{Carrier, Desk, Speaker, Step, TalkError, Turn};
use crate::reconcile::{Action, Answerer, Asker, Cut, CutError, Purpose, ReconcileError, Verdict};
use crate::{MemberId, StreamClass, Vector};

/// Conversations that this replica leads at once.
pub(super) const ASKED_MAX: usize = 1;
/// Conversations that it answers at once: each holds a pinned cut and a thread.
pub(super) const ANSWERED_MAX: usize = 2;
/// A comparison of a million records takes seconds; with all of them different, some minutes over a long link.
const LOOK_LASTS_MAX: Duration = Duration::from_secs(10 * 60);
/// A catch-up may bring nearly all that there is, and waits for the store while it merges.
const CATCH_UP_LASTS_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// While a member takes a copy or a catch-up from us the core is told so that often: it holds back the log for it.
const SERVING_INTERVAL: Duration = Duration::from_secs(60);

impl From<ReconcileError> for TalkError {
    fn from(error: ReconcileError) -> Self {
        match error {
            ReconcileError::Malformed(_) => Self::Malformed(error.to_string()),
            ReconcileError::Cut(_) | ReconcileError::Sums => Self::Here(error.to_string()),
        }
    }
}

impl From<CutError> for TalkError {
    fn from(error: CutError) -> Self {
        Self::Here(error.to_string())
    }
}

/// Leads a conversation with a peer.
pub(super) async fn ask(peering: &Peering, purpose: Purpose) -> Result<Verdict, TalkError> {
    let environment = &peering.environment;
    let slot = slot(&environment.asking)
        .await
        .ok_or_else(|| TalkError::Here("another one has not ended yet".to_owned()))?;
    let (mut send, receive) = peering.connection.open_bi().await.map_err(|_| TalkError::Ended)?;
    streams::prioritise(&send, StreamClass::Repair);
    send.write_all(&[StreamClass::Repair.to_byte()])
        .await
        .map_err(|_| TalkError::Ended)?;
    let mut asker = Asker::new(purpose, environment.chance.bytes());
    let speak = move |cut: &dyn Cut, step: Step| match step {
        Step::Begin => asker.begin(cut),
        Step::Frame(frame) => asker.handle(cut, &frame),
        Step::More => asker.more(cut),
    };
    let speaker = on_a_cut(environment, peering.member, purpose, slot, speak)?;
    let lasts_max = match purpose {
        Purpose::CatchUp => CATCH_UP_LASTS_MAX,
        Purpose::Repair | Purpose::Look => LOOK_LASTS_MAX,
    };
    let carrier = Carrier {
        send,
        frames: FrameReader::new(receive),
        lasts_max,
        throttle: None,
        sent: &environment.counters.repair_bytes_sent,
        received: &environment.counters.repair_bytes_received,
    };
    carrier.carry(speaker, true).await
}

/// Answers a conversation whose class byte has been read.
pub(super) async fn answer(
    peering: &Peering,
    frames: FrameReader,
    mut send: SendStream,
) -> Result<(), TalkError> {
    let environment = &peering.environment;
    let Some(slot) = slot(&environment.answering).await else {
        return refuse(send, frames);
    };
    streams::prioritise(&send, StreamClass::Repair);
    environment.counters.repairs_answered.increase();
    let serving = Arc::new(Serving::default());
    let mut answerer = Answerer::new();
    let speak = {
        let (serving, environment, member) = (Arc::clone(&serving), environment.clone(), peering.member);
        move |cut: &dyn Cut, step: Step| {
            let actions = match step {
                Step::Begin => Ok(Vec::new()),
                Step::Frame(frame) => answerer.handle(cut, &frame),
                Step::More => answerer.more(cut),
            };
            if answerer.purpose() == Some(Purpose::CatchUp) {
                serving.begin(&environment, member, cut.vector());
            }
            actions
        }
    };
    let speaker = match on_a_cut(environment, peering.member, Purpose::Repair, slot, speak) {
        Ok(speaker) => speaker,
        Err(error) => {
            let _ = send.reset(code::FAILED);
            return Err(error);
        }
    };
    let carrier = Carrier {
        send,
        frames,
        lasts_max: CATCH_UP_LASTS_MAX,
        throttle: None,
        sent: &environment.counters.repair_bytes_sent,
        received: &environment.counters.repair_bytes_received,
    };
    serving
        .during(peering, carrier.carry(speaker, false))
        .await
        .map(drop)
}

/// A slot is free again when the thread of the talk before has let go of its cut.
const SLOT_PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn slot(slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let free = Arc::clone(slots).acquire_owned();
    tokio::time::timeout(SLOT_PATIENCE, free).await.ok()?.ok()
}

/// Says that so many are answered already. Not an error: the peer asks again.
pub(super) fn refuse(mut send: SendStream, mut frames: FrameReader) -> Result<(), TalkError> {
    frames.decline(code::BUSY);
    // An error means that the stream is over already.
    let _ = send.reset(code::BUSY);
    Ok(())
}

/// A thread on which a cut is pinned for as long as the conversation runs. Whoever answers is given parts of a repair
/// only.
fn on_a_cut(
    environment: &Environment,
    member: MemberId,
    purpose: Purpose,
    slot: OwnedSemaphorePermit,
    mut speak: impl FnMut(&dyn Cut, Step) -> Result<Vec<Action>, ReconcileError> + Send + 'static,
) -> Result<Speaker<Verdict>, TalkError> {
    let replica = Arc::clone(&environment.replica);
    let alive = environment.alive.clone();
    Speaker::start(environment.blocking, move |mut desk: Desk<Verdict>| {
        let mut given_up = false;
        let pinned = replica.with_cut(purpose, &mut |cut| {
            given_up = desk.serve_until(&|| cut.is_over(), &mut |step| {
                let taken = speak(cut, step)
                    .map_err(TalkError::from)
                    .and_then(|actions| turn(actions, &mut |part| replica.take_part(member, purpose, part)));
                taken.unwrap_or_else(Turn::failed)
            });
        });
        let words = match pinned {
            Err(CutError(words)) => Some(words),
            Ok(()) => given_up.then(|| "what was compared is wanted back".to_owned()),
        };
        if let Some(words) = words {
            desk.serve(&mut |_| Turn::failed(TalkError::Here(words.clone())));
        }
        drop((slot, alive));
    })
}

fn turn(
    actions: Vec<Action>,
    deliver: &mut dyn FnMut(crate::reconcile::Part) -> Result<(), CutError>,
) -> Result<Turn<Verdict>, TalkError> {
    let mut turn = Turn {
        frames: Vec::new(),
        idle: actions.is_empty(),
        end: None,
    };
    for action in actions {
        match action {
            Action::Send(frame) => turn.frames.push(frame),
            Action::Deliver(part) => deliver(part)?,
            Action::Done(verdict) => turn.end = Some(Ok(verdict)),
        }
    }
    Ok(turn)
}

/// What is given of: known once the thread has pinned it.
#[derive(Default)]
pub(super) struct Serving(OnceLock<Vector>);

impl Serving {
    /// Tells the core, the first time.
    pub(super) fn begin(&self, environment: &Environment, member: MemberId, cut: &Vector) {
        if self.0.set(cut.clone()).is_ok() {
            let cut = cut.clone();
            environment.command(Command::Serving { member, cut });
        }
    }

    /// Tells the core again and again, until `given` ends.
    pub(super) async fn during<T>(&self, peering: &Peering, given: impl Future<Output = T>) -> T {
        tokio::pin!(given);
        loop {
            tokio::select! {
                biased;
                given = &mut given => return given,
                () = tokio::time::sleep(SERVING_INTERVAL) => {
                    if let Some(cut) = self.0.get().cloned() {
                        let member = peering.member;
                        peering.environment.command(Command::Serving { member, cut });
                    }
                }
            }
        }
    }
}
