//! What browsers ask of real site processes, over HTTP.
//!
//! | module | subject |
//! | --- | --- |
//! | `browser` | a browser as the service sees one, and its mailbox |
//! | `sites` | real site processes with people's listeners |
//! | `sign_up` | from nothing to an assertion that a relying party believes |
//! | `account` | what somebody signed in does to their account |
//! | `primary` | an email domain that certifies its own users |
//! | `rules` | what every call demands: arguments, CSRF, methods, sizes |
//! | `endpoints` | every call, a row each, with each way in which it says no |
//! | `public` | what is for everybody: verifier, documents, heartbeats; hosts and letters that look like others |
//! | `description` | the description of the API, held against it by Schemathesis |
//! | `across` | flows that begin at one site and go on at another |
//! | `idp` | email domains that certify their own users |
//! | `primaries` | what people of such domains do, also when a domain changes its mind |
//! | `forged` | cookies, certificates and assertions that are not what they seem |
//! | `keys` | keys revoked, sites evicted, sites that are new: by cookies and certificates |
//! | `verifier` | a relying party's server that verifies all day |
//! | `recovery` | a reset against whoever held the old password |
//! | `phisher` | somebody begins, somebody else reads the mail |
//! | `limits` | how often: guesses, mails |
//! | `alike` | what is not to be told apart, also by time |

#![cfg(feature = "lab")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failure fails the test")]

mod account;
mod across;
mod alike;
mod browser;
mod description;
mod endpoints;
mod forged;
mod idp;
mod keys;
mod limits;
mod phisher;
mod primaries;
mod primary;
#[path = "../site/process.rs"]
#[expect(
    dead_code,
    reason = "these tests need less of it than those of the sites themselves"
)]
mod process;
mod public;
mod recovery;
mod rules;
mod sign_up;
mod sites;
mod verifier;
