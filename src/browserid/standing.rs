//! Whether a certificate of our own still stands.
//!
//! A certificate lasts a day, but what it rests on may end sooner: the address may have gone to somebody else or be
//! nobody's, or its owner may have reset the password or signed out everywhere. The verifier reads that from its own
//! replica, so for whoever asks us, revocation takes the replication lag. (That a signing key was revoked is seen when
//! the signature is verified: see [`KeySet::revoke`](super::KeySet::revoke).)

use crdt::{Epoch, Hlc};
use serde::{Deserialize, Serialize};

use super::Reason;

/// What this replica says of the address in a certificate of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Nobody has it, or its account is cancelled.
    Free,
    /// Somebody has it.
    Held {
        /// Their claim is of the account's present resets.
        verified: bool,
        /// When the claim was completed.
        done: Hlc,
        /// What the owner's sessions must have seen.
        session_epoch: Epoch,
    },
}

impl Standing {
    /// The least `iat` of a certificate that counts, in milliseconds since 1970: the later of the claim's completion
    /// and the session epoch. The keysigner never dates a certificate before it.
    pub fn rests_on_ms(done: Hlc, session_epoch: Epoch) -> u64 {
        done.max(session_epoch.at).ms()
    }

    /// Whether a certificate that was issued then, and knew so many resets of its owner, still stands.
    ///
    /// Its time alone does not tell: a site that has not heard of a reset certifies whoever has the old password, as late as
    /// they like. Resets are versions of trust, which no clock decides.
    pub fn judge(&self, issued_ms: u64, resets: u32) -> Result<(), Reason> {
        match *self {
            Standing::Free => Err(Reason::NobodysAddress),
            Standing::Held { verified: false, .. } => Err(Reason::UnverifiedEmail),
            Standing::Held {
                done, session_epoch, ..
            } if issued_ms < Standing::rests_on_ms(done, session_epoch) || resets < session_epoch.resets => {
                Err(Reason::Superseded)
            }
            Standing::Held { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a table's lines read better without references"
    )]
    fn check(done_ms: u64, epoch_ms: u64, issued_ms: u64, expected: Result<(), Reason>) {
        let standing = Standing::Held {
            verified: true,
            done: Hlc::new(done_ms, 7),
            session_epoch: Epoch {
                resets: 1,
                at: Hlc::new(epoch_ms, 9),
            },
        };
        assert_eq!(
            standing.judge(issued_ms, 1),
            expected,
            "{done_ms} {epoch_ms} {issued_ms}"
        );
    }

    #[test]
    fn a_certificate_from_before_the_claim_or_the_epoch_is_revoked() {
        let superseded = || Err(Reason::Superseded);
        check(1000, 0, 999, superseded());
        check(1000, 0, 1000, Ok(()));
        check(1000, 0, 1001, Ok(()));
        check(0, 1000, 999, superseded());
        check(0, 1000, 1000, Ok(()));
        check(1000, 2000, 1500, superseded());
        check(2000, 1000, 1500, superseded());
        check(2000, 1000, 2000, Ok(()));
        check(0, 0, 0, Ok(()));
    }

    #[test]
    fn a_certificate_of_who_had_not_heard_of_a_reset_is_revoked_however_late_it_is() {
        let standing = Standing::Held {
            verified: true,
            done: Hlc::ZERO,
            session_epoch: Epoch {
                resets: 2,
                at: Hlc::new(1000, 0),
            },
        };
        for (resets, expected) in [
            (0, Err(Reason::Superseded)),
            (1, Err(Reason::Superseded)),
            (2, Ok(())),
            // It is this replica that has not heard of the third.
            (3, Ok(())),
        ] {
            assert_eq!(standing.judge(u64::MAX, resets), expected, "{resets}");
        }
    }

    #[test]
    fn an_address_that_is_nobodys_or_unverified_revokes_whatever_the_time() {
        assert_eq!(
            Standing::Free.judge(u64::MAX, u32::MAX),
            Err(Reason::NobodysAddress)
        );
        let unverified = Standing::Held {
            verified: false,
            done: Hlc::ZERO,
            session_epoch: Epoch::default(),
        };
        assert_eq!(unverified.judge(u64::MAX, u32::MAX), Err(Reason::UnverifiedEmail));
    }
}
