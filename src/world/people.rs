//! The people of the world: made up, but with addresses, passwords and a good memory.
//!
//! A person does one thing at a time (a *lease*), and goes to a site only when the person's latest write is
//! visible there: so every refusal of something rightful is the sites' fault, and never a race of our own.

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::client::Dot;

/// What one person knows about their own account. All of it was acknowledged by a site.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) account: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) password: String,
    /// The password before the last change or reset: it must open nothing any more.
    pub(crate) password_before: Option<String>,
    /// The address given up last: it must open nothing any more (unless somebody else took it).
    pub(crate) address_before: Option<String>,
    pub(crate) cancelled: bool,
    /// The latest write; every earlier one is in its past, as each was made where the one before was visible.
    pub(crate) latest: Dot,
    /// Sign-ins tried with an address that is no longer theirs: ten such lock the address.
    pub(crate) knocks: u32,
    /// Something was asked for and never answered: what is true of this person is unknown.
    pub(crate) unsure: bool,
}

/// A person taken out of the crowd for one errand.
pub(crate) struct Lease {
    pub(crate) id: usize,
    pub(crate) person: Person,
}

/// Everybody.
pub(crate) struct People {
    /// In every address, so that a world that is started again makes up other people.
    tag: String,
    slots: Vec<Option<Person>>,
    /// Addresses once given up, with the write that freed them: somebody else may sign up with one.
    freed: Vec<(String, Dot)>,
    serial: u64,
}

impl People {
    pub(crate) fn new(tag: String) -> People {
        People {
            tag,
            slots: Vec::new(),
            freed: Vec::new(),
            serial: 0,
        }
    }

    /// A new address that nobody has had.
    pub(crate) fn fresh_address(&mut self) -> String {
        self.serial += 1;
        let given = GIVEN
            .get(self.serial as usize % GIVEN.len())
            .copied()
            .unwrap_or("ada");
        let family = self.serial / GIVEN.len() as u64;
        let domain = DOMAINS
            .get(family as usize % DOMAINS.len())
            .copied()
            .unwrap_or("example.org");
        format!("{given}.{family}.{}@{domain}", self.tag)
    }

    /// An address that somebody gave up, if its release is visible at the site.
    pub(crate) fn freed_address(&mut self, visible: impl Fn(&Dot) -> bool) -> Option<String> {
        let place = self.freed.iter().position(|(_, dot)| visible(dot))?;
        Some(self.freed.swap_remove(place).0)
    }

    /// Notes that an address is free once this write is visible.
    pub(crate) fn free(&mut self, address: String, dot: Dot) {
        if self.freed.len() < FREED_MAX {
            self.freed.push((address, dot));
        }
    }

    /// Adds somebody who just signed up.
    pub(crate) fn add(&mut self, person: Person) {
        self.slots.push(Some(person));
    }

    /// Takes out somebody who suits, at random.
    pub(crate) fn lease(&mut self, random: &mut StdRng, suits: impl Fn(&Person) -> bool) -> Option<Lease> {
        if self.slots.is_empty() {
            return None;
        }
        for _ in 0..DRAWS_MAX {
            let id = random.random_range(0..self.slots.len());
            if let Some(slot) = self.slots.get_mut(id)
                && slot
                    .as_ref()
                    .is_some_and(|person| !person.unsure && suits(person))
                && let Some(person) = slot.take()
            {
                return Some(Lease { id, person });
            }
        }
        None
    }

    /// Puts a person back, as they are now.
    pub(crate) fn give_back(&mut self, lease: Lease) {
        if let Some(slot) = self.slots.get_mut(lease.id) {
            *slot = Some(lease.person);
        }
    }

    /// Everybody who is not out on an errand and is sure of themselves.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Person> {
        self.slots.iter().flatten().filter(|person| !person.unsure)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many lost their way in a request that was never answered.
    pub(crate) fn unsure(&self) -> usize {
        self.slots.iter().flatten().filter(|person| person.unsure).count()
    }
}

/// A password that nobody else has; 8 to 80 characters as the service wants it.
pub(crate) fn password(random: &mut StdRng) -> String {
    format!("pass phrase {:016x}", random.random::<u64>())
}

const GIVEN: [&str; 24] = [
    "ada",
    "alan",
    "grace",
    "edsger",
    "barbara",
    "donald",
    "frances",
    "ken",
    "radia",
    "dennis",
    "margaret",
    "tim",
    "katherine",
    "john",
    "hedy",
    "niklaus",
    "karen",
    "leslie",
    "shafi",
    "vint",
    "annie",
    "claude",
    "mary",
    "tony",
];

/// Reserved for examples (RFC 2606, RFC 6761): no mail of this world could ever reach anybody.
const DOMAINS: [&str; 5] = [
    "example.org",
    "example.com",
    "example.net",
    "mail.example",
    "post.example",
];

/// Draws before concluding that nobody suits: enough when one in ten does.
const DRAWS_MAX: u32 = 64;

/// Addresses waiting for their next owner.
const FREED_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use std::collections::HashSet;

    #[test]
    fn addresses_are_never_given_twice() {
        let mut people = People::new("t".into());
        let addresses: HashSet<_> = (0..5_000).map(|_| people.fresh_address()).collect();
        assert_eq!(addresses.len(), 5_000);
    }

    #[test]
    fn a_person_on_an_errand_cannot_be_sent_on_another() {
        let mut random = StdRng::seed_from_u64(1);
        let mut people = People::new("t".into());
        people.add(Person {
            account: "a".into(),
            addresses: vec!["ada@example.org".into()],
            password: "x".into(),
            password_before: None,
            address_before: None,
            cancelled: false,
            latest: Dot {
                writer: "w".into(),
                number: 1,
            },
            knocks: 0,
            unsure: false,
        });
        let lease = people.lease(&mut random, |_| true).unwrap();
        assert!(people.lease(&mut random, |_| true).is_none());
        people.give_back(lease);
        assert!(people.lease(&mut random, |_| true).is_some());
    }
}
