//! Whether a session is good by the records, and how good.
//!
//! A session's signature and time say nothing of what happened since: a reset, a change of password, "sign out
//! everywhere", an ended session, a cancelled account. That is read at each call, from this site's replica at one moment. A site
//! that lacks what the session was last given waits a little for it; *unknown here* never means *gone*.

use std::time::Duration;

use crdt::{AccountId, Epoch};

use super::{Problem, Reception, Visitor};
use crate::{
    identity::{AccountState, SessionStanding, Standing},
    session::Session,
};

/// How old a password may be when something is asked for that ends or gives away an account.
pub const FRESH_PASSWORD: Duration = Duration::from_secs(600);

/// How well somebody has shown who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// By an assertion of one of their addresses.
    Assertion,
    /// By the account's password, or a proof that replaces it.
    Password,
}

impl Level {
    /// As `session_context` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Assertion => "assertion",
            Level::Password => "password",
        }
    }

    /// Of a session.
    pub fn of(session: &Session) -> Level {
        if session.methods.password_ms.is_some() {
            Level::Password
        } else {
            Level::Assertion
        }
    }
}

/// Somebody signed in, by the records too.
#[derive(Clone, Debug)]
pub struct Person {
    /// By which session.
    pub session: Session,
    /// How well.
    pub level: Level,
    /// What the record says; at least what the session has seen.
    pub epoch: Epoch,
    /// Whether the account has a password.
    pub has_password: bool,
}

impl Person {
    /// Whose account.
    pub fn account(&self) -> AccountId {
        self.session.account
    }

    /// Refuses who gave their password too long ago, if they have one.
    pub fn with_fresh_password(&self, now_ms: u64) -> Result<(), Problem> {
        let given_ms = self.session.methods.password_ms;
        let is_fresh = given_ms
            .is_some_and(|given_ms| now_ms.saturating_sub(given_ms) <= FRESH_PASSWORD.as_millis() as u64);
        if self.has_password && !is_fresh {
            return Err(Problem::new(
                axum::http::StatusCode::FORBIDDEN,
                "password-too-old",
                "give the password again, for this matters",
            ));
        }
        Ok(())
    }
}

/// Who a visitor is, as far as this site knows.
#[derive(Clone, Debug)]
pub enum Known {
    /// Nobody that is signed in.
    Nobody,
    /// Somebody.
    Somebody(Person),
    /// Somebody of whom this site has not heard yet: not signed out, and not served beyond what the session says.
    NotYet(Session),
}

impl Reception {
    /// Looks who a visitor is.
    pub async fn known(&self, visitor: &Visitor) -> Result<Known, Problem> {
        let Some(session) = &visitor.session else {
            return Ok(Known::Nobody);
        };
        let standing = self
            .directory
            .session(session.account, session.id, session.epoch, session.last_dot);
        Ok(Known::by(session, standing.await?))
    }

    /// The same, and the account of somebody, as it was in the same moment.
    pub async fn known_closely(&self, visitor: &Visitor) -> Result<(Known, Option<AccountState>), Problem> {
        let Some(session) = &visitor.session else {
            return Ok((Known::Nobody, None));
        };
        let signed_in =
            self.directory
                .signed_in(session.account, session.id, session.epoch, session.last_dot);
        let (standing, account) = signed_in.await?;
        Ok((Known::by(session, standing), account))
    }

    /// The person, who has shown it at least so well.
    pub async fn person(&self, visitor: &Visitor, at_least: Level) -> Result<Person, Problem> {
        self.known(visitor).await?.person(at_least)
    }

    /// The same, and the person's account.
    pub async fn person_closely(
        &self,
        visitor: &Visitor,
        at_least: Level,
    ) -> Result<(Person, AccountState), Problem> {
        let (known, account) = self.known_closely(visitor).await?;
        Ok((known.person(at_least)?, account.ok_or_else(not_yet)?))
    }
}

impl Known {
    fn by(session: &Session, standing: SessionStanding) -> Known {
        match standing {
            SessionStanding::Good(Standing { epoch, has_password }) => Known::Somebody(Person {
                session: session.clone(),
                level: Level::of(session),
                epoch,
                has_password,
            }),
            SessionStanding::NotYet => Known::NotYet(session.clone()),
            SessionStanding::Over => Known::Nobody,
        }
    }

    fn person(self, at_least: Level) -> Result<Person, Problem> {
        match self {
            Known::Somebody(person) if person.level >= at_least => Ok(person),
            Known::Somebody(_) | Known::Nobody => Err(Problem::requires_authentication()),
            Known::NotYet(_) => Err(not_yet()),
        }
    }
}

/// What is asked for of somebody of whom this site has not heard yet.
pub fn not_yet() -> Problem {
    Problem::unavailable(
        "not-here-yet",
        "your account has not arrived at this site yet; try again",
        Duration::from_secs(1),
    )
}
