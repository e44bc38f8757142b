//! A small world of five sites, without disks or network: what the service does to records, and who has heard
//! of it. The checkers are apart, in `promises.rs`.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failure fails the test")]

mod promises;

use std::collections::BTreeMap;
use std::convert::Infallible;

use crdt::{
    AccountId, AccountView, AccountWrite, Actor, Claim, ClaimedBy, Clock, Document, EmailId, EmailView,
    EmailWrite, Epoch, Hlc, Ownership, Password, RecordChange, RecordKey, RecordKind, Standing, Transaction,
    VaultValue, View, Write,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

pub(crate) const SITES: usize = 5;
const EMAILS: u8 = 3;
const WALL_MS: u64 = 1_700_000_000_000;

/// What happens. The numbers pick among what there is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    SignUp {
        site: u8,
        email: u8,
    },
    /// A sign-up that was completed once is completed again, perhaps where nobody knows of the first.
    CompleteAgain {
        site: u8,
        staging: u8,
    },
    Add {
        site: u8,
        account: u8,
        email: u8,
    },
    /// Its owner lets an address go.
    Remove {
        site: u8,
        email: u8,
    },
    Cancel {
        site: u8,
        account: u8,
    },
    /// By mail to an address; its owner, if that is verified.
    Reset {
        site: u8,
        email: u8,
    },
    Change {
        site: u8,
        account: u8,
    },
    Rehash {
        site: u8,
        account: u8,
    },
    /// One transaction that `from` has and `to` lacks.
    Deliver {
        from: u8,
        to: u8,
        which: u8,
    },
    /// A new writer; documents are loaded from what was saved.
    Restart {
        site: u8,
    },
}

/// A transaction on its way: what it follows, and its body as bytes.
#[derive(Clone)]
struct Sent {
    writer: usize,
    number: usize,
    follows: Vec<usize>,
    body: Vec<u8>,
}

struct Site {
    clock: Clock,
    wall_ms: u64,
    /// The writer of its present start, and that writer's transactions.
    writer: usize,
    /// Per writer, how many of its transactions are here.
    vector: Vec<usize>,
    documents: BTreeMap<RecordKey, Document>,
}

#[derive(Clone, Copy)]
struct SignUp {
    account: AccountId,
    email: EmailId,
    at: Hlc,
}

/// What the checkers remember besides: everything that was ever written.
#[derive(Default)]
struct Memory {
    claims: Vec<(EmailId, Claim)>,
    releases: Vec<(EmailId, AccountId, Hlc)>,
    passwords: Vec<(AccountId, Password)>,
    changes: Vec<(AccountId, Password)>,
    cancelled: Vec<AccountId>,
    resets: usize,
}

pub(crate) struct World {
    sites: Vec<Site>,
    sent: Vec<Sent>,
    writers: usize,
    stagings: Vec<SignUp>,
    accounts: Vec<AccountId>,
    values: u64,
    memory: Memory,
}

impl World {
    pub(crate) fn new(skews: [i16; SITES]) -> World {
        let site = |(writer, skew): (usize, i16)| Site {
            clock: Clock::new(Hlc::ZERO),
            wall_ms: WALL_MS.saturating_add_signed(i64::from(skew) * 1000),
            writer,
            vector: vec![0; SITES],
            documents: BTreeMap::new(),
        };
        World {
            sites: skews.into_iter().enumerate().map(site).collect(),
            sent: Vec::new(),
            writers: SITES,
            stagings: Vec::new(),
            accounts: Vec::new(),
            values: 0,
            memory: Memory::default(),
        }
    }

