//! Why a person cannot have what they asked for, in a word for programs and a sentence for people.

use serde::{Deserialize, Serialize};

/// Why a person cannot have what they asked for. An ordinary outcome: nothing was written but that a wrong password or
/// code was counted, and the same request gets the same answer until something else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Another account has the address, verified.
    AddressTaken,
    /// The address was proven again since this proof was begun, by this account or another.
    LaterProof,
    /// The account let the address go since this proof was begun.
    Released,
    /// The account was reset since this was begun, so whoever began it may no longer speak for it.
    LaterReset,
    /// The account is not that far yet at this site: ask again in a moment, or elsewhere.
    NotYet,
    /// The account was cancelled, for good.
    Cancelled,
    /// There is no such account at this site.
    UnknownAccount,
    /// The address is not the account's, or nobody's.
    NotHeld,
    /// The address is the account's but has to be proven again first: a reset left it unverified.
    Unverified,
    /// The account has as many addresses as it may have.
    TooManyAddresses,
    /// The password is not the account's. An address that nobody has gets this answer too.
    WrongPassword,
    /// Too many wrong passwords.
    Locked,
    /// A password has to be given.
    PasswordNeeded,
    /// The account has a password, and none is to be chosen here.
    HasPassword,
    /// The token is for nothing, or not for this, or its day is over.
    UnknownStaging,
    /// What the token was for has come true, or was begun anew too often.
    StagingEnded,
    /// Too many wrong codes.
    CodeEnded,
    /// The key of an earlier request came with other contents.
    OtherRequest,
}

impl Refusal {
    /// A stable name, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::AddressTaken => "address-taken",
            Refusal::LaterProof => "later-proof",
            Refusal::Released => "address-released",
            Refusal::LaterReset => "later-reset",
            Refusal::NotYet => "not-yet",
            Refusal::Cancelled => "account-cancelled",
            Refusal::UnknownAccount => "unknown-account",
            Refusal::NotHeld => "address-not-held",
            Refusal::Unverified => "address-unverified",
            Refusal::TooManyAddresses => "too-many-addresses",
            Refusal::WrongPassword => "wrong-password",
            Refusal::Locked => "locked",
            Refusal::PasswordNeeded => "password-needed",
            Refusal::HasPassword => "has-password",
            Refusal::UnknownStaging => "unknown-staging",
            Refusal::StagingEnded => "staging-ended",
            Refusal::CodeEnded => "code-ended",
            Refusal::OtherRequest => "other-request",
        }
    }

    /// A sentence, for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Refusal::AddressTaken => "Another account has this address.",
            Refusal::LaterProof => "This address was proven again after this was begun; begin again.",
            Refusal::Released => "The account let this address go after this was begun; begin again.",
            Refusal::LaterReset => "The account's password was reset after this was begun; begin again.",
            Refusal::NotYet => "The account's latest state has not arrived here yet; try again in a moment.",
            Refusal::Cancelled => "The account was cancelled.",
            Refusal::UnknownAccount => "There is no such account here.",
            Refusal::NotHeld => "The account does not have this address.",
            Refusal::Unverified => "This address must be proven again before it can reset the account.",
            Refusal::TooManyAddresses => "The account has as many addresses as it may have.",
            Refusal::WrongPassword => "The address or the password is wrong.",
            Refusal::Locked => "Too many wrong passwords; reset the password by mail.",
            Refusal::PasswordNeeded => "The password has to be given.",
            Refusal::HasPassword => "The account has a password already.",
            Refusal::UnknownStaging => "This link or code is not valid, or not any more; begin again.",
            Refusal::StagingEnded => {
                "This was completed before, or begun again since; if it is not as it should be, begin again."
            }
            Refusal::CodeEnded => "Too many wrong codes; follow the link in the mail, or begin again.",
            Refusal::OtherRequest => "This was sent before with other contents; send it as a new request.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_code_of_its_own() {
        use Refusal::*;
        let all = [
            AddressTaken,
            LaterProof,
            Released,
            LaterReset,
            NotYet,
            Cancelled,
            UnknownAccount,
            NotHeld,
            Unverified,
            TooManyAddresses,
            WrongPassword,
            Locked,
            PasswordNeeded,
            HasPassword,
            UnknownStaging,
            StagingEnded,
            CodeEnded,
            OtherRequest,
        ];
        let codes: std::collections::BTreeSet<_> = all.iter().map(|refusal| refusal.code()).collect();
        assert_eq!(codes.len(), all.len());
        assert!(all.iter().all(|refusal| refusal.sentence().ends_with('.')));
    }
}
