//! What to do with an address, and whether the fallback may certify it.
//!
//! A domain that certified its users yesterday and does not answer today is out of order; it has not handed its users
//! to us. Within the *grace period* after it was last seen as an IdP, the fallback certifies nobody of it: else whoever
//! can cut it off, or read its mail, could be any of its users. Only its own word ends the period early.
//!
//! All here is pure: what was looked up, what the store says, and the time come in.

use std::time::Duration;

use crdt::UsedAs;

/// What looking up a domain just said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// It certifies its users, itself or by delegation.
    Primary,
    /// It says itself that it does not, or that we do.
    Declined,
    /// It has no support document that can be used, or did not answer.
    Absent,
}

/// How long a domain that was seen as an IdP stays one though it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracePeriod(pub Duration);

/// What the store says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmailState {
    /// How it was certified last; `None`: never yet.
    pub used_as: Option<UsedAs>,
    /// Its owner's claim is verified.
    pub verified: bool,
    /// Its owner's account has a password.
    pub has_password: bool,
}

/// What the dialog has to do with an address: the `state` of `address_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressState {
    /// Nobody has it: sign up.
    Unknown,
    /// Sign in as last time.
    Known,
    /// Its domain has become an IdP: sign in there.
    TransitionToPrimary,
    /// Its domain is none any more: sign in with the password, after its owner was told.
    TransitionToSecondary,
    /// The same, and there is no password yet: prove it by mail and choose one.
    TransitionNoPassword,
    /// Its IdP is out of order: wait.
    Offline,
    /// Its owner must prove it again.
    Unverified,
}

/// What to write about when a domain was last seen as an IdP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// Nothing new.
    Unchanged,
    /// It was seen now.
    Seen,
    /// It has said itself that it is none: forget that it was.
    Forget,
}

impl AddressState {
    /// Decides. `email` is `None` if nobody has the address; `last_seen_ms` and `now_ms` are in milliseconds since 1970.
    pub fn of(
        email: Option<EmailState>,
        live: Live,
        last_seen_ms: Option<u64>,
        grace: GracePeriod,
        now_ms: u64,
    ) -> AddressState {
        let Some(email) = email else {
            return AddressState::Unknown;
        };
        if live == Live::Primary {
            return match email.used_as {
                Some(UsedAs::Secondary) => AddressState::TransitionToPrimary,
                Some(UsedAs::Primary) | None => AddressState::Known,
            };
        }
        if !grace.lets_fallback_certify(live, last_seen_ms, now_ms) {
            return AddressState::Offline;
        }
        match email {
            EmailState { verified: false, .. } => AddressState::Unverified,
            EmailState {
                has_password: false, ..
            } => AddressState::TransitionNoPassword,
            EmailState {
                used_as: Some(UsedAs::Primary),
                ..
            } => AddressState::TransitionToSecondary,
            _ => AddressState::Known,
        }
    }

    /// As `address_info` has it.
    pub const fn name(self) -> &'static str {
        match self {
            AddressState::Unknown => "unknown",
            AddressState::Known => "known",
            AddressState::TransitionToPrimary => "transition_to_primary",
            AddressState::TransitionToSecondary => "transition_to_secondary",
            AddressState::TransitionNoPassword => "transition_no_password",
            AddressState::Offline => "offline",
            AddressState::Unverified => "unverified",
        }
    }
}

impl GracePeriod {
    /// Whether the fallback may certify addresses of a domain.
    pub fn lets_fallback_certify(self, live: Live, last_seen_ms: Option<u64>, now_ms: u64) -> bool {
        match live {
            Live::Primary => false,
            Live::Declined => true,
            Live::Absent => !self.is_running(last_seen_ms, now_ms),
        }
    }

    /// Whether a domain was seen as an IdP so lately that it still counts as one: what a keysigner knows, which looks
    /// nothing up. A sighting from the future, by another site's clock, is one of now.
    pub fn is_running(self, last_seen_ms: Option<u64>, now_ms: u64) -> bool {
        last_seen_ms.is_some_and(|seen_ms| u128::from(now_ms.saturating_sub(seen_ms)) < self.0.as_millis())
    }
}

impl Sighting {
    /// Decides. A domain in use would be written at every sign-in; once in [`SIGHTING_INTERVAL`] is enough.
    pub fn of(live: Live, last_seen_ms: Option<u64>, now_ms: u64) -> Sighting {
        let is_recent = GracePeriod(SIGHTING_INTERVAL).is_running(last_seen_ms, now_ms);
        match (live, last_seen_ms) {
            (Live::Primary, _) if is_recent => Sighting::Unchanged,
            (Live::Primary, _) => Sighting::Seen,
            (Live::Declined, Some(_)) => Sighting::Forget,
            (Live::Declined, None) | (Live::Absent, _) => Sighting::Unchanged,
        }
    }
}

impl Default for GracePeriod {
    /// The original's.
    fn default() -> Self {
        GracePeriod(Duration::from_secs(5 * 86_400))
    }
}