    pub(crate) fn act(&mut self, action: Action) -> Result<(), TestCaseError> {
        let site_of = |site: u8| usize::from(site) % SITES;
        match action {
            Action::SignUp { site, email } => self.sign_up(site_of(site), email_id(email)),
            Action::CompleteAgain { site, staging } => match pick(&self.stagings, staging) {
                Some(staging) => self.complete(site_of(site), staging),
                None => Ok(()),
            },
            Action::Add { site, account, email } => match self.known(site_of(site), account) {
                Some(account) => self.add(site_of(site), account, email_id(email)),
                None => Ok(()),
            },
            Action::Remove { site, email } => {
                let (site, email) = (site_of(site), email_id(email));
                match self.owning_account(site, email) {
                    Some(account) => {
                        let release = self.release(site, account, email);
                        self.commit(site, vec![(email.into(), vec![release])])
                    }
                    None => Ok(()),
                }
            }
            Action::Cancel { site, account } => match self.known(site_of(site), account) {
                Some(account) => self.cancel(site_of(site), account),
                None => Ok(()),
            },
            Action::Reset { site, email } => self.reset(site_of(site), email_id(email)),
            Action::Change { site, account } => match self.known(site_of(site), account) {
                Some(account) => self.change(site_of(site), account),
                None => Ok(()),
            },
            Action::Rehash { site, account } => match self.known(site_of(site), account) {
                Some(account) => self.rehash(site_of(site), account),
                None => Ok(()),
            },
            Action::Deliver { from, to, which } => self.deliver(site_of(from), site_of(to), which),
            Action::Restart { site } => self.restart(site_of(site)),
        }
    }

    fn sign_up(&mut self, site: usize, email: EmailId) -> Result<(), TestCaseError> {
        let number = self.accounts.len() + 1;
        let mut id = [0; 15];
        // Smaller ids are not always older.
        id[0] = u8::try_from(number * 97 % 251).unwrap_or(0);
        id[1] = u8::try_from(number).unwrap_or(0);
        let account = AccountId::from_bytes(id);
        self.accounts.push(account);
        let at = self.stamp(site, self.email(site, email).latest());
        let staging = SignUp { account, email, at };
        self.stagings.push(staging);
        self.complete(site, staging)
    }

    /// All that completing writes is a function of the staging and `done`.
    fn complete(&mut self, site: usize, staging: SignUp) -> Result<(), TestCaseError> {
        let SignUp { account, email, at } = staging;
        let known = self.account(site, account);
        if self.email(site, email).latest() > at || known.cancelled || known.latest() > at {
            return Ok(()); // refused: something came after it
        }
        let done = self.stamp(site, at);
        let password = Password {
            resets: 0,
            changed: at,
            done,
            rehashes: 0,
            vault: self.value(),
        };
        let claim = self.claim(account, email, at, done, 0);
        self.memory.passwords.push((account, password));
        let account_writes = vec![
            Write::Account(AccountWrite::Created(at)),
            Write::Account(AccountWrite::Password(password)),
            Write::Account(AccountWrite::SessionEpoch(Epoch { resets: 0, at })),
        ];
        self.commit(
            site,
            vec![(account.into(), account_writes), (email.into(), vec![claim])],
        )
    }

    fn add(&mut self, site: usize, account: AccountId, email: EmailId) -> Result<(), TestCaseError> {
        let proof = self.stamp(site, self.email(site, email).latest());
        let done = self.stamp(site, proof);
        let resets = self.account(site, account).resets();
        let claim = self.claim(account, email, proof, done, resets);
        self.commit(site, vec![(email.into(), vec![claim])])
    }

    fn cancel(&mut self, site: usize, account: AccountId) -> Result<(), TestCaseError> {
        let at = self.stamp(site, self.account(site, account).latest());
        self.memory.cancelled.push(account);
        let others = self.owned_by_others(site, account);
        let mut records = vec![(
            RecordKey::from(account),
            vec![Write::Account(AccountWrite::Cancelled(at))],
        )];
        for email in emails() {
            if self.owning_account(site, email) == Some(account) {
                records.push((email.into(), vec![self.release(site, account, email)]));
            }
        }
        self.commit(site, records)?;
        prop_assert_eq!(
            self.owned_by_others(site, account),
            others,
            "a cancelled loser takes nothing from who has the address"
        );
        Ok(())
    }

    /// Who has which address, verified or not, other than the account, and where it never let go.
    fn owned_by_others(&self, site: usize, account: AccountId) -> Vec<(EmailId, AccountId, bool)> {
        let owned = emails().filter_map(|email| {
            let view = self.email(site, email);
            match self.owner(site, &view) {
                Ownership::Held { claim, verified }
                    if claim.account != account && view.released.iter().all(|it| it.account != account) =>
                {
                    Some((email, claim.account, verified))
                }
                _ => None,
            }
        });
        owned.collect()
    }

