//! One site in four processes: webhead, secure webhead, keysigner and replica, over mutual TLS.
//!
//! | module | subject |
//! | --- | --- |
//! | `parts` | the processes, made as an operator makes them |
//! | `wire` | requests between tiers, with any certificate |
//! | `idp` | an email domain that certifies its own users |
//! | `alone` | all that people do, and each process killed in turn |
//! | `doors` | who is let in where, and what a webhead's files are good for |
//! | `signer` | the keysigner, asked directly |

#![cfg(feature = "lab")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failure fails the test")]

mod alone;
#[path = "../wsapi/browser.rs"]
#[expect(dead_code, reason = "these tests need less of it than those of the calls")]
mod browser;
mod doors;
#[path = "../wsapi/idp.rs"]
#[expect(dead_code, reason = "these tests need less of it than those of the calls")]
mod idp;
mod parts;
#[path = "../site/process.rs"]
#[expect(
    dead_code,
    reason = "these tests need less of it than those of the sites themselves"
)]
mod process;
mod signer;
mod wire;