/// Between two writings of the same domain: small beside any grace period.
pub const SIGHTING_INTERVAL: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const NOW_MS: u64 = 1_800_000_000_000;
    const PRIMARY: Option<UsedAs> = Some(UsedAs::Primary);
    const SECONDARY: Option<UsedAs> = Some(UsedAs::Secondary);

    /// `seen_days` is how long ago the domain was last seen as an IdP.
    #[track_caller]
    fn check(
        (used_as, verified, has_password): (Option<UsedAs>, bool, bool),
        live: Live,
        seen_days: Option<u64>,
        expected: &str,
    ) {
        let email = EmailState {
            used_as,
            verified,
            has_password,
        };
        let last_seen_ms = seen_days.map(|days| NOW_MS - days * DAY_MS);
        let state = AddressState::of(Some(email), live, last_seen_ms, GracePeriod::default(), NOW_MS);
        assert_eq!(state.name(), expected, "{email:?} {live:?} {seen_days:?}");
    }

    #[test]
    fn the_table_of_states() {
        use Live::{Absent, Declined, Primary};
        // Used as, verified, password; the domain now; days since it was an IdP.
        check((PRIMARY, true, true), Primary, Some(0), "known");
        check((PRIMARY, true, false), Primary, Some(0), "known");
        check((PRIMARY, true, false), Primary, None, "known");
        check((PRIMARY, false, true), Primary, Some(0), "known");
        check((None, true, true), Primary, Some(0), "known");
        check((SECONDARY, true, true), Primary, Some(0), "transition_to_primary");
        check((SECONDARY, true, false), Primary, None, "transition_to_primary");
        check(
            (SECONDARY, false, true),
            Primary,
            Some(30),
            "transition_to_primary",
        );
        for (live, seen) in [
            (Absent, None),
            (Absent, Some(5)),
            (Declined, None),
            (Declined, Some(0)),
        ] {
            check((SECONDARY, true, true), live, seen, "known");
            check((None, true, true), live, seen, "known");
            check((PRIMARY, true, true), live, seen, "transition_to_secondary");
            check((PRIMARY, true, false), live, seen, "transition_no_password");
            check((SECONDARY, true, false), live, seen, "transition_no_password");
            check((None, true, false), live, seen, "transition_no_password");
            check((SECONDARY, false, true), live, seen, "unverified");
            check((SECONDARY, false, false), live, seen, "unverified");
            check((PRIMARY, false, true), live, seen, "unverified");
        }
        for used_as in [PRIMARY, SECONDARY, None] {
            for verified in [true, false] {
                for has_password in [true, false] {
                    check((used_as, verified, has_password), Absent, Some(0), "offline");
                    check((used_as, verified, has_password), Absent, Some(4), "offline");
                }
            }
        }
    }

    #[test]
    fn nobodys_address_is_unknown_whatever_its_domain_is() {
        for live in [Live::Primary, Live::Declined, Live::Absent] {
            let state = AddressState::of(None, live, Some(NOW_MS), GracePeriod::default(), NOW_MS);
            assert_eq!(state.name(), "unknown");
        }
    }

    #[test]
    fn the_fallback_certifies_nobody_of_a_domain_seen_within_the_grace_period() {
        #[track_caller]
        fn check(live: Live, last_seen_ms: Option<u64>, expected: bool) {
            let may = GracePeriod::default().lets_fallback_certify(live, last_seen_ms, NOW_MS);
            assert_eq!(may, expected, "{live:?} {last_seen_ms:?}");
        }
        let grace_ms = 5 * DAY_MS;
        check(Live::Absent, None, true);
        check(Live::Absent, Some(NOW_MS), false);
        check(Live::Absent, Some(NOW_MS - grace_ms + 1), false);
        check(Live::Absent, Some(NOW_MS - grace_ms), true);
        check(Live::Absent, Some(0), true);
        check(Live::Absent, Some(NOW_MS + DAY_MS), false);
        check(Live::Absent, Some(u64::MAX), false);
        check(Live::Declined, None, true);
        check(Live::Declined, Some(NOW_MS), true);
        check(Live::Primary, None, false);
        check(Live::Primary, Some(0), false);
        let none = GracePeriod(Duration::ZERO);
        assert!(none.lets_fallback_certify(Live::Absent, Some(NOW_MS), NOW_MS));
    }

    #[test]
    fn sightings_are_written_now_and_then() {
        #[track_caller]
        fn check(live: Live, last_seen_ms: Option<u64>, expected: Sighting) {
            assert_eq!(Sighting::of(live, last_seen_ms, NOW_MS), expected, "{live:?}");
        }
        let hour_ms = 3_600_000;
        check(Live::Primary, None, Sighting::Seen);
        check(Live::Primary, Some(NOW_MS), Sighting::Unchanged);
        check(Live::Primary, Some(NOW_MS - hour_ms + 1), Sighting::Unchanged);
        check(Live::Primary, Some(NOW_MS - hour_ms), Sighting::Seen);
        check(Live::Declined, None, Sighting::Unchanged);
        check(Live::Declined, Some(NOW_MS), Sighting::Forget);
        check(Live::Absent, None, Sighting::Unchanged);
        check(Live::Absent, Some(0), Sighting::Unchanged);
        check(Live::Absent, Some(NOW_MS), Sighting::Unchanged);
    }
}