    fn reset(&mut self, site: usize, email: EmailId) -> Result<(), TestCaseError> {
        let view = self.email(site, email);
        let account = match self.owner(site, &view) {
            Ownership::Held {
                claim,
                verified: true,
            } => claim.account,
            _ => return Ok(()),
        };
        let known = self.account(site, account);
        let resets = known.resets() + 1;
        let at = self.stamp(site, known.latest().max(view.latest()));
        let password = Password {
            resets,
            changed: at,
            done: at,
            rehashes: 0,
            vault: self.value(),
        };
        self.memory.passwords.push((account, password));
        self.memory.resets += 1;
        let claim = self.claim(account, email, at, at, resets);
        let writes = vec![
            Write::Account(AccountWrite::Password(password)),
            Write::Account(AccountWrite::SessionEpoch(Epoch { resets, at })),
        ];
        self.commit(site, vec![(account.into(), writes), (email.into(), vec![claim])])
    }

    fn change(&mut self, site: usize, account: AccountId) -> Result<(), TestCaseError> {
        let known = self.account(site, account);
        let at = self.stamp(site, known.latest());
        let resets = known.resets();
        let password = Password {
            resets,
            changed: at,
            done: at,
            rehashes: 0,
            vault: self.value(),
        };
        self.memory.passwords.push((account, password));
        self.memory.changes.push((account, password));
        let writes = vec![
            Write::Account(AccountWrite::Password(password)),
            Write::Account(AccountWrite::SessionEpoch(Epoch { resets, at })),
        ];
        self.commit(site, vec![(account.into(), writes)])
    }

    fn rehash(&mut self, site: usize, account: AccountId) -> Result<(), TestCaseError> {
        let Some(old) = self.account(site, account).usable_password().copied() else {
            return Ok(());
        };
        let password = Password {
            rehashes: old.rehashes + 1,
            vault: self.value(),
            ..old
        };
        self.memory.passwords.push((account, password));
        let writes = vec![Write::Account(AccountWrite::Password(password))];
        self.commit(site, vec![(account.into(), writes)])
    }

    fn claim(&mut self, account: AccountId, email: EmailId, proof: Hlc, done: Hlc, resets: u32) -> Write {
        let vault = self.value();
        let by = ClaimedBy::Mail;
        let claim = Claim {
            account,
            vault,
            proof,
            done,
            resets,
            by,
            released: Vec::new(),
        };
        self.memory.claims.push((email, claim.clone()));
        Write::Email(EmailWrite::Claim(claim))
    }

    fn release(&mut self, site: usize, account: AccountId, email: EmailId) -> Write {
        let at = self.stamp(site, self.email(site, email).latest());
        self.memory.releases.push((email, account, at));
        Write::Email(EmailWrite::Release { account, at })
    }

    fn commit(&mut self, site: usize, records: Vec<(RecordKey, Vec<Write>)>) -> Result<(), TestCaseError> {
        let actor = actor(self.sites[site].writer);
        let home = &mut self.sites[site];
        let mut changes = Vec::new();
        for (key, writes) in records {
            let document = home
                .documents
                .entry(key)
                .or_insert_with(|| Document::new(kind(key)));
            let change = document
                .write(actor, &writes)
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            changes.push(RecordChange {
                key,
                changes: vec![change],
            });
        }
        let body = Transaction {
            hlc: home.clock.last(),
            records: changes,
            vault: Vec::new(),
            cells: Vec::new(),
        };
        let follows = home.vector.clone();
        home.vector[home.writer] += 1;
        let (writer, number) = (home.writer, home.vector[home.writer]);
        self.sent.push(Sent {
            writer,
            number,
            follows,
            body: body.encode(),
        });
        Ok(())
    }

    fn deliver(&mut self, from: usize, to: usize, which: u8) -> Result<(), TestCaseError> {
        let (there, here) = (&self.sites[from].vector, &self.sites[to].vector);
        let ready: Vec<Sent> = self
            .sent
            .iter()
            .filter(|sent| covers(there, sent) && is_next(here, sent))
            .cloned()
            .collect();
        match pick(&ready, which) {
            Some(sent) => self.receive(to, &sent),
            None => Ok(()),
        }
    }

