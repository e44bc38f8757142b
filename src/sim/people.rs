//! What people do: they sign up, change and reset passwords, add, move and remove addresses, show their sessions, leave.
//! Proofs of control begin at one site and are completed at any, sometimes twice.

use std::{collections::BTreeMap, time::Duration};

use crdt::{AccountId, ClaimedBy, Hlc};

use super::{
    check::Meaning,
    deeds::{Deed, Outcome, index_key},
    options::Options,
    rng::Rng,
    world::{Happening, World, read_records},
};
use crate::{
    identity::{Address, HashedPassword, IndexKey, Proof, Refusal, Word},
    store::{Records, Snapshot, TransactError},
};

/// How addresses begin: with letters enough that no two people type one in the same way.
const NAME: &str = "somebody-who-has-a-long-name";

/// The people of a world, and what they remember.
pub(crate) struct People {
    rng: Rng,
    index_key: IndexKey,
    addresses: Vec<Address>,
    accounts: Vec<AccountId>,
    /// Written, and not answered yet.
    pending: BTreeMap<u64, Deed>,
    /// What is to be done later: proofs that wait for their completion.
    errands: BTreeMap<u64, Deed>,
    next: u64,
    left: usize,
    every: Duration,
    /// What the last deed came to that somebody waits for.
    heard: Option<Outcome>,
    listens: bool,
}

/// The address as this person types it: always in the same way, with capitals where nobody else has them.
fn typed_by(account: AccountId, address: &Address) -> Address {
    let (local, domain) = address.typed().rsplit_once('@').unwrap_or_default();
    let bits = blake3::hash(account.as_bytes());
    let bit = |place: usize| bits.as_bytes()[place / 8 % 32] >> (place % 8) & 1 == 1;
    let letters = local.chars().enumerate().map(|(place, letter)| {
        if bit(place) {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        }
    });
    let typed = format!("{}@{domain}", letters.collect::<String>());
    Address::parse(&typed).unwrap_or_else(|_| address.clone())
}

impl People {
    pub(crate) fn new(rng: Rng, options: &Options) -> People {
        let addresses = (0..options.addresses)
            .filter_map(|index| Address::parse(&format!("{NAME}-{index}@example.org")).ok())
            .collect();
        let every = options.storm / u32::try_from(options.deeds.max(1)).unwrap_or(1);
        People {
            rng,
            index_key: index_key(),
            addresses,
            accounts: Vec::new(),
            pending: BTreeMap::new(),
            errands: BTreeMap::new(),
            next: 0,
            left: options.deeds,
            every,
            heard: None,
            listens: false,
        }
    }

    /// Somebody waits for what the next deed comes to.
    pub(crate) fn listen(&mut self) {
        self.heard = None;
        self.listens = true;
    }

    pub(crate) fn heard(&self) -> Option<&Outcome> {
        self.heard.as_ref()
    }

    /// Nobody begins anything any more.
    pub(crate) fn rest(&mut self) {
        self.left = 0;
        self.errands.clear();
    }

    /// A hash in form, which nobody computed: no checker signs in.
    pub(crate) fn hash(&mut self) -> Option<HashedPassword> {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digits: String = self
            .rng
            .bytes::<22>()
            .iter()
            .map(|byte| char::from(ALPHABET[usize::from(byte & 63)]))
            .collect();
        // 32 bytes in base64 end in a digit whose last two bits are zero.
        let hash = format!("{digits}{}A", &digits[..20]);
        HashedPassword::from_phc(format!(
            "$argon2id$v=19$m=32,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA${hash}"
        ))
        .ok()
    }

    fn word(&mut self, at: Hlc, account: Option<(AccountId, u32)>) -> Word {
        Word::Staged {
            proof: Proof {
                id: self.rng.bytes(),
                at,
                by: ClaimedBy::Mail,
            },
            account,
        }
    }

