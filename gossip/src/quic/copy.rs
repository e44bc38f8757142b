//! Snapshots: a whole copy of a peer's data, from its checkpoint to our disk.

use std::sync::Arc;
use std::time::Duration;

use quinn::SendStream;

use super::connection::Peering;
use super::repair::{Serving, refuse, slot};
use super::streams::{self, FrameReader, code};
use super::talk::{Carrier, Desk, Speaker, Step, TalkError, Turn};
use crate::StreamClass;
use crate::snapshot::{Action, Giver, SnapshotError, Taker, TransferError};

/// Copies given at once: each holds a checkpoint and a thread.
pub(super) const GIVEN_MAX: usize = 2;
/// A checkpoint is kept for so long at most.
const LASTS_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl From<TransferError> for TalkError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Snapshot(_) => Self::Here(error.to_string()),
            TransferError::GaveUp(_) => Self::There(error.to_string()),
            TransferError::Malformed(_) => Self::Malformed(error.to_string()),
        }
    }
}

impl From<SnapshotError> for TalkError {
    fn from(error: SnapshotError) -> Self {
        Self::Here(error.to_string())
    }
}

/// Takes a copy from a peer, and installs it.
pub(super) async fn take(peering: &Peering) -> Result<(), TalkError> {
    let environment = &peering.environment;
    let slot = slot(&environment.asking)
        .await
        .ok_or_else(|| TalkError::Here("another one has not ended yet".to_owned()))?;
    let (mut send, receive) = peering.connection.open_bi().await.map_err(|_| TalkError::Ended)?;
    streams::prioritise(&send, StreamClass::Snapshot);
    send.write_all(&[StreamClass::Snapshot.to_byte()])
        .await
        .map_err(|_| TalkError::Ended)?;
    let (replica, alive) = (Arc::clone(&environment.replica), environment.alive.clone());
    let speaker = Speaker::start(environment.blocking, move |mut desk: Desk<()>| {
        match replica.snapshot_sink() {
            Ok(sink) => {
                let mut taker = Taker::new(sink);
                desk.serve(&mut |step| {
                    turn(match step {
                        Step::Begin | Step::More => taker.more().map(|action| action.into_iter().collect()),
                        Step::Frame(frame) => taker.handle(&frame),
                    })
                });
            }
            Err(error) => desk.serve(&mut |_| Turn::failed(error.clone().into())),
        }
        drop((slot, alive));
    })?;
    let carrier = Carrier {
        send,
        frames: FrameReader::new(receive),
        lasts_max: LASTS_MAX,
        throttle: None,
        sent: &environment.counters.snapshot_bytes_sent,
        received: &environment.counters.snapshot_bytes_received,
    };
    carrier.carry(speaker, true).await?;
    let (replica, alive) = (Arc::clone(&environment.replica), environment.alive.clone());
    let installed = environment.blocking.run(move || {
        let installed = replica.install_snapshot();
        drop((replica, alive));
        installed
    });
    installed
        .await
        .ok_or_else(|| TalkError::Here("the installation broke off".to_owned()))?
        .map_err(TalkError::from)
}

/// Gives a copy, over a stream whose class byte has been read.
pub(super) async fn give(
    peering: &Peering,
    frames: FrameReader,
    mut send: SendStream,
) -> Result<(), TalkError> {
    let environment = &peering.environment;
    let Some(slot) = slot(&environment.giving).await else {
        return refuse(send, frames);
    };
    streams::prioritise(&send, StreamClass::Snapshot);
    environment.counters.snapshots_given.increase();
    let serving = Arc::new(Serving::default());
    let serve = {
        let (serving, environment, member) = (Arc::clone(&serving), environment.clone(), peering.member);
        move |mut desk: Desk<()>| {
            match environment.replica.snapshot_source(member) {
                Ok(source) => {
                    serving.begin(&environment, member, &source.manifest().vector);
                    let mut giver = Giver::new(source);
                    desk.serve(&mut |step| {
                        turn(match step {
                            Step::Begin | Step::More => {
                                giver.more().map(|action| action.into_iter().collect())
                            }
                            Step::Frame(frame) => giver.handle(&frame),
                        })
                    });
                }
                Err(error) => desk.serve(&mut |_| turn(Err(error.clone().into()))),
            }
            drop((slot, environment));
        }
    };
    let speaker = match Speaker::start(environment.blocking, serve) {
        Ok(speaker) => speaker,
        Err(error) => {
            let _ = send.reset(code::FAILED);
            return Err(error);
        }
    };
    let carrier = Carrier {
        send,
        frames,
        lasts_max: LASTS_MAX,
        throttle: Some(Arc::clone(&environment.throttle)),
        sent: &environment.counters.snapshot_bytes_sent,
        received: &environment.counters.snapshot_bytes_received,
    };
    serving.during(peering, carrier.carry(speaker, false)).await
}

fn turn(taken: Result<Vec<Action>, TransferError>) -> Turn<()> {
    let mut turn = Turn {
        frames: Vec::new(),
        idle: true,
        end: None,
    };
    match taken {
        Ok(actions) => {
            turn.idle = actions.is_empty();
            for action in actions {
                match action {
                    Action::Send(frame) => turn.frames.push(frame),
                    Action::Done => turn.end = Some(Ok(())),
                }
            }
        }
        Err(error) => {
            turn.frames.extend(error.to_frame());
            turn.end = Some(Err(error.into()));
        }
    }
    turn
}