    fn receive(&mut self, to: usize, sent: &Sent) -> Result<(), TestCaseError> {
        let failed = |error: &dyn std::fmt::Display| TestCaseError::fail(error.to_string());
        let body = Transaction::decode(&sent.body).map_err(|error| failed(&error))?;
        let home = &mut self.sites[to];
        home.clock.observe(body.hlc, home.wall_ms);
        for RecordChange { key, changes } in body.records {
            let document = home
                .documents
                .remove(&key)
                .unwrap_or_else(|| Document::new(kind(key)));
            let document = document.apply(&changes).map_err(|error| failed(&error))?;
            home.documents.insert(key, document);
        }
        home.vector[sent.writer] = sent.number;
        Ok(())
    }

    fn restart(&mut self, site: usize) -> Result<(), TestCaseError> {
        self.writers += 1;
        self.sites.iter_mut().for_each(|site| site.vector.push(0));
        let home = &mut self.sites[site];
        home.writer = self.writers - 1;
        for (key, document) in &mut home.documents {
            let loaded = Document::load(kind(*key), &document.save())
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(loaded.view(), document.view());
            *document = loaded;
        }
        Ok(())
    }

    /// An account that this site knows of and that is not cancelled.
    fn known(&self, site: usize, which: u8) -> Option<AccountId> {
        let known = self.accounts.iter().copied().filter(|id| {
            let view = self.account(site, *id);
            view.created.is_some() && !view.cancelled
        });
        pick(&known.collect::<Vec<_>>(), which)
    }

    fn account(&self, site: usize, id: AccountId) -> AccountView {
        match self.sites[site].documents.get(&id.into()).map(Document::view) {
            Some(View::Account(view)) => view,
            _ => AccountView::default(),
        }
    }

    /// Only an owner lets go of an address.
    fn owning_account(&self, site: usize, email: EmailId) -> Option<AccountId> {
        match self.owner(site, &self.email(site, email)) {
            Ownership::Held { claim, .. } => Some(claim.account),
            Ownership::Free => None,
        }
    }

    fn email(&self, site: usize, id: EmailId) -> EmailView {
        match self.sites[site].documents.get(&id.into()).map(Document::view) {
            Some(View::Email(view)) => view,
            _ => EmailView::default(),
        }
    }

    fn owner<'a>(&self, site: usize, view: &'a EmailView) -> Ownership<'a> {
        let Ok(owner) = view.owner(|id| {
            let account = self.account(site, id);
            Ok::<_, Infallible>(Standing {
                cancelled: account.cancelled,
                resets: account.resets(),
            })
        });
        owner
    }

    fn stamp(&mut self, site: usize, beat: Hlc) -> Hlc {
        let home = &mut self.sites[site];
        home.wall_ms += 7;
        home.clock.stamp_past(home.wall_ms, beat)
    }

    fn value(&mut self) -> crdt::VaultId {
        self.values += 1;
        VaultValue::new([0; 16], self.values.to_le_bytes().to_vec()).id()
    }
}

fn covers(vector: &[usize], sent: &Sent) -> bool {
    vector[sent.writer] >= sent.number
}

/// Whether it is the next of its writer, and all that it follows is there.
fn is_next(vector: &[usize], sent: &Sent) -> bool {
    vector[sent.writer] + 1 == sent.number
        && sent
            .follows
            .iter()
            .zip(vector)
            .all(|(needed, have)| needed <= have)
}

fn pick<T: Clone>(items: &[T], which: u8) -> Option<T> {
    items.get(usize::from(which).checked_rem(items.len())?).cloned()
}

fn actor(writer: usize) -> Actor {
    // Spread, so that the order of actors is not that of sites.
    let mixed = (writer as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Actor(mixed.to_be_bytes())
}

fn kind(key: RecordKey) -> RecordKind {
    key.kind().expect("the world has only these")
}

fn email_id(email: u8) -> EmailId {
    EmailId::from_bytes([email % EMAILS; 15])
}

fn emails() -> impl Iterator<Item = EmailId> {
    (0..EMAILS).map(email_id)
}