    /// Something that somebody at this site would do, and whether it is the completion of a proof, which takes its time.
    fn choose(&mut self, now: Hlc, records: &Snapshot<'_>) -> Option<(Deed, bool)> {
        let address = self.rng.pick(&self.addresses)?;
        let account = self.rng.pick(&self.accounts);
        let view = account.and_then(|account| records.account(account).ok().flatten());
        let resets = view.as_ref().map_or(0, crdt::AccountView::resets);
        let staged = self.rng.chance(75);
        let choice = self.rng.below(100);
        let password = self.hash()?;
        Some(match (choice, account) {
            (0..30, _) | (_, None) => {
                let word = self.word(now, None);
                let address = match &word {
                    Word::Staged { proof, .. } => typed_by(proof.account(), &address),
                    Word::Operator | Word::Asserted => address,
                };
                (
                    Deed::SignUp {
                        address,
                        password,
                        word,
                    },
                    true,
                )
            }
            (30..50, Some(account)) => {
                let word = if staged {
                    self.word(now, Some((account, resets)))
                } else {
                    Word::Operator
                };
                (
                    Deed::Add {
                        account,
                        address: typed_by(account, &address),
                        word,
                    },
                    staged,
                )
            }
            (50..64, Some(_)) => {
                let view = records.email(address.id(&self.index_key)).ok()??;
                let owner = records.owner_of(&view).ok()?;
                let crdt::Ownership::Held { claim, .. } = owner else {
                    return None;
                };
                let account = claim.account;
                let resets = records.standing(account).ok()?.resets;
                let word = if staged {
                    self.word(now, Some((account, resets)))
                } else {
                    Word::Operator
                };
                (
                    Deed::Reset {
                        address: typed_by(account, &address),
                        password,
                        word,
                    },
                    staged,
                )
            }
            (64..78, Some(account)) => {
                let known = *view?.usable_password()?;
                (
                    Deed::Change {
                        account,
                        known,
                        password,
                    },
                    false,
                )
            }
            (78..88, Some(account)) => {
                let held = records.emails_of(account).ok()?;
                let address = self
                    .addresses
                    .iter()
                    .find(|address| held.contains(&address.id(&self.index_key)))
                    .cloned()
                    .unwrap_or(address);
                (Deed::Remove { account, address }, false)
            }
            (88..91, Some(account)) => (Deed::Cancel { account }, false),
            (91..94, Some(account)) => (Deed::SignOut { account }, false),
            (94..97, Some(account)) => (Deed::WrongPassword { account }, false),
            _ => {
                let name = format!("sim/{}", self.rng.below(3));
                let value = self.rng.bytes::<4>().to_vec();
                (Deed::Setting { name, value }, false)
            }
        })
    }
}

impl World {
    /// People begin.
    pub(crate) fn begin_deeds(&mut self) {
        self.after(Duration::from_millis(1500), Happening::Deed);
    }

    pub(crate) fn next_deed(&mut self) {
        if self.people.left == 0 {
            return;
        }
        self.people.left -= 1;
        let every = self.people.every.as_millis() as u64;
        let wait = self.people.rng.ms(0, every * 2);
        self.after(wait, Happening::Deed);
        let Some(at) = self.one_that_serves() else {
            self.tally.count("deeds that found no site", 1);
            return;
        };
        let counter = self.people.rng.next() as u16;
        let now = Hlc::new(self.wall_ms(at), counter);
        let disk = self.processes[at].disk.clone();
        let people = &mut self.people;
        let Ok(Some((deed, staged))) = read_records(&disk, |records| Ok(people.choose(now, records))) else {
            self.tally.count("deeds that nobody could begin", 1);
            return;
        };
        if !staged {
            self.do_at(at, deed);
            return;
        }
        let begins = self.people.rng.ms(0, 3000);
        self.errand(begins, deed.clone());
        if self.people.rng.chance(35) {
            // The same link, clicked again; a reset may bring another password.
            let again = match deed {
                Deed::Reset { address, word, .. } => match self.people.hash() {
                    Some(password) => Deed::Reset {
                        address,
                        password,
                        word,
                    },
                    None => return,
                },
                deed => deed,
            };
            let begins = self.people.rng.ms(0, 4000);
            self.errand(begins, again);
        }
    }

    fn errand(&mut self, wait: Duration, deed: Deed) {
        self.people.next += 1;
        let errand = self.people.next;
        self.people.errands.insert(errand, deed);
        self.after(wait, Happening::Errand(errand));
    }

    pub(crate) fn run_errand(&mut self, errand: u64) {
        let Some(deed) = self.people.errands.remove(&errand) else {
            return;
        };
        match self.one_that_serves() {
            Some(at) => {
                self.do_at(at, deed);
            }
            None => self.tally.count("deeds that found no site", 1),
        }
    }

