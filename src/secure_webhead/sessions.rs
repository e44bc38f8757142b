//! Who is signed in by which cookie: sessions begun, renewed and ended.
//!
//! Only this tier signs sessions, and only here. A session is begun on a password, an assertion or a completed proof; each
//! write of somebody signed in signs theirs anew, with the transaction as the last that they have seen.

use std::time::Duration;

use axum::{extract::State, http::HeaderValue};
use crdt::{AccountId, Epoch};
use gossip::Dot;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{SecureWebhead, device};
use crate::{
    identity::{Once, Outcome, SignedInNote},
    session::{Device, Known, LIFETIME_MS, Methods, SHORT_LIFETIME_MS, Session, device::REMEMBERED_MS},
    wsapi::{
        Post, Problem, Visitor,
        answer::{Answer, Done},
        arguments::{Nothing, SessionId},
        cookies::CookieName,
        problem,
        reception::random,
        signed_in::{Level, Person},
    },
};

/// On what a session is begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grounds {
    /// Whose.
    pub(super) account: AccountId,
    /// What a session made now has seen.
    pub(super) epoch: Epoch,
    /// The transaction that it must not be without.
    pub(super) dot: Option<Dot>,
    /// How it was shown.
    pub(super) level: Level,
    /// On a shared computer.
    pub(super) ephemeral: bool,
}

impl SecureWebhead {
    /// The cookies of somebody who has just shown who they are. A session of the same account goes on under its id: it
    /// never ends earlier and never knows less for having been shown again.
    pub(super) async fn begin_session(
        &self,
        visitor: &Visitor,
        user_agent: &str,
        grounds: Grounds,
    ) -> Result<Vec<HeaderValue>, Problem> {
        let now_ms = self.reception.now_ms();
        let before = visitor
            .session
            .as_ref()
            .filter(|session| session.account == grounds.account);
        // A session that was over by the records, or had seen less, is a new one.
        let goes_on = before.filter(|session| session.epoch >= grounds.epoch);
        let mut methods = goes_on.map(|session| session.methods).unwrap_or_default();
        match grounds.level {
            Level::Assertion => methods.assertion_ms = Some(now_ms),
            Level::Password => methods.password_ms = Some(now_ms),
        }
        let lifetime_ms = if grounds.ephemeral || self.is_isolated() {
            SHORT_LIFETIME_MS
        } else {
            LIFETIME_MS
        };
        let mut expires_ms = now_ms.saturating_add(lifetime_ms);
        if grounds.level == Level::Assertion
            && let Some(session) = goes_on.filter(|session| Level::of(session) == Level::Password)
        {
            expires_ms = session.expires_ms;
        }
        let session = Session {
            id: goes_on.map_or_else(random, |session| session.id),
            account: grounds.account,
            methods,
            issued_ms: now_ms,
            expires_ms,
            csrf: visitor.csrf().unwrap_or_else(random),
            last_dot: grounds
                .dot
                .or_else(|| goes_on.and_then(|session| session.last_dot)),
            epoch: grounds.epoch,
        };
        self.note_signed_in(&session, user_agent).await;
        let mut cookies = self.sign(&session)?;
        cookies.extend(self.remember_device(visitor, &session)?);
        Ok(cookies)
    }

    /// The cookie of somebody signed in, after a write of theirs.
    pub(super) fn renew_session(
        &self,
        person: &Person,
        dot: Option<Dot>,
    ) -> Result<Vec<HeaderValue>, Problem> {
        self.sign(&Session {
            last_dot: dot.or(person.session.last_dot),
            epoch: person.epoch.max(person.session.epoch),
            ..person.session.clone()
        })
    }

    /// The same, after what ended all other sessions of the account.
    pub(super) async fn outlive<A>(
        &self,
        call: &Post<A>,
        person: &Person,
        epoch: Epoch,
        dot: Option<Dot>,
        methods: Methods,
    ) -> Result<Vec<HeaderValue>, Problem> {
        let session = Session {
            last_dot: dot.or(person.session.last_dot),
            epoch,
            methods,
            ..person.session.clone()
        };
        self.note_signed_in(&session, &call.user_agent).await;
        self.sign(&session)
    }

    /// What ends the cookie of a session. The visit's value stays what pages repeat.
    pub(super) fn end_cookies(&self, visitor: &Visitor) -> Vec<HeaderValue> {
        let cookies = self.reception.cookies;
        let mut ended: Vec<_> = cookies.end(CookieName::Session).into_iter().collect();
        if let Some(csrf) = visitor.csrf() {
            let visit = crate::browserid::json::encode_base64url(csrf);
            ended.extend(cookies.set(CookieName::Visit, &visit, None));
        }
        ended
    }

