//! Deeds: what a person does, as the domain's own operations, run on the transaction of whatever replica they reach; and
//! what has to stay so wherever that transaction is known.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use crdt::{AccountId, ClusterWrite, Epoch, Hlc, MemberId, MemberState, Password};
use gossip::Dot;

use super::{check::Meaning, members};
use crate::{
    identity::{
        Address, HashedPassword, IndexKey, OperationError, Refusal, Word, account, emails, sessions, sign_in,
    },
    settlement::{collapse, receipts},
    store::{Contested, ReadError, Records, Snapshot, TransactError, Txn},
};

/// One thing that a person does, at whichever site it reaches.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    SignUp {
        address: Address,
        password: HashedPassword,
        word: Word,
    },
    Change {
        account: AccountId,
        known: Password,
        password: HashedPassword,
    },
    SignOut {
        account: AccountId,
    },
    /// Somebody comes with a session that was made elsewhere.
    Visit {
        account: AccountId,
        epoch: Epoch,
    },
    Reset {
        address: Address,
        password: HashedPassword,
        word: Word,
    },
    Add {
        account: AccountId,
        address: Address,
        word: Word,
    },
    Remove {
        account: AccountId,
        address: Address,
    },
    Cancel {
        account: AccountId,
    },
    WrongPassword {
        account: AccountId,
    },
    Setting {
        name: String,
        value: Vec<u8>,
    },
    Member {
        id: MemberId,
        state: MemberState,
    },
    /// A member puts another out.
    Evict {
        id: MemberId,
        by: MemberId,
    },
    /// The winner is written once more, so that losers go.
    Collapse(Contested),
    /// Nothing is left of these accounts on a member's disk, if that is still so when its turn comes.
    Receipts {
        member: MemberId,
        accounts: Vec<AccountId>,
        gone: Gone,
    },
    /// One that was put out comes back as somebody else.
    Enrol {
        id: MemberId,
        former: MemberId,
    },
}

/// The accounts of which nothing is left on a disk, as of its latest commit.
pub(crate) type Gone = Arc<Mutex<BTreeSet<AccountId>>>;

/// What became of a deed.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Durable here; `None` if it was so before.
    Done(Option<Dot>),
    Refused(Refusal),
    Failed(TransactError),
}

impl Deed {
    /// Runs it. A refusal of the domain, or a failure to read, leaves nothing behind.
    pub(crate) fn write(&self, txn: &mut Txn<'_>) -> Option<Refusal> {
        match self.run(txn) {
            Ok(Ok(())) => None,
            Ok(Err(refusal)) => Some(refusal),
            // What could not be read is told as what a person would be told last.
            Err(_) => Some(Refusal::NotYet),
        }
    }

    fn run(&self, txn: &mut Txn<'_>) -> Result<Result<(), Refusal>, OperationError> {
        let key = index_key();
        match self {
            Deed::SignUp {
                address,
                password,
                word,
            } => Ok(account::sign_up(txn, address.id(&key), address, password, *word)?.map(drop)),
            Deed::Change {
                account,
                known,
                password,
            } => Ok(account::change(txn, *account, known, password, None)?.map(drop)),
            Deed::SignOut { account } => Ok(account::sign_out_everywhere(txn, *account)?.map(drop)),
            Deed::Visit { account, epoch } => sessions::raise(txn, *account, *epoch),
            Deed::Reset {
                address,
                password,
                word,
            } => Ok(account::reset(txn, address.id(&key), address, password, *word)?.map(drop)),
            Deed::Add {
                account,
                address,
                word,
            } => Ok(emails::add(txn, *account, address.id(&key), address, *word)?.map(drop)),
            Deed::Remove { account, address } => {
                Ok(emails::remove(txn, *account, address.id(&key))?.map(drop))
            }
            Deed::Cancel { account } => account::cancel(txn, *account, usize::MAX, &BTreeSet::new()),
            Deed::WrongPassword { account } => {
                sign_in::fail(txn, (*account).into(), 1)?;
                Ok(Ok(()))
            }
            Deed::Evict { id, by } => {
                members::write_eviction(txn, *id, *by)?;
                Ok(Ok(()))
            }
            Deed::Collapse(contested) => {
                collapse::write(txn, *contested)?;
                Ok(Ok(()))
            }
            Deed::Member { id, state } => {
                members::write_state(txn, *id, *state)?;
                Ok(Ok(()))
            }
            Deed::Enrol { id, former } => {
                members::write_enrolment(txn, *id, *former)?;
                Ok(Ok(()))
            }
            Deed::Receipts {
                member,
                accounts,
                gone,
            } => {
                let gone = gone.lock().unwrap_or_else(PoisonError::into_inner);
                let mut given = accounts.clone();
                given.retain(|account| gone.contains(account));
                receipts::give(txn, *member, &given);
                Ok(Ok(()))
            }
            Deed::Setting { name, value } => {
                let latest = txn.cluster()?.latest;
                let at = txn.stamp_past(latest);
                txn.write_cluster(ClusterWrite::Setting {
                    name: name.clone(),
                    at,
                    value: value.clone(),
                });
                Ok(Ok(()))
            }
        }
    }

