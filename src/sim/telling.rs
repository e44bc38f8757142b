//! The words in which a test tells a story of a world: who does what at which site, what is cut, and what then is so.
//!
//! A story that does not go as told ends in a panic that names the seed.

use std::time::Duration;

use crdt::{AccountId, ClaimedBy, Hlc};
use gossip::PeerState;

use super::{
    check::{EndOf, Track},
    deeds::{Deed, Outcome},
    options::Options,
    rng::Rng,
    seed::AGREEMENT,
    trouble::{Kind, Remedy},
    world::{Happening, World, read_records},
};
use crate::{
    identity::{Address, HashedPassword, Proof, Word},
    store::{
        Records,
        disk::memory::{Fault, MemoryDisk},
    },
};

/// The seed of a story, and the command that tells it again.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// From `SIM_SEED`, decimal or after `0x`; else this one.
    pub fn from_env_or(seed: u64) -> Seed {
        let given = std::env::var("SIM_SEED")
            .ok()
            .and_then(|text| match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            });
        Seed(given.unwrap_or(seed))
    }
}

/// Somebody at a site.
pub struct At<'w> {
    world: &'w mut World,
    at: usize,
}

impl World {
    /// A calm world of replicas, each at a site of its own, in the order of the table of regions.
    pub fn told<const N: usize>(seed: Seed, names: [&str; N]) -> World {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let mut world = World::named(Options::calm(seed.0, N), names, seed.0);
        world.story.record();
        let ready = world.run_until(Duration::from_secs(30), |world| {
            world.processes.iter().all(super::process::Process::serves)
        });
        world.must(ready, "nobody became ready");
        world
    }

