//! A staging is made, and a mail is to be sent.

use std::time::Duration;

use crdt::{AccountId, Cell, CellKind, EmailId, Hlc, Mailed, Ownership, Purpose, Staging, cell::MailedOnce};
use serde::{Deserialize, Serialize};

use super::{
    BegunHere, Code, Nonce, STAGINGS_MAX, StagingId, State, Token, end,
    look::ReadStaging,
    mailed, open_of, put,
    throttle::{self, COUNTS_MS},
};
use crate::{
    identity::{
        Address, HashedPassword, Identity, OperationError, Outcome, Refusal, TypedPassword,
        account::standing,
        operations::{Operation, Writing},
    },
    store::{Records, Txn},
};

/// What somebody asks for that takes the proof of an address.
#[derive(Clone, Debug)]
pub enum Begin {
    /// An account with this address and password.
    NewAccount {
        /// The address.
        address: Address,
        /// The password.
        password: TypedPassword,
    },
    /// One more address for the account that is signed in.
    AddEmail {
        /// The account.
        account: AccountId,
        /// The address.
        address: Address,
        /// A first password: if, and only if, the account has none.
        password: Option<TypedPassword>,
    },
    /// An address of the account that is signed in, which a reset left unverified.
    Reverify {
        /// The account.
        account: AccountId,
        /// The address.
        address: Address,
    },
    /// A new password for whoever has the address.
    Reset {
        /// The address.
        address: Address,
    },
    /// A first password for whoever has the address, because its domain does not vouch for it any more.
    Transition {
        /// The address.
        address: Address,
        /// The password.
        password: TypedPassword,
    },
}

/// What beginning came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is staged.
    Staged {
        /// For the browser that asked, and nobody else.
        here: BegunHere,
        /// What to mail to the address. `None`: no mail is to be sent, because the request had come before and its mail
        /// went then, or because nobody has the address, which nobody is to be told.
        mail: Option<Challenge>,
    },
    /// The address had as much mail as it may have. Nothing was written.
    Throttled {
        /// When it may have the next.
        retry_after: Duration,
    },
}

/// The two secrets of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// In its link.
    pub token: Token,
    /// To be typed into the browser that began.
    pub code: Code,
}

impl Identity {
    /// Begins something that takes the proof of an address. `relying_party` is the origin of the site where the person
    /// is signing in, for the mail and for where to go afterwards.
    ///
    /// The nonce is to be [`Nonce::of_request`] where the request has a key, so that a repeat gives the same.
    pub async fn begin(
        &self,
        begin: Begin,
        relying_party: Option<String>,
        nonce: &Nonce,
    ) -> Result<Outcome<Begun>, OperationError> {
        self.begin_with(begin, relying_party, nonce, self.challenge())
            .await
    }

    /// The two secrets of a mail to be: drawn before anything is written, so that the mail can be on disk by then.
    pub fn challenge(&self) -> Challenge {
        Challenge {
            token: Token::new(self.site, rand::random()),
            code: Code::new(rand::random()),
        }
    }

    /// Whether the mail of a staging is to be sent, long after: it waits to be proven, and not for nobody.
    pub async fn wants_mail(&self, id: StagingId) -> Result<bool, OperationError> {
        let look = ReadStaging { id, nonce_hash: None };
        let found = self.replica.read(&look).await?;
        Ok(found.is_some_and(|found| found.state == State::Open && found.account.is_some()))
    }

