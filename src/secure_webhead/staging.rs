//! Proofs by mail: begun in one browser, completed at any site.
//!
//! Whoever begins gets a cookie that says so and no more; the mail has token and code. What is mailed is durable before the
//! mail goes out: a link that somebody reads leads to something, wherever they follow it. And the mail is on disk before what
//! it leads to is written: a site that dies in between sends it after its next start.

use std::time::Duration;

use axum::{Router, extract::State, http::HeaderValue, routing::post};
use crdt::Purpose;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{SecureWebhead, sessions::Grounds, sign_in::userid};
use crate::{
    identity::{
        Address, Outcome, Refusal,
        staging::{Begin, Begun, Challenge, Completed, Completion, Link, Nonce, PasswordSession, STAGING_MS},
    },
    limits::Cost,
    mail::{self, KeptBack, Mail, Matter, Message, Notice, RelyingParty},
    wsapi::{
        Post, Problem,
        answer::{Answer, Done},
        arguments::{CodeArgument, Email, Password, Site, TokenArgument},
        cookies::CookieName,
        problem,
        reception::Visitor,
        signed_in::{Known, Level},
    },
};

pub(super) fn routes() -> Router<SecureWebhead> {
    Router::new()
        .route("/wsapi/stage_user", post(stage_user))
        .route("/wsapi/stage_email", post(stage_email))
        .route("/wsapi/stage_reset", post(stage_reset))
        .route("/wsapi/stage_reverify", post(stage_reverify))
        .route("/wsapi/stage_transition", post(stage_transition))
        .route("/wsapi/complete_user_creation", post(complete_user_creation))
        .route(
            "/wsapi/complete_email_confirmation",
            post(complete_email_confirmation),
        )
        .route("/wsapi/complete_reset", post(complete_reset))
        .route("/wsapi/complete_transition", post(complete_transition))
        .route("/wsapi/complete_by_code", post(complete_by_code))
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StageWithPassword {
    email: Email,
    pass: Password,
    site: Site,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StageEmail {
    email: Email,
    site: Site,
    /// A first password: if, and only if, the account has none.
    #[serde(default)]
    pass: Option<Password>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    email: Email,
    site: Site,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Complete {
    token: TokenArgument,
    #[serde(default)]
    pass: Option<Password>,
    /// On a shared computer.
    #[serde(default)]
    ephemeral: bool,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CompleteByCode {
    code: CodeArgument,
    #[serde(default)]
    pass: Option<Password>,
    /// On a shared computer.
    #[serde(default)]
    ephemeral: bool,
}

/// What was begun has come true.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CompletedAnswer {
    success: bool,
    /// The account's, opaque.
    userid: String,
    /// The address that was proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// Whether this browser is signed in now.
    signed_in: bool,
    /// `false`: done at this site, and not yet known to be at another.
    #[serde(skip_serializing_if = "Option::is_none")]
    elsewhere: Option<bool>,
}

/// Begins a sign-up.
#[utoipa::path(post, path = "/wsapi/stage_user", tag = "proofs", request_body = StageWithPassword,
    responses((status = 200, body = Done)))]
pub(super) async fn stage_user(
    State(tier): State<SecureWebhead>,
    call: Post<StageWithPassword>,
) -> Result<Answer<Done>, Problem> {
    let StageWithPassword { email, pass, site } = call.args.clone();
    let begin = Begin::NewAccount {
        address: email.0,
        password: pass.0,
    };
    tier.begin(&call, begin, site.0).await
}

/// Begins to add an address to the account that is signed in.
#[utoipa::path(post, path = "/wsapi/stage_email", tag = "proofs", request_body = StageEmail,
    responses((status = 200, body = Done)))]
pub(super) async fn stage_email(
    State(tier): State<SecureWebhead>,
    call: Post<StageEmail>,
) -> Result<Answer<Done>, Problem> {
    let person = tier.person(&call, Level::Assertion).await?;
    person.with_fresh_password(tier.reception.now_ms())?;
    let StageEmail { email, site, pass } = call.args.clone();
    let begin = Begin::AddEmail {
        account: person.account(),
        address: email.0,
        password: pass.map(|pass| pass.0),
    };
    tier.begin(&call, begin, site.0).await
}

/// Begins to choose a new password, for who forgot theirs. It is answered alike whoever's the address is.
#[utoipa::path(post, path = "/wsapi/stage_reset", tag = "proofs", request_body = Stage,
    responses((status = 200, body = Done)))]
