//! The people with accounts who stand for all active users. Each does one thing at a time.
//!
//! A site keeps a million accounts, and so much of them does not differ that a few hundred give it the same work; there have
//! to be enough that somebody is free for every arrival. One who is busy is taken out of the crowd, so no two requests of one
//! person can get in each other's way, and every refusal of something rightful is the site's fault.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng, RngExt};
use tokio::time::Instant;

use super::{activity::Activity, browser::Browser};

/// Browsers of each person.
pub(crate) const BROWSERS: usize = 2;
/// Addresses of an account at most. Beyond a few, its record is no longer what others' are.
const ADDRESSES_MAX: usize = 6;
/// A mail a minute goes to an address at most, and this asks for no more.
const MAIL_PAUSE: Duration = Duration::from_secs(61);
/// Mails to one address in a run at most: five go to it in an hour.
const MAILS_MAX: u8 = 5;
/// People at most. When there are so many, who signs up is forgotten.
const PEOPLE_MAX: usize = 200_000;

/// Somebody with an account.
pub(crate) struct Person {
    /// All verified.
    pub(crate) addresses: Vec<String>,
    pub(crate) password: String,
    /// The site that they are near.
    pub(crate) home: usize,
    /// Where their requests come from.
    pub(crate) client: Ipv4Addr,
    pub(crate) browsers: [Browser; BROWSERS],
    /// Of the first address: how many proofs were mailed to it, and when the last.
    pub(crate) mails: u8,
    pub(crate) mailed_at: Option<Instant>,
}

/// Those who are free.
pub(crate) struct Crowd {
    free: Mutex<Vec<Person>>,
    /// In every address, so that no run meets another's people.
    tag: String,
    domain: String,
    sites: usize,
    serial: Mutex<u64>,
}

impl Crowd {
    /// Nobody yet.
    pub(crate) fn new(tag: String, domain: String, sites: usize) -> Crowd {
        Crowd {
            free: Mutex::new(Vec::new()),
            tag,
            domain,
            sites,
            serial: Mutex::new(0),
        }
    }

    /// Somebody without an account.
    pub(crate) fn stranger(&self, random: &mut impl Rng) -> Person {
        let (serial, address) = self.fresh();
        Person {
            addresses: vec![address],
            password: password(random),
            home: usize::try_from(serial).unwrap_or_default() % self.sites.max(1),
            client: client(random),
            browsers: <[Browser; BROWSERS]>::default(),
            mails: 0,
            mailed_at: None,
        }
    }

    /// An address that nobody has.
    pub(crate) fn fresh_address(&self) -> String {
        self.fresh().1
    }

    fn fresh(&self) -> (u64, String) {
        let mut serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
        *serial += 1;
        (*serial, format!("user{serial}.{}@{}", self.tag, self.domain))
    }

    /// Takes somebody out who can do this now, at random.
    pub(crate) fn take(&self, activity: Activity, random: &mut impl Rng) -> Option<Person> {
        let mut free = self.free();
        let count = free.len();
        if count == 0 {
            return None;
        }
        // Nearly everybody can do nearly everything: the first one does.
        let from = random.random_range(0..count);
        let mut places = (from..count).chain(0..from);
        let place = places.find(|place| free.get(*place).is_some_and(|person| person.can(activity)))?;
        Some(free.swap_remove(place))
    }

    /// Lets somebody in, or back in.
    pub(crate) fn let_in(&self, person: Person) {
        let mut free = self.free();
        if free.len() < PEOPLE_MAX {
            free.push(person);
        }
    }

    /// How long until somebody who is free may be sent a mail again.
    pub(crate) fn until_mail(&self) -> Duration {
        let left = |person: &Person| {
            let since = person.mailed_at.map_or(MAIL_PAUSE, |at| at.elapsed());
            MAIL_PAUSE.saturating_sub(since)
        };
        self.free().iter().map(left).min().unwrap_or_default()
    }

    /// How many are free.
    pub(crate) fn len(&self) -> usize {
        self.free().len()
    }

    fn free(&self) -> MutexGuard<'_, Vec<Person>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Person {
    fn can(&self, activity: Activity) -> bool {
        match activity {
            Activity::ResetPassword => {
                self.mails < MAILS_MAX && self.mailed_at.is_none_or(|at| at.elapsed() >= MAIL_PAUSE)
            }
            Activity::AddEmail => self.addresses.len() < ADDRESSES_MAX,
            _ => true,
        }
    }

    /// Notes that a proof is mailed to the first address.
    pub(crate) fn is_mailed(&mut self) {
        self.mails = self.mails.saturating_add(1);
        self.mailed_at = Some(Instant::now());
    }
}

/// Twelve letters and digits: in no list of common ones.
pub(crate) fn password(random: &mut impl Rng) -> String {
    let sign = |random: &mut _| char::from(SIGNS[RngExt::random_range(random, 0..SIGNS.len())]);
    (0..12).map(|_| sign(random)).collect()
}

const SIGNS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// An address of 198.18.0.0/15, which is for measurements like this (RFC 2544 §C.2.2) and nobody's.
pub(crate) fn client(random: &mut impl Rng) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xC612_0000 | (RngExt::random::<u32>(random) & 0x1_FFFF))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn crowd() -> Crowd {
        Crowd::new("run".to_owned(), "example.org".to_owned(), 3)
    }

    #[test]
    fn who_is_busy_is_not_there_for_anybody_else() {
        let crowd = crowd();
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..2 {
            let stranger = crowd.stranger(&mut random);
            crowd.let_in(stranger);
        }
        let one = crowd.take(Activity::SignIn, &mut random).expect("somebody");
        let other = crowd.take(Activity::SignIn, &mut random).expect("somebody");
        assert_ne!(one.addresses, other.addresses);
        assert!(crowd.take(Activity::SignIn, &mut random).is_none());
        crowd.let_in(one);
        assert_eq!(crowd.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_sent_more_mail_than_is_allowed() {
        let crowd = crowd();
        let mut random = StdRng::seed_from_u64(1);
        let mut ada = crowd.stranger(&mut random);
        for mails in 0..=MAILS_MAX {
            assert_eq!(ada.can(Activity::ResetPassword), mails < MAILS_MAX, "{mails}");
            ada.is_mailed();
            assert!(!ada.can(Activity::ResetPassword));
            assert!(ada.can(Activity::SignIn));
            tokio::time::advance(MAIL_PAUSE).await;
        }
        ada.is_mailed();
        crowd.let_in(ada);
        tokio::time::advance(MAIL_PAUSE / 2).await;
        assert_eq!(crowd.until_mail(), MAIL_PAUSE / 2);
    }

    #[test]
    fn people_are_spread_over_sites_addresses_and_networks() {
        let crowd = crowd();
        let mut random = StdRng::seed_from_u64(1);
        let people: Vec<_> = (0..30).map(|_| crowd.stranger(&mut random)).collect();
        for site in 0..3 {
            assert_eq!(people.iter().filter(|person| person.home == site).count(), 10);
        }
        let addresses: std::collections::BTreeSet<_> =
            people.iter().flat_map(|person| &person.addresses).collect();
        assert_eq!(addresses.len(), people.len());
        assert!(
            people
                .iter()
                .all(|person| matches!(person.client.octets(), [198, 18 | 19, ..]))
        );
        assert!(people.iter().all(|person| person.password.len() == 12));
    }
}
