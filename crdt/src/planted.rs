//! Mistakes in merging, for the simulation to find.
//!
//! A checker that cannot fail shows nothing. So a laboratory's build can be told to make one of these mistakes, on the
//! thread that asks for it, and the simulation has to find it. Any other build has no switch: [`is`] is `false` there.

/// A mistake to be made on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A stamp that replaces a value from the future stays within the clock's bound, and so does not beat it.
    HlcCapped,
    /// Of two completions of one reset the later one stands.
    WrongTieBreak,
    /// Whoever was put out keeps his word on others: two halves that evict each other are both out.
    BothHalvesOut,
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
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