    /// As [`Identity::begin`], with these secrets.
    pub async fn begin_with(
        &self,
        begin: Begin,
        relying_party: Option<String>,
        nonce: &Nonce,
        challenge: Challenge,
    ) -> Result<Outcome<Begun>, OperationError> {
        let before = self.recall::<BeginAnswer>().await?;
        let id = challenge.token.id();
        let outcome = match before {
            Some(outcome) => outcome,
            None => {
                let (purpose, account, address, password) = match begin {
                    Begin::NewAccount { address, password } => {
                        (Purpose::NewAccount, None, address, Some(password))
                    }
                    Begin::AddEmail {
                        account,
                        address,
                        password,
                    } => (Purpose::AddEmail, Some(account), address, password),
                    Begin::Reverify { account, address } => (Purpose::Reverify, Some(account), address, None),
                    Begin::Reset { address } => (Purpose::Reset, None, address, None),
                    Begin::Transition { address, password } => {
                        (Purpose::Transition, None, address, Some(password))
                    }
                };
                let email = self.email_id(&address);
                if purpose == Purpose::NewAccount && self.is_taken(email).await? {
                    // A look before the hash; the rule itself is applied in the transaction.
                    return Ok(Outcome::Refused(Refusal::AddressTaken));
                }
                let password = match password {
                    Some(typed) => Some(self.passwords.hash(typed).await?),
                    None => None,
                };
                self.write(BeginStaging {
                    id,
                    purpose,
                    email,
                    address,
                    account,
                    password,
                    relying_party,
                    nonce_hash: nonce.hash(),
                    code_hash: challenge.code.hash(nonce),
                })
                .await?
            }
        };
        Ok(match outcome {
            Outcome::Refused(refusal) => Outcome::Refused(refusal),
            Outcome::Done {
                value: BeginAnswer::Throttled { retry_after },
                dot,
            } => Outcome::Done {
                value: Begun::Throttled { retry_after },
                dot,
            },
            Outcome::Done {
                value: BeginAnswer::Staged { id: staged, mail },
                dot,
            } => Outcome::Done {
                value: Begun::Staged {
                    here: BegunHere {
                        id: staged,
                        nonce: nonce.clone(),
                    },
                    // Another id is that of the first time: its mail went then.
                    mail: (mail && staged == id).then_some(challenge),
                },
                dot,
            },
        })
    }
}

/// Makes a staging: [`Identity::begin`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BeginStaging {
    /// Of its token.
    pub id: StagingId,
    /// What it is good for.
    pub purpose: Purpose,
    /// The address's record.
    pub email: EmailId,
    /// The address.
    pub address: Address,
    /// The account that is signed in, where that matters.
    pub account: Option<AccountId>,
    /// The password to be.
    pub password: Option<HashedPassword>,
    /// Where the person is signing in.
    pub relying_party: Option<String>,
    /// Of the browser that began.
    #[serde(with = "serde_bytes")]
    pub nonce_hash: [u8; 32],
    /// Of the mailed code, under the nonce.
    #[serde(with = "serde_bytes")]
    pub code_hash: [u8; 32],
}

/// What [`BeginStaging`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BeginAnswer {
    /// It is staged.
    Staged {
        /// Under this.
        id: StagingId,
        /// A mail is to be sent.
        mail: bool,
    },
    /// The address had as much mail as it may have.
    Throttled {
        /// When it may have the next.
        retry_after: Duration,
    },
}

impl Operation for BeginStaging {
    const NAME: &'static str = "begin-staging";
    type Answer = BeginAnswer;
}