pub(super) async fn stage_reset(
    State(tier): State<SecureWebhead>,
    call: Post<Stage>,
) -> Result<Answer<Done>, Problem> {
    let Stage { email, site } = call.args.clone();
    tier.begin(&call, Begin::Reset { address: email.0 }, site.0).await
}

/// Begins to prove again an address that a reset left unverified.
#[utoipa::path(post, path = "/wsapi/stage_reverify", tag = "proofs", request_body = Stage,
    responses((status = 200, body = Done)))]
pub(super) async fn stage_reverify(
    State(tier): State<SecureWebhead>,
    call: Post<Stage>,
) -> Result<Answer<Done>, Problem> {
    let person = tier.person(&call, Level::Assertion).await?;
    let Stage { email, site } = call.args.clone();
    let begin = Begin::Reverify {
        account: person.account(),
        address: email.0,
    };
    tier.begin(&call, begin, site.0).await
}

/// Begins to choose a first password, for an address whose domain does not vouch for it any more.
#[utoipa::path(post, path = "/wsapi/stage_transition", tag = "proofs", request_body = StageWithPassword,
    responses((status = 200, body = Done)))]
pub(super) async fn stage_transition(
    State(tier): State<SecureWebhead>,
    call: Post<StageWithPassword>,
) -> Result<Answer<Done>, Problem> {
    let StageWithPassword { email, pass, site } = call.args.clone();
    let begin = Begin::Transition {
        address: email.0,
        password: pass.0,
    };
    tier.begin(&call, begin, site.0).await
}

/// Completes a sign-up.
#[utoipa::path(post, path = "/wsapi/complete_user_creation", tag = "proofs", request_body = Complete,
    responses((status = 200, body = CompletedAnswer)))]
pub(super) async fn complete_user_creation(
    State(tier): State<SecureWebhead>,
    call: Post<Complete>,
) -> Result<Answer<CompletedAnswer>, Problem> {
    tier.complete(&call, &[Purpose::NewAccount]).await
}

/// Completes an addition, or proves an address again.
#[utoipa::path(post, path = "/wsapi/complete_email_confirmation", tag = "proofs", request_body = Complete,
    responses((status = 200, body = CompletedAnswer)))]
pub(super) async fn complete_email_confirmation(
    State(tier): State<SecureWebhead>,
    call: Post<Complete>,
) -> Result<Answer<CompletedAnswer>, Problem> {
    tier.complete(&call, &[Purpose::AddEmail, Purpose::Reverify])
        .await
}

/// Sets a new password. Every session of the account ends; its other addresses have to be proven again.
#[utoipa::path(post, path = "/wsapi/complete_reset", tag = "proofs", request_body = Complete,
    responses((status = 200, body = CompletedAnswer)))]
pub(super) async fn complete_reset(
    State(tier): State<SecureWebhead>,
    call: Post<Complete>,
) -> Result<Answer<CompletedAnswer>, Problem> {
    tier.complete(&call, &[Purpose::Reset]).await
}

/// Sets a first password, which was chosen at the beginning.
#[utoipa::path(post, path = "/wsapi/complete_transition", tag = "proofs", request_body = Complete,
    responses((status = 200, body = CompletedAnswer)))]
pub(super) async fn complete_transition(
    State(tier): State<SecureWebhead>,
    call: Post<Complete>,
) -> Result<Answer<CompletedAnswer>, Problem> {
    tier.complete(&call, &[Purpose::Transition]).await
}

/// Completes what this browser began, by the code of the mail in place of its link.
#[utoipa::path(post, path = "/wsapi/complete_by_code", tag = "proofs", request_body = CompleteByCode,
    responses((status = 200, body = CompletedAnswer)))]
pub(super) async fn complete_by_code(
    State(tier): State<SecureWebhead>,
    call: Post<CompleteByCode>,
) -> Result<Answer<CompletedAnswer>, Problem> {
    let Some(here) = &call.visitor.began else {
        return Err(problem::of_refusal(Refusal::UnknownStaging));
    };
    let password = call.args.pass.clone().map(|pass| pass.0);
    // Beside a code it can only be a new one.
    if let Some(password) = &password {
        tier.allow(password)?;
    }
    let identity = tier.identity_for(call.once);
    let outcome = identity
        .complete_by_code(here, &call.args.code.0, password)
        .await?;
    tier.completed(&Asking::of(&call, call.args.ephemeral), outcome)
        .await
}