    /// Ends a session of somebody's.
    async fn end(&self, person: &Person, id: [u8; 16], once: Option<Once>) -> Result<Done, Problem> {
        let expires_ms = self.reception.now_ms().saturating_add(LIFETIME_MS);
        match self
            .identity_for(once)
            .end_session(person.account(), id, expires_ms)
            .await?
        {
            Outcome::Done { dot, .. } => Ok(self.durable(dot).await),
            Outcome::Refused(refusal) => Err(problem::of_refusal(refusal)),
        }
    }

    /// Notes where somebody is signed in, for them to see. Nobody waits for more than the write.
    async fn note_signed_in(&self, session: &Session, user_agent: &str) {
        let note = SignedInNote {
            account: session.account,
            id: session.id,
            started_ms: session.issued_ms,
            expires_ms: session.expires_ms,
            epoch: session.epoch,
            device: device::words(user_agent),
            site: self.site.to_string(),
        };
        if let Err(error) = self.identity.note_signed_in(note).await {
            tracing::debug!(%error, "where somebody is signed in could not be noted");
        }
    }

    fn sign(&self, session: &Session) -> Result<Vec<HeaderValue>, Problem> {
        let signer = self.signer().ok_or_else(no_key)?;
        let cookie = session.sign(&signer).map_err(|error| {
            tracing::error!(%error, "a session could not be signed");
            no_key()
        })?;
        let left_ms = session.expires_ms.saturating_sub(self.reception.now_ms());
        // A browser on a shared computer forgets it when it is closed, however long that takes.
        let age = (session.lifetime_ms() > SHORT_LIFETIME_MS).then(|| Duration::from_millis(left_ms));
        Ok(self
            .reception
            .cookies
            .set(CookieName::Session, &cookie, age)
            .into_iter()
            .collect())
    }

    /// A browser that shows a password here is known from then on; a shared computer is nobody's.
    fn remember_device(&self, visitor: &Visitor, session: &Session) -> Result<Option<HeaderValue>, Problem> {
        if session.lifetime_ms() <= SHORT_LIFETIME_MS || session.methods.password_ms.is_none() {
            return Ok(None);
        }
        let mut device = visitor.device.clone().unwrap_or_else(|| Device::new(random()));
        device.signed_in(Known {
            account: session.account,
            resets: session.epoch.resets,
            signed_in_ms: self.reception.now_ms(),
        });
        let signer = self.signer().ok_or_else(no_key)?;
        let Ok(cookie) = device.sign(&signer) else {
            return Ok(None);
        };
        let age = Duration::from_millis(REMEMBERED_MS);
        Ok(self.reception.cookies.set(CookieName::Device, &cookie, Some(age)))
    }
}

fn no_key() -> Problem {
    Problem::unavailable(
        "no-key",
        "this site cannot sign sessions yet; try again",
        Duration::from_secs(1),
    )
}

/// `ephemeral`, and nothing else.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndSession {
    id: SessionId,
}

/// Signs this browser out.
#[utoipa::path(post, path = "/wsapi/logout", tag = "session", responses((status = 200, body = Done)), request_body = Nothing)]
pub(super) async fn logout(
    State(tier): State<SecureWebhead>,
    call: Post<Nothing>,
) -> Result<Answer<Done>, Problem> {
    let person = tier.person(&call, Level::Assertion).await?;
    tier.end(&person, person.session.id, call.once).await?;
    Ok(Answer::new(Done::YES).with_cookies(tier.end_cookies(&call.visitor)))
}

/// Ends another session of the same account, or this one.
#[utoipa::path(post, path = "/wsapi/end_session", tag = "session", responses((status = 200, body = Done)), request_body = EndSession)]
pub(super) async fn end_session(
    State(tier): State<SecureWebhead>,
    call: Post<EndSession>,
) -> Result<Answer<Done>, Problem> {
    let person = tier.person(&call, Level::Password).await?;
    let ended = tier.end(&person, call.args.id.0, call.once).await?;
    if call.args.id.0 == person.session.id {
        return Ok(Answer::new(ended).with_cookies(tier.end_cookies(&call.visitor)));
    }
    Ok(Answer::new(ended))
}

/// Makes the session last as long as on a computer of one's own.
#[utoipa::path(post, path = "/wsapi/prolong_session", tag = "session", responses((status = 200, body = String)), request_body = Nothing)]
pub(super) async fn prolong_session(
    State(tier): State<SecureWebhead>,
    call: Post<Nothing>,
) -> Result<(axum::http::HeaderMap, &'static str), Problem> {
    let mut person = tier.reception.person(&call.visitor, Level::Assertion).await?;
    let now_ms = tier.reception.now_ms();
    if !tier.is_isolated() {
        person.session.issued_ms = now_ms;
        person.session.expires_ms = now_ms.saturating_add(LIFETIME_MS);
    }
    tier.note_signed_in(&person.session, &call.user_agent).await;
    let mut headers = axum::http::HeaderMap::new();
    for cookie in tier.renew_session(&person, None)? {
        headers.append(axum::http::header::SET_COOKIE, cookie);
    }
    Ok((headers, "OK"))
}