impl Writing for BeginStaging {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<BeginAnswer, Refusal>, OperationError> {
        let now_ms = txn.now_ms();
        let beginner = match self.beginner(txn)? {
            Ok(beginner) => beginner,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mails = mailed(txn, self.email, now_ms)?;
        let sent_ms = mails.iter().map(|mail| mail.at_ms);
        if let Some(retry_after) = throttle::wait(sent_ms, now_ms) {
            return Ok(Ok(BeginAnswer::Throttled { retry_after }));
        }
        let open = open_of(txn, &mails, now_ms)?;
        let too_many = (open.len() + 1).saturating_sub(STAGINGS_MAX);
        for (id, found) in open.iter().take(too_many) {
            end(txn, *id, found, false);
        }
        // Later than all that it is to beat, also where a clock was far ahead. It beats nothing before it is proven.
        let latest = txn.email(self.email)?.unwrap_or_default().latest();
        let at = txn.stamp_past(latest);
        let staging = Staging {
            purpose: self.purpose,
            address: self.address.typed().to_owned(),
            email: Some(self.email),
            password_hash: self.password.as_ref().map(|hashed| hashed.as_phc().to_owned()),
            account: beginner.account,
            epoch_at: beginner.epoch_at,
            rp_origin: self.relying_party.clone(),
            at,
            nonce_hash: self.nonce_hash,
            code_hash: Some(self.code_hash),
            ended: false,
            completed: false,
        };
        put(txn, self.id, &staging);
        self.count_mail(txn, now_ms)?;
        if self.purpose == Purpose::NewAccount {
            // Refused before anybody reads a mail, rather than after.
            txn.new_record_of_person();
        }
        Ok(Ok(BeginAnswer::Staged {
            id: self.id,
            mail: beginner.mail,
        }))
    }
}

/// For whom a staging is.
struct Beginner {
    /// The account, with its resets now.
    account: Option<(AccountId, u32)>,
    /// Of its session epoch now.
    epoch_at: Hlc,
    /// The mail can lead to something.
    mail: bool,
}

impl BeginStaging {
    fn beginner(&self, records: &impl Records) -> Result<Result<Beginner, Refusal>, OperationError> {
        let view = records.email(self.email)?.unwrap_or_default();
        let owner = records.owner_of(&view)?;
        let held_by = |account| matches!(owner, Ownership::Held { claim, .. } if claim.account == account);
        let nobody = Beginner {
            account: None,
            epoch_at: Hlc::ZERO,
            mail: false,
        };
        Ok(Ok(match self.purpose {
            Purpose::NewAccount => {
                if matches!(owner, Ownership::Held { verified: true, .. }) {
                    return Ok(Err(Refusal::AddressTaken));
                }
                if self.password.is_none() {
                    return Ok(Err(Refusal::PasswordNeeded));
                }
                Beginner { mail: true, ..nobody }
            }
            Purpose::AddEmail | Purpose::Reverify => {
                let Some(account) = self.account else {
                    return Ok(Err(Refusal::UnknownAccount));
                };
                let known = match standing(records.account(account)?) {
                    Ok(known) => known,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                if self.purpose == Purpose::Reverify && !held_by(account) {
                    return Ok(Err(Refusal::NotHeld));
                }
                if self.purpose == Purpose::AddEmail {
                    match (known.usable_password(), &self.password) {
                        // Else whoever has a session without a password could prove themselves with one of their own.
                        (Some(_), Some(_)) => return Ok(Err(Refusal::HasPassword)),
                        (None, None) => return Ok(Err(Refusal::PasswordNeeded)),
                        (Some(_), None) | (None, Some(_)) => {}
                    }
                }
                Beginner {
                    account: Some((account, known.resets())),
                    epoch_at: known.epoch.at,
                    mail: true,
                }
            }
            // Nobody is told whether anybody has the address.
            Purpose::Reset | Purpose::Transition => match owner {
                Ownership::Held {
                    claim,
                    verified: true,
                } => {
                    let account = claim.account;
                    match standing(records.account(account)?) {
                        Ok(known) if self.purpose == Purpose::Reset || known.usable_password().is_none() => {
                            Beginner {
                                account: Some((account, known.resets())),
                                epoch_at: known.epoch.at,
                                mail: true,
                            }
                        }
                        Ok(_) | Err(_) => nobody,
                    }
                }
                Ownership::Held { verified: false, .. } | Ownership::Free => nobody,
            },
        }))
    }

    /// Writes down that the address was sent a mail, beside what this replica sent it before.
    fn count_mail(&self, txn: &mut Txn<'_>, now_ms: u64) -> Result<(), OperationError> {
        let cells = txn.cells(CellKind::MAIL_THROTTLE, self.email.as_bytes())?;
        let own = cells
            .iter()
            .find(|cell| cell.slot == txn.slot() && cell.is_live(now_ms))
            .and_then(|cell| Mailed::decode(&cell.value).ok());
        let mut mails = own.unwrap_or_default();
        mails
            .0
            .retain(|mail| now_ms < mail.at_ms.saturating_add(COUNTS_MS));
        mails.0.push(MailedOnce {
            at_ms: now_ms,
            staging: *self.id.as_bytes(),
        });
        let cell = Cell {
            kind: CellKind::MAIL_THROTTLE,
            key: self.email.as_bytes().to_vec(),
            slot: txn.slot(),
            stamp: txn.stamp(),
            value: mails.encode(),
            expires_ms: now_ms.saturating_add(COUNTS_MS),
        };
        txn.put_cell(cell);
        Ok(())
    }
}