    /// Where people are sent: a site that serves.
    fn one_that_serves(&mut self) -> Option<usize> {
        let serve: Vec<usize> = (0..self.processes.len())
            .filter(|at| self.processes[*at].serves())
            .collect();
        self.people.rng.pick(&serve)
    }

    /// Somebody asks a site to do something. One that does not serve is left alone.
    pub(crate) fn do_at(&mut self, at: usize, deed: Deed) -> bool {
        let serves = self.processes[at].serves();
        if serves {
            self.do_now(at, deed);
        }
        serves
    }

    /// A site writes, also for itself.
    pub(crate) fn do_now(&mut self, at: usize, deed: Deed) {
        self.people.next += 1;
        let id = self.people.next;
        self.people.pending.insert(id, deed.clone());
        if matches!(deed, Deed::Evict { .. }) {
            self.checks.evictions.untold.insert(id);
        }
        self.write(at, id, deed);
    }

    /// The replica has done it, or has not.
    pub(crate) fn deed_told(&mut self, at: usize, id: u64, outcome: Outcome) {
        let name = &self.processes[at].name;
        if let Some(deed) = self.people.pending.get(&id) {
            self.story.tell(self.now, || {
                let outcome = match &outcome {
                    Outcome::Done(Some(dot)) => format!("done as {dot}"),
                    Outcome::Done(None) => "was so before".to_owned(),
                    other => format!("{other:?}"),
                };
                format!("{name}: {}: {outcome}", deed.name())
            });
        }
        self.checks.evictions.untold.remove(&id);
        if self.people.listens && self.people.heard.is_none() {
            self.people.heard = Some(outcome.clone());
        }
        match outcome {
            Outcome::Done(Some(dot)) => {
                self.tally.count("writes", 1);
                let meanings = match self.people.pending.get(&id) {
                    Some(deed) => read_records(&self.processes[at].disk, |records| deed.meaning(records)),
                    None => Ok(Vec::new()),
                };
                if let Some(Deed::SignUp {
                    word: Word::Staged { proof, .. },
                    ..
                }) = self.people.pending.get(&id)
                {
                    let account = proof.account();
                    if !self.people.accounts.contains(&account) {
                        self.people.accounts.push(account);
                    }
                }
                // A record that is not served here means nothing yet.
                let meanings = meanings.unwrap_or_default();
                self.visit_soon(&meanings);
                self.checks.meant(dot, meanings);
                match self.people.pending.get(&id).cloned() {
                    Some(Deed::Collapse(contested)) => {
                        self.tally.count("collapses", 1);
                        self.collapsed(at, dot, contested.key);
                    }
                    Some(Deed::Receipts { accounts, .. }) => self.receipted(at, &accounts),
                    Some(Deed::Evict { id, by }) => self.said_out(at, dot, id, by),
                    Some(deed) => self.tally.count(deed.kind(), 1),
                    None => {}
                }
            }
            Outcome::Done(None) => {
                self.tally.count("writes that changed nothing", 1);
                self.deed_answered(at, id);
            }
            Outcome::Refused(why) => {
                self.tally.count("refusals", 1);
                self.tally
                    .count("refusals of who was too early", u64::from(why == Refusal::NotYet));
            }
            Outcome::Failed(TransactError::Full) => self.tally.count("writes refused by a full disk", 1),
            Outcome::Failed(_) => {
                self.tally.count("writes that failed", 1);
                if matches!(self.people.pending.get(&id), Some(Deed::Evict { .. })) {
                    self.checks.evictions.may_have_been_said();
                }
            }
        }
        if !matches!(outcome, Outcome::Done(Some(_))) {
            self.people.pending.remove(&id);
        }
    }

    /// Who was given a session may show it at another site, before that knows what the session has seen.
    fn visit_soon(&mut self, meanings: &[Meaning]) {
        for meaning in meanings {
            let Meaning::Epoch { account, epoch } = meaning else {
                continue;
            };
            if self.people.left > 0 && self.people.rng.chance(30) {
                let (account, epoch) = (*account, *epoch);
                let begins = self.people.rng.ms(0, 2000);
                self.errand(begins, Deed::Visit { account, epoch });
            }
        }
    }

    /// Who waits for it learns that it is done.
    pub(crate) fn deed_answered(&mut self, at: usize, id: u64) {
        if let Some(Deed::Enrol { id, former }) = self.people.pending.remove(&id) {
            self.enrolled(at, id, former);
        }
    }
}
