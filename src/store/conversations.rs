//! A store's part in reconciling with a peer: the cut that is looked at, and what a peer brings.

use std::sync::{Arc, mpsc};

use gossip::{
    MemberId,
    reconcile::{Cut, CutError, Part, Purpose},
};

use super::{
    Store,
    catch_up::NotKept,
    cut::StoreCut,
    lock,
    repair::Repair,
    work::{TellKept, Work},
};

impl Store {
    /// Pins a cut for as long as `talk` runs: one moment of the records and its vector. `purpose`: what parts of the
    /// conversation are for here.
    pub fn with_cut(&self, purpose: Purpose, talk: &mut dyn FnMut(&dyn Cut)) -> Result<(), CutError> {
        self.shared.must_be_open().map_err(CutError)?;
        let ended = &self.shared.cuts_ended;
        let talked = self.read(|snapshot| {
            let cut = match purpose {
                Purpose::CatchUp => StoreCut::to_catch_up(snapshot.disk(), self.keeping.digest_key),
                Purpose::Look | Purpose::Repair => StoreCut::new(snapshot.disk(), self.keeping.digest_key),
            }?;
            talk(&cut.until(ended));
            Ok(())
        });
        if purpose == Purpose::CatchUp {
            *lock(&self.shared.catching_up) = None;
            // Where the store is closed nothing lies aside any longer than until it is opened.
            let _ = self.shared.queue.push(Work::AsideEnds);
        }
        talked
            .and_then(|talked| talked)
            .map_err(|error| CutError(error.to_string()))
    }

    /// Takes a part of a conversation of `own`, the member whose store this is, with a peer, and blocks until it is
    /// committed: states to be merged, or what a catch-up brings. After an error the conversation has to begin again.
    pub fn take_part(
        &self,
        own: MemberId,
        from: MemberId,
        purpose: Purpose,
        part: Part,
    ) -> Result<(), CutError> {
        match (purpose, part) {
            (Purpose::Repair, Part::States { cut, states }) => {
                let cut = Arc::new(cut);
                self.hand_over(|kept| Work::Repair {
                    repair: Repair {
                        own,
                        from,
                        cut,
                        states,
                    },
                    kept: Some(kept),
                })
            }
            (Purpose::CatchUp, part) => {
                let last = matches!(part, Part::Complete { .. });
                let now = self.state().start;
                let mut session = lock(&self.shared.catching_up);
                let start = match *session {
                    Some((member, start)) if member == from => start,
                    _ => now,
                };
                *session = Some((from, start));
                drop(session);
                let taken = self.hand_over(|kept| Work::Aside { start, part, kept });
                if last || taken.is_err() {
                    *lock(&self.shared.catching_up) = None;
                }
                taken
            }
            _ => Ok(()),
        }
    }

    fn hand_over(&self, work: impl FnOnce(TellKept) -> Work) -> Result<(), CutError> {
        let (tell, told) = mpsc::channel();
        let kept: TellKept = Box::new(move |result| {
            let _ = tell.send(result);
        });
        let refused = |error: &dyn std::fmt::Display| CutError(error.to_string());
        self.shared
            .queue
            .push(work(kept))
            .map_err(|error| refused(&error))?;
        // Not told at all: the disk failed, and what waited was dropped.
        told.recv()
            .unwrap_or(Err(NotKept::Disk))
            .map_err(|error| refused(&error))
    }
}