    /// What has to stay so, or be overtaken, wherever the transaction is known: as the replica that wrote it has it now.
    pub(crate) fn meaning(&self, records: &Snapshot<'_>) -> Result<Vec<Meaning>, ReadError> {
        let key = index_key();
        let epoch = |account: AccountId| -> Result<Option<Meaning>, ReadError> {
            let view = records.account(account)?;
            Ok(view.map(|view| Meaning::Epoch {
                account,
                epoch: view.epoch,
            }))
        };
        let proven = |address: &Address, at: Hlc| Meaning::Proven {
            email: address.id(&key),
            at,
        };
        Ok(match self {
            Deed::SignUp { address, word, .. } => match word {
                Word::Staged { proof, .. } => {
                    vec![Meaning::Exists(proof.account()), proven(address, proof.at)]
                }
                Word::Operator | Word::Asserted => Vec::new(),
            },
            Deed::Add {
                address,
                word,
                account,
                ..
            } => match word {
                Word::Staged { proof, .. } => vec![proven(address, proof.at)],
                Word::Operator | Word::Asserted => {
                    let view = records.email(address.id(&key))?.unwrap_or_default();
                    let mut claims = view.claims.iter();
                    let claim = claims.find(|claim| claim.account == *account);
                    let meaning = claim.map(|claim| proven(address, claim.proof));
                    meaning.into_iter().collect()
                }
            },
            Deed::Reset { address, .. } => {
                let email = address.id(&key);
                let view = records.email(email)?.unwrap_or_default();
                let mut meanings = Vec::new();
                for account in view.accounts() {
                    meanings.extend(epoch(account)?);
                }
                meanings
            }
            Deed::Change { account, .. } | Deed::SignOut { account } | Deed::Visit { account, .. } => {
                epoch(*account)?.into_iter().collect()
            }
            Deed::Remove { account, address } => {
                let email = address.id(&key);
                let view = records.email(email)?.unwrap_or_default();
                let released = view.released.iter().find(|released| released.account == *account);
                released
                    .map(|released| Meaning::Released {
                        email,
                        account: *account,
                        at: released.at,
                    })
                    .into_iter()
                    .collect()
            }
            Deed::Cancel { account } => vec![Meaning::Cancelled(*account)],
            Deed::WrongPassword { .. } | Deed::Collapse(_) | Deed::Evict { .. } | Deed::Receipts { .. } => {
                Vec::new()
            }
            Deed::Enrol { id, .. } => vec![Meaning::Member {
                id: *id,
                state: MemberState::Joining,
            }],
            Deed::Member { id, state } => vec![Meaning::Member {
                id: *id,
                state: *state,
            }],
            Deed::Setting { name, .. } => vec![Meaning::Set(name.clone())],
        })
    }

    /// What it is counted as.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Deed::SignUp { .. } => "deeds: sign-ups",
            Deed::Change { .. } => "deeds: changes of a password",
            Deed::SignOut { .. } => "deeds: signing out everywhere",
            Deed::Visit { .. } => "deeds: visits ahead of the record",
            Deed::Reset { .. } => "deeds: resets",
            Deed::Add { .. } => "deeds: additions",
            Deed::Remove { .. } => "deeds: removals",
            Deed::Cancel { .. } => "deeds: cancellations",
            Deed::WrongPassword { .. } => "deeds: wrong passwords",
            Deed::Setting { .. } => "deeds: settings",
            Deed::Member { .. } => "deeds: states of members",
            Deed::Evict { .. } => "deeds: evictions",
            Deed::Collapse(_) => "deeds: collapses",
            Deed::Receipts { .. } => "deeds: receipts",
            Deed::Enrol { .. } => "deeds: enrolments",
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Deed::SignUp { address, word, .. } => format!("sign up {} {}", address.typed(), on(word)),
            Deed::Change { account, .. } => format!("change the password of {account}"),
            Deed::SignOut { account } => format!("sign {account} out everywhere"),
            Deed::Visit { account, epoch } => format!("a session of {account} has seen {}", epoch.at),
            Deed::Reset { address, word, .. } => format!("reset by {} {}", address.typed(), on(word)),
            Deed::Add {
                account,
                address,
                word,
            } => format!("add {} to {account} {}", address.typed(), on(word)),
            Deed::Remove { account, address } => format!("remove {} from {account}", address.typed()),
            Deed::Cancel { account } => format!("cancel {account}"),
            Deed::WrongPassword { account } => format!("a wrong password for {account}"),
            Deed::Setting { name, .. } => format!("set {name}"),
            Deed::Member { id, state } => format!("member {id} is {state:?}"),
            Deed::Evict { id, by } => format!("{by} puts {id} out"),
            Deed::Collapse(contested) => format!("the losers of {} go", contested.key),
            Deed::Receipts { accounts, .. } => format!("receipts for {accounts:?}"),
            Deed::Enrol { id, former } => format!("{former} joins anew as {id}"),
        }
    }
}

fn on(word: &Word) -> String {
    match word {
        Word::Staged { proof, .. } => format!("(proof of {})", proof.at),
        Word::Operator => "(operator)".to_owned(),
        Word::Asserted => "(assertion)".to_owned(),
    }
}

pub(crate) fn index_key() -> IndexKey {
    IndexKey::new([9; 32])
}