    /// At this replica.
    #[track_caller]
    pub fn at(&mut self, name: &str) -> At<'_> {
        let at = self.index(name);
        At { world: self, at }
    }

    /// Nobody hears this replica, and it hears nobody.
    pub fn cut(&mut self, name: &str) {
        let at = self.index(name);
        for other in (0..self.processes.len()).filter(|other| *other != at) {
            self.network.cuts.insert((at, other));
            self.network.cuts.insert((other, at));
        }
    }

    /// Everyone can hear everyone again.
    pub fn heal(&mut self) {
        self.network.cuts.clear();
    }

    /// The process ends as if the power had failed.
    pub fn crash(&mut self, name: &str) {
        let at = self.index(name);
        self.kill(at);
    }

    /// Its disk is lost; the process ends.
    pub fn wipe(&mut self, name: &str) {
        let at = self.index(name);
        self.kill(at);
        self.processes[at].disk = MemoryDisk::new();
        self.checks.disk_replaced(at, Track::default());
    }

    /// A second process starts in the same moment on a copy of its directory, called by the same name and `-copy`.
    pub fn run_copy(&mut self, name: &str) {
        let at = self.index(name);
        self.kill(at);
        let copy = self.copy_directory(at);
        for process in [at, copy] {
            self.remedy(Remedy::Start(process));
        }
    }

    /// Of each directory and its copy one goes on.
    pub fn end_copies(&mut self) {
        self.settle_copies();
    }

    /// Everyone starts anew, with a log that holds next to nothing.
    pub fn shorten_logs(&mut self) {
        self.options.trims = true;
        self.options.log_bytes_max = 1000;
        for at in 0..self.processes.len() {
            self.kill(at);
            self.remedy(Remedy::Start(at));
        }
    }

    /// Each of its batches takes about a second.
    pub fn slow_down(&mut self, name: &str) {
        let at = self.index(name);
        self.processes[at].batch_ms = 1000;
    }

    /// The next batch that it writes finds its disk full, and none after it.
    pub fn fail_next_batch(&mut self, name: &str) {
        let at = self.index(name);
        self.processes[at].disk.plan(Fault::Full);
    }

    /// The next batch that it writes is on its disk, and whoever waits for it is told that it failed.
    pub fn fail_next_batch_after_all(&mut self, name: &str) {
        let at = self.index(name);
        self.processes[at].disk.plan(Fault::Landed);
    }

    /// Its operator has it ask now to be let in as somebody else, whatever it has handed over.
    pub fn ask_to_join_anew(&mut self, name: &str) {
        let at = self.index(name);
        let life = self.processes[at].life;
        self.join_anew(at, life);
    }

    /// Until its disk says that it was put out.
    #[track_caller]
    pub fn until_out(&mut self, name: &str) {
        let at = self.index(name);
        let own = self.processes[at].member;
        let out = self.run_until(AGREEMENT, |world| {
            let peers = world.peers_seen_by(at);
            peers
                .iter()
                .any(|peer| peer.id == own && peer.state == PeerState::Evicted)
        });
        self.must(out, &format!("{name} does not learn that it was put out"));
    }

    /// Until a copy of a peer's data is on its way to it.
    #[track_caller]
    pub fn until_copying(&mut self, name: &str) {
        let at = self.index(name);
        let copies = self.run_until(AGREEMENT, |world| world.copying(at));
        self.must(copies, &format!("{name} does not copy"));
    }

    /// Until it merges what it missed.
    #[track_caller]
    pub fn until_merging(&mut self, name: &str) {
        let at = self.index(name);
        let merges = self.run_until(AGREEMENT, |world| world.merging(at));
        self.must(merges, &format!("{name} does not catch up"));
    }

    /// A bit of what it stores flips. From now on disks are read again now and then.
    pub fn flip_bit(&mut self, name: &str) {
        let at = self.index(name);
        self.options.troubles.insert(Kind::BitFlip, 1);
        self.flip_bit_of_document(at);
    }

    /// A backup of its disk, as it is now.
    pub fn back_up(&mut self, name: &str) {
        let at = self.index(name);
        let backup = (at, self.processes[at].disk.copy(), self.checks.tracks[at].clone());
        self.troubles.backups.push(backup);
    }

    /// The latest backup is put back; the process ends.
    pub fn restore(&mut self, name: &str) {
        let at = self.index(name);
        self.kill(at);
        let found = self.troubles.backups.iter().rposition(|(of, ..)| *of == at);
        let Some((_, disk, track)) = found.map(|found| self.troubles.backups.swap_remove(found)) else {
            self.must(false, "there is no backup");
            return;
        };
        self.processes[at].disk.restore(&disk);
        self.checks.backup_put_back(at, track);
    }

    /// One that has said that it leaves goes for good, once another site has what it has.
    #[track_caller]
    pub fn let_go(&mut self, name: &str) {
        let at = self.index(name);
        self.remedy(Remedy::Left(at));
        let gone = self.run_until(AGREEMENT, |world| world.processes[at].retired);
        self.must(gone, "it did not go");
    }

    /// Whether trouble makers would leave its disk alone, because what is to be known of who is out is on no other.
    pub fn is_spared(&self, name: &str) -> bool {
        self.alone_knows_who_is_out(self.index(name))
    }

    /// Whether each replica knows that every member that counts has all that is here.
    pub fn all_is_stable(&self) -> bool {
        let mut running = self
            .processes
            .iter()
            .filter_map(|process| process.running.as_ref());
        running.all(|running| {
            let gossip = &running.gossip;
            gossip.stable().covers_vector(gossip.vector())
        })
    }

    /// Starts what is down.
    pub fn start_again(&mut self, name: &str) {
        let at = self.index(name);
        self.remedy(Remedy::Start(at));
    }

    /// Starts it after a while, if it is down then.
    pub fn start_again_in(&mut self, name: &str, wait: Duration) {
        let at = self.index(name);
        self.after(wait, Happening::Remedy(Remedy::Start(at)));
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        self.run(time);
        self.must(true, "");
    }

    /// Until all hold the same, which is then looked at as a whole.
    #[track_caller]
    pub fn settle(&mut self) {
        let level = self.run_until(AGREEMENT, World::level);
        self.check_end(if level { EndOf::Peace } else { EndOf::Patience });
        self.must(level, "the replicas do not agree");
    }

    /// Until nothing is left of cancelled accounts, at any replica.
    #[track_caller]
    pub fn forget(&mut self) {
        let forgotten = self.run_until(AGREEMENT, World::forgotten);
        self.check_forgotten(forgotten);
        self.must(forgotten, "the replicas do not forget");
    }

    /// The account has these addresses, everywhere.
    #[track_caller]
    pub fn assert_emails<const N: usize>(&mut self, account: AccountId, expected: [&str; N]) {
        for at in 0..self.processes.len() {
            let mut emails = At { world: self, at }.emails(account);
            emails.sort();
            let name = &self.processes[at].name;
            let words = format!("{name} says that the account has {emails:?}");
            self.must(emails == expected, &words);
        }
    }

    fn index(&self, name: &str) -> usize {
        let found = self.processes.iter().position(|process| process.name == name);
        self.must(found.is_some(), &format!("no replica is called {name}"));
        found.unwrap_or_default()
    }

    #[track_caller]
    fn must(&self, holds: bool, words: &str) {
        if holds && self.violation.is_none() {
            return;
        }
        for line in self.story.lines() {
            eprintln!("{line}");
        }
        let found = self.violation.as_ref().map(|violation| format!(": {violation}"));
        panic!(
            "{words}{}; repeat with: SIM_SEED={} cargo test --release --features lab --test sim",
            found.unwrap_or_default(),
            self.options.seed
        );
    }
}