/// The browser that completes something.
struct Asking<'c> {
    visitor: &'c Visitor,
    user_agent: &'c str,
    /// It is on a shared computer.
    ephemeral: bool,
}

impl<'c> Asking<'c> {
    fn of<A>(call: &'c Post<A>, ephemeral: bool) -> Asking<'c> {
        Asking {
            visitor: &call.visitor,
            user_agent: &call.user_agent,
            ephemeral,
        }
    }
}

impl SecureWebhead {
    /// Begins, and mails.
    async fn begin<A>(
        &self,
        call: &Post<A>,
        begin: Begin,
        relying_party: RelyingParty,
    ) -> Result<Answer<Done>, Problem> {
        let (purpose, to) = subject(&begin);
        if let Begin::NewAccount { password, .. }
        | Begin::Transition { password, .. }
        | Begin::AddEmail {
            password: Some(password),
            ..
        } = &begin
        {
            self.allow(password)?;
        }
        self.reception.pay_for(&to, Cost::Mail)?;
        // A request that comes twice gets the same, though it is kept nowhere.
        let nonce = match &call.request_key {
            Some(key) => Nonce::of_request(key),
            None => Nonce::new(rand::random()),
        };
        let identity = self.identity_for(call.once);
        let origin = relying_party.origin().to_owned();
        let challenge = identity.challenge();
        // On disk before the staging is: whoever dies in between sends it after the next start. If this ends without a word
        // because the replica has none, the mailer asks again later.
        let kept = self.keep_back(purpose, to, &challenge, relying_party).await?;
        let outcome = identity.begin_with(begin, Some(origin), &nonce, challenge);
        let (begun, dot) = match outcome.await? {
            Outcome::Done { value, dot } => (value, dot),
            Outcome::Refused(refusal) => {
                self.mailer.withdraw(kept);
                return Err(problem::of_refusal(refusal));
            }
        };
        let (here, challenge) = match begun {
            Begun::Staged { here, mail } => (here, mail),
            Begun::Throttled { retry_after } => {
                self.mailer.withdraw(kept);
                return Err(Problem::too_many(
                    "mail-throttled",
                    "this address has had a mail just now, or many today; look into its mailbox",
                    retry_after,
                ));
            }
        };
        let done = self.durable(dot).await;
        match challenge {
            Some(_) => self.mailer.release(kept),
            None => self.mailer.withdraw(kept),
        }
        let age = Duration::from_millis(STAGING_MS);
        let cookie = self
            .reception
            .cookies
            .set(CookieName::Began, &here.to_text(), Some(age));
        Ok(Answer::new(done).with_cookies(cookie))
    }

    /// Puts the mail of a staging to be on disk.
    async fn keep_back(
        &self,
        purpose: mail::Purpose,
        to: Address,
        challenge: &Challenge,
        relying_party: RelyingParty,
    ) -> Result<KeptBack, Problem> {
        let matter = Matter(*challenge.token.id().as_bytes());
        let unsent = || {
            Problem::unavailable(
                "mail-unavailable",
                "this site cannot send mail now; begin again in a minute",
                Duration::from_secs(60),
            )
        };
        let token = mail::Token::parse(challenge.token.as_str().to_owned()).map_err(|_| unsent())?;
        let code = mail::Code::parse(challenge.code.as_str().to_owned()).map_err(|_| unsent())?;
        let mail = Mail {
            to,
            message: Message::Proof {
                purpose,
                challenge: mail::Challenge { token, code },
                relying_party,
            },
        };
        // The mailer has counted and logged why.
        self.mailer.keep_back(mail, matter).await.map_err(|_| unsent())
    }

    async fn complete(
        &self,
        call: &Post<Complete>,
        purposes: &[Purpose],
    ) -> Result<Answer<CompletedAnswer>, Problem> {
        let session = match self.reception.known(&call.visitor).await? {
            Known::Somebody(person) if person.level == Level::Password => Some(PasswordSession {
                account: person.account(),
                epoch: person.epoch,
            }),
            Known::Somebody(_) | Known::Nobody | Known::NotYet(_) => None,
        };
        let link = Link {
            token: &call.args.token.0,
            here: call.visitor.began.as_ref(),
            session,
        };
        let password = call.args.pass.clone().map(|pass| pass.0);
        if let Some(password) = &password
            && purposes == [Purpose::Reset]
        {
            self.allow(password)?;
        }
        let identity = self.identity_for(call.once);
        let outcome = identity.complete_by_link(purposes, link, password).await?;
        self.completed(&Asking::of(call, call.args.ephemeral), outcome)
            .await
    }

