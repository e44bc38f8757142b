//! Mistakes in the store and the domain, for the simulation to find.
//!
//! A checker that cannot fail shows nothing. So a laboratory's build can be told to make one of these mistakes, on the
//! thread that asks for it, and the simulation has to find it. Any other build has no switch: [`is`] is `false` there.

/// A mistake to be made on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// A batch that fails is told and pushed all the same, and its writer goes on.
    AnswersBeforeSync,
    /// A start is named after its epoch and the second it was made in, so two clones of one directory make the same.
    StartsByTheClock,
    /// A process that meets another one of its own replica id takes an epoch past it, each time.
    ClonesRace,
    /// Proving an address again reuses the vault value of the proof before.
    VaultIdReused,
    /// A completion stamps its own time as the time of its proof.
    OwnTimeOfCompletion,
    /// A transaction from elsewhere is kept and relayed as this version would have written it.
    Reencodes,
    /// A transaction does not say what came from elsewhere right before it.
    SkipsDependency,
    /// A state from elsewhere is merged though the vector does not cover its cut.
    RepairsUncovered,
    /// A catch-up raises the vector before the last of it is merged.
    RaisesEarly,
    /// A catch-up leaves the cells out.
    ForgetsCells,
    /// A record's digest is not written when the record changes after another transaction of its group.
    ForgetsDigest,
    /// Losers go once every member has what they lost to, whatever is still on its way.
    #[cfg(feature = "lab")]
    CollapsesOnAcks,
    /// A copy that is taken up again goes on with what came of another cut.
    MixesCuts,
    /// A receipt is given for what is deleted, and lies in tables yet.
    ReceiptsEarly,
    /// A scrub reads nothing again.
    ScrubSleeps,
}

#[cfg(feature = "lab")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Makes this thread make a mistake from now on, or none.
#[cfg(feature = "lab")]
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether the mistake is to be made.
#[cfg(feature = "lab")]
#[must_use]
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether the mistake is to be made: never.
#[cfg(not(feature = "lab"))]
#[must_use]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
