//! Mistakes in gossip, for the simulation to find.
//!
//! A checker that cannot fail shows nothing. So a laboratory's build can be told to make one of these mistakes, on the
//! thread that asks for it, and the simulation has to find it. Any other build has no switch: [`is`] is `false` there.

/// A mistake to be made on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The ack of a later start raises the earlier one and never lowers it: a disk that lost something still counts.
    AcksKeepMaximum,
    /// A member that is still joining counts for durability and stability.
    JoinerCounts,
    /// What every member has is called settled at once, whatever they had written when they acknowledged it.
    SettlesWithoutAcks,
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
    static NEWER: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Makes this thread make a mistake from now on, or none.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether the mistake is to be made.
#[cfg(feature = "planted")]
#[must_use]
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether the mistake is to be made: never.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn is(_: Bug) -> bool {
    false
}

/// From now on this thread writes transactions as a version to come would: with a field that this one does not know.
#[cfg(feature = "planted")]
pub fn write_as_newer(newer: bool) {
    NEWER.set(newer);
}

/// What a version to come adds to a transaction.
#[cfg(feature = "planted")]
pub(crate) fn of_a_version_to_come() -> Option<u8> {
    NEWER.get().then_some(1)
}

/// What a version to come adds to a transaction: nothing from this build.
#[cfg(not(feature = "planted"))]
pub(crate) const fn of_a_version_to_come() -> Option<u8> {
    None
}