    async fn completed(
        &self,
        asking: &Asking<'_>,
        outcome: Outcome<Completion>,
    ) -> Result<Answer<CompletedAnswer>, Problem> {
        let (completed, dot) = match outcome {
            Outcome::Done {
                value: Completion::Done(completed),
                dot,
            } => (completed, dot),
            Outcome::Done {
                value: Completion::WrongCode { tries_left },
                ..
            } => {
                let words = format!("that is not the code of the mail; {tries_left} more may be tried");
                return Err(Problem::outcome("wrong-code", words).with_tries_left(tries_left));
            }
            Outcome::Refused(Refusal::PasswordNeeded | Refusal::WrongPassword) => {
                return Err(problem::password_needed());
            }
            Outcome::Refused(Refusal::Locked) => return Err(Problem::outcome("locked", "account locked")),
            Outcome::Refused(Refusal::CodeEnded) => {
                return Err(Problem::outcome("code-ended", Refusal::CodeEnded.sentence()));
            }
            Outcome::Refused(refusal) => return Err(problem::of_refusal(refusal)),
        };
        let done = self.durable(dot).await;
        let address = self.address_of(&completed).await;
        if !completed.again {
            self.tell_of(&completed, address.as_ref()).await;
        }
        let cookies = self.cookies_for(asking, &completed, dot).await?;
        Ok(Answer::new(CompletedAnswer {
            success: true,
            userid: userid(completed.account),
            email: address.map(|address| address.typed().to_owned()),
            signed_in: completed.signs_in,
            elsewhere: done.elsewhere,
        })
        .with_cookies(cookies))
    }

    /// Who may be signed in is; who is signed in already goes on, having seen this.
    async fn cookies_for(
        &self,
        asking: &Asking<'_>,
        completed: &Completed,
        dot: Option<gossip::Dot>,
    ) -> Result<Vec<HeaderValue>, Problem> {
        if completed.signs_in {
            let grounds = Grounds {
                account: completed.account,
                epoch: completed.epoch,
                dot,
                level: Level::Password,
                ephemeral: asking.ephemeral,
            };
            return self
                .begin_session(asking.visitor, asking.user_agent, grounds)
                .await;
        }
        match self.reception.known(asking.visitor).await? {
            Known::Somebody(person) if person.account() == completed.account => {
                self.renew_session(&person, dot)
            }
            Known::Somebody(_) | Known::Nobody | Known::NotYet(_) => Ok(Vec::new()),
        }
    }

    async fn address_of(&self, completed: &Completed) -> Option<Address> {
        let state = self.reception.directory.account(completed.account).await.ok()??;
        let held = state.emails.into_iter().find(|held| held.id == completed.email)?;
        Some(held.address)
    }

    async fn tell_of(&self, completed: &Completed, address: Option<&Address>) {
        let notice = match (completed.purpose, address) {
            (Purpose::Reset | Purpose::Transition, _) => Some(Notice::PasswordReset),
            (Purpose::AddEmail, Some(address)) => Some(Notice::AddressAdded(address.clone())),
            (Purpose::AddEmail, None) | (Purpose::NewAccount | Purpose::Reverify, _) => None,
        };
        if let Some(notice) = notice {
            self.notify(completed.account, notice).await;
        }
        if let (Some(former), Some(address)) = (completed.former, address) {
            self.notify(former, Notice::AddressMoved(address.clone())).await;
        }
    }
}

fn subject(begin: &Begin) -> (mail::Purpose, Address) {
    match begin {
        Begin::NewAccount { address, .. } => (mail::Purpose::NewAccount, address.clone()),
        Begin::AddEmail { address, .. } => (mail::Purpose::AddAddress, address.clone()),
        Begin::Reverify { address, .. } => (mail::Purpose::Reverify, address.clone()),
        Begin::Reset { address } => (mail::Purpose::ResetPassword, address.clone()),
        Begin::Transition { address, .. } => (mail::Purpose::Transition, address.clone()),
    }
}