impl At<'_> {
    /// Somebody signs up by mail.
    #[track_caller]
    pub fn sign_up(&mut self, typed: &str) -> AccountId {
        let proof = self.proof();
        let word = Word::Staged { proof, account: None };
        let deed = |address, password| Deed::SignUp {
            address,
            password,
            word,
        };
        self.done_with(typed, deed);
        proof.account()
    }

    /// Somebody adds an address, proven by mail.
    #[track_caller]
    pub fn add_email(&mut self, account: AccountId, typed: &str) {
        let word = self.word(account);
        self.done_with(typed, |address, _| Deed::Add {
            account,
            address,
            word,
        });
    }

    /// Somebody adds an address, proven by mail, and is not told that it is done: it is on the disk all the same.
    #[track_caller]
    pub fn add_email_untold(&mut self, account: AccountId, typed: &str) {
        self.world.processes[self.at].disk.plan(Fault::Landed);
        let word = self.word(account);
        let told = self.told_of(typed, |address, _| Deed::Add {
            account,
            address,
            word,
        });
        let failed = matches!(told, Some(Outcome::Failed(_)));
        self.world.must(failed, &format!("it was told of: {told:?}"));
    }

    /// Somebody who has forgotten the password of an account chooses another, by one of its addresses.
    #[track_caller]
    pub fn reset(&mut self, account: AccountId, typed: &str) {
        let word = self.word(account);
        self.done_with(typed, |address, password| Deed::Reset {
            address,
            password,
            word,
        });
    }

    /// Somebody lets an address go.
    #[track_caller]
    pub fn remove_email(&mut self, account: AccountId, typed: &str) {
        self.done_with(typed, |address, _| Deed::Remove { account, address });
    }

    /// Somebody leaves for good.
    #[track_caller]
    pub fn cancel(&mut self, account: AccountId) {
        self.done_with("nobody@example.org", |_, _| Deed::Cancel { account });
    }

    /// An operator puts another member out.
    #[track_caller]
    pub fn put_out(&mut self, name: &str) {
        let other = self.world.index(name);
        let [id, by] =
            [other, self.at].map(|at| crdt::MemberId::from_bytes(self.world.processes[at].member.0));
        let told = self.world.tell_me(self.at, Deed::Evict { id, by });
        let done = matches!(told, Some(Outcome::Done(Some(_))));
        self.world.must(done, &format!("nobody was put out: {told:?}"));
    }

    /// Its operator has it leave in good order: all have heard so.
    #[track_caller]
    pub fn leave(&mut self) {
        let own = self.world.processes[self.at].member;
        let deed = Deed::Member {
            id: crdt::MemberId::from_bytes(own.0),
            state: crdt::MemberState::Leaving,
        };
        let told = self.world.tell_me(self.at, deed);
        let done = matches!(told, Some(Outcome::Done(Some(_))));
        self.world.must(done, &format!("it does not leave: {told:?}"));
        let heard = self.world.run_until(AGREEMENT, |world| {
            (0..world.processes.len()).all(|at| {
                let peers = world.peers_seen_by(at);
                peers
                    .iter()
                    .any(|peer| peer.id == own && peer.state == PeerState::Leaving)
            })
        });
        self.world.must(heard, "not all have heard that it leaves");
    }

    /// The addresses of an account, as this replica has them.
    pub fn emails(&mut self, account: AccountId) -> Vec<String> {
        let read = read_records(&self.world.processes[self.at].disk, |records| {
            let mut emails = Vec::new();
            for id in records.emails_of(account)? {
                let view = records.email(id)?.unwrap_or_default();
                if let crdt::Ownership::Held { claim, .. } = records.owner_of(&view)?
                    && claim.account == account
                    && let Some(typed) = records.vault(claim.vault)?
                {
                    emails.push(String::from_utf8_lossy(&typed).into_owned());
                }
            }
            Ok(emails)
        });
        read.unwrap_or_default()
    }

    fn proof(&mut self) -> Proof {
        let mut rng = Rng::stream(self.world.rng.next(), 5);
        Proof {
            id: rng.bytes(),
            at: Hlc::new(self.world.wall_ms(self.at), 0),
            by: ClaimedBy::Mail,
        }
    }

    /// A proof by mail, begun for an account as this replica has it.
    fn word(&mut self, account: AccountId) -> Word {
        let proof = self.proof();
        let standing = read_records(&self.world.processes[self.at].disk, |records| {
            records.standing(account)
        });
        let resets = standing.map_or(0, |standing| standing.resets);
        Word::Staged {
            proof,
            account: Some((account, resets)),
        }
    }

    #[track_caller]
    fn done_with(&mut self, typed: &str, deed: impl FnOnce(Address, HashedPassword) -> Deed) {
        let told = self.told_of(typed, deed);
        let done = matches!(told, Some(Outcome::Done(_)));
        self.world.must(done, &format!("it was not done: {told:?}"));
    }

    #[track_caller]
    fn told_of(
        &mut self,
        typed: &str,
        deed: impl FnOnce(Address, HashedPassword) -> Deed,
    ) -> Option<Outcome> {
        let password = self.world.people.hash();
        let made = Address::parse(typed).ok().zip(password);
        self.world.must(made.is_some(), "that is no address");
        let (address, password) = made?;
        self.world.tell_me(self.at, deed(address, password))
    }
}

impl World {
    /// Has something done, and waits for what is said.
    fn tell_me(&mut self, at: usize, deed: Deed) -> Option<Outcome> {
        self.people.listen();
        if !self.do_at(at, deed) {
            return None;
        }
        self.run_until(Duration::from_secs(5), |world| world.people.heard().is_some());
        self.people.heard().cloned()
    }
}
